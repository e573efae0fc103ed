/** A server that is broken or hostile: no busy loop, no end without an error. */

import { status } from "@grpc/grpc-js";
import assert from "node:assert/strict";
import { test } from "node:test";
import { server } from "../src/convert.js";
import { Following, Holding, type Follower } from "../src/following.js";
import { ModelRejected, PoolError, PoolUnavailable, RevisionCompacted } from "../src/index.js";
import { DEFAULT_RETRY } from "../src/retry.js";
import { errorOf } from "../src/status.js";
import {
  changed,
  held,
  info,
  ready,
  removed,
  retryAfter,
  richMetadata,
  starting,
  synced,
} from "./scripted.js";
import { failure, HandClock, withService } from "./support.js";

for (const tokens of [["again"], ["a", "b", "a"]]) {
  withService(`pages that come again are an error: ${tokens.join()}`, async (pool, service) => {
    for (const nextPageToken of tokens) {
      const page = { revision: 1n, notices: [], totals: undefined, servers: [ready()] };
      service.answer("list", { ...page, nextPageToken });
      service.answer("listModels", { models: [], nextPageToken });
    }
    for (const call of [() => pool.list(), () => pool.models()]) {
      const told = await failure(call());
      assert.ok(told instanceof PoolError);
      assert.match(told.message, /its pages have no end/);
    }
  });
}

withService("an answer without a server is an error", async (pool, service) => {
  service.answer("ensure", { server: undefined, started: false });
  const told = await failure(pool.ensure("m"));
  assert.ok(told instanceof PoolError);
  assert.match(told.message, /names no server/);
});

withService("a server that is nowhere is an error", async (pool, service) => {
  service.answer("ensure", { server: ready({ endpoint: "" }), started: false });
  const told = await failure(pool.ensure("m"));
  assert.ok(told instanceof PoolError);
  assert.match(told.message, /has no endpoint/);
});

const GONE = new PoolUnavailable("gone", { code: "UNAVAILABLE" });
const COMPACTED = new RevisionCompacted("too old", { code: "OUT_OF_RANGE" });
const GROWING = [100, 200, 400, 800, 1600, 3200, 5000, 5000];
const HELD = {
  model: "m",
  runtimeModel: "",
  keepAlive: undefined,
  download: undefined,
  holder: "",
};

/** Its waits after streams that end with this error, each after such a message or at once. */
function waits<R>(
  follower: Follower<unknown, R, unknown>,
  clock: HandClock,
  message: R | undefined,
  error: PoolError = GONE,
): number[] {
  return GROWING.map(() => {
    follower.request();
    if (message !== undefined) follower.receive(message);
    const wait = follower.failed(error);
    clock.time += wait;
    return wait;
  });
}

function followers(): { clock: HandClock; watch: Following; hold: Holding } {
  const clock = new HandClock();
  const watch = new Following(DEFAULT_RETRY, clock);
  return { clock, watch, hold: new Holding(HELD, DEFAULT_RETRY, clock) };
}

test("streams that end soon are opened ever more slowly", () => {
  for (const message of [undefined, synced(7n), changed(7n)]) {
    const { clock, watch } = followers();
    assert.deepEqual(waits(watch, clock, message), GROWING);
  }
  for (const message of [undefined, starting(), held()]) {
    const { clock, hold } = followers();
    assert.deepEqual(waits(hold, clock, message), GROWING);
  }
  const { clock, watch } = followers();
  assert.deepEqual(waits(watch, clock, synced(7n), COMPACTED), GROWING);
});

test("a stream that was alive for a while is opened soon", () => {
  const { clock, watch, hold } = followers();
  waits(watch, clock, synced(7n));
  waits(hold, clock, held());
  watch.request();
  hold.request();
  watch.receive(changed(8n));
  hold.receive(held());
  clock.time += 10_000;
  assert.deepEqual([watch.failed(GONE), hold.failed(GONE)], [100, 100]);
});

test("a revision never goes back", () => {
  const { watch } = followers();
  watch.request();
  for (const message of [changed(7n), synced(7n), changed(9n)]) watch.receive(message);
  for (const message of [changed(8n), removed(8n), synced(8n)]) {
    assert.deepEqual(watch.receive(message), []);
  }
  assert.equal(watch.revision, 9n);
  assert.equal(watch.receive(changed(10n)).length, 1);
});

test("a hold passes over what cannot be of its server", () => {
  const { hold } = followers();
  hold.request();
  assert.deepEqual(hold.receive(held({ endpoint: "" })), []);
  assert.deepEqual(hold.receive(held({ model: "other" })), []);
  assert.equal(hold.receive(held()).length, 1);
  hold.request();
  assert.equal(hold.receive(held({ model: "other" })).length, 1);
});

test("the first reason of the service is the one that counts", () => {
  const garbage = {
    typeUrl: "type.googleapis.com/google.rpc.ErrorInfo",
    value: Buffer.of(255, 255),
  };
  const details = [
    info("EVICTED", "elsewhere"),
    garbage,
    info("MODEL_REJECTED"),
    info("POOL_FULL"),
    retryAfter(5000),
    retryAfter(1),
  ];
  const code = status.FAILED_PRECONDITION;
  const metadata = richMetadata(code, "no", details);
  const told = errorOf({ code, details: "no", metadata }, "here");
  assert.ok(told instanceof ModelRejected);
  assert.equal(told.retryAfterMs, 5000);
});

test("what is no time and no share is none", () => {
  for (const [seconds, nanos] of [
    [0n, -1],
    [0n, 1e9],
    [2n ** 62n, 0],
    [-62_135_596_801n, 0],
  ] as const) {
    assert.equal(server(ready({ createTime: { seconds, nanos } })).createTime, undefined);
  }
  for (const progress of [NaN, Infinity, -0.1, 1.5]) {
    assert.equal(server(ready({ progress })).progress, undefined);
  }
  assert.equal(server(ready({ progress: 1 })).progress, 1);
});
