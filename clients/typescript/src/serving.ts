/** Whether a process to which a connection broke still serves; without I/O of its own. */

import { isAnother } from "./held.js";
import type { Found, Server } from "./types.js";

/** How long a caller waits for news of a process that seems to be there but does not answer. */
export const READY_GRACE_MS = 1_500;

/**
 * What the service said about the process.
 *
 * "serving": it has answered. "silent": it has not, or the service could not be asked, or spoke of
 * another model. "gone": it is not READY, or the model has another process or none.
 */
type Verdict = "unknown" | "serving" | "silent" | "gone";

/** Asks the service once, and says whether the process counts as the server again. */
export class ServingCheck {
  readonly #ask: (model: string) => Promise<Found>;
  readonly #changed: () => void;
  #isAsked = false;
  #isGraceOver = false;
  #verdict: Verdict = "unknown";

  /** ask: by the model's own name. changed: called when `serves` may return something else. */
  constructor(ask: (model: string) => Promise<Found>, changed: () => void) {
    this.#ask = ask;
    this.#changed = changed;
  }

  /** Note that READY_GRACE_MS are over since the caller began to wait. */
  endGrace(): void {
    this.#isGraceOver = true;
    this.#changed();
  }

  /**
   * Return whether the process serves: it has answered the service, or it is silent and nothing
   * else was said of it within the grace. `server` is the newest state of the process, READY.
   */
  serves(server: Server): boolean {
    if (!this.#isAsked) {
      this.#isAsked = true;
      void this.#check(server);
    }
    return this.#verdict === "serving" || (this.#verdict === "silent" && this.#isGraceOver);
  }

  async #check(server: Server): Promise<void> {
    try {
      this.#verdict = verdict(await this.#ask(server.model), server);
    } catch {
      this.#verdict = "silent";
    }
    this.#changed();
  }
}

function verdict(found: Found, server: Server): Verdict {
  // A name can have become an alias of another model.
  if (found.server !== undefined && found.server.model !== server.model) return "silent";
  if (found.server?.state !== "READY" || isAnother(found.server, server)) return "gone";
  return found.answers ? "serving" : "silent";
}
