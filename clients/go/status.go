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

// call is what has to be known of a call for the words of its error.
type call struct {
	client *Client
	limit  time.Duration // the caller's; 0: none
}

// errorOf is the typed error of a call that failed, by its reason and never by its message.
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

// detailsOf is what the details say; without a reason if the service gave none.
func detailsOf(came *status.Status) *Error {
	found := &Error{}
	for _, detail := range came.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			// Of each kind the first counts.
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

// withoutReason is what gRPC itself says, or a program that is no pool service.
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
		// gRPC's servers end so what they have not begun when they stop or have too much to do.
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

// whyGivenUp is nil if the call was not given up on this side. A client that is closed ends
// its calls' contexts a moment later.
func (c call) whyGivenUp(ctx context.Context) error {
	if ctx.Err() == nil && c.client.life.Err() != nil {
		return errClosed
	}
	return context.Cause(ctx)
}

// givenUp is the error of a caller that gave up between two attempts.
func (c call) givenUp(ctx context.Context) *Error {
	return c.withoutReason(ctx, status.FromContextError(ctx.Err()))
}

// isOver tells whether it was the deadline that ended the context.
func isOver(ctx context.Context) bool {
	return errors.Is(ctx.Err(), context.DeadlineExceeded)
}

// within says a caller's limit in words; 0: there is none.
func within(limit time.Duration) string {
	if limit <= 0 {
		return "in time"
	}
	return fmt.Sprintf("within %v s", limit.Round(time.Millisecond).Seconds())
}

// noPoolService is the error of an answer that no pool service gives.
func (c *Client) noPoolService(what string) *Error {
	return &Error{
		Code:    codes.Internal,
		Message: fmt.Sprintf("what answers at %s is no pool service, or is broken: %s", c.address, what),
	}
}

// ended is the error of a stream without an end that the service ended without a word.
func ended() *Error {
	return &Error{
		Kind:    ErrPoolUnavailable,
		Code:    codes.Unavailable,
		Message: "the service ended the stream",
	}
}

// essence: what gRPC writes is a chain of causes; the last is the one to act on.
func essence(message string) string {
	last := message[strings.LastIndex(message, ": ")+1:]
	if last = strings.Trim(last, " \""); last == "" {
		return "no details"
	}
	return last
}
