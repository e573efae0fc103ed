/** Holds a model and answers each line of stdin with a streamed completion: engine MODEL. */

import { createInterface } from "node:readline";
import OpenAI, { APIConnectionError } from "openai";
import { PoolClient, type Server } from "pool-service-client";

const [model = ""] = process.argv.slice(2);
await using pool = await PoolClient.connectOrStart();
await using hold = pool.hold(model, { holder: "engine" });
for await (const line of createInterface({ input: process.stdin })) console.log(await answer(line));

async function answer(content: string, after?: Server): Promise<string> {
  const server = await hold.ready({ after });
  const key = server.apiKey || "none";
  const openai = new OpenAI({ baseURL: server.baseUrl, apiKey: key, maxRetries: 0 });
  let [text, finish] = ["", ""];
  try {
    const parts = await openai.chat.completions.create({
      model: server.servedModelName,
      messages: [{ role: "user", content }],
      stream: true,
    });
    for await (const { choices } of parts) {
      text += choices[0]?.delta.content ?? "";
      finish = choices[0]?.finish_reason ?? finish;
    }
    return finish ? `done ${text}` : "lost it ended without a finish_reason";
  } catch (error) {
    // No answer had begun: ask again, the next process if this one is gone.
    if (error instanceof APIConnectionError) return answer(content, server);
    return `lost ${String(error)}`;
  }
}
