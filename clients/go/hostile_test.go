package poolservice

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

const noEnd = "its pages have no end"

func TestADelayOfNextToNothingCountsAsNone(t *testing.T) {
	for _, named := range []time.Duration{0, 1, 99 * time.Millisecond, -time.Hour, math.MinInt64} {
		for attempt, want := range map[int]time.Duration{1: 100, 2: 200, 3: 400} {
			got := delayOf(later(codes.Unavailable, named), RetryPolicy{}, failure{attempt: attempt})
			if got != want*time.Millisecond {
				t.Errorf("with %v, after attempt %d it is %v", named, attempt, got)
			}
		}
	}
}

func TestARetryDelayOfNothingOrLessIsNoBusyLoop(t *testing.T) {
	for _, named := range []time.Duration{0, -5 * time.Second, math.MinInt64, math.MaxInt64} {
		inVirtualTime(t, func(t *testing.T, service *scripted) {
			service.answer("Ensure", fail(refusal(codes.Unavailable, "RECOVERING", after(named))))
			if _, err := service.client(t).Ensure(t.Context(), "m"); !errors.Is(err, ErrRecovering) {
				t.Fatal(err)
			}
			if asked := len(service.requests("Ensure")); asked > 15 {
				t.Errorf("with %v it is asked %d times", named, asked)
			}
		})
	}
}

func TestPagesThatComeAgainAreAnError(t *testing.T) {
	for _, tokens := range [][]string{{"again"}, {"a", "b", "a"}} {
		inVirtualTime(t, func(t *testing.T, service *scripted) {
			for _, token := range tokens {
				service.answer("List", say(&pb.ListResponse{NextPageToken: token}))
				service.answer("ListModels", say(&pb.ListModelsResponse{NextPageToken: token}))
			}
			client := service.client(t)
			if _, err := client.List(t.Context()); err == nil || !strings.Contains(err.Error(), noEnd) {
				t.Errorf("servers: %v", err)
			}
			if _, err := client.Models(t.Context()); err == nil || !strings.Contains(err.Error(), noEnd) {
				t.Errorf("models: %v", err)
			}
		})
	}
}

func TestAnAnswerWithoutAServerIsAnError(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Ensure", say(&pb.EnsureResponse{}))
		var failed *Error
		_, err := service.client(t).Ensure(t.Context(), "m")
		if !errors.As(err, &failed) || failed.Code != codes.Internal {
			t.Fatal(err)
		}
	})
}

func TestAServerThatIsNowhereIsAnError(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		nowhere := message(StateReady, 1)
		nowhere.Endpoint = ""
		service.answer("Ensure", say(&pb.EnsureResponse{Server: nowhere}))
		var failed *Error
		_, err := service.client(t).Ensure(t.Context(), "m")
		if !errors.As(err, &failed) || failed.Code != codes.Internal {
			t.Fatal(err)
		}
	})
}

// growing are the times of eight calls, of which each waits longer than the one before.
var growing = []time.Duration{0, 100, 300, 700, 1500, 3100, 6300, 11300}

func TestAStreamThatEndsSoonIsOpenedEverMoreSlowly(t *testing.T) {
	for name, answer := range map[string]answer{
		"Watch at once":      {},
		"Watch after one":    {synced(7)},
		"Watch after change": {changed(7, "m")},
		"Watch compacted":    {synced(7), compacted},
		"Hold at once":       {},
		"Hold starting":      {holds(StateStarting, 1)},
		"Hold ready":         {holds(StateReady, 1)},
	} {
		inVirtualTime(t, func(t *testing.T, service *scripted) {
			rpc, _, _ := strings.Cut(name, " ")
			for range growing {
				service.answer(rpc, answer...)
			}
			service.answer(rpc, stay)
			pool := service.client(t)
			if rpc == "Hold" {
				defer pool.Hold(t.Context(), "m").Close()
				time.Sleep(15 * time.Second)
			} else {
				ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
				defer cancel()
				for range pool.Watch(ctx) {
				}
			}
			times := service.times(rpc)
			for i, want := range growing {
				if i >= len(times) || times[i] != want*time.Millisecond {
					t.Fatalf("%s: asked at %v", name, times)
				}
			}
		})
	}
}

func TestAStreamThatWasAliveForLongIsOpenedSoon(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		for range 3 {
			service.answer("Watch", synced(7))
		}
		service.answer("Watch", changed(8, "m"), pause(healthy), changed(9, "m"), broken)
		service.answer("Watch", changed(10, "m"), stay)
		if _, err := told(t, service.client(t), "changed 10 m"); err != nil {
			t.Fatal(err)
		}
		times := service.times("Watch")
		if waited := times[4] - times[3] - healthy; waited != firstBackoff {
			t.Errorf("it was asked %v later", waited)
		}
	})
}

func TestARevisionNeverGoesBack(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Watch", synced(7), changed(9, "a"), changed(8, "a"), removed(8, "a"), synced(3),
			broken)
		service.answer("Watch", changed(10, "a"), stay)
		got, err := told(t, service.client(t), "changed 10 a")
		if want := []string{"synced 7 ", "changed 9 a", "changed 10 a"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v", got, err)
		}
		if asked := resumed(service); !slices.Equal(asked, []int{-1, 9}) {
			t.Errorf("asked after %v", asked)
		}
	})
}

func TestAHoldPassesOverWhatCannotBeOfItsServer(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		nowhere, other := message(StateReady, 1), message(StateReady, 2)
		nowhere.Endpoint, other.Model = "", "other"
		service.answer("Hold", say(&pb.HoldResponse{Server: nowhere}),
			say(&pb.HoldResponse{Server: other}), holds(StateReady, 3), stay)
		hold := service.client(t).Hold(t.Context(), "alias")
		defer hold.Close()
		if server, err := hold.Ready(t.Context()); err != nil || server.Generation != 3 {
			t.Errorf("it is %+v, %v", server, err)
		}
	})
}

func TestOfEachDetailTheFirstCounts(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Ensure", fail(refusal(codes.ResourceExhausted, "POOL_FULL", after(time.Hour),
			&errdetails.ErrorInfo{Reason: "EVICTED", Domain: errorDomain}, after(time.Second))))
		var failed *Error
		_, err := service.client(t).Ensure(t.Context(), "m")
		if !errors.As(err, &failed) || failed.Kind != ErrPoolFull || *failed.RetryAfter != time.Hour {
			t.Fatal(err)
		}
	})
}

func TestWhatIsNoTimeAndNoShareIsNone(t *testing.T) {
	for _, wrong := range []*timestamppb.Timestamp{
		{Nanos: -1}, {Nanos: 1e9}, {Seconds: math.MaxInt64}, {Seconds: -62135596801},
	} {
		if got := timeOf(wrong); !got.IsZero() {
			t.Errorf("%v is %v", wrong, got)
		}
	}
	for _, wrong := range []float64{math.NaN(), math.Inf(1), -0.1, 1.5} {
		if got := shareOf(&wrong); got != nil {
			t.Errorf("%v is %v", wrong, *got)
		}
	}
}
