/** The endpoint of a model's server on loopback, which answers or breaks as the test says. */

import { createServer, type Server, type Socket } from "node:net";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";

/** What is done with one connection, once its request has come. */
export type Answer = (socket: Socket) => void;

/** A request as it came. */
export interface Asked {
  /** The request line. */
  readonly line: string;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

/** An endpoint. Each request takes the next answer; the last one is repeated. */
export class Endpoint {
  readonly asked: Asked[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(answers: readonly Answer[]) {
    const left = [...answers];
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      let text = "";
      socket.on("error", () => undefined);
      socket.setEncoding("latin1").on("data", (part: string) => {
        const asked = whole((text += part));
        if (asked === undefined) return;
        text = "";
        this.asked.push(asked);
        (left.length > 1 ? left.shift() : left[0])?.(socket);
      });
    });
  }

  /** An endpoint that listens until the test ends. */
  static async listening(context: TestContext, ...answers: Answer[]): Promise<Endpoint> {
    const endpoint = new Endpoint(answers);
    await new Promise<void>((resolve) => endpoint.#server.listen(0, "127.0.0.1", resolve));
    context.after(() => {
      endpoint.close();
    });
    return endpoint;
  }

  get url(): string {
    return `http://127.0.0.1:${String((this.#server.address() as AddressInfo).port)}`;
  }

  /** Refuse connections from now on. */
  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** The request, if all of it is there. */
function whole(text: string): Asked | undefined {
  const [head = "", body] = text.split("\r\n\r\n", 2);
  if (body === undefined) return undefined;
  const [line = "", ...lines] = head.split("\r\n");
  const headers = new Map(
    lines.map((one) => {
      const [name = "", value = ""] = one.split(": ", 2);
      return [name.toLowerCase(), value] as const;
    }),
  );
  const length = Number(headers.get("content-length") ?? 0);
  const isChunked = headers.get("transfer-encoding") === "chunked";
  const isWhole = isChunked
    ? text.endsWith("\r\n0\r\n\r\n")
    : text.length >= head.length + 4 + length;
  return isWhole ? { line, headers, body: text.slice(head.length + 4) } : undefined;
}

/** Breaks the connection before a byte of the answer. */
export const reset: Answer = (socket) => {
  socket.resetAndDestroy();
};

/** A whole answer. */
export function json(value: unknown, status = "200 OK"): Answer {
  const body = JSON.stringify(value);
  const head = `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\n`;
  return (socket) => socket.write(`${head}Content-Length: ${String(body.length)}\r\n\r\n${body}`);
}

/** The beginning of a streamed completion: these words, and no end. */
export function words(...text: string[]): string {
  const parts = text.map((content) => event({ choices: [{ delta: { content } }] }));
  const type = "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked";
  return `HTTP/1.1 200 OK\r\n${type}\r\n\r\n${parts.join("")}`;
}

/** A whole streamed completion of these words. */
export function completion(...text: string[]): Answer {
  const finish = event({ choices: [{ delta: {}, finish_reason: "stop" }] });
  const done = "data: [DONE]\n\n";
  const end = `${done.length.toString(16)}\r\n${done}\r\n0\r\n\r\n`;
  return (socket) => socket.write(`${words(...text)}${finish}${end}`);
}

/** A streamed completion that is cut behind these words. */
export function cut(...text: string[]): Answer {
  return (socket) => {
    socket.write(words(...text), () => socket.destroy());
  };
}

function event(value: unknown): string {
  const data = `data: ${JSON.stringify(value)}\n\n`;
  return `${data.length.toString(16)}\r\n${data}\r\n`;
}
