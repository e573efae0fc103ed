package poolservice

import (
	"context"
	"time"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// readyGrace is how long ReadyAfter waits at most before it returns the same process, if that is
// READY still: a process that is gone is known to be so by then.
const readyGrace = 1500 * time.Millisecond

// missedReady names what a caller missed who gave up the wait for a READY server.
const missedReady = "was not READY"

// ReadyAfter returns the server to use when a connection to server was refused or broke.
//
//  1. If another process is READY, ReadyAfter returns it.
//  2. If the process of server is READY as far as the hold knows, ReadyAfter has the service ask it,
//     and returns it if it answers. If the service knows that the process is gone, ReadyAfter waits
//     for the next one. If neither is known after 1.5 s, ReadyAfter returns the server unless its
//     end was reported.
//  3. Else ReadyAfter waits until the next process is READY.
//
// If the hold is over or its client is closed, ReadyAfter asks nothing, and returns the error of that
// end. The end of ctx ends only the wait.
func (h *Hold) ReadyAfter(ctx context.Context, server Server) (Server, error) {
	checking, done := context.WithCancel(ctx)
	defer done()
	asked, serves := false, false // guarded by h.mutex
	serving := func(*held) { serves = true }
	return h.wait(ctx, missedReady, func(held *held) (Server, bool, error) {
		if serves {
			return held.ready(nil)
		}
		if !asked && held.isReadyStill(server) && !h.isEnding() {
			asked = true
			go h.check(checking, *held.newest, serving)
		}
		return held.ready(&server)
	})
}

// check has the service ask the process of server once. It calls serves when that process has
// answered, or when the grace is over without a word of its end.
//
// It asks by the name of server's model: the hold's may be an alias, whose meaning can change. An
// answer about another model says nothing.
func (h *Hold) check(ctx context.Context, server Server, serves func(*held)) {
	limited, cancel := context.WithTimeout(ctx, readyGrace)
	defer cancel()
	response, err := h.client.stub.Get(limited, &pb.GetRequest{Model: server.Model, Check: true})
	found := foundOf(response)
	switch {
	case err != nil, found.Server != nil && found.Server.Model != server.Model:
	case found.Server == nil, found.Server.State != StateReady, !isSameProcess(*found.Server, server):
		return
	case found.Answers:
		h.tell(serves)
		return
	}
	<-limited.Done()
	if ctx.Err() == nil {
		h.tell(serves)
	}
}
