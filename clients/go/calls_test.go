package poolservice

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

func TestACallIsRetriedUntilItSucceedsAfterTheDelaysOfTheService(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Ensure", fail(refusal(codes.Unavailable, "RECOVERING")))
		service.answer("Ensure", fail(refusal(codes.ResourceExhausted, "POOL_FULL", after(7*time.Second))))
		service.answer("Ensure", fail(refusal(codes.Unavailable, "SHUTTING_DOWN")))
		service.answer("Ensure", ensured(1))
		got, err := service.client(t).Ensure(t.Context(), "m")
		if err != nil || got.Server.Endpoint != "http://127.0.0.1:49321" {
			t.Fatalf("got %v, %v", got, err)
		}
		want := []time.Duration{0, 100 * time.Millisecond, 7100 * time.Millisecond, 7500 * time.Millisecond}
		if times := service.times("Ensure"); !slices.Equal(times, want) {
			t.Errorf("asked at %v, want %v", times, want)
		}
	})
}

func TestWhatIsFinalIsAskedOnce(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Ensure", fail(refusal(codes.Aborted, "EVICTED")))
		if _, err := service.client(t).Ensure(t.Context(), "m"); !errors.Is(err, ErrEvicted) {
			t.Fatal(err)
		}
		if asked := len(service.requests("Ensure")); asked != 1 {
			t.Errorf("asked %d times", asked)
		}
	})
}

func TestAServiceThatStaysAwayIsToldWhenPatienceIsOver(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.stop()
		began := time.Now()
		_, err := service.client(t).Ensure(t.Context(), "m")
		if !errors.Is(err, ErrPoolUnavailable) || !strings.HasSuffix(err.Error(), "localhost:1: connection refused") {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 25*time.Second || took > 30*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAServiceThatComesBackIsFoundWithinASecondOrSo(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		pool := service.client(t)
		service.answer("Ensure", ensured(1))
		service.stop()
		go func() {
			time.Sleep(10 * time.Second)
			service.start()
		}()
		began := time.Now()
		if _, err := pool.Ensure(t.Context(), "m"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 16*time.Second {
			t.Errorf("it took %v", took)
		}
		// The connection itself is tried each second: who comes anew finds the service at once.
		service.stop()
		time.Sleep(100 * time.Second)
		service.start()
		time.Sleep(2 * time.Second)
		began = time.Now()
		if _, err := pool.Ensure(t.Context(), "m"); err != nil || time.Since(began) > 0 {
			t.Errorf("it took %v: %v", time.Since(began), err)
		}
	})
}

func TestOfAPolicyWithOneAttemptThereIsOne(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Ensure", fail(refusal(codes.Unavailable, "RECOVERING")))
		pool := service.client(t, WithRetryPolicy(RetryPolicy{Attempts: 1}))
		if _, err := pool.Ensure(t.Context(), "m"); !errors.Is(err, ErrRecovering) {
			t.Fatal(err)
		}
		if asked := len(service.requests("Ensure")); asked != 1 {
			t.Errorf("asked %d times", asked)
		}
	})
}

func TestADeadlineEndsACallThatTakesLongerAndTheServiceIsToldOfIt(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		limits := make(chan time.Duration, 1)
		service.answer("Ensure", func(ctx context.Context, _ func(proto.Message) error) error {
			limits <- limitOf(ctx)
			<-ctx.Done()
			return ctx.Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := service.client(t).Ensure(ctx, "m")
		if !errors.Is(err, ErrDeadlineExceeded) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if err.Error() != "no answer within 5 s; what the service has begun goes on" {
			t.Error(err)
		}
		if limit := <-limits; limit != 5*time.Second {
			t.Errorf("the service was told %v", limit)
		}
	})
}

func TestADeadlineSaysWhatFailedBeforeIt(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Ensure", fail(refusal(codes.Unavailable, "START_FAILED")))
		service.answer("Ensure", stay)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := service.client(t).Ensure(ctx, "m")
		if !errors.Is(err, ErrDeadlineExceeded) || !errors.Is(err, ErrStartFailed) {
			t.Fatal(err)
		}
		var failed *Error
		if !errors.As(err, &failed) || failed.Kind != ErrDeadlineExceeded {
			t.Errorf("%#v", failed)
		}
	})
}

func TestAnErrorIsReturnedInsteadOfAWaitBeyondTheDeadline(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Ensure", fail(refusal(codes.ResourceExhausted, "POOL_FULL", after(10*time.Second))))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		if _, err := service.client(t).Ensure(ctx, "m"); !errors.Is(err, ErrPoolFull) {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

func TestCancellingEndsACallAndAWaitForTheNextAttemptAtOnce(t *testing.T) {
	for name, step := range map[string]step{
		"call": stay,
		"wait": fail(refusal(codes.Unavailable, "RECOVERING", after(20*time.Second))),
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, service *scripted) {
				service.answer("Ensure", step)
				reason := errors.New("the user has left")
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(3*time.Second, func() { cancel(reason) })
				began := time.Now()
				_, err := service.client(t).Ensure(ctx, "m")
				if !errors.Is(err, ErrCancelled) || !errors.Is(err, context.Canceled) || !errors.Is(err, reason) {
					t.Fatal(err)
				}
				if took := time.Since(began); took != 3*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestClosingTheClientEndsWhatIsUnderWayAndWhatComesLater(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		pool := service.client(t)
		service.answer("Ensure", stay)
		ended := make(chan error)
		go func() {
			_, err := pool.Ensure(t.Context(), "m")
			ended <- err
		}()
		synctest.Wait()
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, ErrCancelled) {
			t.Errorf("under way: %v", err)
		}
		if _, err := pool.Ensure(t.Context(), "m"); !errors.Is(err, ErrCancelled) {
			t.Errorf("later: %v", err)
		}
		if _, err := pool.Hold(t.Context(), "m").Ready(t.Context()); !errors.Is(err, ErrCancelled) {
			t.Errorf("a later hold: %v", err)
		}
		if err := pool.Close(); err != nil {
			t.Errorf("a second time: %v", err)
		}
	})
}

func TestAClientLeavesTheConnectionThatItWasGivenOpen(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Ensure", ensured(1))
		connection := service.connection(t)
		for range 2 {
			pool := New(connection)
			if _, err := pool.Ensure(t.Context(), "m"); err != nil {
				t.Error(err)
			}
			if err := pool.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestWhatACallIsToldIsAskedOfTheService(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		pool := service.client(t)
		service.answer("Ensure", ensured(1))
		service.answer("Evict", say(&pb.EvictResponse{}))
		ctx := t.Context()
		_, _ = pool.Ensure(ctx, "m")
		_, _ = pool.Ensure(ctx, "m", WithRuntimeModel("r"), WithKeepAlive(-time.Second), WithDownload(false))
		_, _ = pool.Evict(ctx, "m")
		_, _ = pool.Evict(ctx, "m", WithForce())
		_, _ = pool.EvictIdle(ctx)
		_, _ = pool.EvictAll(ctx, WithForce())
		asked := append(service.requests("Ensure"), service.requests("Evict")...)
		for i, want := range []proto.Message{
			&pb.EnsureRequest{Model: "m"},
			&pb.EnsureRequest{Model: "m", RuntimeModel: "r", KeepAlive: durationpb.New(-time.Second), Download: new(false)},
			&pb.EvictRequest{Target: &pb.EvictRequest_Model{Model: "m"}},
			&pb.EvictRequest{Target: &pb.EvictRequest_Model{Model: "m"}, Force: true},
			&pb.EvictRequest{Target: &pb.EvictRequest_Idle{Idle: true}},
			&pb.EvictRequest{Target: &pb.EvictRequest_All{All: true}, Force: true},
		} {
			if !proto.Equal(asked[i], want) {
				t.Errorf("asked %v, want %v", asked[i], want)
			}
		}
	})
}

func TestListsGiveWhatIsOnAllPages(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		pool := service.client(t)
		service.answer("List", say(&pb.ListResponse{
			Servers: []*pb.Server{{Model: "a"}, {Model: "b"}}, NextPageToken: "t", Revision: 7}))
		service.answer("List", say(&pb.ListResponse{Servers: []*pb.Server{{Model: "c"}}, Revision: 8,
			Totals: &pb.PoolTotals{Servers: 3}, Notices: []string{"the disk is full"}}))
		service.answer("ListModels", say(&pb.ListModelsResponse{Models: []*pb.Model{{Model: "a"}}, NextPageToken: "t"}))
		service.answer("ListModels", say(&pb.ListModelsResponse{Models: []*pb.Model{{Model: "b"}}}))
		var names []string
		servers, err := pool.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, server := range servers {
			names = append(names, server.Model)
		}
		models, err := pool.Models(t.Context(), WithFound())
		if err != nil {
			t.Fatal(err)
		}
		for _, model := range models {
			names = append(names, model.Model)
		}
		if want := []string{"a", "b", "c", "a", "b"}; !slices.Equal(names, want) {
			t.Errorf("got %v", names)
		}
		for page, err := range pool.Pages(t.Context(), 5) {
			if err != nil || page.Revision != 8 || page.Totals.Servers != 3 || page.Notices[0] != "the disk is full" {
				t.Errorf("got %v, %v", page, err)
			}
		}
		for _, asked := range service.requests("ListModels") {
			if !asked.(*pb.ListModelsRequest).GetFound() {
				t.Errorf("asked %v", asked)
			}
		}
		asked := service.requests("List")
		if want := (&pb.ListRequest{PageToken: "t"}); !proto.Equal(asked[1], want) {
			t.Errorf("asked %v", asked[1])
		}
		if want := (&pb.ListRequest{PageSize: 5}); !proto.Equal(asked[2], want) {
			t.Errorf("asked %v", asked[2])
		}
	})
}

func TestAListWhoseSecondPageFailsIsTheErrorAndNoHalfOfIt(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("List", say(&pb.ListResponse{Servers: []*pb.Server{{Model: "a"}}, NextPageToken: "t"}))
		service.answer("List", fail(refusal(codes.InvalidArgument, "INVALID_PAGE_TOKEN")))
		service.answer("ListModels", say(&pb.ListModelsResponse{Models: []*pb.Model{{Model: "a"}}, NextPageToken: "t"}))
		service.answer("ListModels", fail(refusal(codes.InvalidArgument, "INVALID_PAGE_TOKEN")))
		pool := service.client(t)
		if servers, err := pool.List(t.Context()); servers != nil || !errors.Is(err, ErrInvalidRequest) {
			t.Error(servers, err)
		}
		if models, err := pool.Models(t.Context()); models != nil || !errors.Is(err, ErrInvalidRequest) {
			t.Error(models, err)
		}
	})
}

func TestPagesAreAskedForOnlyAsTheyAreRead(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("List", say(&pb.ListResponse{Servers: []*pb.Server{{Model: "a"}}, NextPageToken: "t"}))
		pages := service.client(t).Pages(t.Context(), 1)
		if asked := service.requests("List"); len(asked) != 0 {
			t.Errorf("before anybody reads, %v was asked", asked)
		}
		for page, err := range pages {
			if err != nil || page.Servers[0].Model != "a" {
				t.Error(page, err)
			}
			break
		}
		if asked := service.requests("List"); len(asked) != 1 {
			t.Errorf("asked %v", asked)
		}
	})
}

func TestAReloadTellsWhatItChanged(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Reload", say(&pb.ReloadResponse{
			Replaced: []string{"a"}, Updated: []string{"b"}, Removed: []string{"c"}, RestartNeeded: []string{"d"}}))
		got, err := service.client(t).Reload(t.Context())
		if err != nil || got.Replaced[0]+got.Updated[0]+got.Removed[0]+got.RestartNeeded[0] != "abcd" {
			t.Error(got, err)
		}
	})
}

func TestForgetReturnsWhatWasRemembered(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Forget", say(&pb.ForgetResponse{RuntimeModel: "r"}))
		got, err := service.client(t).Forget(t.Context(), "m")
		if err != nil || got != "r" {
			t.Error(got, err)
		}
	})
}

func TestPinSaysWhatIsWantedAndReturnsWhatIs(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		pool, told := service.client(t), say(&pb.PinResponse{Pinned: true, Configured: true})
		service.answer("Pin", told, told, told)
		yes, no := true, false
		for _, pin := range []func() (Pinned, error){
			func() (Pinned, error) { return pool.Pin(t.Context(), "m", true) },
			func() (Pinned, error) { return pool.Pin(t.Context(), "m", false) },
			func() (Pinned, error) { return pool.PinAsConfigured(t.Context(), "m") },
		} {
			got, err := pin()
			if err != nil || got != (Pinned{Pinned: true, Configured: true}) {
				t.Error(got, err)
			}
		}
		asked := service.requests("Pin")
		for i, want := range []*pb.PinRequest{{Model: "m", Pinned: &yes}, {Model: "m", Pinned: &no}, {Model: "m"}} {
			if !proto.Equal(asked[i], want) {
				t.Errorf("asked %v, want %v", asked[i], want)
			}
		}
	})
}

func TestAClientIsForAnyNumberOfGoroutines(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		pool := service.client(t)
		service.answer("Ensure", pause(time.Second), ensured(1))
		var calls sync.WaitGroup
		for range 100 {
			calls.Go(func() {
				if _, err := pool.Ensure(t.Context(), "m"); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		if asked := len(service.requests("Ensure")); asked != 100 {
			t.Errorf("asked %d times", asked)
		}
	})
}
