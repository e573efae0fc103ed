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
	// healthy is how long a stream has to work before its next failure restarts the count.
	healthy = 10 * time.Second
)

// RetryPolicy sets how a client retries. Its zero value is the default.
type RetryPolicy struct {
	// Patience is how long after a first failure a call without a deadline is retried, and a
	// watch or a hold with or without one. 0: 30 s; negative: not at all.
	Patience time.Duration
	// Attempts is the maximum number of attempts of a call. 0: no limit; 1: no retries.
	Attempts int

	addresses int // of the client; 0: one
}

func (p RetryPolicy) patience() time.Duration {
	if p.Patience == 0 {
		return defaultPatience
	}
	return p.Patience
}

// failure is a failed attempt of a call.
type failure struct {
	attempt   int           // how many were made, from 1
	doublings int           // of the delay, if more than those attempts make
	elapsed   time.Duration // since the first failure
	remaining time.Duration // what the caller's deadline leaves
	limited   bool          // whether the caller has a deadline
	endless   bool          // patience counts although there is a deadline
	chance    float64       // a random number from 0 to 1
}

// budget is the longest wait that is allowed.
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

// retryDelay returns the delay before the next attempt; false if there should be none.
//
// Only UNAVAILABLE and errors with a delay from the service are retried: everything else would
// get the same answer. Jitter is added, so that callers that failed together do not retry
// together.
func retryDelay(err *Error, policy RetryPolicy, f failure) (time.Duration, bool) {
	if err.RetryAfter == nil && err.Code != codes.Unavailable {
		return 0, false
	}
	if policy.Attempts > 0 && f.attempt >= policy.Attempts {
		return 0, false
	}
	least := backoffAfter(max(f.attempt-1, f.doublings))
	// A very short delay would be a busy loop, so it counts as none.
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
	// The exponent of the delay, which one message of a stream does not reset.
	doublings  int
	aliveSince time.Time
	failedAt   time.Time // of the first failure
	passedOver int       // addresses that have failed since another one has
	last       *Error
}

func (c *Client) attempts(ctx context.Context) *attempts {
	deadline, _ := ctx.Deadline()
	return &attempts{policy: c.retry, chance: c.chance, deadline: deadline}
}

// endless returns the attempts of a stream; a deadline only ends its use.
func (c *Client) endless(ctx context.Context) *attempts {
	made := c.attempts(ctx)
	made.endless = true
	return made
}

// failed returns the delay before the next attempt, or the error if there should be none.
func (a *attempts) failed(err *Error) (time.Duration, *Error) {
	now := time.Now()
	a.endStream(now)
	if a.hasOther(err) {
		a.last = err
		return 0, nil
	}
	a.made++
	if a.made == 1 {
		a.failedAt = now
	}
	delay, again := retryDelay(err, a.policy, failure{
		attempt:   a.made,
		doublings: a.nextDoublings(),
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

// hasOther reports whether an address has not failed yet since the others have: one that cannot be
// reached, or is about to end or to begin, is no failure before it is so at all of them.
func (a *attempts) hasOther(err *Error) bool {
	if err.Code == codes.Unavailable && a.passedOver < a.policy.addresses-1 {
		switch err.Reason {
		case "", "SHUTTING_DOWN", "RECOVERING", "POOL_UNREACHABLE":
			a.passedOver++
			return true
		}
	}
	a.passedOver = 0
	return false
}

// explained adds the failure before a deadline, which says more than the deadline.
func (a *attempts) explained(err *Error) *Error {
	if err.Kind == ErrDeadlineExceeded && a.last != nil {
		err.cause = a.last
	}
	return err
}

// pause returns the delay before a stream is opened again without a failure.
func (a *attempts) pause() time.Duration {
	a.endStream(time.Now())
	return saturated(float64(backoffAfter(a.nextDoublings())) * (1 + jitter*a.chance()))
}

// endStream begins anew with delays and addresses if a stream has ended that worked for long.
func (a *attempts) endStream(now time.Time) {
	if !a.aliveSince.IsZero() && now.Sub(a.aliveSince) >= healthy {
		a.doublings, a.passedOver = 0, 0
	}
	a.aliveSince = time.Time{}
}

// nextDoublings counts one more failure.
func (a *attempts) nextDoublings() int {
	a.doublings++
	return a.doublings - 1
}

// succeeded restarts the count of failures, for a stream that works again from now on.
func (a *attempts) succeeded() {
	a.succeededSince(time.Now())
}

// succeededSince does the same for a stream that worked since an earlier time.
func (a *attempts) succeededSince(since time.Time) {
	a.made, a.last = 0, nil
	if a.aliveSince.IsZero() {
		a.aliveSince = since
	}
}

// limitOf returns the time until the caller's deadline; 0 without one.
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
