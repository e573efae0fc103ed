/**
 * What the service says, as values.
 *
 * Times are Dates; undefined is what the service did not say. Bytes and generations are
 * numbers (exact up to 2^53, nine petabytes); revisions are bigints, which are handed back
 * exactly. The `message` of a value is what it was made of, as it came: fields that a newer
 * service sends and this package does not know are still in it, as `_unknownFields`.
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

/** What a server is doing; one that this package does not know is its number. */
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
 * What a server is to its model; one that this package does not know is its number.
 *
 * CURRENT: callers of the model get this server; a model has one at most. SUCCESSOR: it starts
 * beside the current server, and takes its place once it is READY. SUPERSEDED: it was the
 * current server, and goes on until nothing is in flight on it. ORPHAN: a process of an earlier
 * service that no record tells of; it is drained and ended.
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

/** Who wanted a process to end; a cause that this package does not know is its number. */
export type ExitCause = (typeof EXIT_CAUSES)[number] | number;

/** The names of expectations by their number on the wire. */
export const EXPECTATIONS = ["UNSPECIFIED", "DECLARED", "OBSERVED", "WEIGHTS", "GUESS"] as const;

/** How it is known what a server will need of memory, the best first; a number if unknown here. */
export type Expectation = (typeof EXPECTATIONS)[number] | number;

/** How a process ended. Neither code nor signal: it is not known. */
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

/** One supervised server and what is known of it. Model and generation together are its key. */
export interface Server {
  /** The caller's name for the model; empty for an orphan. */
  readonly model: string;
  /** What the runtime is asked to load. */
  readonly runtimeModel: string;
  readonly state: ServerState;
  /**
   * Counts the processes of this model, from 1. Of a server that waits to start, that of the
   * process which is to be started; of an orphan, its process id.
   */
  readonly generation: number;
  /** What it is to its model. */
  readonly role: ServerRole;
  /** Base URL, such as http://127.0.0.1:49321; empty unless READY. */
  readonly endpoint: string;
  /** What the model field of an inference request must say; empty unless READY. */
  readonly servedModelName: string;
  /** Its process; 0 without one. */
  readonly pid: number;
  /** When this generation was asked for. */
  readonly createTime: Date | undefined;
  /** When its process was started. */
  readonly startTime: Date | undefined;
  /** When it became READY. */
  readonly readyTime: Date | undefined;
  /** The last use that is known of. */
  readonly lastUseTime: Date | undefined;
  /** When it goes if it stays unused; undefined: never, or not in this state. */
  readonly expireTime: Date | undefined;
  /** Why it is in this state, in words; empty where there is nothing to add. */
  readonly detail: string;
  /** How the last process of this model ended, if one did. */
  readonly lastExit: Exit | undefined;
  /** The file that holds what its process writes. */
  readonly logPath: string;
  /** Its place among those that wait for their turn, from 1; 0 if it does not wait. */
  readonly queuePosition: number;
  /** How far its download or its load is, from 0 to 1; undefined while not known. */
  readonly progress: number | undefined;
  /** Bytes of memory that it is expected to need at most; 0 while not known. */
  readonly expectedBytes: number;
  readonly expectedBy: Expectation;
  /** Bytes that it takes; 0 before the first look. */
  readonly footprintBytes: number;
  /** The most that it took; 0 before the first look. */
  readonly peakBytes: number;
  /** How many streams of Hold are open for it. */
  readonly holds: number;
  /** It goes neither when unused nor for others' room. */
  readonly pinned: boolean;
  /** It runs as the configuration no longer says, and goes when it is next unused. */
  readonly outdated: boolean;
  /** The message as it came. */
  readonly message: ServerMessage;
}

/** A READY server, and whether this call was the one that started it. */
export interface EnsureResult {
  readonly server: Server;
  readonly started: boolean;
}

/** A server that was stopped. */
export interface EvictedServer {
  readonly server: Server;
  /** It had to be killed, and work in flight was lost. */
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
  /** Calls of Ensure that wait now. */
  readonly waitingCalls: number;
  /** What all servers together may need; undefined: there is no limit. */
  readonly memoryBudgetBytes: number | undefined;
  /** What the servers with a process are expected to need. */
  readonly memoryReservedBytes: number;
  /** What the machine could give now; 0 before the first look at it. */
  readonly memoryAvailableBytes: number;
  /** What the machine has; 0 before the first look at it. */
  readonly memoryTotalBytes: number;
  /** The machine is short of memory: what is unused goes first, and a start may wait. */
  readonly memoryPressured: boolean;
  /** Processes that have imported all that a server needs and wait to become one. */
  readonly standbys: number;
}

/** Some servers in the order of their models, as they were at `revision`. */
export interface Page {
  readonly servers: readonly Server[];
  /** A watch can go on from it. */
  readonly revision: bigint;
  /** The whole pool, whatever the page. */
  readonly totals: Totals;
  /** What the service cannot do at present, in words; empty if all is well. */
  readonly notices: readonly string[];
  /** The message as it came. */
  readonly message: PageMessage;
}

/** One model of the catalogue, or one that was found. */
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
  /** Bytes of memory that its server is expected to need at most; 0 while not known. */
  readonly expectedBytes: number;
  readonly expectedBy: Expectation;
  /** Whether all that it needs is on the service's machine; undefined where that cannot be told. */
  readonly onDisk: boolean | undefined;
  /** Why it could not be started, in words; empty if it could. */
  readonly problem: string;
  /** Bytes of its weights on the service's machine; 0 where that is not known. */
  readonly diskBytes: number;
  /** What its server is doing; undefined if it has none. */
  readonly state: ServerState | undefined;
  /** The configuration lists it. */
  readonly listed: boolean;
  /** The message as it came. */
  readonly message: ModelMessage;
}

/** How far a download is. */
export interface Progress {
  /** Bytes that are there. */
  readonly doneBytes: number;
  /** Bytes that there will be; 0 while not known. */
  readonly totalBytes: number;
}

/** What a reload changed, as models that have a server. */
export interface Reloaded {
  /** Start anew when they are next unused. */
  readonly replaced: readonly string[];
  /** Go on with other limits. */
  readonly updated: readonly string[];
  /** End when they are next unused. */
  readonly removed: readonly string[];
  /** Keys of the configuration that only a restart applies. */
  readonly restartNeeded: readonly string[];
  /** What keeps listed models from starting, each with its key and what to do. */
  readonly problems: readonly string[];
}

/** What a watch tells. */
export type Event =
  /** The server is now like this. */
  | { readonly kind: "changed"; readonly revision: bigint; readonly server: Server }
  /** The server is no longer in the pool; its last state that is known. */
  | { readonly kind: "removed"; readonly revision: bigint; readonly server: Server }
  /** All present servers have been told; from here on come changes. */
  | { readonly kind: "synced"; readonly revision: bigint };
