/**
 * The errors, as classes by what a caller does about them.
 *
 * `status.ts` makes them from the service's answers.
 */

import type { status } from "@grpc/grpc-js";

/** The name of a gRPC status code, such as "UNAVAILABLE". */
export type StatusCode = keyof typeof status;

/** One thing that is wrong with a request or with the pool's state. */
export interface Violation {
  /** The field of the request, or the thing that the state belongs to. */
  readonly subject: string;
  /** What is wrong, in words. */
  readonly description: string;
  /** An identifier for programs; empty if there is none. */
  readonly kind: string;
}

/** The details of a failure besides its message. */
export interface PoolErrorDetails {
  readonly code?: StatusCode;
  readonly reason?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly retryAfterMs?: number | undefined;
  readonly lastLines?: readonly string[];
  readonly violations?: readonly Violation[];
  readonly requestId?: string;
  readonly cause?: unknown;
}

/** A call that failed: its message says why, in words. Also a reason that this package does not know. */
export class PoolError extends Error {
  /** The name of the gRPC code. */
  readonly code: StatusCode;
  /** The service's reason, such as "MODEL_REJECTED"; empty if it gave none. */
  readonly reason: string;
  /** The values that belong to the reason. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Milliseconds after which another attempt may succeed; undefined if the service named none. */
  readonly retryAfterMs: number | undefined;
  /** The last lines that the model's server wrote, oldest first. */
  readonly lastLines: readonly string[];
  /** What is wrong with the request or with the pool's state. */
  readonly violations: readonly Violation[];
  /** The request id, to report an internal error; empty if there is none. */
  readonly requestId: string;

  constructor(message: string, details: PoolErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.code = details.code ?? "UNKNOWN";
    this.reason = details.reason ?? "";
    this.metadata = details.metadata ?? {};
    this.retryAfterMs = details.retryAfterMs;
    this.lastLines = details.lastLines ?? [];
    this.violations = details.violations ?? [];
    this.requestId = details.requestId ?? "";
  }
}

/** A field of the request is not valid: correct it; `violations` name it. */
export class InvalidRequest extends PoolError {}

/** The model's server runs another runtime model: leave it out, or evict the server first. */
export class RuntimeModelConflict extends PoolError {}

/**
 * The server is held or has requests in flight: wait, or evict with force.
 *
 * `metadata` has the numbers "requests" and "holds", and the labels "holders".
 */
export class ServerInUse extends PoolError {}

/** The runtime program is missing, not executable or too old: install or configure it. */
export class RuntimeUnavailable extends PoolError {}

/** The runtime refused the model: name another, or mend its files. */
export class ModelRejected extends PoolError {}

/**
 * The service serves only models that its configuration lists, and the model is not one of
 * them.
 */
export class ModelUnknown extends PoolError {}

/** The model's files are not there: pull it first, or allow the download. */
export class ModelNotOnDisk extends PoolError {}

/** Loading the model would run code that it brings; `metadata` has its "files". */
export class CodeNotTrusted extends PoolError {}

/** The model's files could not be downloaded: retry. */
export class FetchFailed extends PoolError {}

/** The model can never fit; `metadata` has "needed_bytes" and "budget_bytes". */
export class ModelTooLarge extends PoolError {}

/** The model did not fit for as long as it could wait: retry. */
export class PoolFull extends PoolError {}

/** The queue is full: retry. */
export class QueueFull extends PoolError {}

/** The service's configuration is not valid: mend it; a reload changed nothing. */
export class ConfigInvalid extends PoolError {}

/** The start stood still, or took longer than its limit: retry. */
export class StartTimeout extends PoolError {}

/** The server's process died before it was ready: `lastLines` say why. */
export class StartFailed extends PoolError {}

/** The server's processes died too often; after `retryAfterMs` the service tries once more. */
export class CrashLoop extends PoolError {}

/** The model was evicted while the call waited for it. */
export class Evicted extends PoolError {}

/** The service is about to end; another may come: retry. */
export class ShuttingDown extends PoolError {}

/** The service has just started and still finds its servers: retry. */
export class Recovering extends PoolError {}

/** The service's history does not reach back to the revision: watch without a revision. */
export class RevisionCompacted extends PoolError {}

/** No such log is kept: start the model first, or ask for another generation. */
export class LogNotFound extends PoolError {}

/** As many streams follow logs as may: retry. */
export class TooManyFollowers extends PoolError {}

/** The service remembers no more pins: take back some that you do not need. */
export class TooManyPins extends PoolError {}

/** The service does not know who calls, and needs a token by this address. */
export class TokenMissing extends PoolError {}

/** The token is none of the service's: it is mistyped, expired or was revoked. */
export class TokenUnknown extends PoolError {}

/** No client of the service's configuration has a name of the certificate. */
export class CertificateUnknown extends PoolError {}

/** The token does not allow the call: `metadata` has the scope that it needs. */
export class ScopeMissing extends PoolError {}

/** A limit of the token is reached: release something, or retry. */
export class QuotaExceeded extends PoolError {}

/** The front of the fleet sees no member that it may ask now: try again. */
export class PoolUnreachable extends PoolError {}

/** The service is a member of a fleet: call the front of the fleet instead. */
export class FleetOnly extends PoolError {}

/** A bug of the service: report it with `requestId`. */
export class InternalError extends PoolError {}

/** The service cannot be reached, the connection to it broke, or it dropped the call. */
export class PoolUnavailable extends PoolError {}

/** The caller's time limit is over; its `cause` is the failure before, if any. */
export class DeadlineExceeded extends PoolError {}

/** The call was given up: by its signal, whose reason is its `cause`, or by closing its client. */
export class Cancelled extends PoolError {}

/** The service could not be started: its message says why, and what to do. It is not retried. */
export class ServiceNotStarted extends PoolError {}
