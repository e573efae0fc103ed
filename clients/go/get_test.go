package poolservice

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

func found(state ServerState, generation uint64, answers bool) step {
	return say(&pb.GetResponse{Server: message(state, generation), Answers: answers})
}

func TestGetReturnsTheServerAndWhetherItAnswered(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Get", found(StateReady, 3, true))
		service.answer("Get", found(StateReady, 3, false))
		pool := service.client(t)
		for _, answers := range []bool{true, false} {
			got, err := pool.Get(t.Context(), "m", WithCheck())
			if err != nil || got.Server == nil || got.Server.Generation != 3 || got.Answers != answers {
				t.Errorf("got %+v, %v; want that it answers: %v", got, err, answers)
			}
		}
	})
}

func TestGetOfAModelWithoutAServerReturnsNone(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Get", say(&pb.GetResponse{}))
		if got, err := service.client(t).Get(t.Context(), "m"); err != nil || got != (Found{}) {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestGetAsksForACheckOnlyIfItIsTo(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Get", say(&pb.GetResponse{}))
		pool := service.client(t)
		_, _ = pool.Get(t.Context(), "m")
		_, _ = pool.Get(t.Context(), "m", WithCheck())
		asked := service.requests("Get")
		for i, want := range []*pb.GetRequest{{Model: "m"}, {Model: "m", Check: true}} {
			if !proto.Equal(asked[i], want) {
				t.Errorf("asked %v, want %v", asked[i], want)
			}
		}
	})
}

func TestGetIsRetriedLikeEveryCallAndARefusalIsTheError(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Get", fail(refusal(codes.Unavailable, "RECOVERING", after(time.Second))))
		service.answer("Get", fail(refusal(codes.InvalidArgument, "INVALID_MODEL")))
		got, err := service.client(t).Get(t.Context(), "-")
		if !errors.Is(err, ErrInvalidRequest) || got != (Found{}) {
			t.Errorf("got %+v, %v", got, err)
		}
		if asked := len(service.requests("Get")); asked != 2 {
			t.Errorf("asked %d times", asked)
		}
	})
}
