// Whether somebody sees the page: one that nobody sees costs nothing.

/** Return once the page is seen. */
export function visible() {
  return new Promise((resolve) => {
    if (!document.hidden) resolve();
    else document.addEventListener("visibilitychange", () => resolve(visible()), { once: true });
  });
}

/** Return a signal that aborts once nobody sees the page. */
export function whileVisible() {
  const controller = new AbortController();
  const look = () => {
    if (document.hidden) controller.abort();
    else document.addEventListener("visibilitychange", look, { once: true });
  };
  look();
  return controller.signal;
}

/** Call `read` now and after each pause in ms, while the page is seen; and at once when it is again. */
export function repeatWhileVisible(read, pause) {
  const again = async () => {
    if (!document.hidden) await read().catch(() => {});
    setTimeout(again, pause());
  };
  again();
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) read().catch(() => {});
  });
}
