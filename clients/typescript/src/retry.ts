/**
 * Whether and when a call that failed is made again.
 *
 * A failure is retried if the service said when (RetryInfo), or if it is UNAVAILABLE, which
 * a service that cannot be reached is too. Everything else is final: asking again would get
 * the same answer. The delay that the service named is the least that is waited; without
 * one it doubles from a tenth of a second. Jitter is added, so that callers that failed
 * together do not return together.
 *
 * Where the caller gave a timeout, retries go on within it, and not a moment is spent on a
 * wait that would outlast it. Where the caller gave none, a call may take as long as it
 * takes, but failures are retried for `RetryPolicy.patienceMs` only, counted from the first.
 */

import { DeadlineExceeded, type PoolError } from "./errors.js";

const FIRST_BACKOFF_MS = 100;
const LONGEST_BACKOFF_MS = 5_000;
const JITTER = 0.3;
/** How long a stream has to be alive for the next failure to be a first one. */
const HEALTHY_MS = 10_000;
/** Ten years: gRPC's header takes at most eight digits of hours. */
const LONGEST_TIMEOUT_MS = 10 * 365 * 86_400_000;

/** How persistent a client is. */
export interface RetryPolicy {
  /** For how many milliseconds after a first failure a call without a timeout is tried again. */
  readonly patienceMs: number;
  /** At most this many times in all, whatever the timeout; Infinity: no such limit; 1: never again. */
  readonly attempts: number;
}

/** What a client does if nothing else is said. */
export const DEFAULT_RETRY: RetryPolicy = { patienceMs: 30_000, attempts: Infinity };

/** Where time and chance come from. */
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

/** What a retry is decided by. Times in milliseconds. */
export interface Situation {
  /** How many attempts were made, from 1. */
  readonly attempt: number;
  /** Of the delay, where those are not one for each attempt after the first. */
  readonly doublings?: number;
  /** Since the first failure. */
  readonly elapsedMs: number;
  /** What the caller's timeout leaves; undefined without one. */
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
  // A delay of next to nothing would be a busy loop: it counts as none.
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
  readonly #policy: RetryPolicy;
  readonly #clock: Clock;
  readonly #timeoutMs: number | undefined;
  readonly #began: number;
  #made = 0;
  #failedAt: number | undefined;
  #last: PoolError | undefined;
  #doublings = 0;
  #aliveSince: number | undefined;

  constructor(policy: RetryPolicy, clock: Clock, timeoutMs?: number) {
    this.#policy = policy;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
    this.#began = clock.now();
  }

  /** Milliseconds that the caller's timeout leaves, as many as gRPC takes; undefined without one. */
  remainingMs(): number | undefined {
    if (this.#timeoutMs === undefined) return undefined;
    const left = this.#began + this.#timeoutMs - this.#clock.now();
    return Math.min(Math.max(0, left), LONGEST_TIMEOUT_MS);
  }

  /** Milliseconds until the next attempt; throws the error if there is to be none. */
  failed(error: PoolError): number {
    this.#made += 1;
    const now = this.#clock.now();
    this.#failedAt ??= now;
    const delay = retryDelay(error, {
      attempt: this.#made,
      elapsedMs: now - this.#failedAt,
      remainingMs: this.remainingMs(),
      policy: this.#policy,
      chance: this.#clock.chance(),
      doublings: this.#nextDoublings(now),
    });
    if (delay === undefined) throw this.#explained(error);
    this.#last = error;
    return delay;
  }

  /**
   * Forget the failures so far: for a stream that is alive again, since then or now.
   *
   * How long the next wait is, it goes by when that stream was alive for a while.
   */
  succeeded(since = this.#clock.now()): void {
    this.#made = 0;
    this.#failedAt = this.#last = undefined;
    this.#aliveSince ??= since;
  }

  /** Milliseconds before what is no failure is asked for again. */
  pauseMs(): number {
    const doublings = this.#nextDoublings(this.#clock.now());
    return backoffMs(doublings) * (1 + JITTER * this.#clock.chance());
  }

  #nextDoublings(now: number): number {
    if (this.#aliveSince !== undefined && now - this.#aliveSince >= HEALTHY_MS) this.#doublings = 0;
    this.#aliveSince = undefined;
    this.#doublings += 1;
    return this.#doublings - 1;
  }

  /** A deadline alone says little: what went wrong before it says more. */
  #explained(error: PoolError): PoolError {
    if (error instanceof DeadlineExceeded) error.cause ??= this.#last;
    return error;
  }
}
