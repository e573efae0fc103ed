// Calls of the service: its gRPC methods with JSON, one object or a stream of lines.

const LIMIT_MS = 10000;
// These look at the disk, or change something: a limit too short would leave open what became of it.
const SLOW = new Set(["Describe", "Ensure", "Evict", "ListModels", "Pin"]);
// A list reads the disk twice, up to 20 s each (READ_TIMEOUT_S of the service), and then tells why
// that failed.
const SLOW_LIMIT_MS = 60000;
// A stream without news says each 15 seconds that it stands.
const SILENT_MS = 45000;

/** A call that the service refused. reason, code: as in gRPC, such as SERVER_IN_USE and ABORTED. */
export class CallError extends Error {
  constructor({ message, reason, code }) {
    super(message);
    this.reason = reason;
    this.code = code;
  }
}

/** Return whether a call that failed may succeed if it is only made again. */
export function isTemporary(error) {
  return !(error instanceof CallError) || error.code === "UNAVAILABLE" || error.code === "RESOURCE_EXHAUSTED";
}

/** Return in words why a call is made again that failed for a time. */
export function waitingWords(error) {
  const isAway = !(error instanceof CallError) || error.reason === "SHUTTING_DOWN";
  return isAway ? "the service is away; trying again" : error.message;
}

async function failure(response) {
  const text = await response.text();
  try {
    return new CallError(JSON.parse(text));
  } catch {
    const message = text.trim() || `the service answered ${response.status}`;
    return new CallError({ message, reason: "", code: response.status === 503 ? "UNAVAILABLE" : "" });
  }
}

function send(method, body, signal) {
  return fetch(`api/${method}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Pool": "1" },
    body,
    signal,
  });
}

/** Return the response of a method. Throws CallError, or another error if nobody answers in time. */
export function call(method, request = {}) {
  return answer(method, JSON.stringify(request));
}

/** Return the changes of state after a cursor, which is empty at first; see `call`. */
export function changesAfter(cursor) {
  return answer("Changes", cursor);
}

/** Return how accepted calls ended, by their numbers: null, or the error; see `call`. */
export async function endsOf(numbers) {
  const { ended } = await answer("Ended", numbers.join(" "));
  return new Map(Object.entries(ended).map(([number, error]) => [number, error && new CallError(error)]));
}

async function answer(method, body) {
  const limit = AbortSignal.timeout(SLOW.has(method) ? SLOW_LIMIT_MS : LIMIT_MS);
  const response = await send(method, body, limit);
  if (!response.ok) throw await failure(response);
  return response.json();
}

/**
 * Yield each response of a streaming method, until it ends, `signal` aborts it, or nothing has come
 * for too long. opened: called once the service has begun, and has not refused it.
 */
export async function* stream(method, request, signal, opened = () => {}) {
  const own = new AbortController();
  let timer = setTimeout(() => own.abort(), LIMIT_MS);
  let isOpen = false;
  try {
    const response = await send(method, JSON.stringify(request), AbortSignal.any([signal, own.signal]));
    if (!response.ok) throw await failure(response);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      clearTimeout(timer);
      timer = setTimeout(() => own.abort(), SILENT_MS);
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const message = line ? JSON.parse(line) : null;
        if (message?.error) throw new CallError(message.error);
        if (!isOpen) opened();
        isOpen = true;
        if (message) yield message;
      }
    }
  } finally {
    clearTimeout(timer);
    own.abort();
  }
}
