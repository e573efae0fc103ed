/** The description of a model, as a value; see types.ts for times, bytes and `message`. */

import type { DescribeResponse as DescriptionMessage } from "./generated/pool_service/v1/pool_service.js";
import type { Exit, Expectation, Server, ServerRole, ServerState } from "./types.js";

export type { DescriptionMessage };

/** The names of origins of processes by their number on the wire. */
export const RUN_ORIGINS = ["UNSPECIFIED", "COLD", "STANDBY", "ADOPTED"] as const;

/**
 * How a process came to be; an origin that this package does not know is its number.
 *
 * UNSPECIFIED: there is no process yet. COLD: it is a new process. STANDBY: it was a standby, which
 * had imported everything. ADOPTED: an earlier service started it.
 */
export type RunOrigin = (typeof RUN_ORIGINS)[number] | number;

/** One setting of a model's next server. */
export interface Setting {
  /** Its key in the configuration. */
  readonly key: string;
  /** Its value as text, cut if it is long; what is secret is left out. */
  readonly value: string;
  /** Where the value comes from, in words. */
  readonly source: string;
  /** The value that the present server has, if it is another one. */
  readonly running: string;
}

/**
 * One generation of a model, with the times of its stages. A time is undefined if it has not come,
 * or if it is not known.
 */
export interface Run {
  readonly generation: number;
  readonly origin: RunOrigin;
  /** When it was requested. */
  readonly createTime: Date | undefined;
  /** When its turn in the queue came. */
  readonly admitTime: Date | undefined;
  /** When its process was started. */
  readonly startTime: Date | undefined;
  /** When it became READY. */
  readonly readyTime: Date | undefined;
  /** When a stop of it began. */
  readonly stopTime: Date | undefined;
  /** When its process had ended. */
  readonly endTime: Date | undefined;
  /** How its process ended, if it did, without its last lines. */
  readonly exit: Exit | undefined;
  /** The most bytes of memory that it took. */
  readonly peakBytes: number;
  /**
   * How long its load took, without the time for which the machine was suspended; undefined if it
   * has not ended, or if it is not known.
   */
  readonly loadMs: number | undefined;
}

/** A stream that holds a model. */
export interface Holder {
  /** The label that the caller gave; may be empty. */
  readonly label: string;
  /** When the hold began. */
  readonly since: Date | undefined;
}

/** A call that waits for a model to be READY. */
export interface WaitingCall {
  /** When it came. */
  readonly since: Date | undefined;
  /** It is a hold. */
  readonly hold: boolean;
  /** The label of that hold; may be empty. */
  readonly holder: string;
  /** It is no call: the service itself wants the model, as it is pinned or preloaded. */
  readonly own: boolean;
}

/** A server that may be stopped for another model. */
export interface EvictionCandidate {
  readonly model: string;
  readonly generation: number;
  /**
   * It was busy when last checked: it is stopped only for a model that waits for long, and once it
   * is unused.
   */
  readonly busy: boolean;
  /** Bytes of memory that its end frees. */
  readonly freedBytes: number;
  /**
   * Its retention value in seconds: the time that its next load would take, times the weighed
   * number of its recent uses. The lowest by the byte goes first.
   */
  readonly retentionSeconds: number;
  /** The end of its grace period, before which others go; undefined: not told. */
  readonly resideTime: Date | undefined;
}

/** The figures of a decision. */
export interface Choice {
  /** Bytes that the model needs. */
  readonly neededBytes: number;
  /** The memory budget; undefined: no limit. */
  readonly budgetBytes: number | undefined;
  /** Bytes that the servers with a process are expected to need. */
  readonly reservedBytes: number;
  /** Bytes that were available on the machine; undefined if unknown. */
  readonly availableBytes: number | undefined;
  /** The servers that are stopped for it; may be cut. */
  readonly chosen: readonly EvictionCandidate[];
  /** Servers that stay, those with the lowest retention value first; may be cut. */
  readonly passedOver: readonly EvictionCandidate[];
}

/** A decision of the service about a server. */
export interface Decision {
  readonly time: Date | undefined;
  /** The generation of the server. */
  readonly generation: number;
  readonly role: ServerRole;
  /** Its state before; UNSPECIFIED: it was not in the pool. */
  readonly before: ServerState;
  /**
   * Its state after; UNSPECIFIED: it is not in the pool. Equal to `before` if only what it waits
   * for has changed.
   */
  readonly after: ServerState;
  /** Why, in words. */
  readonly why: string;
  /** The event that led to it, by the name that it has in the service. */
  readonly event: string;
  /** The figures, if it is a start that fits or a choice of servers to stop. */
  readonly choice: Choice | undefined;
}

/** All that the service knows about a model. */
export interface Description {
  /** The name of the model, also if you named an alias. */
  readonly model: string;
  readonly aliases: readonly string[];
  /** The configuration lists it. */
  readonly listed: boolean;
  /** The settings that its next server gets. */
  readonly settings: readonly Setting[];
  /** Its servers, the one that callers get first. */
  readonly servers: readonly Server[];
  /** Bytes of memory that its next server is expected to need at most; 0 if unknown. */
  readonly expectedBytes: number;
  readonly expectedBy: Expectation;
  /** Whether all files that it needs are on the service's machine; undefined if unknown. */
  readonly onDisk: boolean | undefined;
  /** Bytes of its weights on the service's machine. */
  readonly diskBytes: number;
  /** How long earlier loads took; undefined if unknown. */
  readonly usualLoadMs: number | undefined;
  /** Why it could not be started, in words; empty if nothing is known to be wrong. */
  readonly problem: string;
  /** Its last processes, oldest first, of the present service. */
  readonly runs: readonly Run[];
  /** How its last process ended, if it has no server. */
  readonly lastExit: Exit | undefined;
  /** Who holds it, oldest first; may be cut, see `holds`. */
  readonly holders: readonly Holder[];
  /** How many hold it. */
  readonly holds: number;
  /** The calls that wait for it, oldest first; may be cut, see `waitingCalls`. */
  readonly waiting: readonly WaitingCall[];
  /** How many calls wait for it. */
  readonly waitingCalls: number;
  /** When its server was queued, if it is; `servers` has why it waits, and its place. */
  readonly queueTime: Date | undefined;
  /**
   * The servers of all models that would be stopped for another model, the next one first; may be
   * cut, see `evictionCandidates`. How much a model needs can change the choice.
   */
  readonly nextToGo: readonly EvictionCandidate[];
  /** The place of its own server among these, from 1; 0 if it is not among them. */
  readonly evictionPosition: number;
  /** How many servers could be stopped. */
  readonly evictionCandidates: number;
  /** Why its own server is not among these, in words; empty if it is, or if there is none. */
  readonly keptBecause: string;
  /** When its last processes died, if that was within the crash window. */
  readonly crashTimes: readonly Date[];
  /** So many crashes within the crash window are a crash loop. */
  readonly crashLimit: number;
  /** The crash window. */
  readonly crashWindowMs: number;
  /** When it may be started again, if not yet. */
  readonly retryTime: Date | undefined;
  /** The reason with which calls fail until then; empty if they wait. */
  readonly failureReason: string;
  /** The message of that error. */
  readonly failureMessage: string;
  /** The last decisions about it, oldest first. */
  readonly decisions: readonly Decision[];
  /** The message as it came. */
  readonly message: DescriptionMessage;
}
