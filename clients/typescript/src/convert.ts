/** Conversion between values and messages. Nothing else builds a request or reads a response. */

import type { Duration } from "./generated/google/protobuf/duration.js";
import type { Timestamp } from "./generated/google/protobuf/timestamp.js";
import * as pb from "./generated/pool_service/v1/pool_service.js";
import { noPoolService } from "./status.js";
import {
  EXIT_CAUSES,
  EXPECTATIONS,
  SERVER_ROLES,
  SERVER_STATES,
  type EnsureResult,
  type Event,
  type EvictedServer,
  type Exit,
  type Found,
  type LogPart,
  type Model,
  type Page,
  type Progress,
  type PromptCache,
  type Pinned,
  type Reloaded,
  type Server,
  type Totals,
} from "./types.js";

/** The longest google.protobuf.Duration, about 10,000 years. */
const LONGEST_DURATION_S = 315_576_000_000n;
/** The years 1 to 9999, in seconds since 1970. */
const FIRST_S = -62_135_596_800n;
const LAST_S = 253_402_300_799n;
const HIGHEST_REVISION = 2n ** 64n - 1n;

/** Options of a request for a model. */
export interface ModelOptions {
  /** The model that the runtime loads, if the service should not choose it. */
  readonly runtimeModel?: string | undefined;
  /**
   * How many milliseconds the server stays when unused. Absent: unchanged; 0: it is stopped as soon
   * as it is unused; negative or infinite: it stays.
   */
  readonly keepAliveMs?: number | undefined;
  /** Whether missing files may be downloaded, which can take long. Absent: as configured. */
  readonly download?: boolean | undefined;
}

/** Throws RangeError for a keepAliveMs that is no number. */
export function ensureRequest(model: string, options: ModelOptions): pb.EnsureRequest {
  return {
    model,
    runtimeModel: options.runtimeModel ?? "",
    keepAlive: duration(options.keepAliveMs),
    download: options.download,
  };
}

/** Throws RangeError as `ensureRequest` does. */
export function holdRequest(model: string, options: ModelOptions, holder = ""): pb.HoldRequest {
  return { ...ensureRequest(model, options), holder };
}

export function evictRequest(target: pb.EvictRequest["target"], force = false): pb.EvictRequest {
  return { target, force };
}

/** What is read of a model's logs. */
export interface LogRange {
  /** Begin with the process of this generation. */
  readonly generation?: number | undefined;
  /** Begin with the process before the newest one. */
  readonly previous?: boolean | undefined;
  /** Begin with the oldest process whose log is kept, and go on to the newest, with every line. */
  readonly oldest?: boolean | undefined;
  /** Go on after the part that had this cursor, with every line. */
  readonly cursor?: string | undefined;
  /**
   * How many of the last lines of the first process; by default 100. Not valid with `oldest` or
   * `cursor`.
   */
  readonly lines?: number | undefined;
  /** Go on with new lines and new processes, without end. */
  readonly follow?: boolean | undefined;
}

/** Throws RangeError if it would begin in two places. */
export function logRequest(model: string, range: LogRange): pb.TailLogsRequest {
  const { generation, previous, oldest, cursor, lines, follow } = range;
  const begins: NonNullable<pb.TailLogsRequest["begin"]>[] = [];
  if (generation !== undefined) begins.push({ $case: "generation", value: BigInt(generation) });
  if (previous) begins.push({ $case: "previous", value: true });
  if (oldest) begins.push({ $case: "oldest", value: true });
  if (cursor !== undefined) begins.push({ $case: "cursor", value: cursor });
  if (begins.length > 1) {
    throw new RangeError(`give one of these: ${begins.map((begin) => begin.$case).join(", ")}`);
  }
  return { model, begin: begins[0], lines, follow: follow ?? false };
}

/** Throws RangeError for a revision that no service can have given. */
export function checkedRevision(revision: bigint | undefined): bigint | undefined {
  if (revision !== undefined && (revision < 0n || revision > HIGHEST_REVISION)) {
    throw new RangeError(`${String(revision)} is no revision: take it from an event or a page`);
  }
  return revision;
}

/** A duration that is too long for a message is sent as the longest, which the service refuses. */
function duration(milliseconds: number | undefined): Duration | undefined {
  if (milliseconds === undefined) return undefined;
  if (Number.isNaN(milliseconds)) throw new RangeError("keepAliveMs is not a number");
  if (!Number.isFinite(milliseconds) || milliseconds < 0) return { seconds: -1n, nanos: 0 };
  const seconds = BigInt(Math.floor(milliseconds / 1000));
  if (seconds >= LONGEST_DURATION_S) return { seconds: LONGEST_DURATION_S, nanos: 0 };
  return { seconds, nanos: Math.floor((milliseconds % 1000) * 1e6) };
}

/** Throws PoolError for an answer without a server, or without its endpoint. */
export function ensureResult(response: pb.EnsureResponse, address: string): EnsureResult {
  if (response.server === undefined) throw noPoolService(address, "it names no server");
  if (response.server.endpoint === "") throw noPoolService(address, "its server has no endpoint");
  return { server: keyed(response.server, response.apiKey), started: response.started };
}

export function found(response: pb.GetResponse): Found {
  return { server: response.server && server(response.server), answers: response.answers };
}

export function evictedServers(response: pb.EvictResponse): readonly EvictedServer[] {
  return response.evicted.map((one) => ({ server: server(one.server), killed: one.killed }));
}

export function page(response: pb.ListResponse): Page {
  return {
    servers: response.servers.map(server),
    revision: response.revision,
    totals: totals(response.totals ?? pb.PoolTotals.fromPartial({})),
    notices: response.notices,
    message: response,
  };
}

export function model(message: pb.Model): Model {
  return {
    model: message.model,
    aliases: message.aliases,
    runtimeModel: message.runtimeModel,
    runtime: message.runtime,
    groups: message.groups,
    pinned: message.pinned,
    preload: message.preload,
    expectedBytes: Number(message.expectedBytes),
    expectedBy: nameOf(EXPECTATIONS, message.expectedBy),
    onDisk: message.onDisk,
    problem: message.problem,
    diskBytes: Number(message.diskBytes),
    state:
      message.state !== pb.ServerState.SERVER_STATE_UNSPECIFIED
        ? nameOf(SERVER_STATES, message.state)
        : undefined,
    listed: message.listed,
    message,
  };
}

export function progress(response: pb.PullResponse): Progress {
  return { doneBytes: Number(response.doneBytes), totalBytes: Number(response.totalBytes) };
}

export function pinned(response: pb.PinResponse): Pinned {
  const { pinned, changed, configured } = response;
  return { pinned, changed, configured };
}

/** The lines of a message, and the end of the process if it tells that. */
export function logParts(response: pb.TailLogsResponse): readonly LogPart[] {
  const { lines, ended, cursor } = response;
  const generation = Number(response.generation);
  const missedBytes = Number(response.missedBytes);
  const parts: LogPart[] = [];
  if (lines.length > 0 || missedBytes > 0) {
    parts.push({ kind: "lines", generation, lines, missedBytes, cursor });
  }
  if (ended) {
    parts.push({ kind: "ended", generation, exit: response.exit && exit(response.exit), cursor });
  }
  return parts;
}

export function reloaded(response: pb.ReloadResponse): Reloaded {
  const { replaced, updated, removed, restartNeeded, problems } = response;
  return { replaced, updated, removed, restartNeeded, problems };
}

/** The event, or undefined for a kind that this package does not know. */
export function event(response: pb.WatchResponse): Event | undefined {
  const { revision } = response;
  switch (response.event?.$case) {
    case "server":
      return { kind: "changed", revision, server: server(response.event.value) };
    case "removed":
      return { kind: "removed", revision, server: server(response.event.value) };
    case "synced":
      return { kind: "synced", revision };
    default:
      return undefined;
  }
}

export function server(message: pb.Server | undefined): Server {
  return keyed(message, "");
}

/** The server of an answer that has its key. */
export function keyed(message: pb.Server | undefined, apiKey: string): Server {
  return Object.defineProperty(fields(message), "apiKey", { value: apiKey }) as Server;
}

function fields(given: pb.Server | undefined): Omit<Server, "apiKey"> {
  const message = given ?? pb.Server.fromPartial({});
  return {
    model: message.model,
    runtimeModel: message.runtimeModel,
    state: nameOf(SERVER_STATES, message.state),
    generation: Number(message.generation),
    role: nameOf(SERVER_ROLES, message.role),
    endpoint: message.endpoint,
    baseUrl: message.endpoint === "" ? "" : `${message.endpoint}/v1`,
    servedModelName: message.servedModelName,
    embeddingModelName: message.embeddingModelName,
    pid: message.pid,
    createTime: date(message.createTime),
    startTime: date(message.startTime),
    readyTime: date(message.readyTime),
    lastUseTime: date(message.lastUseTime),
    expireTime: date(message.expireTime),
    expectedReadyTime: date(message.expectedReadyTime),
    detail: message.detail,
    lastExit: message.lastExit && exit(message.lastExit),
    logPath: message.logPath,
    queuePosition: message.queuePosition,
    progress: share(message.progress),
    expectedBytes: Number(message.expectedBytes),
    expectedBy: nameOf(EXPECTATIONS, message.expectedBy),
    footprintBytes: Number(message.footprintBytes),
    peakBytes: Number(message.peakBytes),
    holds: message.holds,
    pinned: message.pinned,
    outdated: message.outdated,
    promptCache: message.promptCache && promptCache(message.promptCache),
    host: message.host,
    message,
  };
}

function promptCache(message: pb.PromptCache): PromptCache {
  return {
    diskBytes: Number(message.diskBytes),
    tokens: Number(message.tokens),
    reusedTokens: Number(message.reusedTokens),
    maxBytes: Number(message.maxBytes),
  };
}

export function exit(message: pb.Exit): Exit {
  return {
    generation: Number(message.generation),
    code: message.code,
    signal: message.signal,
    cause: nameOf(EXIT_CAUSES, message.cause),
    message: message.message,
    lastLines: message.lastLines,
    time: date(message.time),
  };
}

function totals(message: pb.PoolTotals): Totals {
  const budget = message.memoryBudgetBytes;
  return {
    servers: message.servers,
    queued: message.queued,
    starting: message.starting,
    ready: message.ready,
    stopping: message.stopping,
    failed: message.failed,
    backingOff: message.backingOff,
    waitingCalls: message.waitingCalls,
    memoryBudgetBytes: budget === undefined ? undefined : Number(budget),
    memoryReservedBytes: Number(message.memoryReservedBytes),
    memoryAvailableBytes: Number(message.memoryAvailableBytes),
    memoryTotalBytes: Number(message.memoryTotalBytes),
    memoryPressured: message.memoryPressured,
    standbys: message.standbys,
  };
}

/** Undefined for a time that google.protobuf.Timestamp does not allow. */
export function date(message: Timestamp | undefined): Date | undefined {
  if (message === undefined) return undefined;
  const { seconds, nanos } = message;
  const isValid = seconds >= FIRST_S && seconds <= LAST_S && nanos >= 0 && nanos < 1e9;
  return isValid ? new Date(Number(seconds) * 1000 + nanos / 1e6) : undefined;
}

/** Undefined for a value that is no share, such as NaN. */
function share(value: number | undefined): number | undefined {
  return value !== undefined && value >= 0 && value <= 1 ? value : undefined;
}

export function nameOf<Name extends string>(names: readonly Name[], value: number): Name | number {
  return names[value] ?? value;
}
