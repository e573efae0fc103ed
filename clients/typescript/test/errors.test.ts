import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Metadata, status } from "@grpc/grpc-js";
import {
  BadRequest,
  DebugInfo,
  PreconditionFailure,
  QuotaFailure,
  RequestInfo,
} from "../src/generated/google/rpc/error_details.js";
import * as client from "../src/index.js";
import { PoolError } from "../src/index.js";
import { errorOf } from "../src/status.js";
import { info, packed, richMetadata, retryAfter } from "./scripted.js";
import type { Any } from "../src/generated/google/protobuf/any.js";

const ADDRESS = "127.0.0.1:50051";

function refused(code: status, details: Any[], richCode = code): PoolError {
  const metadata = richMetadata(richCode, "in words", details);
  return errorOf({ code, details: "plain words", metadata }, ADDRESS);
}

function bare(code: status, details = "words"): PoolError {
  return errorOf({ code, details, metadata: new Metadata() }, ADDRESS, 1500);
}

function reasonsOfReference(): string[] {
  const page = readFileSync("../../docs/reference/errors.md", "utf8");
  const rows = [...page.matchAll(/^\| (?<reasons>[A-Z_, ]+) \| [A-Z].*$/gm)];
  const own = rows.filter((row) => !row[0].includes("only fronts get this"));
  return own.flatMap((row) => (row.groups?.reasons ?? "").split(", "));
}

test("every reason of the service has a class of its name", () => {
  const reasons = reasonsOfReference();
  assert.ok(reasons.length > 20);
  for (const reason of reasons) {
    const words = reason
      .toLowerCase()
      .replace(/(?:^|_)([a-z])/g, (_, l: string) => l.toUpperCase());
    const own = reason === "INTERNAL" ? "InternalError" : words;
    const error = refused(status.UNKNOWN, [info(reason)]);
    assert.equal(error.constructor.name, reason.startsWith("INVALID_") ? "InvalidRequest" : own);
    assert.equal(client[error.constructor.name as "PoolError"], error.constructor);
    assert.ok(error instanceof PoolError && error instanceof Error);
    assert.equal(error.name, error.constructor.name);
  }
});

test("a reason that is not known is a plain error with that reason", () => {
  const error = refused(status.ABORTED, [info("NEW_REASON")]);
  assert.equal(error.constructor, PoolError);
  assert.deepEqual(
    [error.reason, error.code, error.message],
    ["NEW_REASON", "ABORTED", "in words"],
  );
});

test("all that the service told is in the error", () => {
  const error = refused(status.UNAVAILABLE, [
    info("START_FAILED"),
    retryAfter(250),
    packed("DebugInfo", DebugInfo, { stackEntries: ["first", "last"], detail: "" }),
    packed("RequestInfo", RequestInfo, { requestId: "r-1", servingData: "" }),
  ]);
  assert.ok(error instanceof client.StartFailed);
  assert.deepEqual(error.metadata, { model: "m" });
  assert.equal(error.retryAfterMs, 250);
  assert.deepEqual(error.lastLines, ["first", "last"]);
  assert.equal(error.requestId, "r-1");
});

test("violations of all three kinds are told", () => {
  const field = { field: "model", description: "empty", reason: "R" };
  const error = refused(status.INVALID_ARGUMENT, [
    info("INVALID_MODEL"),
    packed("BadRequest", BadRequest, BadRequest.fromPartial({ fieldViolations: [field] })),
    packed("PreconditionFailure", PreconditionFailure, {
      violations: [{ type: "HELD", subject: "m", description: "held" }],
    }),
    packed(
      "QuotaFailure",
      QuotaFailure,
      QuotaFailure.fromPartial({ violations: [{ subject: "memory", description: "full" }] }),
    ),
  ]);
  assert.deepEqual(error.violations, [
    { subject: "model", description: "empty", kind: "R" },
    { subject: "m", description: "held", kind: "HELD" },
    { subject: "memory", description: "full", kind: "" },
  ]);
});

test("a delay that was not named is undefined, and one of zero is zero", () => {
  assert.equal(refused(status.ABORTED, [info("EVICTED")]).retryAfterMs, undefined);
  assert.equal(refused(status.ABORTED, [info("EVICTED"), retryAfter(0)]).retryAfterMs, 0);
});

test("a reason of another domain is none of ours", () => {
  const error = refused(status.ABORTED, [info("EVICTED", "example.com")]);
  assert.deepEqual([error.constructor, error.reason], [PoolError, ""]);
});

test("rich details that contradict the status are not believed", () => {
  const error = refused(status.NOT_FOUND, [info("EVICTED")], status.ABORTED);
  assert.deepEqual([error.constructor, error.code], [PoolError, "NOT_FOUND"]);
});

test("details that are garbage do no harm", () => {
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from([0xff, 0xff, 0xff]));
  const error = errorOf({ code: status.INTERNAL, details: "words", metadata }, ADDRESS);
  assert.deepEqual([error.constructor, error.code], [PoolError, "INTERNAL"]);
});

test("an unreachable service names its address and the cause that gRPC found", () => {
  const details =
    "No connection established. Last error: Error: connect ECONNREFUSED 127.0.0.1:50051. " +
    "Resolution note: ";
  const error = bare(status.UNAVAILABLE, details);
  assert.ok(error instanceof client.PoolUnavailable);
  assert.equal(
    error.message,
    "cannot reach the pool service at 127.0.0.1:50051: connect ECONNREFUSED 127.0.0.1:50051",
  );
});

test("without a reason the code says what it is", () => {
  assert.ok(bare(status.DEADLINE_EXCEEDED) instanceof client.DeadlineExceeded);
  assert.match(bare(status.DEADLINE_EXCEEDED).message, /within 1500 ms/);
  assert.ok(bare(status.CANCELLED) instanceof client.PoolUnavailable);
  assert.equal(bare(status.CANCELLED).code, "UNAVAILABLE");
  assert.match(bare(status.UNIMPLEMENTED).message, /another program, or an older pool service/);
  assert.match(bare(status.DATA_LOSS).message, /failed with DATA_LOSS: words/);
});
