package poolservice

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
)

// follower is how a call goes on whose stream broke.
type follower[R, V any] interface {
	// open opens the next stream.
	open(ctx context.Context) (grpc.ServerStreamingClient[R], error)
	// receive is the values that a message of the stream stands for.
	receive(response *R) []V
	// failed is how long to wait before the next stream, or the error if none is to be.
	failed(err *Error) (time.Duration, *Error)
	// finite tells whether the stream may end without an error.
	finite() bool
}

var errLeft = errors.New("the reader of the stream left")

// follow yields the values of a call whose stream is opened again when it breaks, and last
// what ended it. It returns when that is said or the reader leaves.
func follow[R, V any](ctx context.Context, c *Client, f follower[R, V], yield func(V, error) bool) {
	ctx, done := c.within(ctx)
	defer done()
	said := call{c, limitOf(ctx)}
	for {
		err := read(ctx, f, yield)
		if err == errLeft || (err == io.EOF && f.finite()) {
			return
		}
		failed := ended()
		if err != io.EOF {
			failed = said.errorOf(ctx, err)
		}
		delay, final := f.failed(failed)
		if final == nil && !wait(ctx, delay) {
			_, final = f.failed(said.givenUp(ctx))
		}
		if final != nil {
			var none V
			yield(none, final)
			return
		}
	}
}

// read yields the values of one stream, and returns what ended it.
func read[R, V any](ctx context.Context, f follower[R, V], yield func(V, error) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.open(ctx)
	if err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, value := range f.receive(response) {
			if !yield(value, nil) {
				return errLeft
			}
		}
	}
}
