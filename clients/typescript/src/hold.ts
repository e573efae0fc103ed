/** The handle of a model that is kept READY. */

import { Cancellation, startTimer, type Stop } from "./cancellation.js";
import { Cancelled } from "./errors.js";
import { Held, isAnother, type Process } from "./held.js";
import { READY_GRACE_MS, ServingCheck } from "./serving.js";
import type { PoolStream } from "./stream.js";
import type { Found, Server } from "./types.js";

/** Asks the service once whether the server of the held model, by its name, still serves. */
export type AskServing = (model: string, operation: Cancellation) => Promise<Found>;

/** Options of `Hold.ready`. */
export interface ReadyOptions {
  /** Milliseconds to wait at most; absent: as long as it takes. */
  readonly timeoutMs?: number | undefined;
  /**
   * The server to which a connection was refused, or broke: wait for another process, or until the
   * service says that this one still serves.
   */
  readonly after?: Process | undefined;
  /** Gives up the wait, not the hold. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A model that is kept READY, from the call of PoolClient.hold until `close`.
 *
 *     await using hold = pool.hold("vllm-mlx/qwen3-4b");
 *     const server = await hold.ready({ timeoutMs: 120_000 });
 *
 * Its stream is read in the background and opened again when it breaks, whether you use the hold or
 * not. Iterate it to get the server's present state, then the newest after each change; iterations
 * are independent, and leaving one closes nothing. The error that ended the hold, such as Evicted,
 * is thrown by your next call on it.
 */
export class Hold implements AsyncIterable<Server>, AsyncDisposable {
  readonly #stream: PoolStream<Server>;
  readonly #held: Held;
  readonly #ask: AskServing;
  readonly #watchers = new Set<Stop>();
  readonly #reading: Promise<void>;

  /** @internal */
  constructor(stream: PoolStream<Server>, model: string, ask: AskServing) {
    this.#stream = stream;
    this.#ask = ask;
    this.#held = new Held(model);
    this.#reading = this.#read();
  }

  /**
   * The server, from memory: at once if it is READY, else when it is.
   *
   * The endpoint may have changed, so call this whenever you need it. While the service is
   * unreachable, you get the last received state. With `after` the service is asked once whether
   * that process still serves; if it does, you get it again at once, and if it does not say, after
   * a second and a half. Rejects with DeadlineExceeded if the server is
   * not READY within `timeoutMs` (the hold goes on), and with the error that ended the hold.
   */
  async ready(options: ReadyOptions = {}): Promise<Server> {
    const { timeoutMs, after, signal } = options;
    const operation = new Cancellation(signal);
    const timers: Stop[] = [];
    if (timeoutMs !== undefined) {
      const giveUp = (): void => {
        operation.cancel(this.#held.late(timeoutMs, after));
      };
      timers.push(startTimer(timeoutMs, giveUp));
    }
    try {
      return await this.#until(this.#served(after, operation, timers), operation);
    } finally {
      for (const stop of timers) stop();
      operation.cancel(new Cancelled("the wait is over", { code: "CANCELLED" }));
      operation.release();
    }
  }

  /** Return what finds the server, once there is one that is not the broken process. */
  #served(
    after: Process | undefined,
    operation: Cancellation,
    timers: Stop[],
  ): () => Server | undefined {
    if (after === undefined) return () => this.#ready();
    const changed = (): void => {
      this.#changed();
    };
    const check = new ServingCheck((model) => this.#ask(model, operation), changed);
    const endGrace = (): void => {
      check.endGrace();
    };
    timers.push(startTimer(READY_GRACE_MS, endGrace));
    return () => {
      const server = this.#ready();
      if (server === undefined) return undefined;
      return isAnother(server, after) || check.serves(server) ? server : undefined;
    };
  }

  /** Return the newest state if it is READY. Throws the error that ended the hold. */
  #ready(): Server | undefined {
    // A signal or the end of the client ends the call at once, and its reader only later.
    const { error } = this.#stream;
    if (error !== undefined) this.#held.end(error);
    return this.#held.ready();
  }

  /** Release the model at once, and end all iterations. */
  close(): void {
    this.#stream.close();
    this.#held.end();
    this.#changed();
  }

  /** As `close`; resolves when its stream has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.#reading;
  }

  /** The newest state after each change; a slow reader misses outdated states. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Server, void, undefined> {
    const operation = new Cancellation(undefined);
    let seen = 0;
    const look = (): Server | true | undefined => this.#held.closed || this.#held.since(seen);
    for (;;) {
      const news = await this.#until(look, operation);
      if (news === true) return;
      seen = this.#held.changes;
      yield news;
    }
  }

  /** Wait until `look` returns something; rejects with what it throws. */
  async #until<T>(look: () => T | undefined, operation: Cancellation): Promise<T> {
    for (;;) {
      if (operation.error !== undefined) throw operation.error;
      const found = look();
      if (found !== undefined) return found;
      await operation.wait<undefined>((resolve) => {
        const watcher = (): void => {
          this.#watchers.delete(watcher);
          resolve(undefined);
        };
        this.#watchers.add(watcher);
        return () => this.#watchers.delete(watcher);
      });
    }
  }

  /** Never rejects: a failure is kept for later calls. */
  async #read(): Promise<void> {
    try {
      for await (const server of this.#stream) {
        this.#held.tell(server);
        this.#changed();
      }
      this.#held.end();
    } catch (failure) {
      this.#held.end(failure);
    }
    this.#changed();
  }

  #changed(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}
