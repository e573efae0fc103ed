// Calls of the service: its gRPC methods with JSON, one object or a stream of lines.

/** A call that the service refused. reason: as in gRPC, such as SERVER_IN_USE. */
export class CallError extends Error {
  constructor(message, reason) {
    super(message);
    this.reason = reason;
  }
}

async function failure(response) {
  const text = await response.text();
  try {
    const { message, reason } = JSON.parse(text);
    return new CallError(message, reason);
  } catch {
    return new CallError(text.trim() || `the service answered ${response.status}`, "");
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

/** Return the response of a method. Throws CallError, or TypeError if nobody answers. */
export function call(method, request = {}) {
  return answer(method, JSON.stringify(request));
}

/** Return the changes of state after a cursor, which is empty at first; see `call`. */
export function changesAfter(cursor) {
  return answer("Changes", cursor);
}

async function answer(method, body) {
  const response = await send(method, body);
  if (!response.ok) throw await failure(response);
  return response.json();
}

/**
 * Yield each response of a streaming method, until it ends or `signal` aborts it.
 * opened: called once the service has begun to answer.
 */
export async function* stream(method, request, signal, opened = () => {}) {
  const response = await send(method, JSON.stringify(request), signal);
  if (!response.ok) throw await failure(response);
  opened();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const message = JSON.parse(line);
      if (message.error) throw new CallError(message.error.message, message.error.reason);
      yield message;
    }
  }
}
