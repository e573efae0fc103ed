/**
 * The service's answers, as values.
 *
 * Times are Dates; a value that the service did not send is undefined. Bytes and generations are
 * numbers (exact up to 2^53, nine petabytes); revisions are bigints, since they have to be sent
 * back exactly. The `message` of a value is the received message: fields that a newer service sends
 * and this package does not know are in its `_unknownFields`.
 */

import type {
  ListResponse as PageMessage,
  Model as ModelMessage,
  Server as ServerMessage,
} from "./generated/pool_service/v1/pool_service.js";

export type { ModelMessage, PageMessage, ServerMessage };

/** The names of server states by their number on the wire. */
export const SERVER_STATES = [
  "UNSPECIFIED",
  "QUEUED",
  "STARTING",
  "READY",
  "STOPPING",
  "FAILED",
  "BACKING_OFF",
] as const;

/** What a server is doing; a state that this package does not know is its number. */
export type ServerState = (typeof SERVER_STATES)[number] | number;

/** The names of server roles by their number on the wire. */
export const SERVER_ROLES = [
  "UNSPECIFIED",
  "CURRENT",
  "SUCCESSOR",
  "SUPERSEDED",
  "ORPHAN",
] as const;

/**
 * What a server is to its model; a role that this package does not know is its number.
 *
 * CURRENT: callers of the model get this server; a model has at most one. SUCCESSOR: it starts
 * beside the current server, and takes its place once it is READY. SUPERSEDED: it was the current
 * server, and goes on until nothing is in flight on it. ORPHAN: a process of an earlier service
 * without a record; it is drained and ended.
 */
export type ServerRole = (typeof SERVER_ROLES)[number] | number;

/** The names of exit causes by their number on the wire. */
export const EXIT_CAUSES = [
  "UNSPECIFIED",
  "CRASHED",
  "EVICTED",
  "IDLE",
  "START_TIMEOUT",
  "SHUTDOWN",
  "WEDGED",
  "ORPHANED",
  "PREEMPTED",
  "RELOADED",
  "MEMORY_LIMIT",
] as const;

/** Why a process ended; a cause that this package does not know is its number. */
export type ExitCause = (typeof EXIT_CAUSES)[number] | number;

/** The names of expectations by their number on the wire. */
export const EXPECTATIONS = ["UNSPECIFIED", "DECLARED", "OBSERVED", "WEIGHTS", "GUESS"] as const;

/** The source of an expectation of memory, the most reliable first; a number if unknown here. */
export type Expectation = (typeof EXPECTATIONS)[number] | number;

/** How a process ended. Without code and signal: unknown. */
export interface Exit {
  readonly generation: number;
  readonly code: number | undefined;
  readonly signal: number | undefined;
  readonly cause: ExitCause;
  /** What happened, in words. */
  readonly message: string;
  /** The last lines that it wrote, oldest first. */
  readonly lastLines: readonly string[];
  readonly time: Date | undefined;
}

/** One supervised server. Model and generation together are its key. */
export interface Server {
  /** The caller's name for the model; empty for an orphan. */
  readonly model: string;
  /** What the runtime is asked to load. */
  readonly runtimeModel: string;
  readonly state: ServerState;
  /**
   * Counts the processes of this model, from 1. For a server that waits to start it is the number
   * of the next process; for an orphan, its process id.
   */
  readonly generation: number;
  /** What it is to its model. */
  readonly role: ServerRole;
  /** Base URL, such as http://127.0.0.1:49321; empty unless READY. */
  readonly endpoint: string;
  /** The endpoint with /v1, as clients of OpenAI's API take it; empty without an endpoint. */
  readonly baseUrl: string;
  /** The name that the model field of an inference request must have; empty unless READY. */
  readonly servedModelName: string;
  /**
   * The name that the model field of an embeddings request must have, if the server has a second
   * model for embeddings; else empty.
   */
  readonly embeddingModelName: string;
  /** Its process id; 0 without a process. */
  readonly pid: number;
  /** When this generation was requested. */
  readonly createTime: Date | undefined;
  /** When its process was started. */
  readonly startTime: Date | undefined;
  /** When it became READY. */
  readonly readyTime: Date | undefined;
  /** The last known use. */
  readonly lastUseTime: Date | undefined;
  /** When it will be evicted if it stays unused; undefined: never, or not in this state. */
  readonly expireTime: Date | undefined;
  /** When it is expected to be READY, while it loads; undefined if unknown. */
  readonly expectedReadyTime: Date | undefined;
  /** Why it is in this state, in words; empty if there is nothing to add. */
  readonly detail: string;
  /** How the last process of this model ended, if one did. */
  readonly lastExit: Exit | undefined;
  /** The log file of its process. */
  readonly logPath: string;
  /** Its place in the queue, from 1; 0 if it does not wait. */
  readonly queuePosition: number;
  /** The progress of its download or load, from 0 to 1; undefined if unknown. */
  readonly progress: number | undefined;
  /** Bytes of memory that it is expected to need at most; 0 if unknown. */
  readonly expectedBytes: number;
  readonly expectedBy: Expectation;
  /** Bytes of memory that it takes; 0 before the first memory sample. */
  readonly footprintBytes: number;
  /** The most bytes that it took; 0 before the first memory sample. */
  readonly peakBytes: number;
  /** How many streams of Hold are open for it. */
  readonly holds: number;
  /** It is stopped neither for being unused nor for other models. */
  readonly pinned: boolean;
  /**
   * Its settings are no longer those of the configuration; it is stopped when it is next
   * unused.
   */
  readonly outdated: boolean;
  /** What it keeps of its computed prompts; undefined: nothing. */
  readonly promptCache: PromptCache | undefined;
  /** The member of a fleet whose server it is; empty outside a fleet. */
  readonly host: string;
  /**
   * The key that requests to the endpoint show, as `Authorization: Bearer KEY`. Empty: it asks for
   * none, or this value is of another call than `ensure` or `hold`. It is not enumerable, so no
   * text or JSON shows it, and a copy of this object does not have it.
   */
  readonly apiKey: string;
  /** The message as it came. */
  readonly message: ServerMessage;
}

/** The computed prompts that a server keeps for the next server of its model. */
export interface PromptCache {
  /** Bytes on disk of what was there when the server was started. */
  readonly diskBytes: number;
  /** Tokens of the prompts that were there. */
  readonly tokens: number;
  /** Tokens of prompts that the server did not have to compute, by its last probe. */
  readonly reusedTokens: number;
  /** Bytes that its prompts may take, on disk and in its memory. */
  readonly maxBytes: number;
}

/** A READY server, and whether this call started it. */
export interface EnsureResult {
  readonly server: Server;
  readonly started: boolean;
}

/** The server of a model, and whether it still serves. */
export interface Found {
  /** The server as it is now; undefined if the model has none. */
  readonly server: Server | undefined;
  /**
   * With `check`: this very process has answered that it is healthy, after the call came. False
   * also if it is busy beyond the service's probe timeout.
   */
  readonly answers: boolean;
}

/** A server that was stopped. */
export interface EvictedServer {
  readonly server: Server;
  /** It had to be killed; its requests in flight were lost. */
  readonly killed: boolean;
}

/** Counts over the whole pool, and its memory in bytes. */
export interface Totals {
  readonly servers: number;
  readonly queued: number;
  readonly starting: number;
  readonly ready: number;
  readonly stopping: number;
  readonly failed: number;
  readonly backingOff: number;
  /** Calls of Ensure and Hold that wait now. */
  readonly waitingCalls: number;
  /** Bytes that all servers together may need; undefined: no limit. */
  readonly memoryBudgetBytes: number | undefined;
  /** Bytes that the servers with a process are expected to need. */
  readonly memoryReservedBytes: number;
  /** Bytes that are available on the machine; 0 before the first memory sample. */
  readonly memoryAvailableBytes: number;
  /** Bytes that the machine has; 0 before the first memory sample. */
  readonly memoryTotalBytes: number;
  /** The machine is short of memory: unused servers are evicted first, and a start may wait. */
  readonly memoryPressured: boolean;
  /** Standbys: processes that have imported all that a server needs and wait to become one. */
  readonly standbys: number;
}

/** Some servers in the order of their models, as they were at `revision`. */
export interface Page {
  readonly servers: readonly Server[];
  /** A watch can resume after it. */
  readonly revision: bigint;
  /** Totals of the whole pool, on every page. */
  readonly totals: Totals;
  /** What the service cannot do at present, in words; empty if all is well. */
  readonly notices: readonly string[];
  /** The message as it came. */
  readonly message: PageMessage;
}

/** One model of the catalogue, or one that `found` added. */
export interface Model {
  readonly model: string;
  readonly aliases: readonly string[];
  readonly runtimeModel: string;
  /** The runtime that serves it; empty for the default one. */
  readonly runtime: string;
  readonly groups: readonly string[];
  readonly pinned: boolean;
  /** It is started with the service. */
  readonly preload: boolean;
  /** Bytes of memory that its server is expected to need at most; 0 if unknown. */
  readonly expectedBytes: number;
  readonly expectedBy: Expectation;
  /** Whether all files that it needs are on the service's machine; undefined if unknown. */
  readonly onDisk: boolean | undefined;
  /** Why it could not be started, in words; empty if it could. */
  readonly problem: string;
  /** Bytes of its weights on the service's machine; 0 if unknown. */
  readonly diskBytes: number;
  /** What its server is doing; undefined if it has none. */
  readonly state: ServerState | undefined;
  /** The configuration lists it. */
  readonly listed: boolean;
  /** The message as it came. */
  readonly message: ModelMessage;
}

/** The progress of a download. */
export interface Progress {
  /** Bytes that are there. */
  readonly doneBytes: number;
  /** Bytes that there will be; 0 while unknown. */
  readonly totalBytes: number;
}

/** Whether a model is pinned. */
export interface Pinned {
  /** It is pinned now. */
  readonly pinned: boolean;
  /** That was otherwise before the call. */
  readonly changed: boolean;
  /** The configuration pins it. */
  readonly configured: boolean;
}

/** Some lines of one process, or its end. */
export type LogPart =
  | {
      readonly kind: "lines";
      /** The generation of the process. */
      readonly generation: number;
      /** The lines, oldest first, safe to show in a terminal. */
      readonly lines: readonly string[];
      /** Bytes before these lines that were removed before they could be read. */
      readonly missedBytes: number;
      /** Resumes after these lines. */
      readonly cursor: string;
    }
  | {
      readonly kind: "ended";
      /** The generation of the process, whose last line was read. */
      readonly generation: number;
      /** How it ended, if that is known. */
      readonly exit: Exit | undefined;
      /** Resumes with the next generation. */
      readonly cursor: string;
    };

/** The changes of a reload, as names of models that have a server. */
export interface Reloaded {
  /** Models whose server is replaced when it is next unused. */
  readonly replaced: readonly string[];
  /** Models whose server goes on with other limits. */
  readonly updated: readonly string[];
  /** Models that are no longer listed, whose server ends when it is next unused. */
  readonly removed: readonly string[];
  /** Keys of the configuration that only a restart applies. */
  readonly restartNeeded: readonly string[];
  /** What keeps listed models from starting, each with its key and what to do. */
  readonly problems: readonly string[];
}

/** An event of a watch. */
export type Event =
  /** The server's new state. */
  | { readonly kind: "changed"; readonly revision: bigint; readonly server: Server }
  /** The last known state of a server that is no longer in the pool. */
  | { readonly kind: "removed"; readonly revision: bigint; readonly server: Server }
  /** The present servers are complete; changes follow. */
  | { readonly kind: "synced"; readonly revision: bigint };
