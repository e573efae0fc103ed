/** How open calls are given up: by the caller's signal, or by closing the client. */

import { Cancelled, type PoolError } from "./errors.js";
import { deadlineExceeded } from "./status.js";

/** The longest that a timer of Node takes; a longer one would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Ends an open operation. */
export type Stop = () => void;

/** An operation that can be given up: everything that it waits for then ends with an error. */
export class Cancellation {
  readonly #stops = new Set<(error: PoolError) => void>();
  readonly #signal: AbortSignal | undefined;
  readonly #released: Stop;
  #error: PoolError | undefined;

  /** released: called once, when the operation is over. */
  constructor(signal: AbortSignal | undefined, released: Stop = () => undefined) {
    this.#signal = signal;
    this.#released = released;
    if (signal?.aborted) this.#aborted();
    else signal?.addEventListener("abort", this.#aborted);
  }

  /** Why it was given up, if it was. */
  get error(): PoolError | undefined {
    return this.#error;
  }

  /** Give it up, for this reason; the first reason counts. */
  cancel(error: PoolError): void {
    this.#error ??= error;
    const stops = [...this.#stops];
    this.#stops.clear();
    for (const stop of stops) stop(this.#error);
  }

  /** Ends the operation, and removes its listeners from the signal. */
  release(): void {
    this.#signal?.removeEventListener("abort", this.#aborted);
    this.#released();
  }

  /** Call `stop` when it is given up; the function that is returned takes that back. */
  onCancel(stop: Stop): Stop {
    this.#stops.add(stop);
    return () => this.#stops.delete(stop);
  }

  /**
   * Wait for what `begin` starts; `begin` returns how to stop it. Rejects at once when given
   * up.
   */
  wait<T>(
    begin: (resolve: (value: T) => void, reject: (error: unknown) => void) => Stop,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#error !== undefined) {
        reject(this.#error);
        return;
      }
      const given = (error: PoolError): void => {
        stop();
        reject(error);
      };
      const settle =
        <V>(settled: (value: V) => void) =>
        (value: V): void => {
          this.#stops.delete(given);
          settled(value);
        };
      this.#stops.add(given);
      const stop = begin(settle(resolve), settle(reject));
    });
  }

  /** Wait for so many milliseconds. */
  async sleep(milliseconds: number): Promise<void> {
    await this.wait<undefined>((resolve) =>
      startTimer(milliseconds, () => {
        resolve(undefined);
      }),
    );
  }

  readonly #aborted = (): void => {
    this.cancel(givenUp(this.#signal?.reason));
  };
}

/** Call `then` after so many milliseconds, however many. */
export function startTimer(milliseconds: number, then: () => void): Stop {
  const part = Math.min(milliseconds, LONGEST_TIMER_MS);
  const next = (): void => {
    if (milliseconds > part) stopRest = startTimer(milliseconds - part, then);
    else then();
  };
  let stopRest: Stop | undefined;
  const timer = setTimeout(next, part);
  return () => {
    clearTimeout(timer);
    stopRest?.();
  };
}

/** The error of a call whose signal was aborted; AbortSignal.timeout counts as a timeout. */
function givenUp(reason: unknown): PoolError {
  if (reason instanceof DOMException && reason.name === "TimeoutError") {
    return deadlineExceeded(undefined, reason);
  }
  return new Cancelled("the caller gave the call up; what the service has begun goes on", {
    code: "CANCELLED",
    cause: reason,
  });
}
