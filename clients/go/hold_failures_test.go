package poolservice

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

func TestAStartThatFailsIsNotAskedForForEverThoughEachStreamTellsOfIt(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Hold", holds(StateStarting, 1), pause(10*time.Second), died)
		hold := service.client(t).Hold(t.Context(), "m")
		defer hold.Close()
		if _, err := hold.Ready(t.Context()); !errors.Is(err, ErrStartFailed) {
			t.Error(err)
		}
		// The first failure is after 10 s, and 30 s later there are no more.
		if asked := len(service.requests("Hold")); asked != 4 {
			t.Errorf("asked %d times", asked)
		}
	})
}

func TestADeadlineOfAHoldIsNoReasonToAskLonger(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Hold", holds(StateStarting, 1), pause(10*time.Second), died)
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		hold := service.client(t).Hold(ctx, "m")
		defer hold.Close()
		if _, err := hold.Ready(t.Context()); !errors.Is(err, ErrStartFailed) {
			t.Error(err)
		}
	})
}

func TestOnceItIsReadyFailuresOfStartsAreCountedAnew(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		for range 5 {
			service.answer("Hold", holds(StateReady, 1), pause(20*time.Second), died)
		}
		service.answer("Hold", holds(StateReady, 2), stay)
		service.answer("Get", say(&pb.GetResponse{}))
		hold := service.client(t).Hold(t.Context(), "m")
		defer hold.Close()
		if got := generationOf(hold.ReadyAfter(t.Context(), Server{Generation: 1})); got != "2" {
			t.Error(got)
		}
	})
}

func TestABreakOfAStreamThatWasAliveIsAFirstFailure(t *testing.T) {
	for name, broke := range map[string]step{
		"shutting down": broken,
		"recovering":    fail(refusal(codes.Unavailable, "RECOVERING")),
		"ended":         fail(nil),
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, service *scripted) {
				for range 5 {
					service.answer("Hold", holds(StateStarting, 1), pause(20*time.Second), broke)
				}
				service.answer("Hold", holds(StateReady, 1), stay)
				hold := service.client(t).Hold(t.Context(), "m")
				defer hold.Close()
				if got := generationOf(hold.Ready(t.Context())); got != "1" {
					t.Error(got)
				}
			})
		})
	}
}

func TestAHoldGivesUpOnAServiceThatStaysAway(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Hold", holds(StateReady, 1), stay)
		hold := service.client(t).Hold(t.Context(), "m")
		defer hold.Close()
		synctest.Wait()
		service.stop()
		if _, err := states(t.Context(), hold); !errors.Is(err, ErrPoolUnavailable) {
			t.Error(err)
		}
		if _, err := hold.Ready(t.Context()); !errors.Is(err, ErrPoolUnavailable) {
			t.Errorf("what it said last stands though the hold has ended: %v", err)
		}
	})
}
