package poolservice

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
)

// follower says how to go on when a call's stream breaks.
type follower[R, V any] interface {
	// open opens the next stream.
	open(ctx context.Context) (grpc.ServerStreamingClient[R], error)
	// receive returns the values of a message of the stream.
	receive(response *R) []V
	// failed returns the delay before the next stream, or the error if there should be none.
	failed(err *Error) (time.Duration, *Error)
	// finite reports whether the stream may end without an error.
	finite() bool
}

var errLeft = errors.New("the reader of the stream left")

// follow yields the values of a call whose stream is opened again when it breaks, and last the
// error that ended it. It returns after that, or when the reader leaves.
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

// read yields the values of one stream, and returns the error that ended it.
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
