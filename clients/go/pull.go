package poolservice

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// Pull downloads what is missing of the model's files, and gives how far it is until all are
// there. An error is the last that it gives. It begins when it is iterated, and starts no
// server. Leaving the loop gives it up; what was fetched is kept. A download that breaks is
// resumed.
func (c *Client) Pull(ctx context.Context, model string, options ...PullOption) iter.Seq2[Progress, error] {
	var said settings
	for _, option := range options {
		option.forPull(&said)
	}
	asked := &pb.PullRequest{Model: model, RuntimeModel: said.runtimeModel}
	return func(yield func(Progress, error) bool) {
		follow(ctx, c, &pulling{stub: c.stub, asked: asked, attempts: c.attempts(ctx)}, yield)
	}
}

// pulling is a download: what was fetched is kept, so each that gets further is a new
// beginning.
type pulling struct {
	stub     pb.PoolServiceClient
	asked    *pb.PullRequest
	attempts *attempts
	most     *uint64
}

func (p *pulling) finite() bool { return true }

func (p *pulling) open(ctx context.Context) (grpc.ServerStreamingClient[pb.PullResponse], error) {
	return p.stub.Pull(ctx, p.asked)
}

func (p *pulling) receive(response *pb.PullResponse) []Progress {
	done := response.GetDoneBytes()
	if p.most != nil && done > *p.most {
		p.attempts.succeeded()
	}
	if p.most == nil || done > *p.most {
		p.most = &done
	}
	return []Progress{{DoneBytes: done, TotalBytes: response.GetTotalBytes()}}
}

func (p *pulling) failed(err *Error) (time.Duration, *Error) {
	return p.attempts.failed(err)
}
