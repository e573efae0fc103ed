/** `ready` after a broken connection: whether the same process is the server again. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { server } from "../src/convert.js";
import type { GetRequest } from "../src/generated/pool_service/v1/pool_service.js";
import { Cancelled, Evicted, type Found, type Hold, type PoolClient } from "../src/index.js";
import { READY_GRACE_MS, ServingCheck } from "../src/serving.js";
import { Gate, held, ready, Refusal, starting, STAY } from "./scripted.js";
import { failure, withService } from "./support.js";

const SERVER = server(ready());
const MOVED = held({ endpoint: "http://127.0.0.1:2", generation: 2n, pid: 4712 });
const GONE = new Refusal(status.ABORTED, "evicted", "EVICTED");

/** What the check says of the server: when the answer has come, and when the grace is over too. */
async function verdicts(answer: Promise<Found>): Promise<{ answered: boolean; late: boolean }> {
  let asked = 0;
  let changed: () => void = () => undefined;
  const news = new Promise<void>((resolve) => (changed = resolve));
  const ask = (model: string): Promise<Found> => {
    assert.equal(model, SERVER.model);
    asked += 1;
    return answer;
  };
  const check = new ServingCheck(ask, () => {
    changed();
  });
  assert.equal(check.serves(SERVER), false);
  await news;
  const answered = check.serves(SERVER);
  check.endGrace();
  const late = check.serves(SERVER);
  assert.equal(asked, 1);
  return { answered, late };
}

const ANSWERS: readonly [string, Partial<Found>, boolean, boolean][] = [
  ["answers", { answers: true }, true, true],
  ["is READY, but does not answer", {}, false, true],
  ["is another generation", { server: server(ready({ generation: 2n })) }, false, false],
  ["is another process", { server: server(ready({ pid: 9 })), answers: true }, false, false],
  ["is not READY", { server: server(starting().server) }, false, false],
  ["is another model's", { server: server(ready({ model: "n" })), answers: true }, false, true],
  [
    "is another model's and not READY",
    { server: server(ready({ model: "n", state: starting().server?.state })) },
    false,
    true,
  ],
  ["is none", { server: undefined }, false, false],
];
for (const [what, found, answered, late] of ANSWERS) {
  test(`a server that ${what}: ${answered ? "at once" : late ? "after a grace" : "never"}`, async () => {
    const answer = Promise.resolve({ server: SERVER, answers: false, ...found });
    assert.deepEqual(await verdicts(answer), { answered, late });
  });
}

test("a call that fails says nothing: the server counts after a grace", async () => {
  const answer = Promise.reject<Found>(new Error("no service"));
  assert.deepEqual(await verdicts(answer), { answered: false, late: true });
});

test("without an answer the end of the grace decides nothing", () => {
  const check = new ServingCheck(
    () => new Promise(() => undefined),
    () => undefined,
  );
  check.endGrace();
  assert.equal(check.serves(SERVER), false);
});

withService(
  "a process that answers to its model's name is returned, with its key",
  async (pool, service) => {
    service.answer("hold", held({}, "key"), STAY);
    service.answer("get", { server: ready(), answers: true });
    await using hold = pool.hold("alias");
    const first = await hold.ready();
    const again = await hold.ready({ after: first });
    assert.equal(again, first);
    assert.equal(again.apiKey, "key");
    const [asked, ...others] = service.asked.get as GetRequest[];
    assert.deepEqual([asked?.model, asked?.check, others], ["m", true, []]);
  },
);

withService(
  "the service is asked once, and a refusal is not retried",
  async (pool, service, context) => {
    context.mock.timers.enable({ apis: ["setTimeout"] });
    service.answer("hold", held(), STAY);
    service.answer("get", new Refusal(status.UNAVAILABLE, "gone"));
    await using hold = pool.hold("m");
    const first = await hold.ready();
    const wait = hold.ready({ after: first });
    await service.until(() => service.calls("get") === 1);
    context.mock.timers.tick(READY_GRACE_MS);
    assert.equal(await wait, first);
    assert.equal(service.calls("get"), 1);
  },
);

withService("a server that is READY again is asked for then", async (pool, service) => {
  const gate = new Gate();
  service.answer("hold", starting(), gate, held(), STAY);
  service.answer("get", { server: ready(), answers: true });
  await using hold = pool.hold("m");
  for await (const state of hold) if (state.state === "STARTING") break;
  const wait = hold.ready({ after: { generation: 1, pid: 4711 } });
  assert.equal(service.calls("get"), 0);
  gate.open();
  assert.equal((await wait).pid, 4711);
  assert.equal(service.calls("get"), 1);
});

withService("another process costs no call", async (pool, service) => {
  service.answer("hold", MOVED, STAY);
  await using hold = pool.hold("m");
  await hold.ready();
  assert.equal((await hold.ready({ after: { generation: 1 } })).generation, 2);
  assert.equal(service.calls("get"), 0);
});

withService("a wait that is too short says for what it waited", async (pool, service) => {
  service.answer("hold", held(), STAY);
  await using hold = pool.hold("m");
  const error = await failure(hold.ready({ after: await hold.ready(), timeoutMs: 5 }));
  assert.match(error.message, /"m" was not READY after generation 1 within 5 ms: it is READY; the/);
});

withService("the end of the wait ends the call of Get", async (pool, service) => {
  const gate = new Gate();
  service.answer("hold", held(), gate, MOVED, STAY);
  const cancelled = service.whenCancelled("get");
  await using hold = pool.hold("m");
  const wait = hold.ready({ after: await hold.ready() });
  await service.until(() => service.calls("get") === 1);
  gate.open();
  assert.equal((await wait).generation, 2);
  await cancelled;
});

/** What ends a hold at once. */
interface Ends {
  readonly pool: PoolClient;
  readonly hold: Hold;
  readonly controller: AbortController;
}

const ENDS: readonly [string, RegExp, (ends: Ends) => void][] = [
  [
    "a hold that was closed",
    /the hold of "m" was closed/,
    ({ hold }) => {
      hold.close();
    },
  ],
  [
    "a client that was closed",
    /the client of .* was closed/,
    ({ pool }) => {
      pool.close();
    },
  ],
  [
    "an aborted signal",
    /the caller gave the call up/,
    ({ controller }) => {
      controller.abort();
    },
  ],
];
for (const [what, message, end] of ENDS) {
  withService(`${what} asks nothing, and says how it ended`, async (pool, service) => {
    service.answer("hold", held(), STAY);
    const controller = new AbortController();
    const hold = pool.hold("m", { signal: controller.signal });
    const first = await hold.ready();
    end({ pool, hold, controller });
    // The second time its reader has ended, too.
    for (const after of [first, { generation: 9 }, first]) {
      const error = await failure(hold.ready({ after }));
      assert.ok(error instanceof Cancelled, String(error));
      assert.match(error.message, message);
    }
    assert.equal(service.calls("get"), 0);
  });
}

withService("a hold that failed asks nothing, and says why", async (pool, service) => {
  const gate = new Gate();
  service.answer("hold", held(), gate, GONE);
  const hold = pool.hold("m");
  const first = await hold.ready();
  const states = hold[Symbol.asyncIterator]();
  await states.next();
  gate.open();
  await failure(states.next());
  assert.ok((await failure(hold.ready({ after: first }))) instanceof Evicted);
  assert.equal(service.calls("get"), 0);
});

withService("the end of the hold ends a wait that asks", async (pool, service) => {
  const gate = new Gate();
  service.answer("hold", held(), gate, GONE);
  await using hold = pool.hold("m");
  const wait = failure(hold.ready({ after: await hold.ready() }));
  await service.until(() => service.calls("get") === 1);
  gate.open();
  assert.ok((await wait) instanceof Evicted);
});
