/**
 * Whether and when a failed call is retried.
 *
 * A failure is retried if the service named a delay (RetryInfo), or if it is UNAVAILABLE, also
 * because the service cannot be reached. Everything else is final: a retry would get the same
 * answer. The delay is at least the one that the service named; without one it doubles from a tenth
 * of a second. Jitter is added, so that callers that failed together do not retry together.
 *
 * With a timeout, retries go on within it, and no wait is begun that would outlast it. Without one,
 * a call may take as long as it needs, but failures are retried only for `RetryPolicy.patienceMs`,
 * counted from the first.
 */

import { DeadlineExceeded, type PoolError } from "./errors.js";

const FIRST_BACKOFF_MS = 100;
const LONGEST_BACKOFF_MS = 5_000;
const JITTER = 0.3;
/** How long a stream has to work before its next failure restarts the count. */
const HEALTHY_MS = 10_000;
/** Ten years: gRPC's header takes at most eight digits of hours. */
const LONGEST_TIMEOUT_MS = 10 * 365 * 86_400_000;

/** How a client retries. */
export interface RetryPolicy {
  /** How many milliseconds after a first failure a call without a timeout is retried. */
  readonly patienceMs: number;
  /** The maximum number of attempts, whatever the timeout; Infinity: no limit; 1: no retries. */
  readonly attempts: number;
}

/** The policy of a client of so many addresses; absent: one. */
export interface PolicyOfSeveral extends RetryPolicy {
  readonly addresses?: number;
}

/** The reasons of UNAVAILABLE for which another address may answer at once. */
const ELSEWHERE: ReadonlySet<string> = new Set([
  "",
  "SHUTTING_DOWN",
  "RECOVERING",
  "POOL_UNREACHABLE",
]);

/** The default policy. */
export const DEFAULT_RETRY: RetryPolicy = { patienceMs: 30_000, attempts: Infinity };

/** The sources of time and randomness. */
export interface Clock {
  /** Milliseconds of a clock that only goes forward. */
  now(): number;
  /** A random number from 0 to 1. */
  chance(): number;
}

/** The machine's own. */
export const REAL_CLOCK: Clock = {
  now: () => performance.now(),
  chance: () => Math.random(),
};

/** The values that decide a retry. Times in milliseconds. */
export interface Situation {
  /** How many attempts were made, from 1. */
  readonly attempt: number;
  /** Of the delay, where those are not one for each attempt after the first. */
  readonly doublings?: number;
  /** Since the first failure. */
  readonly elapsedMs: number;
  /** The rest of the caller's timeout; undefined without one. */
  readonly remainingMs: number | undefined;
  readonly policy: RetryPolicy;
  /** A random number from 0 to 1. */
  readonly chance: number;
}

/** Milliseconds until the next attempt, or undefined if there should be none. */
export function retryDelay(error: PoolError, situation: Situation): number | undefined {
  const { attempt, elapsedMs, remainingMs, policy, chance } = situation;
  if (error.retryAfterMs === undefined && error.code !== "UNAVAILABLE") return undefined;
  if (attempt >= policy.attempts) return undefined;
  const backoff = backoffMs(situation.doublings ?? attempt - 1);
  // A very short delay would be a busy loop, so it counts as none.
  const named = error.retryAfterMs ?? 0;
  const least = named >= FIRST_BACKOFF_MS ? named : backoff;
  const delay = least * (1 + JITTER * chance);
  const budget = remainingMs ?? policy.patienceMs - elapsedMs;
  return delay < budget ? delay : undefined;
}

function backoffMs(doublings: number): number {
  return Math.min(FIRST_BACKOFF_MS * 2 ** doublings, LONGEST_BACKOFF_MS);
}

/** The attempts of one call: how long the next may take, and when it is due. */
export class Attempts {
  readonly #policy: PolicyOfSeveral;
  readonly #clock: Clock;
  readonly #timeoutMs: number | undefined;
  readonly #began: number;
  #made = 0;
  #passedOver = 0;
  #failedAt: number | undefined;
  #last: PoolError | undefined;
  #doublings = 0;
  #aliveSince: number | undefined;

  constructor(policy: PolicyOfSeveral, clock: Clock, timeoutMs?: number) {
    this.#policy = policy;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
    this.#began = clock.now();
  }

  /**
   * Milliseconds that are left of the caller's timeout, at most as many as gRPC takes;
   * undefined without one.
   */
  remainingMs(): number | undefined {
    if (this.#timeoutMs === undefined) return undefined;
    const left = this.#began + this.#timeoutMs - this.#clock.now();
    return Math.min(Math.max(0, left), LONGEST_TIMEOUT_MS);
  }

  /** Milliseconds until the next attempt; throws the error if there should be none. */
  failed(error: PoolError): number {
    const now = this.#clock.now();
    this.#endStream(now);
    if (this.#hasOther(error)) {
      this.#last = error;
      return 0;
    }
    this.#made += 1;
    this.#failedAt ??= now;
    const delay = retryDelay(error, {
      attempt: this.#made,
      elapsedMs: now - this.#failedAt,
      remainingMs: this.remainingMs(),
      policy: this.#policy,
      chance: this.#clock.chance(),
      doublings: this.#nextDoublings(),
    });
    if (delay === undefined) throw this.#explained(error);
    this.#last = error;
    return delay;
  }

  /**
   * Whether an address has not failed yet since the others have: one that cannot be reached, or is
   * about to end or to begin, is no failure before it is so at all of them.
   */
  #hasOther(error: PoolError): boolean {
    const moves = error.code === "UNAVAILABLE" && ELSEWHERE.has(error.reason);
    const others = (this.#policy.addresses ?? 1) - 1;
    const has = moves && this.#passedOver < others;
    this.#passedOver = has ? this.#passedOver + 1 : 0;
    return has;
  }

  /**
   * Restart the count of failures, for a stream that works again, since then or now.
   *
   * Delays and addresses begin anew only if that stream worked for a while.
   */
  succeeded(since = this.#clock.now()): void {
    this.#made = 0;
    this.#failedAt = this.#last = undefined;
    this.#aliveSince ??= since;
  }

  /** Milliseconds before a stream is opened again without a failure. */
  pauseMs(): number {
    this.#endStream(this.#clock.now());
    const doublings = this.#nextDoublings();
    return backoffMs(doublings) * (1 + JITTER * this.#clock.chance());
  }

  /** Begin anew with delays and addresses if a stream has ended that worked for a while. */
  #endStream(now: number): void {
    const isHealthy = this.#aliveSince !== undefined && now - this.#aliveSince >= HEALTHY_MS;
    if (isHealthy) this.#doublings = this.#passedOver = 0;
    this.#aliveSince = undefined;
  }

  #nextDoublings(): number {
    this.#doublings += 1;
    return this.#doublings - 1;
  }

  /** The failure before a deadline says more than the deadline. */
  #explained(error: PoolError): PoolError {
    if (error instanceof DeadlineExceeded) error.cause ??= this.#last;
    return error;
  }
}
