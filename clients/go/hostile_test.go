package poolservice

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

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
			var failed error
			for _, err := range client.List(t.Context()) {
				failed = err
			}
			if failed == nil || !strings.Contains(failed.Error(), noEnd) {
				t.Errorf("servers: %v", failed)
			}
			failed = nil
			for _, err := range client.Models(t.Context()) {
				failed = err
			}
			if failed == nil || !strings.Contains(failed.Error(), noEnd) {
				t.Errorf("models: %v", failed)
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
