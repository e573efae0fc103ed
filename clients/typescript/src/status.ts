/** From the status of a failed call to a typed error, by its reason, never by its message. */

import { status, type StatusObject } from "@grpc/grpc-js";
import * as errors from "./errors.js";
import { PoolError, type PoolErrorDetails, type StatusCode, type Violation } from "./errors.js";
import {
  BadRequest,
  DebugInfo,
  ErrorInfo,
  PreconditionFailure,
  QuotaFailure,
  RequestInfo,
  RetryInfo,
} from "./generated/google/rpc/error_details.js";
import { Status } from "./generated/google/rpc/status.js";

const DOMAIN = "pool_service";
const RICH_STATUS = "grpc-status-details-bin";

type ErrorClass = new (message: string, details: PoolErrorDetails) => PoolError;

const BY_REASON: ReadonlyMap<string, ErrorClass> = new Map<string, ErrorClass>([
  ["RUNTIME_MODEL_CONFLICT", errors.RuntimeModelConflict],
  ["SERVER_IN_USE", errors.ServerInUse],
  ["RUNTIME_UNAVAILABLE", errors.RuntimeUnavailable],
  ["MODEL_REJECTED", errors.ModelRejected],
  ["MODEL_UNKNOWN", errors.ModelUnknown],
  ["MODEL_NOT_ON_DISK", errors.ModelNotOnDisk],
  ["CODE_NOT_TRUSTED", errors.CodeNotTrusted],
  ["FETCH_FAILED", errors.FetchFailed],
  ["MODEL_TOO_LARGE", errors.ModelTooLarge],
  ["POOL_FULL", errors.PoolFull],
  ["QUEUE_FULL", errors.QueueFull],
  ["CONFIG_INVALID", errors.ConfigInvalid],
  ["START_TIMEOUT", errors.StartTimeout],
  ["START_FAILED", errors.StartFailed],
  ["CRASH_LOOP", errors.CrashLoop],
  ["EVICTED", errors.Evicted],
  ["SHUTTING_DOWN", errors.ShuttingDown],
  ["RECOVERING", errors.Recovering],
  ["REVISION_COMPACTED", errors.RevisionCompacted],
  ["LOG_NOT_FOUND", errors.LogNotFound],
  ["TOO_MANY_FOLLOWERS", errors.TooManyFollowers],
  ["TOO_MANY_PINS", errors.TooManyPins],
  ["TOKEN_MISSING", errors.TokenMissing],
  ["TOKEN_UNKNOWN", errors.TokenUnknown],
  ["CERTIFICATE_UNKNOWN", errors.CertificateUnknown],
  ["SCOPE_MISSING", errors.ScopeMissing],
  ["QUOTA_EXCEEDED", errors.QuotaExceeded],
  ["POOL_UNREACHABLE", errors.PoolUnreachable],
  ["FLEET_ONLY", errors.FleetOnly],
  ["INTERNAL", errors.InternalError],
]);

/** What is needed of a message type of google.rpc. */
interface Decoder<M> {
  decode(bytes: Uint8Array): M;
}

/** The failure of a call, as gRPC reports it. */
export type FailedCall = Pick<StatusObject, "code" | "details" | "metadata">;

/** The typed error of a failed call to `address`, with that timeout. */
export function errorOf(call: FailedCall, address: string, timeoutMs?: number): PoolError {
  const rich = richStatus(call);
  const infos = all(rich, "google.rpc.ErrorInfo", ErrorInfo);
  const info = infos.find((one) => one.domain === DOMAIN);
  if (info === undefined || info.reason === "") return withoutReason(call, address, timeoutMs);
  return new (classOf(info.reason))(rich.message, {
    code: nameOf(call.code),
    reason: info.reason,
    metadata: info.metadata,
    retryAfterMs: retryAfterMs(rich),
    lastLines: first(rich, "google.rpc.DebugInfo", DebugInfo)?.stackEntries ?? [],
    violations: violations(rich),
    requestId: first(rich, "google.rpc.RequestInfo", RequestInfo)?.requestId ?? "",
  });
}

/** The rich status; an empty one if there is none that agrees with the plain one. */
function richStatus(call: FailedCall): Status {
  const bytes = call.metadata.get(RICH_STATUS)[0];
  const rich = bytes instanceof Uint8Array ? decoded(Status, bytes) : undefined;
  return rich?.code === call.code ? rich : Status.fromPartial({});
}

function decoded<M>(type: Decoder<M>, bytes: Uint8Array): M | undefined {
  try {
    return type.decode(bytes);
  } catch {
    return undefined; // What does not decode says nothing; the plain status still does.
  }
}

function first<M>(rich: Status, name: string, type: Decoder<M>): M | undefined {
  return all(rich, name, type)[0];
}

function all<M>(rich: Status, name: string, type: Decoder<M>): readonly M[] {
  return rich.details
    .filter((detail) => detail.typeUrl.endsWith(`/${name}`))
    .map((detail) => decoded(type, detail.value))
    .filter((message) => message !== undefined);
}

function classOf(reason: string): ErrorClass {
  return reason.startsWith("INVALID_")
    ? errors.InvalidRequest
    : (BY_REASON.get(reason) ?? PoolError);
}

function nameOf(code: status): StatusCode {
  return (status[code] as StatusCode | undefined) ?? "UNKNOWN";
}

function retryAfterMs(rich: Status): number | undefined {
  const info = first(rich, "google.rpc.RetryInfo", RetryInfo);
  if (info === undefined) return undefined;
  const { seconds, nanos } = info.retryDelay ?? { seconds: 0n, nanos: 0 };
  return Math.max(0, Number(seconds) * 1000 + nanos / 1e6);
}

function violations(rich: Status): readonly Violation[] {
  const bad = all(rich, "google.rpc.BadRequest", BadRequest).flatMap((one) => one.fieldViolations);
  const unmet = all(rich, "google.rpc.PreconditionFailure", PreconditionFailure).flatMap(
    (one) => one.violations,
  );
  const excess = all(rich, "google.rpc.QuotaFailure", QuotaFailure).flatMap(
    (one) => one.violations,
  );
  return [
    ...bad.map((one) => violation(one.field, one.description, one.reason)),
    ...unmet.map((one) => violation(one.subject, one.description, one.type)),
    ...excess.map((one) => violation(one.subject, one.description, "")),
  ];
}

function violation(subject: string, description: string, kind: string): Violation {
  return { subject, description, kind };
}

/** The error of a status from gRPC itself, or from a program that is no pool service. */
function withoutReason(call: FailedCall, address: string, timeoutMs?: number): PoolError {
  const code = nameOf(call.code);
  const details = call.details || "no details";
  switch (call.code) {
    case status.UNAVAILABLE:
      return new errors.PoolUnavailable(
        `cannot reach the pool service at ${address}: ${essence(details)}`,
        { code },
      );
    case status.DEADLINE_EXCEEDED:
      return deadlineExceeded(timeoutMs);
    case status.UNIMPLEMENTED:
      return new PoolError(
        `what answers at ${address} does not know this call: ` +
          "it is another program, or an older pool service",
        { code },
      );
    case status.CANCELLED:
      // gRPC's servers end calls like this that they have not begun, when they stop or are
      // overloaded.
      return new errors.PoolUnavailable(
        `the pool service at ${address} dropped the call: ` +
          "it ends, or has more calls waiting than it takes",
        { code: "UNAVAILABLE" },
      );
    default:
      return new PoolError(`the call to ${address} failed with ${code}: ${details}`, {
        code,
      });
  }
}

/** The error of a caller whose time limit is over. */
export function deadlineExceeded(timeoutMs?: number, cause?: unknown): errors.DeadlineExceeded {
  const limit = timeoutMs === undefined ? "in time" : `within ${String(timeoutMs)} ms`;
  return new errors.DeadlineExceeded(`no answer ${limit}; what the service has begun goes on`, {
    code: "DEADLINE_EXCEEDED",
    cause,
  });
}

/** The error for an answer that no pool service gives. */
export function noPoolService(address: string, what: string): PoolError {
  return new PoolError(`what answers at ${address} is no pool service, or is broken: ${what}`, {
    code: "INTERNAL",
  });
}

/** The error for an endless stream that the service ended without an error. */
export function ended(): errors.PoolUnavailable {
  return new errors.PoolUnavailable("the service ended the stream", { code: "UNAVAILABLE" });
}

/** The cause in gRPC's message, on which a person can act. */
function essence(details: string): string {
  const cause = /Last error: (?:Error: )?(?<cause>.*?)\.? Resolution note:/s.exec(details)?.groups
    ?.cause;
  return cause ?? details;
}
