package poolservice

import (
	"context"
	"errors"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// connections are those to several addresses, of which one is called. A call that ends as
// UNAVAILABLE, or that the service drops (CANCELLED), moves the next calls on to the next address,
// the first again after the last; the client's retries then make the call there.
type connections struct {
	each []*grpc.ClientConn
	at   atomic.Int64
}

func (c *connections) Invoke(
	ctx context.Context, method string, request, answer any, options ...grpc.CallOption,
) error {
	at := c.at.Load()
	err := c.each[at].Invoke(ctx, method, request, answer, options...)
	c.note(ctx.Err, at, err)
	return err
}

func (c *connections) NewStream(
	ctx context.Context, description *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	at := c.at.Load()
	stream, err := c.each[at].NewStream(ctx, description, method, options...)
	if err != nil {
		c.note(ctx.Err, at, err)
		return nil, err
	}
	return notedStream{stream, c, at, ctx.Err}, nil
}

// Close closes all connections.
func (c *connections) Close() error {
	var failures []error
	for _, one := range c.each {
		failures = append(failures, one.Close())
	}
	return errors.Join(failures...)
}

// note moves on from an address at which a call has failed, unless its caller gave it up. Other calls
// may have failed there, too, and have moved on already.
func (c *connections) note(givenUp func() error, at int64, err error) {
	code := status.Code(err)
	if code == codes.Unavailable || (code == codes.Canceled && givenUp() == nil) {
		c.at.CompareAndSwap(at, (at+1)%int64(len(c.each)))
	}
}

// notedStream is a stream whose end the connections hear of.
type notedStream struct {
	grpc.ClientStream
	of      *connections
	at      int64
	givenUp func() error // nil while the caller wants it
}

func (s notedStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	s.of.note(s.givenUp, s.at, err)
	return err
}
