package poolservice

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

var died = fail(refusal(codes.Unavailable, "START_FAILED"))

// generationOf the server that a hold says is READY; 0 and the error if it fails.
func generationOf(server Server, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(server.Generation)
}

func TestReadyWaitsForTheServerAndIsThenAnsweredFromMemory(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Hold", holds(StateQueued, 0), holds(StateStarting, 1), pause(time.Minute), holds(StateReady, 1), stay)
		pool := service.client(t)
		hold := pool.Hold(t.Context(), "m", WithHolder("me"), WithKeepAlive(0), WithDownload(true), WithRuntimeModel("r"))
		defer hold.Close()
		for range 3 {
			if server, err := hold.Ready(t.Context()); err != nil || server.ServedModelName != "served-m" {
				t.Fatal(server, err)
			}
		}
		want := &pb.HoldRequest{Model: "m", Holder: "me", KeepAlive: durationpb.New(0), Download: new(true), RuntimeModel: "r"}
		if asked := service.requests("Hold"); len(asked) != 1 || !proto.Equal(asked[0], want) {
			t.Errorf("asked %v", asked)
		}
	})
}

func TestReadyIsAnsweredAtOnceThoughTheContextHasEnded(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Hold", holds(StateReady, 1), stay)
		hold := service.client(t).Hold(t.Context(), "m")
		defer hold.Close()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := hold.Ready(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestWhileTheServiceIsAwayWhatItSaidLastStandsAndThenTheHoldIsAskedForAgain(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Hold", holds(StateReady, 1), stay)
		service.answer("Hold", holds(StateReady, 2), stay)
		hold := service.client(t).Hold(t.Context(), "m", WithHolder("me"))
		defer hold.Close()
		if got := generationOf(hold.Ready(t.Context())); got != "1" {
			t.Error(got)
		}
		service.stop()
		time.Sleep(10 * time.Second)
		if got := generationOf(hold.Ready(t.Context())); got != "1" {
			t.Error(got)
		}
		service.start()
		if got := generationOf(hold.ReadyAfter(t.Context(), Server{Generation: 1})); got != "2" {
			t.Error(got)
		}
		for _, request := range service.requests("Hold") {
			if !proto.Equal(request, &pb.HoldRequest{Model: "m", Holder: "me"}) {
				t.Errorf("asked %v", request)
			}
		}
	})
}

func TestAProcessOfAServiceThatLostItsRecordsIsAnotherOne(t *testing.T) {
	one := Server{Generation: 1, PID: 10}
	for other, same := range map[Server]bool{
		{Generation: 1, PID: 10}: true,
		{Generation: 1}:          true,
		{Generation: 1, PID: 11}: false,
		{Generation: 2, PID: 10}: false,
	} {
		if isSameProcess(one, other) != same {
			t.Errorf("%+v: %v", other, !same)
		}
	}
}

func TestWhoDoesNotWaitLongerIsToldHowItIsAndTheHoldGoesOn(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		loading := message(StateStarting, 1)
		loading.Detail = "loads"
		service.answer("Hold", say(&pb.HoldResponse{Server: loading}), pause(time.Minute), holds(StateReady, 1), stay)
		hold := service.client(t).Hold(t.Context(), "m")
		defer hold.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err := hold.Ready(ctx)
		want := `"m" was not READY within 0.5 s: it is STARTING (loads); the hold goes on`
		if !errors.Is(err, ErrDeadlineExceeded) || err.Error() != want {
			t.Error(err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := hold.Ready(ctx); !errors.Is(err, ErrCancelled) || !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if got := generationOf(hold.Ready(t.Context())); got != "1" {
			t.Error(got)
		}
	})
}

func TestWhoDoesNotWaitLongerIsToldWhatGoesWrong(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.stop()
		hold := service.client(t).Hold(t.Context(), "m")
		defer hold.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := hold.Ready(ctx)
		want := `"m" was not READY within 5 s: it is not known; the hold goes on: ` +
			"cannot reach the pool service at localhost:1: connection refused"
		if !errors.Is(err, ErrPoolUnavailable) || err.Error() != want {
			t.Error(err)
		}
	})
}

func TestWhatWentWrongBeforeTheLastStateIsNotTold(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Hold", died)
		service.answer("Hold", holds(StateStarting, 2), stay)
		hold := service.client(t).Hold(t.Context(), "m")
		defer hold.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := hold.Ready(ctx); !errors.Is(err, ErrDeadlineExceeded) || errors.Is(err, ErrStartFailed) {
			t.Error(err)
		}
	})
}

// isRead tells whether the goroutine that reads the stream of a hold goes on.
func isRead(hold *Hold) bool {
	select {
	case <-hold.read:
		return false
	default:
		return true
	}
}

// states are those that a hold tells, and the error that ends them.
func states(ctx context.Context, hold *Hold) (names []string, last error) {
	for server, err := range hold.States(ctx) {
		if err != nil {
			return names, err
		}
		names = append(names, fmt.Sprintf("%v %d", server.State, server.Generation))
	}
	return names, nil
}

func TestStatesAreToldToEveryIterationAndThenWhatEndedTheHold(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Hold", holds(StateQueued, 0), pause(time.Second), holds(StateStarting, 1), pause(time.Second),
			holds(StateReady, 1), pause(time.Second), fail(refusal(codes.Aborted, "EVICTED")))
		hold := service.client(t).Hold(t.Context(), "m")
		defer hold.Close()
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() {
				got, err := states(t.Context(), hold)
				if !errors.Is(err, ErrEvicted) || !slices.Equal(got, []string{"QUEUED 0", "STARTING 1", "READY 1"}) {
					t.Errorf("told %q, %v", got, err)
				}
			})
		}
		readers.Wait()
		if got, err := states(t.Context(), hold); !errors.Is(err, ErrEvicted) || !slices.Equal(got, []string{"READY 1"}) {
			t.Errorf("who comes late is told %q, %v", got, err)
		}
		if _, err := hold.Ready(t.Context()); !errors.Is(err, ErrEvicted) {
			t.Error(err)
		}
	})
}

func TestWhoReadsSlowlyMissesWhatIsOutOfDate(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Hold", holds(StateQueued, 0), pause(time.Second), holds(StateStarting, 1), holds(StateStarting, 1),
			holds(StateReady, 1), stay)
		hold := service.client(t).Hold(t.Context(), "m")
		defer hold.Close()
		var got []ServerState
		for server, err := range hold.States(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, server.State)
			if server.State == StateReady {
				break
			}
			time.Sleep(time.Minute)
		}
		if !slices.Equal(got, []ServerState{StateQueued, StateReady}) {
			t.Error(got)
		}
	})
}

func TestAHoldThatIsClosedReleasesTheModelAtOnceAndHasNotFailed(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Hold", holds(StateReady, 1), stay)
		hold := service.client(t).Hold(t.Context(), "m")
		told := make(chan error)
		go func() {
			_, err := states(t.Context(), hold)
			told <- err
		}()
		synctest.Wait()
		began := time.Now()
		hold.Close()
		if isRead(hold) {
			t.Error("its goroutine goes on")
		}
		hold.Close()
		if err := <-told; err != nil {
			t.Errorf("its states ended with %v", err)
		}
		if service.streams() != 0 || time.Since(began) != 0 {
			t.Error("the model is still held")
		}
		if _, err := hold.Ready(t.Context()); !errors.Is(err, ErrCancelled) || err.Error() != `the hold of "m" was closed` {
			t.Error(err)
		}
	})
}

func TestAHoldEndsWithItsContext(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Hold", holds(StateReady, 1), stay)
		ctx, cancel := context.WithCancel(t.Context())
		hold := service.client(t).Hold(ctx, "m")
		synctest.Wait()
		cancel()
		if service.streams() != 0 {
			t.Error("the model is still held")
		}
		if _, err := states(t.Context(), hold); !errors.Is(err, ErrCancelled) {
			t.Error(err)
		}
	})
}

func TestClosingTheClientReleasesItsHolds(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Hold", holds(StateReady, 1), stay)
		pool := New(service.connection(t))
		hold := pool.Hold(t.Context(), "m")
		synctest.Wait()
		if err := pool.Close(); err != nil || isRead(hold) {
			t.Error("its goroutine goes on, or", err)
		}
		if _, err := hold.Ready(t.Context()); !errors.Is(err, ErrCancelled) {
			t.Error(err)
		}
		if service.streams() != 0 {
			t.Error("the model is still held")
		}
	})
}

func TestAHoldIsForAnyNumberOfGoroutines(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Hold", pause(time.Second), holds(StateReady, 1), pause(time.Second), holds(StateReady, 2), stay)
		hold := service.client(t).Hold(t.Context(), "m")
		var readers sync.WaitGroup
		for range 50 {
			readers.Go(func() {
				first, err := hold.Ready(t.Context())
				if got := generationOf(hold.ReadyAfter(t.Context(), first)); err != nil || got != "2" {
					t.Error(got, err)
				}
			})
			readers.Go(func() {
				if got, err := states(t.Context(), hold); err != nil {
					t.Error(got, err)
				}
			})
		}
		time.Sleep(time.Hour)
		hold.Close()
		readers.Wait()
	})
}
