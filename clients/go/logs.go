package poolservice

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// LogOption is an option of Client.Logs. Of those that say where to begin (WithGeneration,
// WithPrevious, WithOldest, WithCursor), the last one counts.
type LogOption func(*pb.TailLogsRequest)

// WithGeneration begins with the process of this generation.
func WithGeneration(generation uint64) LogOption {
	return func(r *pb.TailLogsRequest) { r.Begin = &pb.TailLogsRequest_Generation{Generation: generation} }
}

// WithPrevious begins with the process before the newest one.
func WithPrevious() LogOption {
	return func(r *pb.TailLogsRequest) { r.Begin = &pb.TailLogsRequest_Previous{Previous: true} }
}

// WithOldest begins with the oldest process whose log is kept, and goes on to the newest, with
// every line. It is not valid together with WithLines.
func WithOldest() LogOption {
	return func(r *pb.TailLogsRequest) { r.Begin = &pb.TailLogsRequest_Oldest{Oldest: true} }
}

// WithCursor goes on after the LogPart that had this cursor, with every line. It is not valid
// together with WithLines.
func WithCursor(cursor string) LogOption {
	return func(r *pb.TailLogsRequest) { r.Begin = &pb.TailLogsRequest_Cursor{Cursor: cursor} }
}

// WithLines sets how many of the last lines of the first process are read; by default 100.
func WithLines(lines uint32) LogOption {
	return func(r *pb.TailLogsRequest) { r.Lines = &lines }
}

// WithFollow goes on with new lines and new processes, without end.
func WithFollow() LogOption {
	return func(r *pb.TailLogsRequest) { r.Follow = true }
}

// Logs yields what the servers of the model have written, oldest first, and the end of each process
// after its last line. An error is the last pair. It begins with the newest process, unless an option
// says otherwise.
//
// After a break, also by a restart of the service, Logs goes on with the next line; with WithFollow
// it fails only if the service is unreachable for RetryPolicy.Patience. Reading a log is no use of a
// server.
func (c *Client) Logs(ctx context.Context, model string, options ...LogOption) iter.Seq2[LogPart, error] {
	return func(yield func(LogPart, error) bool) {
		asked := &pb.TailLogsRequest{Model: model}
		for _, option := range options {
			option(asked)
		}
		attempts := c.attempts(ctx)
		if asked.GetFollow() {
			attempts = c.endless(ctx)
		}
		follow(ctx, c, &reading{stub: c.stub, asked: asked, attempts: attempts}, yield)
	}
}

// reading is the state of a read log: the request, which a cursor resumes.
type reading struct {
	stub     pb.PoolServiceClient
	asked    *pb.TailLogsRequest
	attempts *attempts
	opened   time.Time
}

func (r *reading) finite() bool { return !r.asked.GetFollow() }

func (r *reading) open(ctx context.Context) (grpc.ServerStreamingClient[pb.TailLogsResponse], error) {
	r.opened = time.Now()
	return r.stub.TailLogs(ctx, r.asked)
}

func (r *reading) receive(response *pb.TailLogsResponse) []LogPart {
	r.attempts.succeeded()
	r.asked = &pb.TailLogsRequest{
		Model:  r.asked.GetModel(),
		Begin:  &pb.TailLogsRequest_Cursor{Cursor: response.GetCursor()},
		Follow: r.asked.GetFollow(),
	}
	if len(response.GetLines()) == 0 && response.GetMissedBytes() == 0 && !response.GetEnded() {
		return nil
	}
	return []LogPart{{
		Generation:  response.GetGeneration(),
		Lines:       response.GetLines(),
		MissedBytes: response.GetMissedBytes(),
		Ended:       response.GetEnded(),
		Exit:        exitOf(response.GetExit()),
		Cursor:      response.GetCursor(),
	}}
}

func (r *reading) failed(err *Error) (time.Duration, *Error) {
	if r.asked.GetFollow() && time.Since(r.opened) > r.attempts.policy.patience() {
		r.attempts.succeededSince(r.opened)
	}
	return r.attempts.failed(err)
}
