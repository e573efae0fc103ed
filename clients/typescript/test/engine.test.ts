/** The engine of the examples, at an endpoint that breaks. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";
import { completion, cut, Endpoint, reset, words, type Answer } from "./endpoint.js";
import { held, ready, STAY } from "./scripted.js";
import { withService } from "./support.js";

const ENGINE = new URL("../examples/engine.js", import.meta.url).pathname;

withService("the engine says of each prompt how it ended", async (_pool, service, context) => {
  const endless: Answer = (socket) => socket.write(`${words("no", "end")}0\r\n\r\n`);
  const answers = [completion("a", "b"), cut("a"), reset, reset, completion("c"), endless];
  const endpoint = await Endpoint.listening(context, ...answers, completion(""));
  service.answer("hold", held({ endpoint: endpoint.url }), STAY);
  service.answer("get", { server: ready({ endpoint: endpoint.url }), answers: true });
  const environment = { ...process.env, POOL_SERVICE_ADDRESS: service.address };
  const engine = spawn(process.execPath, [ENGINE, "m"], { env: environment });
  const code = new Promise((resolve) => engine.on("exit", resolve));
  engine.stdin.end("one\ntwo\nthree\nfour\nfive\n");
  const [out, complaint] = await Promise.all([text(engine.stdout), text(engine.stderr)]);
  assert.deepEqual(out.split("\n"), [
    "done ab",
    "lost TypeError: terminated",
    "done c",
    "lost it ended without a finish_reason",
    "done ",
    "",
  ]);
  assert.deepEqual([complaint, await code], ["", 0]);
  const prompts = endpoint.asked.map(({ body }) => /"content":"(\w+)"/.exec(body)?.[1]);
  assert.deepEqual(prompts, ["one", "two", "three", "three", "three", "four", "five"]);
});
