import assert from "node:assert/strict";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { description } from "../src/convert_description.js";
import * as pb from "../src/generated/pool_service/v1/pool_service.js";
import { ModelUnknown, RUN_ORIGINS } from "../src/index.js";
import { ready, Refusal } from "./scripted.js";
import { failure, withService } from "./support.js";

function at(seconds: number): { seconds: bigint; nanos: number } {
  return { seconds: BigInt(seconds), nanos: 0 };
}

function after1970(seconds: number): Date {
  return new Date(seconds * 1000);
}

const OTHER = {
  model: "other",
  generation: 2n,
  busy: true,
  freedBytes: 5n,
  retentionSeconds: 1.5,
  resideTime: at(9),
};
const CANDIDATE = { ...OTHER, generation: 2, freedBytes: 5, resideTime: after1970(9) };

withService(
  "describe names the model, and returns what the service said",
  async (pool, service) => {
    service.answer("describe", pb.DescribeResponse.fromPartial({ model: "m", servers: [ready()] }));
    const described = await pool.describe("alias");
    assert.deepEqual([described.model, described.servers[0]?.state], ["m", "READY"]);
    assert.equal(described.message.model, "m");
    assert.deepEqual(
      (service.asked.describe as pb.DescribeRequest[]).map((request) => request.model),
      ["alias"],
    );
  },
);

withService("a refused description is the error", async (pool, service) => {
  service.answer("describe", new Refusal(status.NOT_FOUND, "it is unknown", "MODEL_UNKNOWN"));
  assert.ok((await failure(pool.describe("m"))) instanceof ModelUnknown);
});

test("a description of nothing has no values", () => {
  const described = description(pb.DescribeResponse.fromPartial({}));
  const { onDisk, usualLoadMs, lastExit, queueTime, retryTime } = described;
  assert.deepEqual([onDisk, usualLoadMs, lastExit, queueTime, retryTime], Array(5).fill(undefined));
  assert.deepEqual([described.crashWindowMs, described.expectedBy], [0, "UNSPECIFIED"]);
});

test("a description has the settings and the starts of the model", () => {
  const setting = { key: "keep_alive", value: "1h", source: "default", running: "2h" };
  const described = description(
    pb.DescribeResponse.fromPartial({
      settings: [setting],
      onDisk: false,
      usualLoad: { seconds: 1n, nanos: 500_000_000 },
      lastExit: { cause: pb.ExitCause.EXIT_CAUSE_IDLE },
      crashTimes: [at(8), { seconds: 0n, nanos: -1 }], // the second one is no time
      crashWindow: at(60),
    }),
  );
  assert.deepEqual(described.settings, [setting]);
  assert.deepEqual([described.onDisk, described.usualLoadMs], [false, 1500]);
  assert.equal(described.lastExit?.cause, "IDLE");
  assert.deepEqual([described.crashTimes, described.crashWindowMs], [[after1970(8)], 60_000]);
});

test("a run has the times of its stages", () => {
  const run = {
    generation: 3n,
    origin: pb.RunOrigin.RUN_ORIGIN_STANDBY,
    createTime: at(1),
    admitTime: at(2),
    startTime: at(3),
    readyTime: at(4),
    stopTime: at(5),
    endTime: at(6),
    exit: { cause: pb.ExitCause.EXIT_CAUSE_IDLE },
    peakBytes: 7n,
    load: { nanos: 750e6 },
  };
  const unknown = pb.Run.decode(Buffer.from([0x10, 17])); // an origin
  const [ended, begun] = description(
    pb.DescribeResponse.fromPartial({ runs: [run, unknown] }),
  ).runs;
  assert.ok(ended !== undefined);
  const { exit, ...rest } = ended;
  assert.deepEqual(rest, {
    generation: 3,
    origin: "STANDBY",
    createTime: after1970(1),
    admitTime: after1970(2),
    startTime: after1970(3),
    readyTime: after1970(4),
    stopTime: after1970(5),
    endTime: after1970(6),
    peakBytes: 7,
    loadMs: 750,
  });
  assert.equal(exit?.cause, "IDLE");
  assert.deepEqual([begun?.origin, begun?.readyTime, begun?.exit], [17, undefined, undefined]);
});

test("the names of origins are those of the wire", () => {
  const names = Object.keys(pb.RunOrigin).filter((name) => name.startsWith("RUN_ORIGIN_"));
  assert.deepEqual(
    [...RUN_ORIGINS],
    names.map((name) => name.slice("RUN_ORIGIN_".length)),
  );
});

test("a description has the callers of the model, and how many there are", () => {
  const described = description(
    pb.DescribeResponse.fromPartial({
      holders: [{ label: "first", since: at(1) }],
      holds: 7,
      waiting: [{ since: at(2), hold: true, holder: "second", own: true }],
      waitingCalls: 8,
      queueTime: at(4),
      retryTime: at(5),
    }),
  );
  assert.deepEqual(described.holders, [{ label: "first", since: after1970(1) }]);
  assert.deepEqual(described.waiting, [
    { since: after1970(2), hold: true, holder: "second", own: true },
  ]);
  assert.deepEqual([described.holds, described.waitingCalls], [7, 8]);
  assert.deepEqual([described.queueTime, described.retryTime], [after1970(4), after1970(5)]);
});

test("a decision has its figures", () => {
  const decision = {
    time: at(3),
    generation: 1n,
    role: pb.ServerRole.SERVER_ROLE_CURRENT,
    before: pb.ServerState.SERVER_STATE_QUEUED,
    after: pb.ServerState.SERVER_STATE_STARTING,
    why: "it fits",
    event: "MemorySampled",
    choice: { neededBytes: 4n, budgetBytes: 0n, reservedBytes: 6n, chosen: [OTHER] },
  };
  const described = description(
    pb.DescribeResponse.fromPartial({ nextToGo: [OTHER], decisions: [decision, {}] }),
  );
  assert.deepEqual(described.nextToGo, [CANDIDATE]);
  assert.deepEqual(described.decisions[0], {
    time: after1970(3),
    generation: 1,
    role: "CURRENT",
    before: "QUEUED",
    after: "STARTING",
    why: "it fits",
    event: "MemorySampled",
    choice: {
      neededBytes: 4,
      budgetBytes: 0,
      reservedBytes: 6,
      availableBytes: undefined,
      chosen: [CANDIDATE],
      passedOver: [],
    },
  });
  assert.equal(described.decisions[1]?.choice, undefined);
});
