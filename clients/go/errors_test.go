package poolservice

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
)

// errorFrom is what a client makes of a status that came.
func errorFrom(err error) *Error {
	client := newClient(nil, "pool.test:1", RetryPolicy{})
	defer client.end()
	return call{client: client}.errorOf(context.Background(), err)
}

func TestEachReasonHasItsKind(t *testing.T) {
	for reason, kind := range kindsByReason {
		err := fmt.Errorf("wrapped: %w", errorFrom(refusal(codes.Aborted, reason)))
		if !errors.Is(err, kind) {
			t.Errorf("%s is not %s", reason, kind)
		}
		if errors.Is(err, ErrInvalidRequest) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s is of more kinds than one", reason)
		}
	}
}

func TestEveryInvalidFieldIsAnInvalidRequest(t *testing.T) {
	for _, reason := range []string{"INVALID_MODEL", "INVALID_SOMETHING_NEW"} {
		if err := errorFrom(refusal(codes.InvalidArgument, reason)); err.Kind != ErrInvalidRequest || err.Reason != reason {
			t.Errorf("%#v", err)
		}
	}
}

func TestAReasonThatIsNotKnownIsAPlainErrorWithThatReason(t *testing.T) {
	err := errorFrom(refusal(codes.Aborted, "OUT_OF_COFFEE"))
	if err.Kind != "" || err.Reason != "OUT_OF_COFFEE" || err.Code != codes.Aborted || err.Error() != "it is OUT_OF_COFFEE" {
		t.Errorf("%#v", err)
	}
}

func TestAnErrorHasAllThatTheServiceSaid(t *testing.T) {
	err := errorFrom(refusal(codes.FailedPrecondition, "CRASH_LOOP",
		after(1500*time.Millisecond),
		&errdetails.DebugInfo{StackEntries: []string{"one", "two"}},
		&errdetails.RequestInfo{RequestId: "r1"},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "model", Description: "is bad", Reason: "BAD"}}},
		&errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{
			{Subject: "m", Description: "is unmet", Type: "UNUSED"}}},
		&errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{
			{Subject: "memory", Description: "is too little"}}},
	))
	if err.Code != codes.FailedPrecondition || err.Metadata["model"] != "m" || err.RequestID != "r1" {
		t.Errorf("%#v", err)
	}
	if err.RetryAfter == nil || *err.RetryAfter != 1500*time.Millisecond {
		t.Error(err.RetryAfter)
	}
	if !slices.Equal(err.LastLines, []string{"one", "two"}) {
		t.Error(err.LastLines)
	}
	want := []Violation{{"model", "is bad", "BAD"}, {"m", "is unmet", "UNUSED"}, {"memory", "is too little", ""}}
	if !slices.Equal(err.Violations, want) {
		t.Error(err.Violations)
	}
	if details := status.Convert(err).Details(); len(details) != 7 {
		t.Errorf("as a status of gRPC it has the details %v", details)
	}
}

func TestADelayOfNothingIsADelay(t *testing.T) {
	if err := errorFrom(refusal(codes.Aborted, "EVICTED", after(0))); err.RetryAfter == nil {
		t.Error("it is none")
	}
}

func TestAReasonOfAnotherProgramIsNone(t *testing.T) {
	came, err := status.New(codes.Unavailable, "no").WithDetails(
		protoadapt.MessageV1(&errdetails.ErrorInfo{Reason: "EVICTED", Domain: "elsewhere"}))
	if err != nil {
		t.Fatal(err)
	}
	if err := errorFrom(came.Err()); err.Kind != ErrPoolUnavailable || err.Reason != "" {
		t.Errorf("%#v", err)
	}
}

func TestACallThatTheServiceDroppedIsOneThatDidNotReachIt(t *testing.T) {
	err := errorFrom(status.Error(codes.Canceled, "CANCELLED"))
	said := "the pool service at pool.test:1 dropped the call: it ends, or has more calls waiting than it takes"
	if err.Kind != ErrPoolUnavailable || err.Code != codes.Unavailable || err.Error() != said {
		t.Errorf("%q, %v, %q", err.Kind, err.Code, err.Error())
	}
	if got := err.GRPCStatus(); got.Code() != codes.Unavailable || got.Message() != said {
		t.Errorf("for package status it is %v", got)
	}
}

func TestWithoutAReasonTheCodeSaysWhatItIs(t *testing.T) {
	for _, c := range []struct {
		code    codes.Code
		message string
		kind    Kind
		said    string
	}{
		{codes.Unavailable, `connection error: desc = "dial tcp 1.2.3.4:1: connect: connection refused"`,
			ErrPoolUnavailable, "cannot reach the pool service at pool.test:1: connection refused"},
		{codes.Unavailable, "", ErrPoolUnavailable, "cannot reach the pool service at pool.test:1: no details"},
		{codes.DeadlineExceeded, "", ErrDeadlineExceeded, "no answer in time; what the service has begun goes on"},
		{codes.Unimplemented, "", "", "what answers at pool.test:1 does not know this call: " +
			"it is another program, or an older pool service"},
		{codes.Unknown, "oh", "", "the call to pool.test:1 failed with Unknown: oh"},
	} {
		err := errorFrom(status.Error(c.code, c.message))
		if err.Kind != c.kind || err.Code != c.code || err.Error() != c.said {
			t.Errorf("%v: %q, %q", c.code, err.Kind, err.Error())
		}
	}
}
