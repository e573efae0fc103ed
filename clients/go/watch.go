package poolservice

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// Watch yields the present servers, EventSynced, then every change, for as long as it is
// iterated. It ends with an error, in the last pair, or when you leave the loop.
//
// After a break, Watch resumes after the last revision; it fails only if the service is
// unreachable for RetryPolicy.Patience. If the history since then is gone, it begins with the
// present state again, and reports servers that are gone as removed before another EventSynced.
func (c *Client) Watch(ctx context.Context) iter.Seq2[Event, error] {
	return c.watch(ctx, nil)
}

// WatchAfter yields every change after a revision, otherwise like Watch. If the history does not
// reach back to it, WatchAfter fails with ErrRevisionCompacted.
func (c *Client) WatchAfter(ctx context.Context, revision uint64) iter.Seq2[Event, error] {
	return c.watch(ctx, &revision)
}

func (c *Client) watch(ctx context.Context, after *uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		follow(ctx, c, newFollowing(c.stub, after, c.endless(ctx)), yield)
	}
}

// following is the state of a watch: the revision to go on from, and the servers that the reader
// knows.
type following struct {
	stub     pb.PoolServiceClient
	after    *uint64
	revision *uint64
	attempts *attempts
	opened   time.Time
	known    map[serverKey]Server
	told     map[serverKey]struct{} // by the stream that is open
}

// serverKey distinguishes the servers of one model: while one replaces another, there are two.
type serverKey struct {
	model      string
	generation uint64
}

func keyOf(server Server) serverKey {
	return serverKey{server.Model, server.Generation}
}

func (k serverKey) compare(other serverKey) int {
	return cmp.Or(cmp.Compare(k.model, other.model), cmp.Compare(k.generation, other.generation))
}

func newFollowing(stub pb.PoolServiceClient, after *uint64, attempts *attempts) *following {
	return &following{
		stub:     stub,
		after:    after,
		revision: after,
		attempts: attempts,
		known:    map[serverKey]Server{},
		told:     map[serverKey]struct{}{},
	}
}

func (f *following) finite() bool { return false }

func (f *following) request() *pb.WatchRequest {
	f.opened = time.Now()
	clear(f.told)
	return &pb.WatchRequest{AfterRevision: f.revision}
}

func (f *following) open(ctx context.Context) (grpc.ServerStreamingClient[pb.WatchResponse], error) {
	return f.stub.Watch(ctx, f.request())
}

func (f *following) receive(response *pb.WatchResponse) []Event {
	f.attempts.succeeded()
	if f.revision != nil && response.GetRevision() < *f.revision {
		// Revisions never go back: what the reader knows is newer.
		return nil
	}
	event, known := eventOf(response)
	if known && event.Kind == EventSynced {
		return append(f.gone(event.Revision), event)
	}
	if f.revision != nil {
		f.revision = new(response.GetRevision())
	}
	if !known {
		return nil
	}
	f.learn(event)
	return []Event{event}
}

func (f *following) learn(event Event) {
	key := keyOf(event.Server)
	if event.Kind == EventRemoved {
		delete(f.known, key)
		return
	}
	f.known[key] = event.Server
	f.told[key] = struct{}{}
}

// gone returns, at EventSynced, the known servers that are no longer there.
func (f *following) gone(revision uint64) []Event {
	f.revision = &revision
	var events []Event
	for _, key := range slices.SortedFunc(maps.Keys(f.known), serverKey.compare) {
		if _, told := f.told[key]; !told {
			events = append(events, Event{EventRemoved, revision, f.known[key]})
			delete(f.known, key)
		}
	}
	return events
}

func (f *following) failed(err *Error) (time.Duration, *Error) {
	if err.Kind == ErrRevisionCompacted && f.after == nil && f.revision != nil {
		f.revision = nil
		// With a delay: a service that answers this each time would be called in a loop.
		return f.attempts.pause(), nil
	}
	if time.Since(f.opened) > f.attempts.policy.patience() {
		f.attempts.succeededSince(f.opened)
	}
	return f.attempts.failed(err)
}
