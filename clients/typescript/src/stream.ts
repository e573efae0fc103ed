/** Streams that outlive breaks of the connection. */

import type { MethodDefinition } from "@grpc/grpc-js";
import type { Cancellation } from "./cancellation.js";
import { Cancelled, PoolError } from "./errors.js";
import type { Follower } from "./following.js";
import { ended } from "./status.js";
import type { Incoming, Transport } from "./transport.js";

/** Opens the stream whose values a PoolStream yields. */
export type Open<V> = (operation: Cancellation) => AsyncGenerator<V, void, undefined>;

/**
 * The values of a call that answers with a stream, which is opened again when it breaks.
 *
 * It begins when it is first iterated. Leaving the loop, `close`, or `await using` end it.
 */
export class PoolStream<V> implements AsyncIterableIterator<V, void, undefined>, AsyncDisposable {
  readonly #values: AsyncGenerator<V, void, undefined>;
  #operation: Cancellation | undefined;
  #closed = false;

  /** @internal */
  constructor(transport: Transport, signal: AbortSignal | undefined, open: Open<V>) {
    this.#values = this.#run(transport, signal, open);
  }

  /** @internal Why it was given up, if it was: by its signal, or by the end of it or its client. */
  get error(): PoolError | undefined {
    return this.#operation?.error;
  }

  /** The next value. Rejects with a PoolError, after which the stream is over. */
  async next(): Promise<IteratorResult<V, void>> {
    return this.#closed ? { done: true, value: undefined } : this.#values.next();
  }

  /** As `close`, for a loop that is left. */
  async return(): Promise<IteratorResult<V, void>> {
    this.close();
    return this.#values.return();
  }

  /** End the iteration, and the call at once. */
  close(): void {
    this.#closed = true;
    this.#operation?.cancel(new Cancelled("the stream was closed", { code: "CANCELLED" }));
    // Its clean-up, which never fails: `next` answers a waiting reader.
    this.#values.return().catch(() => undefined);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  async *#run(
    transport: Transport,
    signal: AbortSignal | undefined,
    open: Open<V>,
  ): AsyncGenerator<V, void, undefined> {
    const operation = (this.#operation = transport.begin(signal));
    try {
      yield* open(operation);
    } catch (error) {
      if (!this.#closed) throw error;
    } finally {
      operation.release();
    }
  }
}

/** The values of a method's streams, one after the other, by its follower. */
export async function* follow<Q, R, V>(
  transport: Transport,
  method: MethodDefinition<Q, R>,
  follower: Follower<Q, R, V>,
  operation: Cancellation,
): AsyncGenerator<V, void, undefined> {
  for (;;) {
    let error: PoolError = ended();
    let incoming: Incoming<R> | undefined;
    try {
      incoming = await transport.open(method, follower.request(), operation);
      for (let message = await incoming.next(); message; message = await incoming.next()) {
        yield* follower.receive(message);
      }
      if (follower.finite) return;
    } catch (failure) {
      if (!(failure instanceof PoolError)) throw failure;
      error = failure;
    } finally {
      incoming?.cancel();
    }
    await operation.sleep(follower.failed(error));
  }
}
