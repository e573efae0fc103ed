/** What `ensure` reports while it waits. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Cancellation } from "../src/cancellation.js";
import { server } from "../src/convert.js";
import type { GetRequest } from "../src/generated/pool_service/v1/pool_service.js";
import { Cancelled, type Server } from "../src/index.js";
import { PROGRESS_INTERVAL_MS, withProgress } from "../src/progress.js";
import { Gate, ready, starting } from "./scripted.js";
import { failure, withService } from "./support.js";

const READY = { server: ready(), started: true };

/** A start of which the service said that. */
const start = (detail: string): Server => server(starting(detail).server);

/** An operation whose sleeps are over at once, and which keeps how long they were. */
class Sleepless extends Cancellation {
  readonly slept: number[] = [];

  override sleep(milliseconds: number): Promise<void> {
    this.slept.push(milliseconds);
    return this.error === undefined ? Promise.resolve() : Promise.reject(this.error);
  }
}

/** A promise, and what resolves it. */
function later<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((given) => (resolve = given));
  return { promise, resolve };
}

/** What is reported of these looks, the last of which comes with the answer. */
async function reported(...looks: (Server | Error | undefined)[]): Promise<string[]> {
  const details: string[] = [];
  const answer = later<string>();
  const left = [...looks];
  const lookUp = (): Promise<Server | undefined> => {
    const look = left.shift();
    if (left.length === 0) answer.resolve("answer");
    return look instanceof Error ? Promise.reject(look) : Promise.resolve(look);
  };
  const report = ({ detail }: Server): void => {
    details.push(detail);
  };
  const operation = new Sleepless(undefined);
  assert.equal(await withProgress(answer.promise, lookUp, report, operation), "answer");
  assert.deepEqual(new Set(operation.slept), new Set([PROGRESS_INTERVAL_MS]));
  return details;
}

test("each change is reported once", async () => {
  const [a, b] = ["a", "b"];
  const looks = [start(a), start(a), start(b), start(b), start(a), undefined];
  assert.deepEqual(await reported(...looks), [a, b, a]);
});

test("a look that fails, and none, report nothing and change nothing", async () => {
  const failed = new Error("no service");
  const looks = [failed, start("a"), undefined, failed, start("a"), undefined];
  assert.deepEqual(await reported(...looks), ["a"]);
});

test("a READY server is not reported", async () => {
  assert.deepEqual(await reported(server(ready()), start("a"), server(ready()), undefined), ["a"]);
});

test("a look that ends after the answer is not reported", async () => {
  const look = later<Server>();
  const looked = later<undefined>();
  const answer = later<string>();
  const lookUp = (): Promise<Server> => {
    looked.resolve(undefined);
    return look.promise;
  };
  const report = (): void => {
    assert.fail("it was reported");
  };
  const operation = new Sleepless(undefined);
  const call = withProgress(answer.promise, lookUp, report, operation);
  await looked.promise;
  answer.resolve("answer");
  assert.equal(await call, "answer");
  look.resolve(start("late"));
  await new Promise(setImmediate);
  assert.ok(operation.error instanceof Cancelled);
});

withService("an answer before the first look is not preceded by one", async (pool, service) => {
  service.answer("ensure", READY);
  const onProgress = (): void => {
    assert.fail("it was reported");
  };
  assert.equal((await pool.ensure("m", { onProgress })).started, true);
  assert.equal(service.calls("get"), 0);
});

withService("what the callback throws ends the call", async (pool, service) => {
  service.answer("get", { server: starting("loads").server, answers: false });
  const enough = new Error("enough");
  const onProgress = ({ state, detail }: Server): void => {
    assert.deepEqual([state, detail], ["STARTING", "loads"]);
    throw enough;
  };
  const cancelled = service.whenCancelled("ensure");
  assert.equal(await failure(pool.ensure("alias", { onProgress })), enough);
  await cancelled;
  const [asked, ...others] = service.asked.get as GetRequest[];
  assert.deepEqual([asked?.model, asked?.check, others], ["alias", false, []]);
});

withService("the answer ends a look that is under way", async (pool, service) => {
  const cancelled = service.whenCancelled("get");
  const gate = new Gate();
  service.answer("ensure", gate, READY);
  const call = pool.ensure("m", { onProgress: () => undefined });
  await service.until(() => service.calls("get") === 1);
  gate.open();
  await call;
  await cancelled;
});
