package poolservice

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
)

const never = time.Duration(-1)

func unavailable() *Error { return &Error{Kind: ErrPoolUnavailable, Code: codes.Unavailable} }

func later(code codes.Code, delay time.Duration) *Error {
	return &Error{Code: code, RetryAfter: &delay}
}

func delayOf(err *Error, policy RetryPolicy, f failure) time.Duration {
	f.attempt = max(f.attempt, 1)
	delay, again := retryDelay(err, policy, f)
	if !again {
		return never
	}
	return delay
}

func TestOnlyUnavailableIsRetriedWithoutAWordOfTheService(t *testing.T) {
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		again := delayOf(&Error{Code: code}, RetryPolicy{}, failure{}) != never
		if again != (code == codes.Unavailable) {
			t.Errorf("%v is retried: %v", code, again)
		}
	}
}

func TestWhateverCarriesADelayIsRetriedAfterIt(t *testing.T) {
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		if got := delayOf(later(code, 2500*time.Millisecond), RetryPolicy{}, failure{}); got != 2500*time.Millisecond {
			t.Errorf("%v is retried after %v", code, got)
		}
	}
}

func TestJitterNeverShortensTheDelayThatTheServiceNamed(t *testing.T) {
	for chance, want := range map[float64]time.Duration{0: 2000, 0.5: 2300, 1: 2600} {
		got := delayOf(later(codes.ResourceExhausted, 2*time.Second), RetryPolicy{}, failure{chance: chance})
		if got != want*time.Millisecond {
			t.Errorf("with chance %v it is %v", chance, got)
		}
	}
}

func TestWithoutADelayItDoublesUpToALimit(t *testing.T) {
	for attempt, want := range map[int]time.Duration{
		1: 100, 2: 200, 3: 400, 6: 3200, 7: 5000, 1000: 5000, math.MaxInt: 5000,
	} {
		if got := delayOf(unavailable(), RetryPolicy{}, failure{attempt: attempt}); got != want*time.Millisecond {
			t.Errorf("after attempt %d it is %v", attempt, got)
		}
	}
}

func TestAWaitThatWouldOutlastTheDeadlineIsNotBegun(t *testing.T) {
	err := later(codes.Unavailable, 2*time.Second)
	if got := delayOf(err, RetryPolicy{}, failure{limited: true, remaining: 2001 * time.Millisecond}); got != 2*time.Second {
		t.Error(got)
	}
	if got := delayOf(err, RetryPolicy{}, failure{limited: true, remaining: 2 * time.Second}); got != never {
		t.Error(got)
	}
	if got := delayOf(later(codes.Unavailable, math.MaxInt64), RetryPolicy{}, failure{chance: 1}); got != never {
		t.Error(got)
	}
}

func TestADeadlineTakesThePlaceOfPatienceButForStreamsWithoutAnEnd(t *testing.T) {
	f := failure{elapsed: time.Hour, limited: true, remaining: time.Minute}
	if got := delayOf(unavailable(), RetryPolicy{}, f); got != 100*time.Millisecond {
		t.Error(got)
	}
	f.endless = true
	if got := delayOf(unavailable(), RetryPolicy{}, f); got != never {
		t.Error(got)
	}
	f.elapsed, f.remaining = 0, 100*time.Millisecond
	if got := delayOf(unavailable(), RetryPolicy{}, f); got != never {
		t.Error(got)
	}
}

func TestWithoutADeadlinePatienceEndsTheRetries(t *testing.T) {
	for _, c := range []struct {
		patience, elapsed, want time.Duration
	}{
		{10 * time.Second, 9899 * time.Millisecond, 100 * time.Millisecond},
		{10 * time.Second, 9900 * time.Millisecond, never},
		{0, 29 * time.Second, 100 * time.Millisecond},
		{0, 30 * time.Second, never},
		{-1, 0, never},
	} {
		if got := delayOf(unavailable(), RetryPolicy{Patience: c.patience}, failure{elapsed: c.elapsed}); got != c.want {
			t.Errorf("%v: got %v", c, got)
		}
	}
}

func TestALimitOfAttemptsHoldsWhateverTheDeadline(t *testing.T) {
	f := failure{attempt: 1, limited: true, remaining: time.Minute}
	if got := delayOf(unavailable(), RetryPolicy{Attempts: 2}, f); got != 100*time.Millisecond {
		t.Error(got)
	}
	f.attempt = 2
	if got := delayOf(unavailable(), RetryPolicy{Attempts: 2}, f); got != never {
		t.Error(got)
	}
}

func attemptsOf(patience time.Duration) *attempts {
	return &attempts{policy: RetryPolicy{Patience: patience}, chance: func() float64 { return 0 }}
}

func TestPatienceCountsFromTheFirstFailureAndNotFromTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		call := attemptsOf(5 * time.Second)
		time.Sleep(1000 * time.Second)
		if _, final := call.failed(unavailable()); final != nil {
			t.Fatal(final)
		}
		time.Sleep(4900 * time.Millisecond)
		if _, final := call.failed(unavailable()); final == nil {
			t.Fatal("it is tried again when patience is over")
		}
	})
}

func TestSuccessMakesTheNextFailureTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		call := attemptsOf(5 * time.Second)
		call.failed(unavailable())
		time.Sleep(100 * time.Second)
		call.succeeded()
		// Patience begins anew; the delay only does after a stream that lived for a while.
		if delay, final := call.failed(unavailable()); final != nil || delay != 200*time.Millisecond {
			t.Fatal(delay, final)
		}
	})
}

func TestStreamsThatEndSoonAtSeveralAddressesAreOpenedEverMoreSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		call := attemptsOf(30 * time.Second)
		call.policy.addresses = 2
		// The last ones begin anew, after a stream that lived for a while.
		alive := []time.Duration{1, 1, 1, 1, 1, 1, 1, 10, 1}
		want := []time.Duration{0, 100, 0, 200, 0, 400, 0, 0, 100}
		for i := range alive {
			call.succeeded()
			time.Sleep(alive[i] * time.Second)
			if delay, final := call.failed(unavailable()); final != nil || delay != want[i]*time.Millisecond {
				t.Fatal(i, delay, final)
			}
		}
	})
}
