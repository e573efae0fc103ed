package poolservice

import (
	"context"
	"math"
	"time"

	"google.golang.org/grpc/codes"
)

const (
	defaultPatience = 30 * time.Second
	firstBackoff    = 100 * time.Millisecond
	longestBackoff  = 5 * time.Second
	jitter          = 0.3
	// healthy is how long a stream has to be alive for the next failure to be a first one.
	healthy = 10 * time.Second
)

// RetryPolicy is how persistent a client is. Its zero value is the default.
type RetryPolicy struct {
	// Patience is for how long after a first failure a call without a deadline is tried
	// again, and a watch and a hold whatever their deadline. 0: 30 s; negative: not at all.
	Patience time.Duration
	// Attempts is how often a call is made in all at most. 0: no such limit; 1: never again.
	Attempts int
}

func (p RetryPolicy) patience() time.Duration {
	if p.Patience == 0 {
		return defaultPatience
	}
	return p.Patience
}

// failure is what is known of a call when it has failed once more.
type failure struct {
	attempt   int           // how many were made, from 1
	doublings int           // of the delay, if more than those attempts make
	elapsed   time.Duration // since the first failure
	remaining time.Duration // what the caller's deadline leaves
	limited   bool          // whether the caller has a deadline
	endless   bool          // patience counts although there is a deadline
	chance    float64       // a random number from 0 to 1
}

// budget is how long a wait may be at most.
func (f failure) budget(policy RetryPolicy) time.Duration {
	patience := policy.patience() - f.elapsed
	switch {
	case !f.limited:
		return patience
	case f.endless:
		return min(patience, f.remaining)
	default:
		return f.remaining
	}
}

// retryDelay is how long to wait before the next attempt; false if there should be none.
//
// Only what is UNAVAILABLE or carries a delay of the service is tried again: everything else
// would get the same answer. Jitter is added, so that callers that failed together do not
// return together.
func retryDelay(err *Error, policy RetryPolicy, f failure) (time.Duration, bool) {
	if err.RetryAfter == nil && err.Code != codes.Unavailable {
		return 0, false
	}
	if policy.Attempts > 0 && f.attempt >= policy.Attempts {
		return 0, false
	}
	least := backoffAfter(max(f.attempt-1, f.doublings))
	// A delay of next to nothing would be a busy loop: it counts as none.
	if err.RetryAfter != nil && *err.RetryAfter >= firstBackoff {
		least = *err.RetryAfter
	}
	delay := saturated(float64(least) * (1 + jitter*f.chance))
	return delay, delay < f.budget(policy)
}

func backoffAfter(doublings int) time.Duration {
	return min(firstBackoff<<min(doublings, 16), longestBackoff)
}

func saturated(nanoseconds float64) time.Duration {
	if nanoseconds >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(nanoseconds)
}

// attempts are those of one call.
type attempts struct {
	policy   RetryPolicy
	chance   func() float64
	deadline time.Time // zero: the caller has none
	endless  bool
	made     int
	// What the delay goes by, which one message of a stream does not begin anew.
	doublings  int
	aliveSince time.Time
	failedAt   time.Time // of the first failure
	last       *Error
}

func (c *Client) attempts(ctx context.Context) *attempts {
	deadline, _ := ctx.Deadline()
	return &attempts{policy: c.retry, chance: c.chance, deadline: deadline}
}

// endless are the attempts of a stream whose deadline, if any, is that of its use.
func (c *Client) endless(ctx context.Context) *attempts {
	made := c.attempts(ctx)
	made.endless = true
	return made
}

// failed is how long to wait before the next attempt, or the error if there is to be none.
func (a *attempts) failed(err *Error) (time.Duration, *Error) {
	a.made++
	now := time.Now()
	if a.made == 1 {
		a.failedAt = now
	}
	delay, again := retryDelay(err, a.policy, failure{
		attempt:   a.made,
		doublings: a.nextDoublings(now),
		elapsed:   now.Sub(a.failedAt),
		remaining: a.deadline.Sub(now),
		limited:   !a.deadline.IsZero(),
		endless:   a.endless,
		chance:    a.chance(),
	})
	if !again {
		return 0, a.explained(err)
	}
	a.last = err
	return delay, nil
}

// explained: a deadline alone says little, what went wrong before it says more.
func (a *attempts) explained(err *Error) *Error {
	if err.Kind == ErrDeadlineExceeded && a.last != nil {
		err.cause = a.last
	}
	return err
}

// pause is the wait before what is no failure is asked for again.
func (a *attempts) pause() time.Duration {
	return saturated(float64(backoffAfter(a.nextDoublings(time.Now()))) * (1 + jitter*a.chance()))
}

// nextDoublings counts one more failure, the first one after a stream that was alive for long.
func (a *attempts) nextDoublings(now time.Time) int {
	if !a.aliveSince.IsZero() && now.Sub(a.aliveSince) >= healthy {
		a.doublings = 0
	}
	a.aliveSince = time.Time{}
	a.doublings++
	return a.doublings - 1
}

// succeeded forgets the failures so far: for a stream that is alive again, from now on.
func (a *attempts) succeeded() {
	a.succeededSince(time.Now())
}

// succeededSince is the same for a stream that was alive before.
func (a *attempts) succeededSince(since time.Time) {
	a.made, a.last = 0, nil
	if a.aliveSince.IsZero() {
		a.aliveSince = since
	}
}

// limitOf is the time until the caller's deadline; 0 without one.
func limitOf(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return time.Until(deadline)
}

// wait returns false if the context ended first.
func wait(ctx context.Context, delay time.Duration) bool {
	if delay <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
