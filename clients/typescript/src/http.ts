/** One HTTP request, whose failure says whether its answer had begun. */

import { Agent, request, type ClientRequest, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream as NodeStream } from "node:stream/web";

/** Statuses whose answers have no body. */
const WITHOUT_BODY: readonly number[] = [204, 205, 304];

/** Its connections end with the process, and no proxy of the environment is between. */
const agent = new Agent({ keepAlive: true });

/** A request, ready to be sent to any server. */
export interface Outgoing {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  /** A stream can be sent once. */
  readonly body: Uint8Array | ReadableStream<Uint8Array> | undefined;
  /** Gives up the request, and its answer. */
  readonly signal: AbortSignal | undefined;
}

/** A request whose connection failed before its answer's header had come; as `fetch` fails. */
export class ConnectionFailed extends TypeError {
  /** A byte of the answer had come. */
  readonly hasBegun: boolean;

  constructor(cause: unknown, hasBegun: boolean) {
    super("fetch failed", { cause });
    this.hasBegun = hasBegun;
  }
}

/**
 * Send the request; resolves to its answer once the header is there.
 *
 * Unlike `fetch` it follows no redirects, and sets no limit for the time until the answer begins.
 * Rejects with ConnectionFailed, and with the signal's reason. A body that breaks off is a
 * TypeError of whoever reads it, with the failure as its `cause`.
 */
export async function send(url: string, outgoing: Outgoing): Promise<Response> {
  const { method, headers, signal } = outgoing;
  signal?.throwIfAborted();
  const call = request(url, { method, headers, agent });
  const stop = whenAborted(signal, call);
  try {
    const incoming = await answer(call, outgoing);
    return response(incoming, method, signal);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    stop();
  }
}

/** The beginning of the answer. Rejects with ConnectionFailed. */
function answer(call: ClientRequest, { body }: Outgoing): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    let socket: Socket | undefined;
    let bytesBefore = 0;
    const failed = (cause: unknown): void => {
      reject(new ConnectionFailed(cause, socket !== undefined && socket.bytesRead > bytesBefore));
    };
    call.on("socket", (given) => {
      socket = given;
      bytesBefore = given.bytesRead;
    });
    call.on("response", resolve);
    call.on("error", failed);
    if (body instanceof ReadableStream) {
      pipeline(Readable.fromWeb(body as NodeStream), call).catch(failed);
    } else call.end(body);
  });
}

function response(
  incoming: IncomingMessage,
  method: string,
  signal: AbortSignal | undefined,
): Response {
  const { statusCode: status = 0, statusMessage: statusText = "", rawHeaders } = incoming;
  const headers = new Headers();
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    headers.append(rawHeaders[at] ?? "", rawHeaders[at + 1] ?? "");
  }
  // Its reader is told; without a listener the error would end the process.
  incoming.on("error", () => undefined);
  const hasBody = method !== "HEAD" && !WITHOUT_BODY.includes(status);
  if (!hasBody) incoming.resume();
  return new Response(hasBody ? parts(incoming, signal) : null, { status, statusText, headers });
}

/** The body of an answer, as its reader takes it. */
function parts(
  incoming: IncomingMessage,
  signal: AbortSignal | undefined,
): ReadableStream<Uint8Array> {
  const stop = whenAborted(signal, incoming);
  const iterator = incoming[Symbol.asyncIterator]() as AsyncIterator<Uint8Array, undefined>;
  return new ReadableStream<Uint8Array>({
    async pull(controller): Promise<void> {
      try {
        const { value } = await iterator.next();
        if (value !== undefined) {
          controller.enqueue(value);
          return;
        }
        controller.close();
      } catch (cause) {
        controller.error(signal?.aborted ? signal.reason : new TypeError("terminated", { cause }));
      }
      stop();
    },
    cancel(): void {
      stop();
      incoming.destroy();
    },
  });
}

/** Destroy it when the signal is aborted; returns what takes that back. */
function whenAborted(signal: AbortSignal | undefined, what: { destroy(): unknown }): () => void {
  const abort = (): void => {
    what.destroy();
  };
  signal?.addEventListener("abort", abort, { once: true });
  return () => signal?.removeEventListener("abort", abort);
}
