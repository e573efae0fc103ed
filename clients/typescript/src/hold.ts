/** The handle of a model that is kept READY. */

import { Cancellation, startTimer, type Stop } from "./cancellation.js";
import { Held, type Process } from "./held.js";
import type { PoolStream } from "./stream.js";
import type { Server } from "./types.js";

/** Options of `Hold.ready`. */
export interface ReadyOptions {
  /** Milliseconds to wait at most; absent: as long as it takes. */
  readonly timeoutMs?: number | undefined;
  /** Wait for a process other than this server's, to which a connection was refused. */
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
  readonly #watchers = new Set<Stop>();
  readonly #reading: Promise<void>;

  /** @internal */
  constructor(stream: PoolStream<Server>, model: string) {
    this.#stream = stream;
    this.#held = new Held(model);
    this.#reading = this.#read();
  }

  /**
   * The server, from memory: at once if it is READY, else when it is.
   *
   * The endpoint may have changed, so call this whenever you need it. While the service is
   * unreachable, you get the last received state. Rejects with DeadlineExceeded if the server is
   * not READY within `timeoutMs` (the hold goes on), and with the error that ended the hold.
   */
  async ready(options: ReadyOptions = {}): Promise<Server> {
    const { timeoutMs, after, signal } = options;
    const operation = new Cancellation(signal);
    const stopTimer =
      timeoutMs === undefined
        ? undefined
        : startTimer(timeoutMs, () => {
            operation.cancel(this.#held.late(timeoutMs));
          });
    try {
      return await this.#until(() => this.#held.ready(after), operation);
    } finally {
      stopTimer?.();
      operation.release();
    }
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
