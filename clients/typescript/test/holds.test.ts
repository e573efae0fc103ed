import assert from "node:assert/strict";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import type { HoldRequest } from "../src/generated/pool_service/v1/pool_service.js";
import { server } from "../src/convert.js";
import { Held, isAnother } from "../src/held.js";
import { Cancelled, DeadlineExceeded, Evicted, PoolUnavailable } from "../src/index.js";
import { broken, Gate, held, ready, Refusal, starting, STAY } from "./scripted.js";
import { countedSignal, failure, thrown, withService } from "./support.js";

const GONE = new Refusal(status.ABORTED, "evicted", "EVICTED");
const MOVED = held({ endpoint: "http://127.0.0.1:2", generation: 2n, pid: 4712 });

withService("a hold asks for all that was said", async (pool, service) => {
  service.answer("hold", held(), STAY);
  const said = { runtimeModel: "r", keepAliveMs: 90_000, download: true, holder: "me" };
  await using hold = pool.hold("m", said);
  await hold.ready();
  const [asked] = service.asked.hold as HoldRequest[];
  assert.deepEqual(
    [asked?.model, asked?.runtimeModel, asked?.keepAlive?.seconds, asked?.download, asked?.holder],
    ["m", "r", 90n, true, "me"],
  );
});

withService("a hold begins with its call, whether anybody looks or not", async (pool, service) => {
  service.answer("hold", held(), STAY);
  const hold = pool.hold("m");
  await service.until(() => service.open === 1);
  hold.close();
  await service.until(() => service.open === 0);
});

withService("ready waits until it is, and then costs no call", async (pool, service) => {
  service.answer("hold", starting(), held(), STAY);
  await using hold = pool.hold("m");
  const first = await hold.ready();
  assert.equal(first.endpoint, "http://127.0.0.1:49321");
  assert.equal(await hold.ready({ timeoutMs: 0 }), first);
  assert.equal(service.calls("hold"), 1);
});

withService("who waits no longer still holds", async (pool, service) => {
  service.answer("hold", starting("loads"), STAY);
  await using hold = pool.hold("m");
  for await (const state of hold) if (state.state === "STARTING") break;
  const error = await failure(hold.ready({ timeoutMs: 5 }));
  assert.ok(error instanceof DeadlineExceeded);
  assert.match(error.message, /it is STARTING \(loads\); the hold goes on/);
  assert.equal(service.open, 1);
});

withService("a wait that is given up leaves the hold, and no listener", async (pool, service) => {
  const gate = new Gate();
  service.answer("hold", gate, held(), STAY);
  await using hold = pool.hold("m");
  const { controller, listeners } = countedSignal();
  const wait = failure(hold.ready({ signal: controller.signal }));
  controller.abort();
  assert.ok((await wait) instanceof Cancelled);
  assert.equal(listeners(), 0);
  gate.open();
  assert.equal((await hold.ready()).state, "READY");
});

withService("ready after a server waits for another process", async (pool, service) => {
  const gate = new Gate();
  service.answer("hold", held(), gate, MOVED, STAY);
  await using hold = pool.hold("m");
  const first = await hold.ready();
  const next = hold.ready({ after: first });
  gate.open();
  assert.equal((await next).generation, 2);
  assert.equal((await hold.ready({ after: { generation: 1 } })).generation, 2);
});

withService("a hold outlives a break, and what it said last stands", async (pool, service) => {
  const gate = new Gate();
  service.answer("hold", held(), broken());
  service.answer("hold", gate, MOVED, STAY);
  await using hold = pool.hold("m");
  const first = await hold.ready();
  await service.until(() => service.calls("hold") === 2);
  assert.equal(await hold.ready({ timeoutMs: 0 }), first);
  gate.open();
  assert.equal((await hold.ready({ after: first })).generation, 2);
});

withService("what ended it is told to whoever asks next, each time", async (pool, service) => {
  const gate = new Gate();
  service.answer("hold", held(), gate, GONE);
  const hold = pool.hold("m");
  const first = await hold.ready();
  const wait = failure(hold.ready({ after: first }));
  gate.open();
  assert.ok((await wait) instanceof Evicted);
  assert.ok((await failure(hold.ready())) instanceof Evicted);
  const states = hold[Symbol.asyncIterator]();
  assert.equal((await states.next()).value?.state, "READY");
  assert.ok((await failure(states.next())) instanceof Evicted);
});

withService(
  "a hold whose service stays away fails",
  async (pool, service) => {
    service.answer("hold", new Refusal(status.UNAVAILABLE, "gone"));
    assert.ok((await failure(pool.hold("m").ready())) instanceof PoolUnavailable);
  },
  { retry: { patienceMs: 0 } },
);

withService("each iteration gives the newest state, by itself", async (pool, service) => {
  const gate = new Gate();
  service.answer("hold", starting(), held(), gate, MOVED, STAY);
  await using hold = pool.hold("m");
  await hold.ready();
  const [one, other] = [hold[Symbol.asyncIterator](), hold[Symbol.asyncIterator]()];
  assert.equal((await one.next()).value?.generation, 1);
  gate.open();
  assert.equal((await one.next()).value?.generation, 2);
  assert.equal((await other.next()).value?.generation, 2);
});

withService("closing it ends its readers' waits", async (pool, service) => {
  service.answer("hold", starting(), STAY);
  const hold = pool.hold("m");
  const states = hold[Symbol.asyncIterator]();
  await states.next();
  const [next, wait] = [states.next(), failure(hold.ready())];
  hold.close();
  assert.deepEqual(await next, { done: true, value: undefined });
  const error = await wait;
  assert.ok(error instanceof Cancelled);
  assert.match(error.message, /the hold of "m" was closed/);
  await service.until(() => service.open === 0);
});

withService("its signal ends it, as given up", async (pool, service) => {
  service.answer("hold", held(), STAY);
  const { controller, listeners } = countedSignal();
  const hold = pool.hold("m", { signal: controller.signal });
  await hold.ready();
  controller.abort();
  await service.until(() => service.open === 0);
  assert.ok((await failure(hold.ready())) instanceof Cancelled);
  assert.equal(listeners(), 0);
});

withService("a keep alive that is no number is refused by the call itself", (pool) => {
  assert.throws(() => pool.hold("m", { keepAliveMs: NaN }), RangeError);
  return Promise.resolve();
});

test("a service that counts from 1 again is told by the process", () => {
  const first = server(ready());
  assert.equal(isAnother(server(ready()), first), false);
  assert.equal(isAnother(server(ready({ pid: 9 })), first), true);
  assert.equal(isAnother(server(ready({ pid: 9 })), { generation: 1 }), false);
});

test("the first end of a hold is the one that holds", () => {
  const state = new Held("m");
  const first = new Evicted("first");
  state.end(first);
  state.end();
  assert.equal(
    thrown(() => state.ready()),
    first,
  );
  assert.equal(state.closed, false);
});
