package poolservice

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Kind is the kind of an error, by what a program does about it. It is an error itself, so that
// errors.Is(err, poolservice.ErrModelRejected) reports whether err is of that kind.
type Kind string

// The kinds of errors.
const (
	// ErrInvalidRequest: correct the request; Violations name the field.
	ErrInvalidRequest Kind = "InvalidRequest"
	// ErrRuntimeModelConflict: the model's server runs another runtime model; leave it out, or
	// evict the server first.
	ErrRuntimeModelConflict Kind = "RuntimeModelConflict"
	// ErrServerInUse: the server is held or has requests in flight; wait, or evict with force.
	// Metadata has the numbers "requests" and "holds", and the labels "holders".
	ErrServerInUse Kind = "ServerInUse"
	// ErrRuntimeUnavailable: the runtime program is missing, not executable or too old;
	// install or configure it where the service is.
	ErrRuntimeUnavailable Kind = "RuntimeUnavailable"
	// ErrModelRejected: the runtime refused the model; name another one.
	ErrModelRejected Kind = "ModelRejected"
	// ErrModelUnknown: the service serves only models that its configuration lists.
	ErrModelUnknown Kind = "ModelUnknown"
	// ErrModelNotOnDisk: the model's files are not there; pull it, or allow the download.
	ErrModelNotOnDisk Kind = "ModelNotOnDisk"
	// ErrCodeNotTrusted: loading the model would run code that it brings; trust it in the
	// service's configuration. Metadata has its "files".
	ErrCodeNotTrusted Kind = "CodeNotTrusted"
	// ErrFetchFailed: the model's files could not be downloaded; retry.
	ErrFetchFailed Kind = "FetchFailed"
	// ErrModelTooLarge: the model can never fit; raise the budget, or name a smaller one.
	// Metadata has "needed_bytes" and "budget_bytes".
	ErrModelTooLarge Kind = "ModelTooLarge"
	// ErrPoolFull: the model did not fit for as long as it could wait; retry.
	ErrPoolFull Kind = "PoolFull"
	// ErrQueueFull: the queue is full; retry.
	ErrQueueFull Kind = "QueueFull"
	// ErrConfigInvalid: the service's configuration is not valid; a reload changed nothing.
	ErrConfigInvalid Kind = "ConfigInvalid"
	// ErrStartTimeout: the start stood still, or took longer than its limit; retry.
	ErrStartTimeout Kind = "StartTimeout"
	// ErrStartFailed: the server's process died before it was ready; LastLines say why.
	ErrStartFailed Kind = "StartFailed"
	// ErrCrashLoop: the server's processes died too often; mend the cause, or evict the model to
	// try at once. After RetryAfter the service tries once more.
	ErrCrashLoop Kind = "CrashLoop"
	// ErrEvicted: the model was evicted while the call waited for it.
	ErrEvicted Kind = "Evicted"
	// ErrShuttingDown: the service is about to end, another may come; retry.
	ErrShuttingDown Kind = "ShuttingDown"
	// ErrRecovering: the service has just started and still finds its servers; retry.
	ErrRecovering Kind = "Recovering"
	// ErrRevisionCompacted: the service's history does not reach that revision; begin the
	// watch without one.
	ErrRevisionCompacted Kind = "RevisionCompacted"
	// ErrLogNotFound: no such log is kept; start the model first, or ask for another generation.
	ErrLogNotFound Kind = "LogNotFound"
	// ErrTooManyFollowers: as many streams follow logs as may; retry.
	ErrTooManyFollowers Kind = "TooManyFollowers"
	// ErrTooManyPins: the service remembers no more pins; take back some that are not needed.
	ErrTooManyPins Kind = "TooManyPins"
	// ErrTokenMissing: the service does not know who calls, and needs a token by this address.
	ErrTokenMissing Kind = "TokenMissing"
	// ErrTokenUnknown: the token is none of the service's: it is mistyped, expired or was revoked.
	ErrTokenUnknown Kind = "TokenUnknown"
	// ErrCertificateUnknown: no client of the service's configuration has a name of the certificate.
	ErrCertificateUnknown Kind = "CertificateUnknown"
	// ErrScopeMissing: the token does not allow the call; Metadata has the scope "needed".
	ErrScopeMissing Kind = "ScopeMissing"
	// ErrQuotaExceeded: a limit of the token is reached; Metadata has which "limit". Retry.
	ErrQuotaExceeded Kind = "QuotaExceeded"
	// ErrPoolUnreachable: the front of the fleet sees no member that it may ask now; try again.
	ErrPoolUnreachable Kind = "PoolUnreachable"
	// ErrFleetOnly: the service is a member of a fleet; call the front of the fleet instead.
	ErrFleetOnly Kind = "FleetOnly"
	// ErrInternal: a bug of the service; report it, with RequestID.
	ErrInternal Kind = "InternalError"
	// ErrPoolUnavailable: the service cannot be reached, the connection to it broke, or it dropped
	// the call.
	ErrPoolUnavailable Kind = "PoolUnavailable"
	// ErrServiceNotStarted: ConnectOrStart could not start a service; the message says why, and what
	// to do. It is not retried.
	ErrServiceNotStarted Kind = "ServiceNotStarted"
	// ErrDeadlineExceeded: the caller's deadline is over; the service goes on with what it has
	// begun. errors.Is reports context.DeadlineExceeded too, and errors.Unwrap returns an earlier
	// failure.
	ErrDeadlineExceeded Kind = "DeadlineExceeded"
	// ErrCancelled: the caller gave up, or closed the client or the hold. errors.Is reports
	// context.Canceled too.
	ErrCancelled Kind = "Cancelled"
)

// Error returns the kind's name.
func (k Kind) Error() string { return "pool service: " + string(k) }

var kindsByReason = map[string]Kind{
	"RUNTIME_MODEL_CONFLICT": ErrRuntimeModelConflict,
	"SERVER_IN_USE":          ErrServerInUse,
	"RUNTIME_UNAVAILABLE":    ErrRuntimeUnavailable,
	"MODEL_REJECTED":         ErrModelRejected,
	"MODEL_UNKNOWN":          ErrModelUnknown,
	"MODEL_NOT_ON_DISK":      ErrModelNotOnDisk,
	"CODE_NOT_TRUSTED":       ErrCodeNotTrusted,
	"FETCH_FAILED":           ErrFetchFailed,
	"MODEL_TOO_LARGE":        ErrModelTooLarge,
	"POOL_FULL":              ErrPoolFull,
	"QUEUE_FULL":             ErrQueueFull,
	"CONFIG_INVALID":         ErrConfigInvalid,
	"START_TIMEOUT":          ErrStartTimeout,
	"START_FAILED":           ErrStartFailed,
	"CRASH_LOOP":             ErrCrashLoop,
	"EVICTED":                ErrEvicted,
	"SHUTTING_DOWN":          ErrShuttingDown,
	"RECOVERING":             ErrRecovering,
	"REVISION_COMPACTED":     ErrRevisionCompacted,
	"LOG_NOT_FOUND":          ErrLogNotFound,
	"TOO_MANY_FOLLOWERS":     ErrTooManyFollowers,
	"TOO_MANY_PINS":          ErrTooManyPins,
	"TOKEN_MISSING":          ErrTokenMissing,
	"TOKEN_UNKNOWN":          ErrTokenUnknown,
	"CERTIFICATE_UNKNOWN":    ErrCertificateUnknown,
	"SCOPE_MISSING":          ErrScopeMissing,
	"QUOTA_EXCEEDED":         ErrQuotaExceeded,
	"POOL_UNREACHABLE":       ErrPoolUnreachable,
	"FLEET_ONLY":             ErrFleetOnly,
	"INTERNAL":               ErrInternal,
}

// Error is a call that failed. It may be shared, so do not change it.
type Error struct {
	// Kind tells a program what to do; empty for a reason that this package does not know, and
	// for an answer that is not from the service.
	Kind Kind
	// Message says why, in words.
	Message string
	// Code is the status code of gRPC.
	Code codes.Code
	// Reason is the service's reason, such as "MODEL_REJECTED"; empty if it gave none.
	Reason string
	// Metadata has the values that belong to the reason.
	Metadata map[string]string
	// RetryAfter is the delay after which another attempt may succeed; nil if the service named
	// none.
	RetryAfter *time.Duration
	// LastLines are the last lines that the model's server wrote, oldest first.
	LastLines []string
	// Violations say what is wrong with the request or with the pool's state.
	Violations []Violation
	// RequestID is the call's id in the service's log, for an internal error.
	RequestID string

	cause  error
	status *status.Status
}

// Violation is one thing that is wrong with a request or with the pool's state.
type Violation struct {
	// Subject is the field of the request, or the thing that the state belongs to.
	Subject string
	// Description says what is wrong, in words.
	Description string
	// Kind is an identifier for programs; empty if there is none.
	Kind string
}

// Error returns the message with its cause.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.Message
	}
	return fmt.Sprintf("%s: %v", e.Message, e.cause)
}

// Unwrap returns the failure before a deadline, or the cause of a cancelled context.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether the error is of a Kind, or of the kind of an error of package context.
func (e *Error) Is(target error) bool {
	switch target {
	case context.DeadlineExceeded:
		return e.Kind == ErrDeadlineExceeded
	case context.Canceled:
		return e.Kind == ErrCancelled
	default:
		kind, ok := target.(Kind)
		return ok && kind == e.Kind
	}
}

// GRPCStatus returns the received status, for gRPC's package status.
func (e *Error) GRPCStatus() *status.Status {
	if e.status == nil {
		return status.New(e.Code, e.Message)
	}
	return e.status
}
