/** The state of a held server; without I/O. */

import { Cancelled, DeadlineExceeded } from "./errors.js";
import type { Server } from "./types.js";

/** A process of a model, for `ready({ after })`. A Server is one. */
export interface Process {
  /** The server's generation. */
  readonly generation: number;
  /** Its process id, if known. */
  readonly pid?: number;
}

/** The newest state of a held server, and how the hold ended if it did. */
export class Held {
  readonly #model: string;
  #newest: Server | undefined;
  #changes = 0;
  #over = false;
  #failure: unknown;

  constructor(model: string) {
    this.#model = model;
  }

  /** The number of states so far, by which an iterator knows what it has seen. */
  get changes(): number {
    return this.#changes;
  }

  /** The holder closed it: no more states follow. */
  get closed(): boolean {
    return this.#over && this.#failure === undefined;
  }

  /** Sets the newest state. */
  tell(server: Server): void {
    this.#newest = server;
    this.#changes += 1;
  }

  /** Ends the hold, by a failure or by its holder. The first end counts. */
  end(failure?: unknown): void {
    if (!this.#over) this.#failure = failure;
    this.#over = true;
  }

  /** The newest state if it is later than `seen` changes. Throws the error that ended the hold. */
  since(seen: number): Server | undefined {
    if (this.#changes > seen) return this.#newest;
    if (this.#failure !== undefined) throw this.#failure as Error;
    return undefined;
  }

  /** Return the newest state if it is READY. Throws the error that ended the hold. */
  ready(): Server | undefined {
    if (this.#failure !== undefined) throw this.#failure as Error;
    if (this.#over) {
      throw new Cancelled(`the hold of ${JSON.stringify(this.#model)} was closed`, {
        code: "CANCELLED",
      });
    }
    return this.#newest?.state === "READY" ? this.#newest : undefined;
  }

  /** The error of a caller that gave up its wait. */
  late(timeoutMs: number, after?: Process): DeadlineExceeded {
    const wanted =
      after === undefined ? "READY" : `READY after generation ${String(after.generation)}`;
    const state = this.#newest === undefined ? "not known" : String(this.#newest.state);
    const detail = this.#newest?.detail ? ` (${this.#newest.detail})` : "";
    return new DeadlineExceeded(
      `${JSON.stringify(this.#model)} was not ${wanted} within ${String(timeoutMs)} ms: ` +
        `it is ${state}${detail}; the hold goes on`,
      { code: "DEADLINE_EXCEEDED" },
    );
  }
}

/**
 * Return whether the server is another process than that one.
 *
 * A service that lost its records counts from 1 again; then the process id distinguishes them.
 */
export function isAnother(server: Server, than: Process): boolean {
  const samePid = than.pid === undefined || than.pid === server.pid;
  return server.generation !== than.generation || !samePid;
}
