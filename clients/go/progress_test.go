package poolservice

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// report is a call of WithProgress, and when it was.
type report struct {
	after  time.Duration
	detail string
}

// reports returns what a call of Ensure reports while it waits.
func reports(t *testing.T, service *scripted, pool *Client) (told []report, err error) {
	t.Helper()
	_, err = pool.Ensure(t.Context(), "alias", WithProgress(func(server Server) {
		told = append(told, report{time.Since(service.began), server.Detail})
	}))
	return told, err
}

// looked answers a call of Get with a server that loads, and says this much about it.
func looked(detail string) step {
	server := message(StateStarting, 1)
	server.Detail = detail
	return say(&pb.GetResponse{Server: server})
}

func TestWhileEnsureWaitsEachChangeOfTheServerIsReported(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Ensure", pause(2600*time.Millisecond), ensured(1))
		for _, detail := range []string{"10 %", "10 %", "20 %", "10 %"} {
			service.answer("Get", looked(detail))
		}
		got, err := reports(t, service, service.client(t))
		want := []report{{500 * time.Millisecond, "10 %"}, {1500 * time.Millisecond, "20 %"}, {2 * time.Second, "10 %"}}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v, %v", got, err)
		}
		for _, asked := range service.requests("Get") {
			if !proto.Equal(asked, &pb.GetRequest{Model: "alias"}) {
				t.Errorf("asked %v", asked)
			}
		}
		if asked := len(service.requests("Ensure")); asked != 1 {
			t.Errorf("Ensure was called %d times", asked)
		}
	})
}

func TestACallThatIsAnsweredSoonReportsNothingAndAsksNothing(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Ensure", pause(499*time.Millisecond), ensured(1))
		service.answer("Get", looked("loads"))
		got, err := reports(t, service, service.client(t))
		if err != nil || got != nil || len(service.requests("Get")) != 0 {
			t.Errorf("got %v, %v; Get was called at %v", got, err, service.times("Get"))
		}
	})
}

func TestNeitherAReadyServerNorNoneIsReported(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Ensure", pause(1600*time.Millisecond), ensured(1))
		service.answer("Get", say(&pb.GetResponse{}))
		service.answer("Get", looked("loads"))
		service.answer("Get", found(StateReady, 1, false))
		got, err := reports(t, service, service.client(t))
		if err != nil || !slices.Equal(got, []report{{time.Second, "loads"}}) {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

func TestALookThatFailsOrHangsIsPassedOver(t *testing.T) {
	for name, answer := range map[string]step{
		"fails": fail(refusal(codes.Unavailable, "RECOVERING", after(time.Millisecond))),
		"hangs": stay,
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, service *scripted) {
				service.answer("Ensure", pause(1600*time.Millisecond), ensured(1))
				service.answer("Get", answer)
				service.answer("Get", looked("loads"))
				got, err := reports(t, service, service.client(t))
				if err != nil || !slices.Equal(got, []report{{time.Second, "loads"}}) {
					t.Errorf("got %v, %v", got, err)
				}
				if asked := len(service.requests("Get")); asked != 3 {
					t.Errorf("Get was called at %v", service.times("Get"))
				}
			})
		})
	}
}

func TestNothingIsReportedOnceEnsureIsAnswered(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Ensure", pause(600*time.Millisecond), ensured(1))
		// It comes after the answer of Ensure.
		service.answer("Get", pauseThen(200*time.Millisecond, looked("loads")))
		got, err := reports(t, service, service.client(t))
		if err != nil || got != nil || time.Since(service.began) != 600*time.Millisecond {
			t.Errorf("got %v, %v after %v", got, err, time.Since(service.began))
		}
		time.Sleep(time.Minute)
		if asked := len(service.requests("Get")); got != nil || asked != 1 {
			t.Errorf("got %v; Get was called %d times", got, asked)
		}
	})
}

func TestTheErrorOfEnsureIsReturnedAfterItsReports(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Ensure", pause(600*time.Millisecond), fail(refusal(codes.FailedPrecondition, "MODEL_REJECTED")))
		service.answer("Get", looked("loads"))
		got, err := reports(t, service, service.client(t))
		if !errors.Is(err, ErrModelRejected) || len(got) != 1 {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

func TestAWaitWithProgressEndsWithItsContext(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Ensure", stay)
		service.answer("Get", stay)
		ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
		defer cancel()
		_, err := service.client(t).Ensure(ctx, "m", WithProgress(func(Server) {}))
		want := "no answer within 0.6 s; what the service has begun goes on"
		if !errors.Is(err, ErrDeadlineExceeded) || err.Error() != want {
			t.Error(err)
		}
	})
}

func TestAPanicOfTheReportEndsTheCall(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		gone := false
		service.answer("Ensure", func(ctx context.Context, _ func(proto.Message) error) error {
			<-ctx.Done()
			gone = true
			return ctx.Err()
		})
		service.answer("Get", looked("loads"))
		pool := service.client(t)
		func() {
			defer func() {
				if recover() != "no more" {
					t.Error("it did not reach the caller")
				}
			}()
			_, _ = pool.Ensure(t.Context(), "m", WithProgress(func(Server) { panic("no more") }))
		}()
		synctest.Wait()
		if !gone {
			t.Error("the call of Ensure goes on")
		}
	})
}
