/** Chat completions on the endpoint of a held model, as an engine makes them. */

import { request } from "node:http";
import type { Hold, Server } from "pool-service-client";

/** How much is asked, and how many requests at a time. */
export interface Load {
  readonly count: number;
  readonly text: string;
  readonly parallel: number;
}

/** Completions by what `ready` says at that moment; `told` hears of each how many are done. */
export async function infer(
  hold: Hold,
  load: Load,
  signal: AbortSignal,
  told: (done: number) => void,
): Promise<{ done: number; failed: number }> {
  const sum = { done: 0, failed: 0 };
  let left = load.count;
  const worker = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      if (await complete(hold, load.text, signal)) sum.done += 1;
      else sum.failed += 1;
      told(sum.done);
    }
  };
  await Promise.all(Array.from({ length: load.parallel }, worker));
  return sum;
}

/** One that could not connect is made again, at another process of the model. */
async function complete(hold: Hold, text: string, signal: AbortSignal): Promise<boolean> {
  for (let after: Server | undefined; ;) {
    const server = await hold.ready({ after, signal });
    try {
      return (await post(server, text, signal)) === 200;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ECONNREFUSED") return false;
      after = server;
    }
  }
}

/** The status of the answer, once all of it is there. */
function post(server: Server, text: string, signal: AbortSignal): Promise<number> {
  const body = JSON.stringify({
    model: server.servedModelName,
    messages: [{ role: "user", content: text }],
  });
  const authorization = `Bearer ${server.apiKey}`;
  const headers = { "content-type": "application/json", authorization };
  return new Promise((resolve, reject) => {
    const url = `${server.endpoint}/v1/chat/completions`;
    const call = request(url, { method: "POST", headers, agent: false, signal }, (response) => {
      response.on("end", () => {
        resolve(response.statusCode ?? 0);
      });
      response.on("error", reject);
      response.resume();
    });
    call.on("error", reject);
    call.end(body);
  });
}
