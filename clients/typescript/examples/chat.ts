/** Holds a model and streams one chat completion from its endpoint: chat MODEL PROMPT. */

import OpenAI from "openai";
import { PoolClient } from "pool-service-client";

const [model, prompt] = process.argv.slice(2);
if (model === undefined || prompt === undefined) {
  console.error("chat MODEL PROMPT");
  process.exit(2);
}
await using pool = PoolClient.connect();
await using hold = pool.hold(model, { holder: "chat example" });
const server = await hold.ready();
// A server may ask for no key, but the package wants one.
const apiKey = server.apiKey || "none";
const openai = new OpenAI({ baseURL: `${server.endpoint}/v1`, apiKey });
const answer = await openai.chat.completions.create({
  model: server.servedModelName,
  messages: [{ role: "user", content: prompt }],
  stream: true,
});
for await (const part of answer) process.stdout.write(part.choices[0]?.delta.content ?? "");
process.stdout.write("\n");
