package poolservice

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Kind is what went wrong, as far as a program would act on it. It is an error itself, so
// that errors.Is(err, poolservice.ErrModelRejected) tells whether err is of that kind.
type Kind string

// The kinds of errors.
const (
	// ErrInvalidRequest: correct the request; the Violations say which field.
	ErrInvalidRequest Kind = "InvalidRequest"
	// ErrRuntimeModelConflict: the model's server runs another runtime model; ask without
	// one, or evict it first.
	ErrRuntimeModelConflict Kind = "RuntimeModelConflict"
	// ErrServerInUse: the server is held or has requests in flight; wait, or evict with
	// force. Metadata has "requests" and "holds", how many, and "holders", their labels.
	ErrServerInUse Kind = "ServerInUse"
	// ErrRuntimeUnavailable: the runtime program is missing, not executable or too old;
	// install or configure it where the service is.
	ErrRuntimeUnavailable Kind = "RuntimeUnavailable"
	// ErrModelRejected: the runtime refused the model; ask for another one.
	ErrModelRejected Kind = "ModelRejected"
	// ErrModelUnknown: the service serves only what its configuration lists.
	ErrModelUnknown Kind = "ModelUnknown"
	// ErrModelNotOnDisk: the model's files are not there; pull it, or allow the download.
	ErrModelNotOnDisk Kind = "ModelNotOnDisk"
	// ErrCodeNotTrusted: loading the model would run code that it brings; trust it in the
	// service's configuration. Metadata has its "files".
	ErrCodeNotTrusted Kind = "CodeNotTrusted"
	// ErrFetchFailed: the model's files could not be downloaded; try again.
	ErrFetchFailed Kind = "FetchFailed"
	// ErrModelTooLarge: the model can never fit; raise the budget, or ask for a smaller one.
	// Metadata has "needed_bytes" and "budget_bytes".
	ErrModelTooLarge Kind = "ModelTooLarge"
	// ErrPoolFull: there was no room for the model as long as it could wait; try again.
	ErrPoolFull Kind = "PoolFull"
	// ErrQueueFull: as many models wait for room as may; try again.
	ErrQueueFull Kind = "QueueFull"
	// ErrConfigInvalid: the service's configuration is not valid; a reload changed nothing.
	ErrConfigInvalid Kind = "ConfigInvalid"
	// ErrStartTimeout: the server was not ready within its start limit; try again.
	ErrStartTimeout Kind = "StartTimeout"
	// ErrStartFailed: the server's process died before it was ready; LastLines say of what.
	ErrStartFailed Kind = "StartFailed"
	// ErrCrashLoop: the server's processes died too often; mend it or evict it. After
	// RetryAfter one more try is made.
	ErrCrashLoop Kind = "CrashLoop"
	// ErrEvicted: somebody evicted the model while the call waited for it.
	ErrEvicted Kind = "Evicted"
	// ErrShuttingDown: the service is about to end, another may come; try again.
	ErrShuttingDown Kind = "ShuttingDown"
	// ErrRecovering: the service has just started and finds its servers; try again.
	ErrRecovering Kind = "Recovering"
	// ErrRevisionCompacted: the service's history does not reach that revision; begin the
	// watch without one.
	ErrRevisionCompacted Kind = "RevisionCompacted"
	// ErrInternal: a bug of the service; report it, with RequestID.
	ErrInternal Kind = "InternalError"
	// ErrPoolUnavailable: the service cannot be reached, the connection to it broke, or it dropped
	// the call.
	ErrPoolUnavailable Kind = "PoolUnavailable"
	// ErrDeadlineExceeded: the caller's deadline is over; what the service has begun goes
	// on. errors.Is knows it as context.DeadlineExceeded too, and errors.Unwrap gives what
	// had failed before.
	ErrDeadlineExceeded Kind = "DeadlineExceeded"
	// ErrCancelled: the caller gave up, or closed the client or the hold. errors.Is knows it
	// as context.Canceled too.
	ErrCancelled Kind = "Cancelled"
)

// Error is the kind's name.
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
	"INTERNAL":               ErrInternal,
}

// Error is a call that failed. It is shared by all who are told of it: not to be changed.
type Error struct {
	// Kind is what a program acts on; empty for a reason that this package does not know,
	// and for what is no word of the service.
	Kind Kind
	// Message says why, in words.
	Message string
	// Code is the status code of gRPC.
	Code codes.Code
	// Reason is the service's own word for it, such as "MODEL_REJECTED"; empty where it
	// gave none.
	Reason string
	// Metadata is what belongs to the reason.
	Metadata map[string]string
	// RetryAfter is after what time another attempt may succeed; nil if the service named
	// none.
	RetryAfter *time.Duration
	// LastLines are what the model's server wrote last, oldest first.
	LastLines []string
	// Violations are what is wrong with the request or with the pool's state.
	Violations []Violation
	// RequestID names the call in the service's log, where it has to be looked for there.
	RequestID string

	cause  error
	status *status.Status
}

// Violation is one thing that is wrong with a request or with the pool's state.
type Violation struct {
	// Subject is the request's field, or what the state is of.
	Subject string
	// Description says what is wrong, in words.
	Description string
	// Kind is a word for programs; empty if there is none.
	Kind string
}

// Error is the message, and what was the cause.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.Message
	}
	return fmt.Sprintf("%s: %v", e.Message, e.cause)
}

// Unwrap is what had failed before a deadline was over, or why a context was cancelled.
func (e *Error) Unwrap() error { return e.cause }

// Is tells whether the error is of a Kind, or of the kind that an error of package context
// stands for.
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

// GRPCStatus is the status as it came, for package status of gRPC.
func (e *Error) GRPCStatus() *status.Status {
	if e.status == nil {
		return status.New(e.Code, e.Message)
	}
	return e.status
}
