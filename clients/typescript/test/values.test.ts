import assert from "node:assert/strict";
import { test } from "node:test";
import * as convert from "../src/convert.js";
import * as pb from "../src/generated/pool_service/v1/pool_service.js";
import { EXIT_CAUSES, EXPECTATIONS, SERVER_ROLES, SERVER_STATES } from "../src/index.js";
import { ready } from "./scripted.js";

function namesOf(generated: Record<string, string | number>, prefix: string): string[] {
  const names = Object.keys(generated).filter((key) => key.startsWith(prefix));
  return names.map((name) => name.slice(prefix.length));
}

test("the names of enums are those of the wire", () => {
  assert.deepEqual([...SERVER_STATES], namesOf(pb.ServerState, "SERVER_STATE_"));
  assert.deepEqual([...SERVER_ROLES], namesOf(pb.ServerRole, "SERVER_ROLE_"));
  assert.deepEqual([...EXIT_CAUSES], namesOf(pb.ExitCause, "EXIT_CAUSE_"));
  assert.deepEqual([...EXPECTATIONS], namesOf(pb.Expectation, "EXPECTATION_"));
});

test("a state that is not known keeps its number", () => {
  const bytes = Buffer.concat([pb.Server.encode(ready()).finish(), Buffer.from([0x18, 17])]);
  assert.equal(convert.server(pb.Server.decode(bytes)).state, 17);
});

test("a role is its name, or its number if it is not known", () => {
  const role = pb.ServerRole.SERVER_ROLE_SUPERSEDED;
  assert.equal(convert.server(ready({ role })).role, "SUPERSEDED");
  const bytes = Buffer.concat([pb.Server.encode(ready()).finish(), Buffer.from([0xc8, 0x01, 17])]);
  assert.equal(convert.server(pb.Server.decode(bytes)).role, 17);
});

test("fields that are not known are still in the message", () => {
  const bytes = Buffer.concat([
    pb.Server.encode(ready()).finish(),
    Buffer.from([0xfa, 0x3e, 1, 65]),
  ]);
  const { message } = convert.server(pb.Server.decode(bytes));
  assert.deepEqual(Buffer.from(pb.Server.encode(message).finish()), bytes);
});

test("what the service did not say is undefined", () => {
  const server = convert.server(pb.Server.fromPartial({ model: "m" }));
  assert.deepEqual(
    [server.progress, server.createTime, server.expireTime, server.lastExit],
    [undefined, undefined, undefined, undefined],
  );
});

test("the base URL is the endpoint's /v1, if there is an endpoint", () => {
  assert.equal(convert.server(ready()).baseUrl, "http://127.0.0.1:49321/v1");
  assert.equal(convert.server(ready({ endpoint: "" })).baseUrl, "");
});

test("the name of the embedding model is as sent", () => {
  const embeddingModelName = "embeds";
  assert.equal(convert.server(ready({ embeddingModelName })).embeddingModelName, "embeds");
  assert.equal(convert.server(ready()).embeddingModelName, "");
  assert.equal(convert.server(ready({ host: "mini" })).host, "mini");
});

test("times are dates to the millisecond", () => {
  const server = convert.server(ready({ readyTime: { seconds: 1_700_000_000n, nanos: 250e6 } }));
  assert.equal(server.readyTime?.getTime(), 1_700_000_000_250);
});

test("bytes beyond 32 bits are exact", () => {
  const bytes = pb.Server.encode(ready({ peakBytes: 549_755_813_889n })).finish();
  assert.equal(convert.server(pb.Server.decode(bytes)).peakBytes, 549_755_813_889);
});

test("a revision is exact beyond what a number holds", () => {
  const revision = 2n ** 63n + 1n;
  const bytes = pb.WatchResponse.encode({ revision, event: undefined }).finish();
  assert.equal(pb.WatchResponse.decode(bytes).revision, revision);
});

test("an exit tells a code of zero from one that is not known", () => {
  const lastExit = pb.Exit.fromPartial({ code: 0, cause: pb.ExitCause.EXIT_CAUSE_CRASHED });
  const { code, signal, cause } = convert.server(ready({ lastExit })).lastExit ?? {};
  assert.deepEqual([code, signal, cause], [0, undefined, "CRASHED"]);
});

test("a budget of zero is told from none", () => {
  const budgetOf = (message: object): number | undefined =>
    convert.page(pb.ListResponse.fromPartial({ totals: message })).totals.memoryBudgetBytes;
  assert.deepEqual([budgetOf({}), budgetOf({ memoryBudgetBytes: 0n })], [undefined, 0]);
});

test("keep alive is milliseconds; infinite or negative stays; too long is the longest", () => {
  const keepAlive = (keepAliveMs?: number): unknown =>
    convert.ensureRequest("m", { keepAliveMs }).keepAlive;
  assert.equal(keepAlive(), undefined);
  assert.deepEqual(keepAlive(0), { seconds: 0n, nanos: 0 });
  assert.deepEqual(keepAlive(1500.5), { seconds: 1n, nanos: 500_500_000 });
  assert.deepEqual(keepAlive(Infinity), { seconds: -1n, nanos: 0 });
  assert.deepEqual(keepAlive(-1), { seconds: -1n, nanos: 0 });
  assert.deepEqual(keepAlive(1e300), { seconds: 315_576_000_000n, nanos: 0 });
  assert.throws(() => keepAlive(NaN), RangeError);
});
