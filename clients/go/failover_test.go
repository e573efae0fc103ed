package poolservice

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// atTwo runs a test of a client that makes each call once at each of two services.
func atTwo(t *testing.T, test func(t *testing.T, pool *Client, first, second *scripted)) {
	t.Helper()
	inVirtualTime(t, func(t *testing.T, first *scripted) {
		second := &scripted{
			answers: map[string][]answer{},
			asked:   map[string][]proto.Message{},
			at:      map[string][]time.Duration{},
			began:   time.Now(),
		}
		second.start()
		t.Cleanup(second.stop)
		dial := func(ctx context.Context, where string) (net.Conn, error) {
			if where == "localhost:2" {
				return second.dial(ctx, where)
			}
			return first.dial(ctx, where)
		}
		test(t, dialing(t, dial), first, second)
	})
}

// dialing returns a client that makes each call once at each of two addresses.
func dialing(t *testing.T, dial func(context.Context, string) (net.Conn, error)) *Client {
	t.Helper()
	pool, err := Connect("localhost:1,localhost:2",
		WithRetryPolicy(RetryPolicy{Attempts: 1}), WithDialOptions(grpc.WithContextDialer(dial)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	return pool
}

func TestACallThatTheServiceDropsIsMadeAtTheNextAddress(t *testing.T) {
	atTwo(t, func(t *testing.T, pool *Client, first, second *scripted) {
		first.answer("List", fail(status.Error(codes.Canceled, "CANCELLED")))
		second.answer("List", say(&pb.ListResponse{}))
		if _, err := pool.List(t.Context()); err != nil {
			t.Error(err)
		}
	})
	atTwo(t, func(t *testing.T, pool *Client, first, second *scripted) {
		first.answer("Hold", fail(status.Error(codes.Canceled, "CANCELLED")))
		second.answer("Hold", holds(StateReady, 2), stay)
		hold := pool.Hold(t.Context(), "m")
		defer hold.Close()
		if server, err := hold.Ready(t.Context()); err != nil || server.Generation != 2 {
			t.Error(server, err)
		}
	})
}

func TestACallThatItsCallerGivesUpIsNoFailureOfItsAddress(t *testing.T) {
	atTwo(t, func(t *testing.T, pool *Client, first, second *scripted) {
		first.answer("Hold", holds(StateReady, 1), stay)
		first.answer("Evict", stay)
		first.answer("List", say(&pb.ListResponse{}))
		hold := pool.Hold(t.Context(), "m")
		if _, err := hold.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		hold.Close()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := pool.EvictIdle(ctx); !errors.Is(err, ErrCancelled) {
			t.Error(err)
		}
		if _, err := pool.List(t.Context()); err != nil || len(second.requests("List")) > 0 {
			t.Error(err)
		}
	})
}

func TestTheCauseOfADeadlineIsTheFailureAtAnotherAddress(t *testing.T) {
	atTwo(t, func(t *testing.T, pool *Client, first, second *scripted) {
		first.stop()
		second.answer("List", stay)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := pool.List(ctx)
		if !errors.Is(err, ErrDeadlineExceeded) || !errors.Is(err, ErrPoolUnavailable) {
			t.Error(err)
		}
	})
}

func TestAnAddressFromWhichNothingComesIsGivenUpAfterAWhile(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("List", say(&pb.ListResponse{}))
		dial := func(ctx context.Context, where string) (net.Conn, error) {
			if where == "localhost:2" {
				return service.dial(ctx, where)
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		pool := dialing(t, dial)
		began := time.Now()
		if _, err := pool.List(t.Context()); err != nil || time.Since(began) != shortConnectTimeout {
			t.Error(err, time.Since(began))
		}
	})
}
