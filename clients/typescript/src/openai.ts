/** What makes a client of OpenAI's API follow the endpoint of a hold. */

import type { Hold } from "./hold.js";
import { ConnectionFailed, send, type Outgoing } from "./http.js";
import type { Process } from "./held.js";
import type { Server } from "./types.js";

/** Stands for the endpoint; a name that no resolver has (RFC 2606), and nobody asks for. */
const PLACEHOLDER = new URL("http://hold.invalid/v1");
/** Stands for the key, as the clients want one. */
const PLACEHOLDER_KEY = "of-the-hold";

/** Options of `new OpenAI(...)` of the package openai, and of `createOpenAI` of @ai-sdk/openai. */
export interface OpenAIOptions {
  /** A placeholder, which is never requested. */
  readonly baseURL: string;
  /** A placeholder, which is never sent. */
  readonly apiKey: string;
  /** Sends each request to the server that the hold has at that moment. */
  readonly fetch: typeof globalThis.fetch;
}

/**
 * Return options for a client of OpenAI's API whose requests follow the hold's endpoint.
 *
 *     const openai = new OpenAI(openAIOptions(hold));
 *
 * Each request goes to the endpoint of `hold.ready()`, with its key, which is waited for. If the
 * connection fails before a byte of the answer has come, it is sent once more, to the server of
 * `hold.ready({ after: server })`, unless its body is a stream. The signal of the request bounds
 * all of that. Redirects are not followed. A hold that has ended fails each request with its error.
 */
export function openAIOptions(hold: Hold): OpenAIOptions {
  const fetchFromHold: typeof globalThis.fetch = async (input, init) => {
    const call = await Call.of(input, init);
    const server = await call.ready(hold);
    try {
      return await call.sendTo(server);
    } catch (error) {
      if (!call.isRepeatable(error)) throw error;
    }
    return call.sendTo(await call.ready(hold, server));
  };
  return { baseURL: PLACEHOLDER.href, apiKey: PLACEHOLDER_KEY, fetch: fetchFromHold };
}

/** A request for whichever server the hold has. */
class Call {
  /** Where it goes, behind the server's base URL. */
  readonly #path: string;
  readonly #outgoing: Outgoing;

  private constructor(path: string, outgoing: Outgoing) {
    this.#path = path;
    this.#outgoing = outgoing;
  }

  /** Read what `fetch` is given. Throws TypeError if it is not for the placeholder. */
  static async of(input: string | URL | Request, init: RequestInit = {}): Promise<Call> {
    const given = input instanceof Request ? input : undefined;
    const signal = init.signal ?? given?.signal;
    // The signal is not the request's: it bounds the waits for the server, too.
    const request = new Request(input, { ...init, signal: null, duplex: "half" });
    const path = pathBehindPlaceholder(new URL(request.url));
    const body = isStream(init.body ?? given?.body) ? request.body : await request.arrayBuffer();
    const outgoing = {
      method: request.method,
      headers: Object.fromEntries(request.headers),
      body: body instanceof ArrayBuffer ? bytes(body) : (body ?? undefined),
      signal,
    };
    return new Call(path, outgoing);
  }

  /** The hold's server. Rejects with the signal's reason, and with what ended the hold. */
  async ready(hold: Hold, after?: Process): Promise<Server> {
    const { signal } = this.#outgoing;
    try {
      return await hold.ready({ after, signal });
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    }
  }

  async sendTo(server: Server): Promise<Response> {
    const headers: Record<string, string> = { ...this.#outgoing.headers };
    delete headers.authorization;
    // An answer is passed on as it comes, so that none may be compressed.
    delete headers["accept-encoding"];
    if (server.apiKey !== "") headers.authorization = `Bearer ${server.apiKey}`;
    return send(`${server.baseUrl}${this.#path}`, { ...this.#outgoing, headers });
  }

  /** Whether it may be sent once more after this failure. */
  isRepeatable(error: unknown): boolean {
    const isUnanswered = error instanceof ConnectionFailed && !error.hasBegun;
    return isUnanswered && !(this.#outgoing.body instanceof ReadableStream);
  }
}

function pathBehindPlaceholder(url: URL): string {
  const { origin, pathname } = PLACEHOLDER;
  if (url.origin !== origin || !url.pathname.startsWith(`${pathname}/`)) {
    throw new TypeError(
      `${url.href} is not below the baseURL of openAIOptions, ${PLACEHOLDER.href}: leave that as it is`,
    );
  }
  return url.pathname.slice(pathname.length) + url.search;
}

function bytes(body: ArrayBuffer): Uint8Array | undefined {
  return body.byteLength === 0 ? undefined : new Uint8Array(body);
}

/** Whether a body can be read only once. */
function isStream(body: unknown): boolean {
  return typeof body === "object" && body !== null && Symbol.asyncIterator in body;
}
