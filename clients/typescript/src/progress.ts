/** What a caller is told of a server while a call waits for it. */

import { isDeepStrictEqual } from "node:util";
import type { Cancellation } from "./cancellation.js";
import { Cancelled } from "./errors.js";
import type { Server } from "./types.js";

/** How long after the begin of the call, and after each look, the server is looked up. */
export const PROGRESS_INTERVAL_MS = 500;

/** How long one look may take. */
export const PROGRESS_TIMEOUT_MS = 500;

/** Receives the newest state of a server that is not READY yet. An error ends the call. */
export type OnProgress = (server: Server) => void;

/** Looks up the server once; undefined: there is none. */
export type LookUp = () => Promise<Server | undefined>;

/**
 * Wait for the answer of a call, and meanwhile report each new state of the server.
 *
 * Nothing is reported once the answer is there. Ends the operation, in which the call and the looks
 * are: what is still under way then has no receiver.
 */
export async function withProgress<T>(
  answer: Promise<T>,
  lookUp: LookUp,
  onProgress: OnProgress,
  operation: Cancellation,
): Promise<T> {
  try {
    return await Promise.race([answer, reports(lookUp, onProgress, operation)]);
  } finally {
    operation.cancel(new Cancelled("the call is over", { code: "CANCELLED" }));
  }
}

/** Rejects when the operation is over, or with what `onProgress` throws. */
async function reports(
  lookUp: LookUp,
  onProgress: OnProgress,
  operation: Cancellation,
): Promise<never> {
  let reported: Server | undefined;
  for (;;) {
    await operation.sleep(PROGRESS_INTERVAL_MS);
    const server = await lookUp().catch(() => undefined);
    if (operation.error !== undefined) throw operation.error;
    const isNews = server?.state !== "READY" && !isDeepStrictEqual(server, reported);
    if (server === undefined || !isNews) continue;
    reported = server;
    onProgress(server);
  }
}
