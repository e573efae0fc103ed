// The streams of all windows of this page: a browser has six connections to a service to share.

const RETRY_MS = 1000;

/** Windows that follow the pool at a time, and those that follow a log: one connection is left. */
export const SLOTS = { watch: 3, logs: 2 };

/**
 * Do some work while this window has one of the slots of a kind, which it waits for.
 * waiting: called while other windows have them all; signal: ends the waiting.
 */
export async function withSlot(kind, signal, waiting, work) {
  // Known only to browsers that speak to this machine itself, or by HTTPS.
  if (!navigator.locks) return work();
  while (!signal.aborted) {
    for (let number = 0; number < SLOTS[kind]; number += 1) {
      const isDone = await navigator.locks.request(`${kind} ${number}`, { ifAvailable: true }, async (lock) => {
        if (lock) await work();
        return lock !== null;
      });
      if (isDone) return undefined;
    }
    waiting();
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
  return undefined;
}
