//! Whether and when a failed call is retried.
//!
//! A failure is retried if the service said when (`RetryInfo`), or if it is UNAVAILABLE, which a
//! service that cannot be reached is too. Everything else is final: asking again would get the same
//! answer. The delay that the service named is the least that is waited; without one it doubles
//! from a tenth of a second. Jitter is added, so that callers that failed together do not return
//! together.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use crate::error::{Error, Reason};

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
const JITTER: f64 = 0.3;
/// How long a stream has to work before its next failure restarts the count.
const HEALTHY: Duration = Duration::from_secs(10);
/// Ten years: a longer limit is none, and clocks overflow.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How a client retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// How long after a first failure a call without a timeout is retried.
    pub patience: Duration,
    /// The maximum number of attempts of a call, whatever its timeout; `None`: no limit.
    pub attempts: Option<u32>,
    /// Of the client.
    pub(crate) addresses: usize,
}

impl RetryPolicy {
    /// Retries for this long after a first failure, if the call has no timeout.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Makes at most this many attempts; 1: no retries.
    #[must_use]
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts: Some(attempts), ..self }
    }
}

impl Default for RetryPolicy {
    /// 30 seconds, and any number of attempts.
    fn default() -> Self {
        Self { patience: Duration::from_secs(30), attempts: None, addresses: 1 }
    }
}

/// The attempts of one call: how long the next may take, and when it is due.
#[derive(Debug)]
pub(crate) struct Attempts {
    policy: RetryPolicy,
    deadline: Option<Instant>,
    chance: fn() -> f64,
    made: u32,
    /// Addresses that have failed since another one has.
    passed_over: usize,
    first_failure: Option<Instant>,
    last: Option<Error>,
    /// The number of failures for the delay, which one message of a stream does not reset.
    failures: u32,
    alive_since: Option<Instant>,
}

impl Attempts {
    pub(crate) fn new(policy: RetryPolicy, timeout: Option<Duration>) -> Self {
        Self {
            policy,
            deadline: timeout.map(|limit| Instant::now() + limit.min(LONGEST_TIMEOUT)),
            chance: fastrand::f64,
            made: 0,
            passed_over: 0,
            first_failure: None,
            last: None,
            failures: 0,
            alive_since: None,
        }
    }

    /// The rest of the caller's timeout; `None` without one.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// The delay before the next attempt, or the error if there should be none.
    pub(crate) fn failed(&mut self, error: Error) -> Result<Duration, Error> {
        self.end_stream();
        if self.has_other(&error) {
            self.last = Some(error);
            return Ok(Duration::ZERO);
        }
        self.made = self.made.saturating_add(1);
        match self.delay_after(&error) {
            Some(delay) => {
                self.last = Some(error);
                Ok(delay)
            }
            // The failure before a deadline says more than the deadline.
            None if error.reason() == Reason::DeadlineExceeded => {
                Err(error.caused_by(self.last.take()))
            }
            None => Err(error),
        }
    }

    /// The delay before a stream is opened again without a failure.
    pub(crate) fn pause(&mut self) -> Duration {
        self.end_stream();
        jittered(backoff(self.count_failure()), (self.chance)())
    }

    /// Restarts the count of failures, for a stream that works again from now on.
    pub(crate) fn succeeded(&mut self) {
        self.succeeded_since(Instant::now());
    }

    /// The same for a stream that worked since an earlier time.
    pub(crate) fn succeeded_since(&mut self, since: Instant) {
        self.alive_since.get_or_insert(since);
        self.made = 0;
        self.first_failure = None;
        self.last = None;
    }

    /// Whether an address has not failed yet since the others have: one that cannot be reached, or
    /// is about to end or to begin, is no failure before it is so at all of them.
    fn has_other(&mut self, error: &Error) -> bool {
        let moves = error.code() == Code::Unavailable
            && matches!(
                error.reason_name(),
                "" | "SHUTTING_DOWN" | "RECOVERING" | "POOL_UNREACHABLE"
            );
        let has = moves && self.passed_over + 1 < self.policy.addresses;
        self.passed_over = if has { self.passed_over + 1 } else { 0 };
        has
    }

    /// Begins anew with delays and addresses if a stream has ended that worked for a while.
    fn end_stream(&mut self) {
        if self.alive_since.take().is_some_and(|since| since.elapsed() >= HEALTHY) {
            self.failures = 0;
            self.passed_over = 0;
        }
    }

    /// The number of failures since a stream last worked for a while.
    fn count_failure(&mut self) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    fn delay_after(&mut self, error: &Error) -> Option<Duration> {
        let failures = self.count_failure();
        let elapsed = self.first_failure.get_or_insert_with(Instant::now).elapsed();
        let budget =
            self.remaining().unwrap_or_else(|| self.policy.patience.saturating_sub(elapsed));
        if self.policy.attempts.is_some_and(|most| self.made >= most) {
            return None;
        }
        let delay = retry_delay(error, failures, (self.chance)())?;
        (delay < budget).then_some(delay)
    }
}

/// How long to wait after the `made`-th failure, from 1; `None` for what is final.
/// `chance` is a random number from 0 to 1.
fn retry_delay(error: &Error, made: u32, chance: f64) -> Option<Duration> {
    let least = match error.retry_after() {
        Some(named) if named >= FIRST_BACKOFF => named,
        // A very short delay would be a busy loop, so it counts as none.
        Some(_) => backoff(made),
        None if error.code() == Code::Unavailable => backoff(made),
        None => return None,
    };
    Some(jittered(least, chance))
}

/// Longer by a random part, and never more than a clock takes.
fn jittered(least: Duration, chance: f64) -> Duration {
    Duration::try_from_secs_f64(least.as_secs_f64() * (1.0 + JITTER * chance)).map_or(
        Duration::MAX,
        // In floating point it may be a nanosecond less.
        |longer| longer.max(least),
    )
}

fn backoff(made: u32) -> Duration {
    let doublings = made.saturating_sub(1).min(16);
    (FIRST_BACKOFF * 2_u32.pow(doublings)).min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn failure(code: Code, retry_after: Option<Duration>) -> Error {
        Error::plain(Reason::Other, code, "no".to_owned()).retried_after(retry_after)
    }

    fn attempts(policy: RetryPolicy, timeout: Option<Duration>) -> Attempts {
        Attempts { chance: || 0.0, ..Attempts::new(policy, timeout) }
    }

    fn codes() -> impl Iterator<Item = Code> {
        (1..=16).map(Code::from)
    }

    #[test]
    fn only_unavailable_is_retried_without_a_word_of_the_service() {
        let retried: Vec<_> =
            codes().filter(|code| retry_delay(&failure(*code, None), 1, 0.0).is_some()).collect();
        assert_eq!(retried, [Code::Unavailable]);
    }

    #[test]
    fn whatever_carries_a_delay_is_retried_after_it() {
        for code in codes() {
            assert_eq!(retry_delay(&failure(code, Some(3 * SECOND)), 9, 0.0), Some(3 * SECOND));
        }
    }

    #[test]
    fn a_delay_of_next_to_nothing_counts_as_none() {
        for named in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(99)] {
            let error = failure(Code::ResourceExhausted, Some(named));
            let delays = [1, 2, 3].map(|made| retry_delay(&error, made, 0.0));
            assert_eq!(delays, [100, 200, 400].map(|it| Some(Duration::from_millis(it))));
        }
    }

    #[test]
    fn a_delay_of_for_ever_is_no_panic() {
        let error = failure(Code::Unavailable, Some(Duration::MAX));
        assert_eq!(retry_delay(&error, 1, 1.0), Some(Duration::MAX));
    }

    #[test]
    fn jitter_never_shortens_the_delay_that_the_service_named() {
        let error = failure(Code::ResourceExhausted, Some(10 * SECOND));
        let delays = [0.0, 0.5, 1.0].map(|chance| retry_delay(&error, 1, chance));
        assert_eq!(delays, [10_000, 11_500, 13_000].map(|it| Some(Duration::from_millis(it))));
    }

    #[test]
    fn without_a_delay_it_doubles_up_to_a_limit() {
        let delays = [1, 2, 3, 6, 7, u32::MAX].map(backoff);
        assert_eq!(delays, [100, 200, 400, 3_200, 5_000, 5_000].map(Duration::from_millis));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_would_outlast_the_timeout_is_not_begun() {
        let error = failure(Code::Unavailable, Some(2 * SECOND));
        let longer = 2 * SECOND + Duration::from_millis(100);
        assert_eq!(
            attempts(RetryPolicy::default(), Some(longer)).failed(error.clone()).ok(),
            Some(2 * SECOND)
        );
        assert!(attempts(RetryPolicy::default(), Some(2 * SECOND)).failed(error).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_takes_the_place_of_patience() {
        let policy = RetryPolicy::default().patience(SECOND);
        let mut attempts = attempts(policy, Some(2_000 * SECOND));
        for _ in 0..2 {
            assert!(attempts.failed(failure(Code::Unavailable, None)).is_ok());
            tokio::time::advance(900 * SECOND).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn patience_counts_from_the_first_failure_and_not_from_the_call() {
        let mut attempts = attempts(RetryPolicy::default().patience(5 * SECOND), None);
        tokio::time::advance(1_000 * SECOND).await;
        assert!(attempts.failed(failure(Code::Unavailable, None)).is_ok());
        tokio::time::advance(4 * SECOND).await;
        assert!(attempts.failed(failure(Code::Unavailable, None)).is_ok());
        tokio::time::advance(Duration::from_millis(700)).await;
        assert!(attempts.failed(failure(Code::Unavailable, None)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn success_makes_the_next_failure_the_first() {
        let mut attempts = attempts(RetryPolicy::default().patience(5 * SECOND).attempts(2), None);
        assert!(attempts.failed(failure(Code::Unavailable, None)).is_ok());
        tokio::time::advance(100 * SECOND).await;
        attempts.succeeded();
        assert!(attempts.failed(failure(Code::Unavailable, None)).is_ok());
        assert!(attempts.failed(failure(Code::Unavailable, None)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn streams_that_end_soon_at_several_addresses_are_opened_ever_more_slowly() {
        let mut attempts = attempts(RetryPolicy { addresses: 2, ..RetryPolicy::default() }, None);
        // The last ones begin anew, after a stream that lived for a while.
        let alive = [1, 1, 1, 1, 1, 1, 1, 10, 1];
        let mut delays = Vec::new();
        for seconds in alive {
            attempts.succeeded();
            tokio::time::advance(seconds * SECOND).await;
            delays.push(attempts.failed(failure(Code::Unavailable, None)).unwrap());
        }
        assert_eq!(delays, [0, 100, 0, 200, 0, 400, 0, 0, 100].map(Duration::from_millis));
    }

    #[tokio::test(start_paused = true)]
    async fn each_attempt_gets_what_the_ones_before_it_left_and_never_too_much_for_a_clock() {
        let call = attempts(RetryPolicy::default(), Some(10 * SECOND));
        tokio::time::advance(7 * SECOND).await;
        assert_eq!(call.remaining(), Some(3 * SECOND));
        tokio::time::advance(7 * SECOND).await;
        assert_eq!(call.remaining(), Some(Duration::ZERO));
        let longest = attempts(RetryPolicy::default(), Some(Duration::MAX)).remaining();
        assert_eq!(longest, Some(LONGEST_TIMEOUT));
    }
}
