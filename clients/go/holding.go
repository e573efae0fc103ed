package poolservice

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// holding is the stream of a hold, which is opened again when it breaks.
//
// A break of a working stream restarts the count of failures. The failures of a start are counted
// together until the server is READY; otherwise a model that never starts would be started for
// ever.
type holding struct {
	stub     pb.PoolServiceClient
	asked    *pb.HoldRequest
	attempts *attempts
	alive    time.Time    // since when the stream that is open told something
	model    string       // what it tells of: an alias may have been asked for
	trouble  func(*Error) // is told what failed and is tried again
}

func (h *holding) finite() bool { return false }

func (h *holding) open(ctx context.Context) (grpc.ServerStreamingClient[pb.HoldResponse], error) {
	h.alive, h.model = time.Time{}, ""
	return h.stub.Hold(ctx, h.asked)
}

// receive returns nothing for a message that cannot be about the held server.
func (h *holding) receive(response *pb.HoldResponse) []Server {
	if response.GetServer() == nil {
		return nil
	}
	server := keyed(response.GetServer(), response.GetApiKey())
	if h.model == "" {
		h.model = server.Model
	}
	if server.Model != h.model || (server.State == StateReady && server.Endpoint == "") {
		return nil
	}
	if h.alive.IsZero() {
		h.alive = time.Now()
	}
	if server.State == StateReady {
		h.attempts.succeeded()
	}
	return []Server{server}
}

func (h *holding) failed(err *Error) (time.Duration, *Error) {
	if !h.alive.IsZero() && isBreak(err.Kind) {
		h.attempts.succeededSince(h.alive)
	}
	delay, final := h.attempts.failed(err)
	if final == nil {
		h.trouble(err)
	}
	return delay, final
}

func isBreak(kind Kind) bool {
	return kind == ErrPoolUnavailable || kind == ErrRecovering || kind == ErrShuttingDown
}

// held is the state of a hold.
type held struct {
	model   string
	newest  *Server
	version int    // counts what was told
	trouble *Error // what went wrong since then, and is tried again
	over    bool
	failure error // what ended it; nil if its holder did
}

func (h *held) tell(server Server) {
	h.newest, h.trouble = &server, nil
	h.version++
}

// end ends the hold, by a failure or by its holder. Only the first end counts.
func (h *held) end(failure error) {
	if !h.over {
		h.over, h.failure = true, failure
	}
}

// state returns the newest state if it is newer than the given version; false if there is none
// yet. The error is the one that ended the hold, after its last state; errReleased after a Close.
func (h *held) state(known int) (Server, bool, error) {
	switch {
	case h.over && h.failure == nil:
		return Server{}, false, errReleased
	case h.version > known:
		return *h.newest, true, nil
	default:
		return Server{}, false, h.failure
	}
}

// errReleased ends the states of a closed hold; callers do not see it.
var errReleased = errors.New("the hold was released")

// ready returns the server if it is READY and its process is not that of except.
func (h *held) ready(except *Server) (Server, bool, error) {
	switch {
	case h.failure != nil:
		return Server{}, false, h.failure
	case h.over:
		return Server{}, false, &Error{
			Kind:    ErrCancelled,
			Code:    codes.Canceled,
			Message: fmt.Sprintf("the hold of %q was closed", h.model),
		}
	case h.newest == nil, h.newest.State != StateReady, except != nil && isSameProcess(*h.newest, *except):
		return Server{}, false, nil
	default:
		return *h.newest, true, nil
	}
}

// isReadyStill reports whether the newest state is that the process of server is READY.
func (h *held) isReadyStill(server Server) bool {
	return !h.over && h.newest != nil && h.newest.State == StateReady && isSameProcess(*h.newest, server)
}

// isSameProcess compares more than generations, which begin again if the service has lost its
// records.
func isSameProcess(one, other Server) bool {
	return one.Generation == other.Generation &&
		(one.PID == other.PID || one.PID == 0 || other.PID == 0)
}

// late returns the error of a caller that gave up its wait for what it missed.
func (h *held) late(ctx context.Context, limit time.Duration, missed string) *Error {
	state := "not known"
	if h.newest != nil {
		state = h.newest.State.String()
		if h.newest.Detail != "" {
			state += " (" + h.newest.Detail + ")"
		}
	}
	late := &Error{Kind: ErrCancelled, Code: codes.Canceled, cause: context.Cause(ctx)}
	until := "when the wait was given up"
	if isOver(ctx) {
		late.Kind, late.Code, late.cause = ErrDeadlineExceeded, codes.DeadlineExceeded, nil
		until = within(limit)
		if h.trouble != nil {
			late.cause = h.trouble
		}
	}
	late.Message = fmt.Sprintf("%q %s %s: it is %s; the hold goes on", h.model, missed, until, state)
	return late
}
