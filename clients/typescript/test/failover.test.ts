import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { Cancelled, DeadlineExceeded, PoolClient, PoolUnavailable } from "../src/index.js";
import { ListResponse } from "../src/generated/pool_service/v1/pool_service.js";
import { DEFAULT_RETRY } from "../src/retry.js";
import { held, Refusal, Script, STAY } from "./scripted.js";
import { failure } from "./support.js";

const DROPPED = new Refusal(status.CANCELLED, "CANCELLED");
const LISTED = ListResponse.fromPartial({});

/** A test of a client that makes each call once at each of two services. */
function atTwo(
  name: string,
  body: (pool: PoolClient, first: Script, second: Script) => Promise<void>,
): void {
  test(name, { timeout: 60_000 }, async () => {
    const [first, second] = [new Script(), new Script()];
    await first.start();
    await second.start();
    const retry = { ...DEFAULT_RETRY, attempts: 1 };
    const pool = PoolClient.connect(`${first.address},${second.address}`, { retry });
    try {
      await body(pool, first, second);
    } finally {
      pool.close();
      first.stop();
      second.stop();
    }
  });
}

atTwo("a call that the service drops is made at the next address", async (pool, first, second) => {
  first.answer("list", DROPPED);
  second.answer("list", LISTED);
  assert.deepEqual(await pool.list(), []);
});

atTwo("a hold that the service drops goes on at the next address", async (pool, first, second) => {
  first.answer("hold", DROPPED);
  second.answer("hold", held({ generation: 2n }), STAY);
  await using hold = pool.hold("m");
  assert.equal((await hold.ready()).generation, 2);
});

atTwo(
  "a call that its caller gives up is no failure of its address",
  async (pool, first, second) => {
    first.answer("hold", held(), STAY);
    first.answer("evict", STAY);
    first.answer("list", LISTED);
    const hold = pool.hold("m");
    await hold.ready();
    await hold[Symbol.asyncDispose]();
    const controller = new AbortController();
    const evicted = failure(pool.evictIdle({ signal: controller.signal }));
    await first.until(() => first.calls("evict") > 0);
    controller.abort();
    assert.ok((await evicted) instanceof Cancelled);
    await first.whenCancelled("evict");
    assert.deepEqual(await pool.list(), []);
    assert.equal(second.calls("list"), 0);
  },
);

atTwo("the cause of a deadline is the failure at another address", async (pool, first, second) => {
  first.stop();
  second.answer("list", STAY);
  const late = await failure(pool.list({ timeoutMs: 5000 }));
  assert.ok(late instanceof DeadlineExceeded);
  assert.ok(late.cause instanceof PoolUnavailable);
});

test("an address from which nothing comes is given up after a while", async () => {
  const reached: Socket[] = [];
  const silent = createServer((socket) => reached.push(socket)).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const second = new Script();
  await second.start();
  second.answer("list", LISTED);
  second.answer("hold", held({ generation: 2n }), STAY);
  const retry = { ...DEFAULT_RETRY, attempts: 1 };
  const { port } = silent.address() as AddressInfo;
  const pool = PoolClient.connect(`127.0.0.1:${String(port)},${second.address}`, { retry });
  try {
    assert.ok((await failure(pool.list({ timeoutMs: 200 }))) instanceof DeadlineExceeded);
    await using hold = pool.hold("m");
    assert.equal((await hold.ready()).generation, 2);
    assert.deepEqual(await pool.list(), []);
  } finally {
    pool.close();
    second.stop();
    silent.close();
    // gRPC leaves a connection open that is being made.
    for (const socket of reached) socket.destroy();
  }
});
