// Whether somebody sees the page: one that nobody sees costs nothing.

// What could not be read is read again sooner than what was.
const FAILED_MS = 5000;

/** Return once the page is seen. */
export function visible() {
  return new Promise((resolve) => {
    if (!document.hidden) resolve();
    else document.addEventListener("visibilitychange", () => resolve(visible()), { once: true });
  });
}

/**
 * Return what `work` returns. It is called with a signal that aborts once nobody sees the page, once
 * `outer` aborts, and at the end of the work.
 */
export async function whileVisible(work, outer) {
  const controller = new AbortController();
  const signals = [controller.signal, ...(outer ? [outer] : [])];
  const look = () => document.hidden && controller.abort();
  document.addEventListener("visibilitychange", look);
  look();
  try {
    return await work(AbortSignal.any(signals));
  } finally {
    document.removeEventListener("visibilitychange", look);
    controller.abort();
  }
}

/** Call `read` now and after each pause in ms, while the page is seen; and at once when it is again. */
export async function repeatWhileVisible(read, pause) {
  for (;;) {
    await visible();
    const isRead = await read().then(() => true, () => false);
    await pauseOrSeen(isRead ? pause() : Math.min(pause(), FAILED_MS));
  }
}

/** Return after so many ms, or as soon as the page is seen again. */
function pauseOrSeen(ms) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    const look = () => document.hidden || end();
    const timer = setTimeout(end, ms);
    document.addEventListener("visibilitychange", look);
  });
}
