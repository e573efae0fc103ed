package poolservice

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// keyOfFirst is the key of the first server of a hold of readyHold.
const keyOfFirst = "k1"

// readyHold returns a hold whose first process is READY, and that process. What the stream says
// later follows.
func readyHold(t *testing.T, service *scripted, later ...step) (*Hold, Server) {
	t.Helper()
	first := say(&pb.HoldResponse{Server: message(StateReady, 1), ApiKey: keyOfFirst})
	service.answer("Hold", append([]step{first}, later...)...)
	hold := service.client(t).Hold(t.Context(), "alias")
	t.Cleanup(hold.Close)
	server, err := hold.Ready(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return hold, server
}

// expectAfter expects a generation after a time, and so many calls of Get.
func expectAfter(t *testing.T, service *scripted, hold *Hold, server Server, generation string, took time.Duration, gets int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	began := time.Now()
	if got := generationOf(hold.ReadyAfter(ctx, server)); got != generation || time.Since(began) != took {
		t.Errorf("got %s after %v, want %s after %v", got, time.Since(began), generation, took)
	}
	if asked := len(service.requests("Get")); asked != gets {
		t.Errorf("Get was called %d times, not %d", asked, gets)
	}
}

func TestAnotherProcessThatIsReadyIsReturnedWithoutACheck(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		hold, server := readyHold(t, service, pause(time.Second), holds(StateReady, 2), stay)
		time.Sleep(time.Second)
		synctest.Wait()
		expectAfter(t, service, hold, server, "2", 0, 0)
	})
}

func TestTheSameProcessIsReturnedAtOnceIfItAnswersTheService(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		hold, server := readyHold(t, service, stay)
		service.answer("Get", found(StateReady, 1, true))
		began := time.Now()
		got, err := hold.ReadyAfter(t.Context(), server)
		if err != nil || got.Generation != 1 || time.Since(began) != 0 {
			t.Errorf("got %v, %v after %v", got, err, time.Since(began))
		}
		if got.APIKey != keyOfFirst {
			t.Error("the server is without its key")
		}
		asked := service.requests("Get")
		if len(asked) != 1 || !proto.Equal(asked[0], &pb.GetRequest{Model: "m", Check: true}) {
			t.Errorf("asked %v", asked)
		}
	})
}

func TestAProcessThatTheServiceKnowsToBeGoneIsNotReturnedHoweverLateTheNextOneIs(t *testing.T) {
	reborn := message(StateReady, 1)
	reborn.Pid++
	for name, said := range map[string]*pb.Server{
		"none":               nil,
		"another state":      message(StateStopping, 1),
		"another generation": message(StateReady, 2),
		"another pid":        reborn,
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, service *scripted) {
				hold, server := readyHold(t, service, pause(time.Minute), holds(StateReady, 2), stay)
				service.answer("Get", say(&pb.GetResponse{Server: said, Answers: true}))
				expectAfter(t, service, hold, server, "2", time.Minute, 1)
			})
		})
	}
}

func TestAProcessWhoseEndNobodyReportsIsReturnedAfterTheGrace(t *testing.T) {
	for name, answer := range map[string]step{
		"busy":             found(StateReady, 1, false),
		"busy for a while": pauseThen(time.Second, found(StateReady, 1, false)),
		"refused":          fail(refusal(codes.Unavailable, "RECOVERING", after(time.Millisecond))),
		"no answer":        stay,
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, service *scripted) {
				hold, server := readyHold(t, service, stay)
				service.answer("Get", answer)
				expectAfter(t, service, hold, server, "1", readyGrace, 1)
			})
		})
	}
}

func TestAnAnswerAboutAnotherModelSaysNothing(t *testing.T) {
	for name, other := range map[string]*pb.Server{
		"the same process": message(StateReady, 1),
		"another process":  message(StateReady, 7),
		"another state":    message(StateStopping, 1),
	} {
		other.Model = "another"
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, service *scripted) {
				hold, server := readyHold(t, service, stay)
				service.answer("Get", say(&pb.GetResponse{Server: other, Answers: true}))
				expectAfter(t, service, hold, server, "1", readyGrace, 1)
			})
		})
	}
}

func TestNothingIsAskedForAHoldThatIsOverOrWhoseClientIsClosed(t *testing.T) {
	for name, said := range map[string]struct {
		end     func(pool *Client, hold *Hold, cancel context.CancelFunc)
		message string
	}{
		"closed": {
			func(_ *Client, hold *Hold, _ context.CancelFunc) { hold.Close() },
			`the hold of "alias" was closed`,
		},
		"its context has just ended": {
			func(_ *Client, _ *Hold, cancel context.CancelFunc) { cancel() },
			"the call to the pool service at localhost:1 was given up: context canceled",
		},
		"its client is being closed": {
			func(pool *Client, _ *Hold, _ context.CancelFunc) { pool.end() },
			"the call to the pool service at localhost:1 was given up: the client was closed",
		},
		"its client is closed": {
			func(pool *Client, _ *Hold, _ context.CancelFunc) { _ = pool.Close() },
			"the call to the pool service at localhost:1 was given up: the client was closed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, service *scripted) {
				service.answer("Hold", holds(StateReady, 1), stay)
				var asked atomic.Int32
				pool := service.client(t, WithDialOptions(grpc.WithUnaryInterceptor(func(
					context.Context, string, any, any, *grpc.ClientConn, grpc.UnaryInvoker, ...grpc.CallOption,
				) error {
					asked.Add(1)
					return errRefused
				})))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				hold := pool.Hold(ctx, "alias")
				server, err := hold.Ready(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				said.end(pool, hold, cancel)
				var failed *Error
				_, err = hold.ReadyAfter(t.Context(), server)
				if !errors.As(err, &failed) || failed.Kind != ErrCancelled || err.Error() != said.message {
					t.Error(err)
				}
				synctest.Wait()
				if asked.Load() != 0 || time.Since(began) != 0 {
					t.Errorf("asked %d times, for %v", asked.Load(), time.Since(began))
				}
			})
		})
	}
}

func TestAHoldThatFailedSaysWhyAndNothingIsAsked(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		hold, server := readyHold(t, service, pause(time.Second), fail(refusal(codes.Aborted, "EVICTED")))
		time.Sleep(time.Second)
		synctest.Wait()
		expectAfter(t, service, hold, server, "it is EVICTED", 0, 0)
	})
}

// pauseThen is one step of two.
func pauseThen(delay time.Duration, then step) step {
	return func(ctx context.Context, send func(proto.Message) error) error {
		wait(ctx, delay)
		return then(ctx, send)
	}
}

func TestAProcessIsReturnedAfterTheGraceThoughTheServiceIsAway(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		hold, server := readyHold(t, service, stay)
		service.stop()
		expectAfter(t, service, hold, server, "1", readyGrace, 0)
	})
}

func TestAProcessWhoseEndIsReportedWithinTheGraceIsNotReturned(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		hold, server := readyHold(t, service,
			pause(time.Second), holds(StateBackingOff, 1), pause(time.Minute), holds(StateReady, 2), stay)
		service.answer("Get", found(StateReady, 1, false))
		expectAfter(t, service, hold, server, "2", time.Second+time.Minute, 1)
	})
}

func TestWhileTheServerIsNotReadyNothingIsAsked(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		hold, server := readyHold(t, service,
			pause(time.Second), holds(StateBackingOff, 1), pause(time.Minute), holds(StateReady, 2), stay)
		time.Sleep(time.Second)
		synctest.Wait()
		expectAfter(t, service, hold, server, "2", time.Minute, 0)
	})
}

func TestAProcessThatAHoldOnlyLearnsOfLaterIsCheckedThen(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Hold", pause(time.Minute), holds(StateReady, 1), stay)
		service.answer("Get", found(StateReady, 1, true))
		hold := service.client(t).Hold(t.Context(), "m")
		defer hold.Close()
		expectAfter(t, service, hold, Server{Generation: 1}, "1", time.Minute, 1)
	})
}

// asking is an answer to Get that says when it began and when its caller left it.
func asking(service *scripted) (left <-chan struct{}) {
	gone := make(chan struct{})
	service.answer("Get", func(ctx context.Context, _ func(proto.Message) error) error {
		<-ctx.Done()
		close(gone)
		return ctx.Err()
	})
	return gone
}

// expectLeft expects that the call of Get has ended now.
func expectLeft(t *testing.T, left <-chan struct{}) {
	t.Helper()
	synctest.Wait()
	select {
	case <-left:
	default:
		t.Error("the call of Get goes on")
	}
}

func TestTheCheckEndsWithTheWaitWhenTheNextProcessIsReady(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		hold, server := readyHold(t, service, pause(time.Second), holds(StateReady, 2), stay)
		left := asking(service)
		expectAfter(t, service, hold, server, "2", time.Second, 1)
		expectLeft(t, left)
	})
}

func TestTheCheckEndsWithTheWaitThatItsCallerLimits(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		hold, server := readyHold(t, service, stay)
		left := asking(service)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := hold.ReadyAfter(ctx, server)
		if !errors.Is(err, ErrDeadlineExceeded) || err.Error() != `"alias" was not READY within 1 s: it is READY; the hold goes on` {
			t.Error(err)
		}
		expectLeft(t, left)
	})
}

func TestTheCheckEndsWithTheHold(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		hold, server := readyHold(t, service, stay)
		left := asking(service)
		ended := make(chan error)
		go func() {
			_, err := hold.ReadyAfter(t.Context(), server)
			ended <- err
		}()
		synctest.Wait()
		hold.Close()
		if err := <-ended; !errors.Is(err, ErrCancelled) {
			t.Error(err)
		}
		expectLeft(t, left)
	})
}
