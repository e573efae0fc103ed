import assert from "node:assert/strict";
import { test } from "node:test";
import { DeadlineExceeded, ModelRejected, PoolUnavailable, QueueFull } from "../src/index.js";
import { Attempts, DEFAULT_RETRY, retryDelay, type Situation } from "../src/retry.js";
import { HandClock, thrown } from "./support.js";

const UNREACHABLE = new PoolUnavailable("gone", { code: "UNAVAILABLE" });
const FULL = new QueueFull("full", { code: "RESOURCE_EXHAUSTED", retryAfterMs: 2000 });
const REJECTED = new ModelRejected("no", { code: "FAILED_PRECONDITION" });

function situation(given: Partial<Situation> = {}): Situation {
  return {
    attempt: 1,
    elapsedMs: 0,
    remainingMs: undefined,
    policy: DEFAULT_RETRY,
    chance: 0,
    ...given,
  };
}

test("what is final is not tried again", () => {
  assert.equal(retryDelay(REJECTED, situation()), undefined);
});

test("the delay doubles from a tenth of a second to five", () => {
  const delays = [1, 2, 3, 6, 7, 2000].map((attempt) =>
    retryDelay(UNREACHABLE, situation({ attempt })),
  );
  assert.deepEqual(delays, [100, 200, 400, 3200, 5000, 5000]);
});

test("the delay is at least what the service named, whatever the code", () => {
  assert.equal(retryDelay(FULL, situation({ attempt: 9 })), 2000);
});

test("a delay of next to nothing counts as none", () => {
  for (const retryAfterMs of [0, 1e-6, 99, -5000]) {
    const error = new QueueFull("full", { code: "RESOURCE_EXHAUSTED", retryAfterMs });
    const delays = [1, 2, 3].map((attempt) => retryDelay(error, situation({ attempt })));
    assert.deepEqual(delays, [100, 200, 400]);
  }
});

test("jitter adds up to three tenths and takes nothing away", () => {
  assert.equal(retryDelay(FULL, situation({ chance: 1 })), 2600);
});

test("without a timeout patience counts from the first failure", () => {
  assert.equal(retryDelay(UNREACHABLE, situation({ elapsedMs: 29_899 })), 100);
  assert.equal(retryDelay(UNREACHABLE, situation({ elapsedMs: 29_900 })), undefined);
});

test("with a timeout retries go on within it, and no wait outlasts it", () => {
  assert.equal(retryDelay(FULL, situation({ remainingMs: 2001, elapsedMs: 1e9 })), 2000);
  assert.equal(retryDelay(FULL, situation({ remainingMs: 2000 })), undefined);
});

test("attempts bound how often a call is made in all", () => {
  const policy = { patienceMs: 30_000, attempts: 2 };
  assert.equal(retryDelay(UNREACHABLE, situation({ policy })), 100);
  assert.equal(retryDelay(UNREACHABLE, situation({ policy, attempt: 2 })), undefined);
});

test("an attempt may take what the timeout leaves, and never less than nothing", () => {
  const clock = new HandClock();
  const attempts = new Attempts(DEFAULT_RETRY, clock, 1000);
  clock.time = 400;
  assert.equal(attempts.remainingMs(), 600);
  clock.time = 1400;
  assert.equal(attempts.remainingMs(), 0);
});

test("a timeout without end is as long as gRPC takes", () => {
  const attempts = new Attempts(DEFAULT_RETRY, new HandClock(), Infinity);
  assert.equal(attempts.remainingMs(), 10 * 365 * 86_400_000);
});

test("a deadline tells what had failed before it", () => {
  const attempts = new Attempts(DEFAULT_RETRY, new HandClock(), 1000);
  attempts.failed(UNREACHABLE);
  const late = new DeadlineExceeded("late", { code: "DEADLINE_EXCEEDED" });
  assert.equal(thrown(() => attempts.failed(late)).cause, UNREACHABLE);
});

test("success makes the next failure a first one", () => {
  const clock = new HandClock();
  const attempts = new Attempts(DEFAULT_RETRY, clock);
  attempts.failed(UNREACHABLE);
  assert.equal(attempts.failed(UNREACHABLE), 200);
  clock.time = 100_000;
  attempts.succeeded();
  // Patience begins anew; the wait only does after a stream that lived for a while.
  assert.equal(attempts.failed(UNREACHABLE), 400);
});

test("streams that end soon at several addresses are opened ever more slowly", () => {
  const clock = new HandClock();
  const attempts = new Attempts({ ...DEFAULT_RETRY, addresses: 2 }, clock);
  const delayAfter = (aliveMs: number): number => {
    attempts.succeeded();
    clock.time += aliveMs;
    return attempts.failed(UNREACHABLE);
  };
  assert.deepEqual(Array(6).fill(1000).map(delayAfter), [0, 100, 0, 200, 0, 400]);
  // They begin anew after a stream that lived for a while.
  assert.deepEqual([1000, 10_000, 1000].map(delayAfter), [0, 0, 100]);
});
