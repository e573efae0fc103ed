package poolservice

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// Pull downloads the missing files of the model, and yields its progress until all are there. An
// error is the last pair. It begins when it is iterated, and starts no server. Leaving the loop
// gives up; the downloaded parts are kept. A download that breaks is resumed.
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

// pulling is a download. Downloaded parts are kept, so progress restarts the count of failures.
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
