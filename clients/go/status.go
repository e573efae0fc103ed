package poolservice

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const errorDomain = "pool_service"

// errClosed is the cause of a context that ended with its client.
var errClosed = errors.New("the client was closed")

// call has what an error message says about a call.
type call struct {
	client *Client
	limit  time.Duration // the caller's; 0: none
}

// errorOf returns the typed error of a failed call, by its reason and never by its message.
func (c call) errorOf(ctx context.Context, err error) *Error {
	came := status.Convert(err)
	details := detailsOf(came)
	if details.Reason == "" {
		return c.withoutReason(ctx, came)
	}
	details.Kind = kindOf(details.Reason)
	details.Message, details.Code, details.status = came.Message(), came.Code(), came
	return details
}

func kindOf(reason string) Kind {
	if strings.HasPrefix(reason, "INVALID_") {
		return ErrInvalidRequest
	}
	return kindsByReason[reason]
}

// detailsOf reads the details of a status; the reason is empty if the service gave none.
func detailsOf(came *status.Status) *Error {
	found := &Error{}
	for _, detail := range came.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			// The first detail of each kind counts.
			if detail.GetDomain() == errorDomain && found.Reason == "" {
				found.Reason, found.Metadata = detail.GetReason(), detail.GetMetadata()
			}
		case *errdetails.RetryInfo:
			if found.RetryAfter == nil {
				found.RetryAfter = new(max(0, detail.GetRetryDelay().AsDuration()))
			}
		case *errdetails.DebugInfo:
			if found.LastLines == nil {
				found.LastLines = detail.GetStackEntries()
			}
		case *errdetails.RequestInfo:
			if found.RequestID == "" {
				found.RequestID = detail.GetRequestId()
			}
		default:
			found.Violations = append(found.Violations, violationsOf(detail)...)
		}
	}
	return found
}

func violationsOf(detail any) []Violation {
	var found []Violation
	switch detail := detail.(type) {
	case *errdetails.BadRequest:
		for _, bad := range detail.GetFieldViolations() {
			found = append(found, Violation{bad.GetField(), bad.GetDescription(), bad.GetReason()})
		}
	case *errdetails.PreconditionFailure:
		for _, unmet := range detail.GetViolations() {
			found = append(found, Violation{unmet.GetSubject(), unmet.GetDescription(), unmet.GetType()})
		}
	case *errdetails.QuotaFailure:
		for _, excess := range detail.GetViolations() {
			found = append(found, Violation{excess.GetSubject(), excess.GetDescription(), ""})
		}
	}
	return found
}

// withoutReason returns the error of a status from gRPC itself, or from a program that is no pool
// service.
func (c call) withoutReason(ctx context.Context, came *status.Status) *Error {
	code, address := came.Code(), c.client.address
	failed := &Error{Code: code, status: came}
	switch {
	case code == codes.DeadlineExceeded, code == codes.Canceled && isOver(ctx):
		failed.Kind, failed.Code, failed.status = ErrDeadlineExceeded, codes.DeadlineExceeded, nil
		failed.Message = fmt.Sprintf("no answer %s; what the service has begun goes on", within(c.limit))
	case code == codes.Canceled && c.whyGivenUp(ctx) != nil:
		failed.Kind, failed.cause = ErrCancelled, c.whyGivenUp(ctx)
		failed.Message = fmt.Sprintf("the call to the pool service at %s was given up", address)
	case code == codes.Canceled:
		// gRPC's servers end calls like this that they have not begun, when they stop or are
		// overloaded.
		failed.Kind, failed.Code, failed.status = ErrPoolUnavailable, codes.Unavailable, nil
		failed.Message = fmt.Sprintf("the pool service at %s dropped the call: it ends, "+
			"or has more calls waiting than it takes", address)
	case code == codes.Unavailable:
		failed.Kind = ErrPoolUnavailable
		failed.Message = fmt.Sprintf("cannot reach the pool service at %s: %s", address, essence(came.Message()))
	case code == codes.Unimplemented:
		failed.Message = fmt.Sprintf("what answers at %s does not know this call: "+
			"it is another program, or an older pool service", address)
	default:
		failed.Message = fmt.Sprintf("the call to %s failed with %s: %s", address, code, came.Message())
	}
	return failed
}

// whyGivenUp returns nil if the call was not given up on this side. A closed client ends its
// calls' contexts a moment later.
func (c call) whyGivenUp(ctx context.Context) error {
	if ctx.Err() == nil && c.client.life.Err() != nil {
		return errClosed
	}
	return context.Cause(ctx)
}

// givenUp returns the error of a caller that gave up between two attempts.
func (c call) givenUp(ctx context.Context) *Error {
	return c.withoutReason(ctx, status.FromContextError(ctx.Err()))
}

// isOver reports whether the deadline ended the context.
func isOver(ctx context.Context) bool {
	return errors.Is(ctx.Err(), context.DeadlineExceeded)
}

// within describes a caller's limit in words; 0: there is none.
func within(limit time.Duration) string {
	if limit <= 0 {
		return "in time"
	}
	return fmt.Sprintf("within %v s", limit.Round(time.Millisecond).Seconds())
}

// noPoolService returns the error for an answer that no pool service gives.
func (c *Client) noPoolService(what string) *Error {
	return &Error{
		Code:    codes.Internal,
		Message: fmt.Sprintf("what answers at %s is no pool service, or is broken: %s", c.address, what),
	}
}

// ended returns the error for an endless stream that the service ended without an error.
func ended() *Error {
	return &Error{
		Kind:    ErrPoolUnavailable,
		Code:    codes.Unavailable,
		Message: "the service ended the stream",
	}
}

// essence returns the last cause in gRPC's chain of causes, the one to act on.
func essence(message string) string {
	last := message[strings.LastIndex(message, ": ")+1:]
	if last = strings.Trim(last, " \""); last == "" {
		return "no details"
	}
	return last
}
