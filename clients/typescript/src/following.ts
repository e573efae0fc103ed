/** The state between two streams of one call; without I/O. */

import { checkedRevision, event, keyed, logParts, progress } from "./convert.js";
import {
  PoolUnavailable,
  Recovering,
  RevisionCompacted,
  ShuttingDown,
  type PoolError,
} from "./errors.js";
import type {
  HoldRequest,
  HoldResponse,
  PullRequest,
  PullResponse,
  TailLogsRequest,
  TailLogsResponse,
  WatchRequest,
  WatchResponse,
} from "./generated/pool_service/v1/pool_service.js";
import { Attempts, type Clock, type RetryPolicy } from "./retry.js";
import type { Event, LogPart, Progress, Server } from "./types.js";

/** How to go on when a call's stream breaks. */
export interface Follower<Q, R, V> {
  /** Its stream may end without an error. */
  readonly finite: boolean;
  /** The request of the next stream. */
  request(): Q;
  /** The values of a message of the stream. */
  receive(response: R): readonly V[];
  /** Milliseconds until the next stream is opened; throws the error if there should be none. */
  failed(error: PoolError): number;
}

/**
 * The state of a watch: the revision to resume after, and the servers that the reader knows.
 *
 * A broken stream is resumed after the last revision. If the history since then is gone, a watch
 * that began with the present state begins with it again, and also reports servers that are gone,
 * so that the reader's own table stays true. A watch that began after a revision cannot know all
 * servers, and fails with RevisionCompacted.
 */
export class Following implements Follower<WatchRequest, WatchResponse, Event> {
  readonly finite = false;
  readonly #policy: RetryPolicy;
  readonly #clock: Clock;
  readonly #after: bigint | undefined;
  readonly #attempts: Attempts;
  readonly #known = new Map<string, Server>();
  readonly #told = new Set<string>();
  #revision: bigint | undefined;
  #opened = 0;

  /** Throws RangeError for a revision that no service can have given. */
  constructor(policy: RetryPolicy, clock: Clock, afterRevision?: bigint) {
    this.#policy = policy;
    this.#clock = clock;
    this.#after = this.#revision = checkedRevision(afterRevision);
    this.#attempts = new Attempts(policy, clock);
  }

  /** The revision after which another watch can resume; undefined before the first synced. */
  get revision(): bigint | undefined {
    return this.#revision;
  }

  request(): WatchRequest {
    this.#opened = this.#clock.now();
    this.#told.clear();
    return { afterRevision: this.#revision };
  }

  receive(response: WatchResponse): readonly Event[] {
    this.#attempts.succeeded();
    // Revisions never go back: what the reader knows is newer.
    if (this.#revision !== undefined && response.revision < this.#revision) return [];
    const told = event(response);
    if (told?.kind === "synced") return [...this.#gone(told.revision), told];
    if (this.#revision !== undefined) this.#revision = response.revision;
    if (told === undefined) return [];
    if (told.kind === "changed") {
      this.#known.set(keyOf(told.server), told.server);
      this.#told.add(keyOf(told.server));
    } else {
      this.#known.delete(keyOf(told.server));
    }
    return [told];
  }

  failed(error: PoolError): number {
    if (error instanceof RevisionCompacted && this.#canBeginAgain()) {
      this.#revision = undefined;
      // With a delay: a service that answers this each time would be called in a loop.
      return this.#attempts.pauseMs();
    }
    if (this.#clock.now() - this.#opened > this.#policy.patienceMs) {
      this.#attempts.succeeded(this.#opened);
    }
    return this.#attempts.failed(error);
  }

  /** Synced: known servers that the new state does not have are gone. */
  #gone(revision: bigint): readonly Event[] {
    this.#revision = revision;
    const gone = [...this.#known].filter(([key]) => !this.#told.has(key));
    return gone.map(([key, server]) => {
      this.#known.delete(key);
      return { kind: "removed", revision, server };
    });
  }

  #canBeginAgain(): boolean {
    return this.#after === undefined && this.#revision !== undefined;
  }
}

/** Distinguishes the servers of one model: while one replaces another, there are two. */
function keyOf({ model, generation }: Server): string {
  return `${String(generation)} ${model}`;
}

/**
 * A hold, whose stream is opened again when it breaks.
 *
 * A break of a working stream restarts the count of failures. The failures of a start are counted
 * together until the server is READY; otherwise a model that never starts would be started for
 * ever.
 */
export class Holding implements Follower<HoldRequest, HoldResponse, Server> {
  readonly finite = false;
  readonly #asked: HoldRequest;
  readonly #attempts: Attempts;
  readonly #clock: Clock;
  #aliveSince: number | undefined;
  #model = "";

  constructor(asked: HoldRequest, policy: RetryPolicy, clock: Clock) {
    this.#asked = asked;
    this.#clock = clock;
    this.#attempts = new Attempts(policy, clock);
  }

  request(): HoldRequest {
    this.#aliveSince = undefined;
    this.#model = "";
    return this.#asked;
  }

  /** The server's state; nothing for a message that cannot be about the held server. */
  receive(response: HoldResponse): readonly Server[] {
    if (response.server === undefined) return [];
    const told = keyed(response.server, response.apiKey);
    // An alias may have been asked for, so the first message tells the name.
    this.#model ||= told.model;
    if (told.model !== this.#model || (told.state === "READY" && told.endpoint === "")) return [];
    this.#aliveSince ??= this.#clock.now();
    if (told.state === "READY") this.#attempts.succeeded();
    return [told];
  }

  failed(error: PoolError): number {
    if (this.#aliveSince !== undefined && isBreak(error)) {
      this.#attempts.succeeded(this.#aliveSince);
    }
    return this.#attempts.failed(error);
  }
}

function isBreak(error: PoolError): boolean {
  return (
    error instanceof PoolUnavailable || error instanceof Recovering || error instanceof ShuttingDown
  );
}

/** A download. Downloaded parts are kept, so progress restarts the count of failures. */
export class Pulling implements Follower<PullRequest, PullResponse, Progress> {
  readonly finite = true;
  readonly #asked: PullRequest;
  readonly #attempts: Attempts;
  #most: number | undefined;

  constructor(asked: PullRequest, policy: RetryPolicy, clock: Clock) {
    this.#asked = asked;
    this.#attempts = new Attempts(policy, clock);
  }

  request(): PullRequest {
    return this.#asked;
  }

  receive(response: PullResponse): readonly Progress[] {
    const told = progress(response);
    if (this.#most !== undefined && told.doneBytes > this.#most) this.#attempts.succeeded();
    this.#most = Math.max(this.#most ?? 0, told.doneBytes);
    return [told];
  }

  failed(error: PoolError): number {
    return this.#attempts.failed(error);
  }
}

/** The state of a read log: the request, which a cursor resumes. */
export class Reading implements Follower<TailLogsRequest, TailLogsResponse, LogPart> {
  readonly finite: boolean;
  readonly #policy: RetryPolicy;
  readonly #clock: Clock;
  readonly #attempts: Attempts;
  #asked: TailLogsRequest;
  #opened = 0;

  constructor(asked: TailLogsRequest, policy: RetryPolicy, clock: Clock) {
    this.finite = !asked.follow;
    this.#asked = asked;
    this.#policy = policy;
    this.#clock = clock;
    this.#attempts = new Attempts(policy, clock);
  }

  request(): TailLogsRequest {
    this.#opened = this.#clock.now();
    return this.#asked;
  }

  receive(response: TailLogsResponse): readonly LogPart[] {
    this.#attempts.succeeded();
    const begin = { $case: "cursor", value: response.cursor } as const;
    this.#asked = { ...this.#asked, begin, lines: undefined };
    return logParts(response);
  }

  failed(error: PoolError): number {
    const isLong = this.#clock.now() - this.#opened > this.#policy.patienceMs;
    if (!this.finite && isLong) this.#attempts.succeeded(this.#opened);
    return this.#attempts.failed(error);
  }
}
