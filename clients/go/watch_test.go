package poolservice

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

func changed(revision uint64, model string) step {
	return say(&pb.WatchResponse{Revision: revision, Event: &pb.WatchResponse_Server{Server: &pb.Server{Model: model}}})
}

func changedTo(revision, generation uint64, role pb.ServerRole) step {
	server := &pb.Server{Model: "m", Generation: generation, Role: role}
	return say(&pb.WatchResponse{Revision: revision, Event: &pb.WatchResponse_Server{Server: server}})
}

func removed(revision uint64, model string) step {
	return say(&pb.WatchResponse{Revision: revision, Event: &pb.WatchResponse_Removed{Removed: &pb.Server{Model: model}}})
}

func synced(revision uint64) step {
	return say(&pb.WatchResponse{Revision: revision, Event: &pb.WatchResponse_Synced{Synced: &pb.Synced{}}})
}

// broken is what a caller sees whose connection broke.
var broken = fail(refusal(codes.Unavailable, "SHUTTING_DOWN"))

var compacted = fail(refusal(codes.OutOfRange, "REVISION_COMPACTED"))

// told is what a watch says, up to the event that ends it or its error.
func told(t *testing.T, pool *Client, last string, after ...uint64) ([]string, error) {
	t.Helper()
	events := pool.Watch(t.Context())
	if after != nil {
		events = pool.WatchAfter(t.Context(), after[0])
	}
	var words []string
	for event, err := range events {
		if err != nil {
			return words, err
		}
		words = append(words, fmt.Sprintf("%v %d %s", event.Kind, event.Revision, event.Server.Model))
		if words[len(words)-1] == last {
			return words, nil
		}
	}
	t.Fatal("a watch ended without a word")
	return nil, nil
}

// resumed are the revisions after which a watch was asked for; -1: with the present state.
func resumed(service *scripted) []int {
	var revisions []int
	for _, request := range service.requests("Watch") {
		asked := request.(*pb.WatchRequest)
		if asked.AfterRevision == nil {
			revisions = append(revisions, -1)
		} else {
			revisions = append(revisions, int(asked.GetAfterRevision()))
		}
	}
	return revisions
}

func TestAWatchResumesAfterTheLastRevisionThatItSaw(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Watch", changed(5, "a"), synced(5), changed(6, "b"), broken)
		service.answer("Watch", removed(7, "a"), broken)
		service.answer("Watch", changed(8, "c"), stay)
		got, err := told(t, service.client(t), "changed 8 c")
		want := []string{"changed 5 a", "synced 5 ", "changed 6 b", "removed 7 a", "changed 8 c"}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v", got, err)
		}
		if asked := resumed(service); !slices.Equal(asked, []int{-1, 6, 7}) {
			t.Errorf("asked after %v", asked)
		}
		if service.streams() != 0 {
			t.Error("a stream is open that nobody reads")
		}
	})
}

func TestAWatchThatBreaksBeforeItIsSyncedBeginsAgain(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Watch", changed(5, "a"), broken)
		service.answer("Watch", changed(6, "a"), synced(6), stay)
		got, err := told(t, service.client(t), "synced 6 ")
		if err != nil || !slices.Equal(got, []string{"changed 5 a", "changed 6 a", "synced 6 "}) {
			t.Errorf("got %q, %v", got, err)
		}
		if asked := resumed(service); !slices.Equal(asked, []int{-1, -1}) {
			t.Errorf("asked after %v", asked)
		}
	})
}

func TestWhereTheHistoryIsGoneAWatchTellsWhatHasGoneMeanwhile(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Watch", changed(5, "a"), changed(5, "b"), changed(5, "c"), synced(5), removed(6, "c"), broken)
		service.answer("Watch", compacted)
		service.answer("Watch", changed(90, "a"), synced(90), changed(91, "d"), stay)
		got, err := told(t, service.client(t), "changed 91 d")
		want := []string{"changed 5 a", "changed 5 b", "changed 5 c", "synced 5 ", "removed 6 c",
			"changed 90 a", "removed 90 b", "synced 90 ", "changed 91 d"}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v", got, err)
		}
		if asked := resumed(service); !slices.Equal(asked, []int{-1, 6, -1}) {
			t.Errorf("asked after %v", asked)
		}
	})
}

func TestTheServersOfOneModelAreToldApartWhereTheHistoryIsGone(t *testing.T) {
	const superseded, current = pb.ServerRole_SERVER_ROLE_SUPERSEDED, pb.ServerRole_SERVER_ROLE_CURRENT
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Watch", changedTo(5, 10, superseded), changedTo(5, 9, superseded),
			changedTo(5, 11, current), synced(5), broken)
		service.answer("Watch", compacted)
		service.answer("Watch", changedTo(90, 11, current), synced(90), stay)
		var gone []string
		for event, err := range service.client(t).Watch(t.Context()) {
			if err != nil || event.Kind == EventSynced && event.Revision == 90 {
				break
			}
			if event.Kind == EventRemoved {
				gone = append(gone, fmt.Sprint(event.Server.Generation, event.Server.Role))
			}
		}
		if !slices.Equal(gone, []string{"9 SUPERSEDED", "10 SUPERSEDED"}) {
			t.Errorf("told as removed: %q", gone)
		}
	})
}

func TestAWatchThatBeganAfterARevisionFailsWhereTheHistoryIsGone(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Watch", changed(8, "a"), broken)
		service.answer("Watch", compacted)
		got, err := told(t, service.client(t), "", 7)
		if !errors.Is(err, ErrRevisionCompacted) || !slices.Equal(got, []string{"changed 8 a"}) {
			t.Errorf("got %q, %v", got, err)
		}
		if asked := resumed(service); !slices.Equal(asked, []int{7, 8}) {
			t.Errorf("asked after %v", asked)
		}
	})
}

func TestAnEventThatIsNotKnownIsPassedOverAndNotAskedForAgain(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Watch", synced(5), say(&pb.WatchResponse{Revision: 6}), broken)
		service.answer("Watch", changed(7, "a"), stay)
		got, err := told(t, service.client(t), "changed 7 a")
		if err != nil || !slices.Equal(got, []string{"synced 5 ", "changed 7 a"}) {
			t.Errorf("got %q, %v", got, err)
		}
		if asked := resumed(service); !slices.Equal(asked, []int{-1, 6}) {
			t.Errorf("asked after %v", asked)
		}
	})
}

func TestAWatchOutlivesServicesThatComeBackAndGivesUpOnOneThatDoesNot(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Watch", synced(5), stay)
		service.answer("Watch", changed(6, "a"), stay)
		pool := service.client(t)
		go func() {
			// Each time it stays away for less than the patience.
			for range 3 {
				time.Sleep(time.Hour)
				service.stop()
				time.Sleep(20 * time.Second)
				service.start()
			}
			time.Sleep(time.Hour)
			service.stop()
		}()
		got, err := told(t, pool, "")
		want := []string{"synced 5 ", "changed 6 a", "changed 6 a", "changed 6 a"}
		if !errors.Is(err, ErrPoolUnavailable) || !slices.Equal(got, want) {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestAStreamThatWasQuietForLongWasAlive(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		quiet := []step{pause(time.Minute), broken}
		service.answer("Watch", quiet...)
		service.answer("Watch", quiet...)
		service.answer("Watch", quiet...)
		service.answer("Watch", synced(5), stay)
		if got, err := told(t, service.client(t), "synced 5 "); err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestAStreamThatToldSomethingWasAlive(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		for revision := range uint64(5) {
			service.answer("Watch", changed(revision, "a"), pause(20*time.Second), broken)
		}
		service.answer("Watch", synced(5), stay)
		if got, err := told(t, service.client(t), "synced 5 "); err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestAStreamThatTheServiceEndsWithoutAWordIsResumed(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Watch", synced(5))
		service.answer("Watch", changed(6, "a"), stay)
		if got, err := told(t, service.client(t), "changed 6 a"); err != nil || len(got) != 2 {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestAServiceThatVanishedWithoutAWordIsNoticedByKeepalive(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Watch", synced(5), stay)
		service.answer("Watch", changed(6, "a"), stay)
		began := time.Now()
		time.AfterFunc(time.Minute, func() { service.silent.Store(true) })
		time.AfterFunc(2*time.Minute, func() { service.silent.Store(false) })
		got, err := told(t, service.client(t), "changed 6 a")
		if err != nil || len(got) != 2 || time.Since(began) < time.Minute || time.Since(began) > 3*time.Minute {
			t.Errorf("after %v got %q, %v", time.Since(began), got, err)
		}
	})
}

func TestAWatchEndsWithItsContext(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Watch", synced(5), stay)
		for kind, deadline := range map[Kind]time.Duration{ErrCancelled: time.Hour, ErrDeadlineExceeded: time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			time.AfterFunc(time.Minute, cancel)
			var last error
			for _, err := range service.client(t).Watch(ctx) {
				last = err
			}
			if !errors.Is(last, kind) {
				t.Errorf("ended with %v, want %v", last, kind)
			}
		}
	})
}

func TestEachIterationOfAWatchIsAWatch(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Watch", synced(5), stay)
		events := service.client(t).Watch(t.Context())
		for range 2 {
			for range events {
				break
			}
		}
		for _, request := range service.requests("Watch") {
			if !proto.Equal(request, &pb.WatchRequest{}) {
				t.Errorf("asked %v", request)
			}
		}
		if service.streams() != 0 {
			t.Error("a stream is open that nobody reads")
		}
	})
}
