/** What is known of a server that is held; without I/O. */

import { Cancelled, DeadlineExceeded } from "./errors.js";
import type { Server } from "./types.js";

/** A process of a model: what `ready({ after })` waits to be over. A Server is one. */
export interface Process {
  /** The server's generation. */
  readonly generation: number;
  /** Its process id, where it is known. */
  readonly pid?: number;
}

/** The newest state of a server that is held, and how the hold ended if it did. */
export class Held {
  readonly #model: string;
  #newest: Server | undefined;
  #changes = 0;
  #over = false;
  #failure: unknown;

  constructor(model: string) {
    this.#model = model;
  }

  /** How often the state was told so far: what an iterator remembers having seen. */
  get changes(): number {
    return this.#changes;
  }

  /** It was closed by its holder: there is no more to tell. */
  get closed(): boolean {
    return this.#over && this.#failure === undefined;
  }

  /** It is now like this. */
  tell(server: Server): void {
    this.#newest = server;
    this.#changes += 1;
  }

  /** The hold is over: by this failure, or closed by its holder. The first end holds. */
  end(failure?: unknown): void {
    if (!this.#over) this.#failure = failure;
    this.#over = true;
  }

  /** The newest state if it is later than `seen` changes. Throws what ended the hold. */
  since(seen: number): Server | undefined {
    if (this.#changes > seen) return this.#newest;
    if (this.#failure !== undefined) throw this.#failure as Error;
    return undefined;
  }

  /** The server if it is READY, by another process than `after`. Throws what ended the hold. */
  ready(after?: Process): Server | undefined {
    if (this.#failure !== undefined) throw this.#failure as Error;
    if (this.#over) {
      throw new Cancelled(`the hold of ${JSON.stringify(this.#model)} was closed`, {
        code: "CANCELLED",
      });
    }
    const newest = this.#newest;
    if (newest?.state !== "READY") return undefined;
    return after === undefined || isAnother(newest, after) ? newest : undefined;
  }

  /** The error of who did not want to wait any longer. */
  late(timeoutMs: number): DeadlineExceeded {
    const state = this.#newest === undefined ? "not known" : String(this.#newest.state);
    const detail = this.#newest?.detail ? ` (${this.#newest.detail})` : "";
    return new DeadlineExceeded(
      `${JSON.stringify(this.#model)} was not READY within ${String(timeoutMs)} ms: ` +
        `it is ${state}${detail}; the hold goes on`,
      { code: "DEADLINE_EXCEEDED" },
    );
  }
}

/** A service that lost its records counts from 1 again; then the process id tells them apart. */
function isAnother(server: Server, than: Process): boolean {
  const samePid = than.pid === undefined || than.pid === server.pid;
  return server.generation !== than.generation || !samePid;
}
