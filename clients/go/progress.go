package poolservice

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// progressInterval is how often a call of Ensure with WithProgress looks at the server, and how long
// it lets the service take for that.
const progressInterval = 500 * time.Millisecond

// ensure makes the call of Ensure, and reports the server to progress meanwhile, unless that is nil.
func (c *Client) ensure(
	ctx context.Context, request *pb.EnsureRequest, progress func(Server),
) (*pb.EnsureResponse, error) {
	if progress == nil {
		return invoke(ctx, c, c.stub.Ensure, request)
	}
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	waiting, answered := context.WithCancel(ctx)
	var response *pb.EnsureResponse
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer answered()
		response, err = invoke(ctx, c, c.stub.Ensure, request)
	}()
	c.report(waiting, request.GetModel(), progress)
	<-ended
	return response, err
}

// report calls progress with the model's server whenever it has changed, until ctx ends.
func (c *Client) report(ctx context.Context, model string, progress func(Server)) {
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	var last *pb.Server
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		server := c.glance(ctx, model)
		if ctx.Err() != nil {
			return
		}
		if server == nil || ServerState(server.GetState()) == StateReady || proto.Equal(server, last) {
			continue
		}
		last = server
		progress(serverOf(server))
	}
}

// glance returns the model's server by a single attempt, or nil if there is none or the call fails.
func (c *Client) glance(ctx context.Context, model string) *pb.Server {
	ctx, cancel := context.WithTimeout(ctx, progressInterval)
	defer cancel()
	response, _ := c.stub.Get(ctx, &pb.GetRequest{Model: model})
	return response.GetServer()
}
