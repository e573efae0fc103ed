package poolservice

import (
	"context"
	"iter"
	"sync"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// Hold keeps a model READY, from Client.Hold until Close or the end of its context.
//
// Its own goroutine reads the stream and opens it again when it breaks, whether you use the hold
// or not. The error that ended it, such as ErrEvicted, is returned by your next call on the hold.
type Hold struct {
	client  *Client
	life    context.Context // ends when the hold is to end, unless its client is closed
	release context.CancelFunc
	read    chan struct{} // closed when the stream is no longer read

	mutex   sync.Mutex
	held    held
	changed chan struct{} // closed, and replaced, when held changes
}

// Hold makes the model READY, and keeps it so until the hold is closed, ctx ends or the client is
// closed. A deadline of ctx only ends the hold; RetryPolicy.Patience limits how long the service
// may be unreachable, or a start may fail.
func (c *Client) Hold(ctx context.Context, model string, options ...HoldOption) *Hold {
	var said settings
	for _, option := range options {
		option.forHold(&said)
	}
	ctx, release := context.WithCancel(ctx)
	hold := &Hold{
		client:  c,
		life:    ctx,
		release: release,
		read:    make(chan struct{}),
		held:    held{model: model},
		changed: make(chan struct{}),
	}
	holding := &holding{
		stub: c.stub,
		asked: &pb.HoldRequest{
			Model:        model,
			RuntimeModel: said.runtimeModel,
			KeepAlive:    said.keepAlive,
			Download:     said.download,
			Holder:       said.holder,
		},
		attempts: c.endless(ctx),
		trouble: func(err *Error) {
			hold.tell(func(held *held) { held.trouble = err })
		},
	}
	c.goHold(func() { hold.follow(ctx, c, holding) })
	return hold
}

// follow reads the stream of the hold until it ends.
func (h *Hold) follow(ctx context.Context, c *Client, holding *holding) {
	var failure error
	follow(ctx, c, holding, func(server Server, err error) bool {
		if err != nil {
			failure = err
			return false
		}
		h.tell(func(held *held) { held.tell(server) })
		return true
	})
	h.release()
	h.tell(func(held *held) { held.end(failure) })
	close(h.read)
}

// Ready waits until the server is READY and returns it, from memory: at once if it is.
//
// The endpoint may have changed, so call Ready whenever you need it. While the service is
// unreachable, Ready returns the last received state. The end of ctx ends only the wait.
func (h *Hold) Ready(ctx context.Context) (Server, error) {
	return h.wait(ctx, missedReady, func(held *held) (Server, bool, error) {
		return held.ready(nil)
	})
}

// States yields the server's present state, then the newest after each change. It ends without an
// error when the hold is closed, else with the error that ended the hold or ctx. Iterations are
// independent; a slow one misses outdated states.
func (h *Hold) States(ctx context.Context) iter.Seq2[Server, error] {
	return func(yield func(Server, error) bool) {
		known := 0
		next := func(held *held) (Server, bool, error) {
			defer func() { known = held.version }()
			return held.state(known)
		}
		for {
			server, err := h.wait(ctx, "had no other state", next)
			if err == errReleased || !yield(server, err) || err != nil {
				return
			}
		}
	}
}

// wait returns the result of look, as soon as look finds something or fails. missed names what
// the caller missed if the context ends first.
func (h *Hold) wait(
	ctx context.Context, missed string, look func(*held) (Server, bool, error),
) (Server, error) {
	limit := limitOf(ctx)
	for {
		h.mutex.Lock()
		server, found, err := look(&h.held)
		changed := h.changed
		h.mutex.Unlock()
		if found || err != nil {
			return server, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			h.mutex.Lock()
			defer h.mutex.Unlock()
			return Server{}, h.held.late(ctx, limit, missed)
		}
	}
}

// Close releases the model at once, and ends the iterations. You may call it more than once.
func (h *Hold) Close() {
	h.tell(func(held *held) { held.end(nil) })
	h.release()
	<-h.read
}

// isEnding reports whether the hold is over, or will be in a moment.
func (h *Hold) isEnding() bool {
	return h.life.Err() != nil || h.client.life.Err() != nil
}

func (h *Hold) tell(news func(*held)) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	news(&h.held)
	close(h.changed)
	h.changed = make(chan struct{})
}
