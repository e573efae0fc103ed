import assert from "node:assert/strict";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import type {
  EnsureRequest,
  GetRequest,
  ListRequest,
  PinRequest,
} from "../src/generated/pool_service/v1/pool_service.js";
import {
  Cancelled,
  DeadlineExceeded,
  Evicted,
  PoolClient,
  PoolUnavailable,
  QueueFull,
  Recovering,
} from "../src/index.js";
import { broken, ready, Refusal, retryAfter, STAY, type Script } from "./scripted.js";
import { countedSignal, failure, withService } from "./support.js";

const ONCE = { retry: { attempts: 1 } };
/** Whether each call of Get was to check. */
const checks = (service: Script): boolean[] =>
  (service.asked.get as GetRequest[]).map((request) => request.check);
const READY = { server: ready(), started: true };

withService("ensure asks for all that was said", async (pool, service) => {
  service.answer("ensure", READY);
  const said = { runtimeModel: "r", keepAliveMs: 90_000, download: false };
  const { server, started } = await pool.ensure("m", said);
  assert.deepEqual(
    [server.endpoint, server.state, started],
    [READY.server.endpoint, "READY", true],
  );
  const [asked] = service.asked.ensure as EnsureRequest[];
  assert.deepEqual(
    [asked?.model, asked?.runtimeModel, asked?.keepAlive?.seconds, asked?.download],
    ["m", "r", 90n, false],
  );
});

withService("what was not said is absent", async (pool, service) => {
  service.answer("ensure", READY);
  await pool.ensure("m");
  const [asked] = service.asked.ensure as EnsureRequest[];
  assert.deepEqual([asked?.keepAlive, asked?.download], [undefined, undefined]);
});

withService("what will pass is asked again", async (pool, service) => {
  service.answer("ensure", broken());
  service.answer(
    "ensure",
    new Refusal(status.RESOURCE_EXHAUSTED, "f", "QUEUE_FULL", [retryAfter(5)]),
  );
  service.answer("ensure", READY);
  assert.equal((await pool.ensure("m")).server.model, "m");
  assert.equal(service.calls("ensure"), 3);
});

withService("what is final is told at once", async (pool, service) => {
  service.answer("ensure", new Refusal(status.ABORTED, "evicted", "EVICTED"));
  assert.ok((await failure(pool.ensure("m"))) instanceof Evicted);
  assert.equal(service.calls("ensure"), 1);
});

withService(
  "one attempt is one attempt",
  async (pool, service) => {
    service.answer("ensure", broken());
    assert.ok((await failure(pool.ensure("m"))) instanceof Recovering);
    assert.equal(service.calls("ensure"), 1);
  },
  ONCE,
);

withService("a wait that would outlast the timeout is not begun", async (pool, service) => {
  const full = new Refusal(status.RESOURCE_EXHAUSTED, "f", "QUEUE_FULL", [retryAfter(900)]);
  service.answer("ensure", full);
  assert.ok((await failure(pool.ensure("m", { timeoutMs: 800 }))) instanceof QueueFull);
  assert.equal(service.calls("ensure"), 1);
});

withService("a timeout ends the wait, and says what had failed before", async (pool, service) => {
  service.answer("ensure", broken());
  service.answer("ensure", STAY);
  const error = await failure(pool.ensure("m", { timeoutMs: 300 }));
  assert.ok(error instanceof DeadlineExceeded);
  assert.ok(error.cause instanceof Recovering);
});

withService("a signal ends the wait at once, and its reason is told", async (pool, service) => {
  const controller = new AbortController();
  const call = failure(pool.ensure("m", { signal: controller.signal }));
  await service.until(() => service.calls("ensure") === 1);
  controller.abort("enough");
  const error = await call;
  assert.ok(error instanceof Cancelled);
  assert.deepEqual([error.code, error.cause], ["CANCELLED", "enough"]);
});

withService("a signal that was aborted before makes no call", async (pool, service) => {
  assert.ok(
    (await failure(pool.ensure("m", { signal: AbortSignal.abort() }))) instanceof Cancelled,
  );
  assert.equal(service.calls("ensure"), 0);
});

withService("AbortSignal.timeout is a limit like another", async (pool) => {
  const error = await failure(pool.ensure("m", { signal: AbortSignal.timeout(20) }));
  assert.ok(error instanceof DeadlineExceeded);
});

withService("no listener stays at a signal, however the call ended", async (pool, service) => {
  service.answer("ensure", broken());
  service.answer("ensure", READY);
  service.answer("ensure", new Refusal(status.ABORTED, "evicted", "EVICTED"));
  const { controller, listeners } = countedSignal();
  const { signal } = controller;
  await pool.ensure("m", { signal });
  await failure(pool.ensure("m", { signal }));
  await failure(pool.reload({ signal, timeoutMs: 10 }));
  assert.equal(listeners(), 0);
});

withService("a hundred calls at once are a hundred answers", async (pool, service) => {
  service.answer("ensure", READY);
  const calls = Array.from({ length: 100 }, () => pool.ensure("m"));
  assert.equal((await Promise.all(calls)).length, 100);
});

withService("evict says which servers, and tells what was killed", async (pool, service) => {
  service.answer("evict", { evicted: [{ server: ready(), killed: true }] });
  const [gone] = await pool.evict("m", { force: true });
  await pool.evictIdle();
  await pool.evictAll();
  assert.deepEqual([gone?.server.model, gone?.killed], ["m", true]);
  assert.deepEqual(
    service.asked.evict?.map((request) => {
      const { target, force } = request as { target: unknown; force: boolean };
      return [target, force];
    }),
    [
      [{ $case: "model", value: "m" }, true],
      [{ $case: "idle", value: true }, false],
      [{ $case: "all", value: true }, false],
    ],
  );
});

withService("get returns the server, and whether it answers", async (pool, service) => {
  service.answer("get", broken());
  service.answer("get", { server: ready(), answers: true });
  const { server, answers } = await pool.get("m", { check: true });
  assert.deepEqual([server?.endpoint, answers], ["http://127.0.0.1:49321", true]);
  assert.deepEqual(checks(service), [true, true]);
});

withService("get of a model without a server returns none", async (pool, service) => {
  service.answer("get", { server: undefined, answers: false });
  assert.deepEqual(await pool.get("m"), { server: undefined, answers: false });
  assert.deepEqual(checks(service), [false]);
});

withService("list reads all pages, one after the other", async (pool, service) => {
  const page = { revision: 5n, totals: undefined, notices: ["full disk"] };
  service.answer("list", { ...page, servers: [ready({ model: "a" })], nextPageToken: "t" });
  service.answer("list", { ...page, servers: [ready({ model: "b" })], nextPageToken: "" });
  const servers = await pool.list();
  assert.deepEqual(
    servers.map((server) => server.model),
    ["a", "b"],
  );
  const asked = service.asked.list as ListRequest[];
  assert.deepEqual(
    asked.map((request) => request.pageToken),
    ["", "t"],
  );
});

withService(
  "a page has its revision and its notices, and the next is asked when wanted",
  async (pool, service) => {
    const page = { revision: 5n, totals: undefined, notices: ["full disk"] };
    service.answer("list", { ...page, servers: [], nextPageToken: "t" });
    for await (const { revision, notices, totals } of pool.pages({ pageSize: 1 })) {
      assert.deepEqual([revision, notices, totals.servers], [5n, ["full disk"], 0]);
      break;
    }
    assert.equal(service.calls("list"), 1);
  },
);

withService("models and reload are told as they are", async (pool, service) => {
  const model = { model: "m", aliases: ["a"], runtimeModel: "r", onDisk: false, problem: "none" };
  const rest = { runtime: "", groups: [], pinned: true, preload: false, expectedBy: 1 };
  const found = { diskBytes: 5n, state: 3, listed: true };
  service.answer("listModels", {
    models: [{ ...model, ...rest, ...found, expectedBytes: 3n }],
    nextPageToken: "t",
  });
  service.answer("listModels", { models: [], nextPageToken: "" });
  const changes = {
    replaced: ["a"],
    updated: [],
    removed: ["b"],
    restartNeeded: ["k"],
    problems: ["p"],
  };
  service.answer("reload", changes);
  const [one, ...others] = await pool.models({ found: true });
  assert.deepEqual([one?.onDisk, one?.expectedBy, one?.expectedBytes], [false, "DECLARED", 3]);
  assert.deepEqual([one?.diskBytes, one?.state, one?.listed], [5, "READY", true]);
  assert.deepEqual([others, service.calls("listModels")], [[], 2]);
  assert.deepEqual(await pool.reload(), changes);
});

withService("forget returns what was remembered", async (pool, service) => {
  service.answer("forget", { runtimeModel: "r" });
  assert.equal(await pool.forget("m"), "r");
});

withService("pin says what is wanted and returns what is", async (pool, service) => {
  const told = { pinned: true, changed: false, configured: true };
  for (const pinned of [true, false, null, undefined]) {
    service.answer("pin", told);
    assert.deepEqual(await pool.pin("m", pinned), told);
  }
  assert.deepEqual(
    (service.asked.pin as PinRequest[]).map((request) => request.pinned),
    [true, false, undefined, true],
  );
});

withService(
  "closing the client ends what is under way, and what comes after",
  async (pool, service) => {
    const call = failure(pool.ensure("m"));
    const hold = pool.hold("m");
    await service.until(() => service.calls("ensure") === 1 && service.open === 1);
    pool.close();
    assert.ok((await call) instanceof Cancelled);
    assert.ok((await failure(hold.ready())) instanceof Cancelled);
    assert.ok((await failure(pool.reload())) instanceof Cancelled);
    await service.until(() => service.open === 0);
  },
);

test("a service that is not there is told as such, with its address", async () => {
  await using pool = PoolClient.connect("127.0.0.1:1", ONCE);
  const error = await failure(pool.ensure("m"));
  assert.ok(error instanceof PoolUnavailable);
  assert.match(error.message, /at 127\.0\.0\.1:1: connect ECONNREFUSED 127\.0\.0\.1:1$/);
});
