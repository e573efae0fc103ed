import assert from "node:assert/strict";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { Cancellation, type Stop } from "../src/cancellation.js";
import { Following } from "../src/following.js";
import {
  PoolServiceService,
  type TailLogsRequest,
} from "../src/generated/pool_service/v1/pool_service.js";
import {
  Cancelled,
  FetchFailed,
  LogNotFound,
  ModelUnknown,
  PoolClient,
  RevisionCompacted,
  type Event,
  type Watch,
} from "../src/index.js";
import { DEFAULT_RETRY } from "../src/retry.js";
import { follow } from "../src/stream.js";
import { Transport } from "../src/transport.js";
import { broken, changed, Refusal, retryAfter, STAY, synced } from "./scripted.js";
import { countedSignal, failure, HandClock, withService } from "./support.js";

/** Counts what is still to be stopped when it is given up. */
class Counted extends Cancellation {
  kept = 0;

  override onCancel(stop: Stop): Stop {
    const forget = super.onCancel(stop);
    this.kept += 1;
    return () => {
      this.kept -= 1;
      forget();
    };
  }
}

async function take(watch: Watch, count: number): Promise<string[]> {
  const events: Event[] = [];
  while (events.length < count) {
    const { done, value } = await watch.next();
    if (done) break;
    events.push(value);
  }
  return events.map(({ kind, revision }) => `${kind} ${String(revision)}`);
}

withService("a watch resumes after what it saw, and tells nothing twice", async (pool, service) => {
  service.answer("watch", changed(1n), synced(1n), changed(2n), broken());
  service.answer("watch", changed(3n), STAY);
  await using watch = pool.watch();
  assert.deepEqual(await take(watch, 4), ["changed 1", "synced 1", "changed 2", "changed 3"]);
  assert.equal((service.asked.watch?.[1] as { afterRevision: bigint }).afterRevision, 2n);
  assert.equal(watch.revision, 3n);
});

withService("a watch that the service ended without a word is resumed", async (pool, service) => {
  service.answer("watch", synced(1n));
  service.answer("watch", changed(2n), STAY);
  await using watch = pool.watch();
  assert.deepEqual(await take(watch, 2), ["synced 1", "changed 2"]);
});

withService(
  "one that began after a revision fails where the history is gone",
  async (pool, service) => {
    service.answer("watch", new Refusal(status.OUT_OF_RANGE, "old", "REVISION_COMPACTED"));
    const watch = pool.watch({ afterRevision: 3n });
    assert.ok((await failure(watch.next())) instanceof RevisionCompacted);
    assert.deepEqual(await watch.next(), { done: true, value: undefined });
  },
);

withService(
  "a watch that is resumed often keeps nothing of its earlier streams",
  async (_pool, service) => {
    for (let revision = 1n; revision <= 20n; revision += 1n) {
      service.answer("watch", changed(revision), broken());
    }
    const transport = new Transport(service.address, undefined, undefined, {});
    const operation = new Counted(undefined);
    const clock = new HandClock();
    const following = new Following(DEFAULT_RETRY, clock, 0n);
    const events = follow(transport, PoolServiceService.watch, following, operation);
    for (let count = 0; count < 20; count += 1) {
      await events.next();
      clock.time += 10_000; // It lived for a while, so that the next is opened soon.
    }
    assert.equal(operation.kept, 1);
    transport.close();
  },
);

withService("leaving the loop closes the stream", async (pool, service) => {
  service.answer("watch", synced(1n), STAY);
  for await (const event of pool.watch()) {
    assert.equal(event.kind, "synced");
    break;
  }
  await service.until(() => service.open === 0);
});

withService("closing a watch ends its reader's wait", async (pool, service) => {
  const watch = pool.watch();
  const next = watch.next();
  await service.until(() => service.open === 1);
  watch.close();
  assert.deepEqual(await next, { done: true, value: undefined });
  await service.until(() => service.open === 0);
});

withService("a watch that was closed before it was read makes no call", async (pool, service) => {
  const watch = pool.watch();
  watch.close();
  assert.deepEqual(await watch.next(), { done: true, value: undefined });
  assert.equal(service.calls("watch"), 0);
});

withService("a signal ends a watch, and leaves no listener at it", async (pool, service) => {
  service.answer("watch", synced(1n), STAY);
  const { controller, listeners } = countedSignal();
  const watch = pool.watch({ signal: controller.signal });
  await watch.next();
  const next = failure(watch.next());
  controller.abort();
  assert.ok((await next) instanceof Cancelled);
  assert.equal(listeners(), 0);
  await service.until(() => service.open === 0);
});

withService("a thousand events come in order to one who reads slowly", async (pool, service) => {
  const events = Array.from({ length: 1000 }, (_, index) => changed(BigInt(index + 2)));
  service.answer("watch", synced(1n), ...events, STAY);
  await using watch = pool.watch();
  const told = await take(watch, 1001);
  assert.deepEqual([told[0], told[500], told[1000]], ["synced 1", "changed 501", "changed 1001"]);
});

withService(
  "a download goes on where it broke, and ends when all is there",
  async (pool, service) => {
    const failed = new Refusal(status.UNAVAILABLE, "net", "FETCH_FAILED", [retryAfter(5)]);
    service.answer("pull", { doneBytes: 1n, totalBytes: 3n }, failed);
    service.answer("pull", { doneBytes: 3n, totalBytes: 3n });
    const told = [];
    for await (const { doneBytes, totalBytes } of pool.pull("m"))
      told.push([doneBytes, totalBytes]);
    assert.deepEqual(told, [
      [1, 3],
      [3, 3],
    ]);
  },
);

withService(
  "a download that cannot be had is told",
  async (pool, service) => {
    service.answer("pull", new Refusal(status.UNAVAILABLE, "net", "FETCH_FAILED", [retryAfter(5)]));
    assert.ok((await failure(pool.pull("m").next())) instanceof FetchFailed);
    service.answer("pull", new Refusal(status.NOT_FOUND, "no", "MODEL_UNKNOWN"));
    assert.ok((await failure(pool.pull("m").next())) instanceof FetchFailed);
    assert.ok((await failure(pool.pull("m").next())) instanceof ModelUnknown);
  },
  { retry: { attempts: 1 } },
);

const LINE = { generation: 1n, lines: ["a"], missedBytes: 0n, ended: false, cursor: "after a" };

withService("a log that breaks goes on after its last cursor", async (pool, service) => {
  service.answer("tailLogs", LINE, new Refusal(status.UNAVAILABLE, "it ends", "SHUTTING_DOWN"));
  const end = { ...LINE, lines: [], ended: true, cursor: "end" };
  service.answer("tailLogs", { ...LINE, lines: ["b"], cursor: "after b" }, end);
  const parts = [];
  for await (const part of pool.logs("m", { previous: true, lines: 7 })) parts.push(part);
  assert.deepEqual(
    parts.map((part) => [part.kind, part.cursor]),
    [
      ["lines", "after a"],
      ["lines", "after b"],
      ["ended", "end"],
    ],
  );
  const asked = (service.asked.tailLogs ?? []) as TailLogsRequest[];
  assert.deepEqual(
    asked.map(({ begin, lines, follow }) => [begin, lines, follow]),
    [
      [{ $case: "previous", value: true }, 7, false],
      [{ $case: "cursor", value: "after a" }, undefined, false],
    ],
  );
});

withService("a log that is followed has no end but an error", async (pool, service) => {
  service.answer("tailLogs", LINE);
  service.answer("tailLogs", new Refusal(status.NOT_FOUND, "gone", "LOG_NOT_FOUND"));
  await using logs = pool.logs("m", { follow: true });
  assert.equal((await logs.next()).value?.cursor, "after a");
  assert.ok((await failure(logs.next())) instanceof LogNotFound);
});

test("a log is begun in one place", () => {
  const pool = PoolClient.connect("127.0.0.1:1");
  assert.throws(() => pool.logs("m", { oldest: true, cursor: "c" }), RangeError);
  pool.close();
});
