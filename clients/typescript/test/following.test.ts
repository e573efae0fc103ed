import assert from "node:assert/strict";
import { test } from "node:test";
import { Following, Holding, Pulling } from "../src/following.js";
import {
  PoolUnavailable,
  RevisionCompacted,
  ShuttingDown,
  StartFailed,
  type Event,
} from "../src/index.js";
import { DEFAULT_RETRY } from "../src/retry.js";
import { changed, changedTo, held, removed, starting, synced } from "./scripted.js";
import { HandClock, thrown } from "./support.js";

const GONE = new PoolUnavailable("gone", { code: "UNAVAILABLE" });
const COMPACTED = new RevisionCompacted("too old", { code: "OUT_OF_RANGE" });
const DIED = new StartFailed("died", { code: "UNAVAILABLE", retryAfterMs: 10_000 });
const HELD = {
  model: "m",
  runtimeModel: "",
  keepAlive: undefined,
  download: undefined,
  holder: "",
};

function told(events: readonly Event[]): unknown[] {
  return events.map((event) => [
    event.kind,
    event.revision,
    event.kind === "synced" ? undefined : event.server.model,
  ]);
}

function following(after?: bigint): { watch: Following; clock: HandClock } {
  const clock = new HandClock();
  return { watch: new Following(DEFAULT_RETRY, clock, after), clock };
}

test("a watch begins with the present state, and resumes after what it saw", () => {
  const { watch } = following();
  assert.deepEqual(watch.request(), { afterRevision: undefined });
  watch.receive(changed(7n));
  assert.equal(watch.revision, undefined);
  watch.receive(synced(7n));
  watch.receive(changed(8n));
  watch.failed(GONE);
  assert.deepEqual(watch.request(), { afterRevision: 8n });
});

test("a watch that broke before it was synced begins anew", () => {
  const { watch } = following();
  watch.request();
  watch.receive(changed(7n));
  watch.failed(GONE);
  assert.deepEqual(watch.request(), { afterRevision: undefined });
});

test("where the history is gone it begins again and tells what has gone", () => {
  const { watch } = following();
  watch.request();
  for (const message of [changed(1n, "a"), changed(1n, "b"), synced(1n), removed(2n, "b")]) {
    watch.receive(message);
  }
  watch.receive(changed(3n, "c"));
  assert.equal(watch.failed(COMPACTED), 100);
  assert.deepEqual(watch.request(), { afterRevision: undefined });
  watch.receive(changed(90n, "c"));
  assert.deepEqual(told(watch.receive(synced(90n))), [
    ["removed", 90n, "a"],
    ["synced", 90n, undefined],
  ]);
});

test("the servers of one model are told apart where the history is gone", () => {
  const { watch } = following();
  watch.request();
  for (const message of [changedTo(1n, 1n), changedTo(1n, 2n), synced(1n)]) watch.receive(message);
  watch.failed(COMPACTED);
  watch.request();
  watch.receive(changedTo(90n, 2n));
  const events = watch.receive(synced(90n));
  assert.deepEqual(
    events.map((event) => [event.kind, event.kind === "synced" ? 0 : event.server.generation]),
    [
      ["removed", 1],
      ["synced", 0],
    ],
  );
});

test("a watch that began after a revision fails with the compaction", () => {
  const { watch } = following(5n);
  assert.deepEqual(watch.request(), { afterRevision: 5n });
  assert.equal(
    thrown(() => watch.failed(COMPACTED)),
    COMPACTED,
  );
});

test("revision zero is a revision", () => {
  assert.deepEqual(following(0n).watch.request(), { afterRevision: 0n });
});

test("a revision that no service can have given is refused", () => {
  assert.throws(() => following(-1n), RangeError);
  assert.throws(() => following(2n ** 64n), RangeError);
});

test("an event that is not known is passed over, and counts as seen", () => {
  const { watch } = following(5n);
  assert.deepEqual(watch.receive({ revision: 6n, event: undefined }), []);
  assert.deepEqual(watch.request(), { afterRevision: 6n });
});

test("a watch gives up when the service stays away for the patience", () => {
  const { watch, clock } = following();
  watch.request();
  watch.failed(GONE);
  clock.time = 29_999;
  watch.request();
  assert.equal(
    thrown(() => watch.failed(GONE)),
    GONE,
  );
});

test("a watch that was open for long has all its patience again", () => {
  const { watch, clock } = following();
  watch.request();
  watch.failed(GONE);
  watch.request();
  clock.time = 40_000;
  assert.equal(watch.failed(GONE), 100);
});

test("the failures of a hold's start are counted together", () => {
  const clock = new HandClock();
  const hold = new Holding(HELD, DEFAULT_RETRY, clock);
  for (const time of [0, 10_000]) {
    clock.time = time;
    hold.request();
    hold.receive(starting());
    hold.failed(DIED);
  }
  clock.time = 20_000;
  hold.request();
  hold.receive(starting());
  assert.equal(
    thrown(() => hold.failed(DIED)),
    DIED,
  );
});

test("a hold that was READY has all its patience again", () => {
  const clock = new HandClock();
  const hold = new Holding(HELD, DEFAULT_RETRY, clock);
  hold.request();
  hold.failed(DIED);
  clock.time = 60_000;
  hold.request();
  hold.receive(held());
  assert.equal(hold.failed(DIED), 10_000);
});

test("a break of a hold's stream that was alive begins the count anew", () => {
  const clock = new HandClock();
  const hold = new Holding(HELD, DEFAULT_RETRY, clock);
  hold.request();
  hold.failed(GONE);
  clock.time = 60_000;
  hold.request();
  hold.receive(starting());
  assert.equal(hold.failed(new ShuttingDown("ends", { code: "UNAVAILABLE" })), 200);
  hold.request();
  assert.equal(hold.failed(GONE), 400);
});

test("a download that gets further is a new beginning, one that does not is none", () => {
  const clock = new HandClock();
  const pull = new Pulling({ model: "m", runtimeModel: "" }, DEFAULT_RETRY, clock);
  pull.receive({ doneBytes: 10n, totalBytes: 100n });
  assert.equal(pull.failed(GONE), 100);
  pull.receive({ doneBytes: 10n, totalBytes: 100n });
  assert.equal(pull.failed(GONE), 200);
  clock.time += 60_000;
  pull.receive({ doneBytes: 20n, totalBytes: 100n });
  assert.equal(pull.failed(GONE), 400);
});
