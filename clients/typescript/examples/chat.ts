/** Holds a model and streams one chat completion from its endpoint: chat MODEL PROMPT. */

import OpenAI from "openai";
import { openAIOptions, PoolClient } from "pool-service-client";

const [model, prompt] = process.argv.slice(2);
if (model === undefined || prompt === undefined) {
  console.error("chat MODEL PROMPT");
  process.exit(2);
}
await using pool = PoolClient.connect();
await using hold = pool.hold(model, { holder: "chat example" });
const { servedModelName } = await hold.ready();
const openai = new OpenAI(openAIOptions(hold));
const answer = await openai.chat.completions.create({
  model: servedModelName,
  messages: [{ role: "user", content: prompt }],
  stream: true,
});
for await (const part of answer) process.stdout.write(part.choices[0]?.delta.content ?? "");
process.stdout.write("\n");
