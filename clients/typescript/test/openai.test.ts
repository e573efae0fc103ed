/** A client of OpenAI's API that follows a hold, by the package openai. */

import assert from "node:assert/strict";
import { type TestContext } from "node:test";
import { status } from "@grpc/grpc-js";
import OpenAI, { APIConnectionError } from "openai";
import { Evicted, openAIOptions, type Hold, type PoolClient } from "../src/index.js";
import { cut, Endpoint, json, reset, words, type Answer } from "./endpoint.js";
import { Gate, held, ready, Refusal, STAY, type Script, type Step } from "./scripted.js";
import { failure, withService } from "./support.js";

const COMPLETION = { choices: [{ message: { content: "hello" } }] };
const QUESTION = { model: "served-m", messages: [{ role: "user" as const, content: "hi" }] };
const MOVED = { generation: 2n, pid: 4712 };

/** A client that asks once by itself. */
function openaiOf(hold: Hold): OpenAI {
  return new OpenAI({ ...openAIOptions(hold), maxRetries: 0 });
}

/** A hold whose server is an endpoint with these answers, and is there whenever it is asked. */
async function heldAt(
  { pool, service, context }: { pool: PoolClient; service: Script; context: TestContext },
  ...answers: Answer[]
): Promise<{ hold: Hold; endpoint: Endpoint }> {
  const endpoint = await Endpoint.listening(context, ...answers);
  service.answer("hold", held({ endpoint: endpoint.url }, "key"), STAY);
  service.answer("get", { server: ready({ endpoint: endpoint.url }), answers: true });
  const hold = pool.hold("m");
  return { hold, endpoint };
}

withService("a request goes to the endpoint, with its key", async (pool, service, context) => {
  const { hold, endpoint } = await heldAt({ pool, service, context }, json(COMPLETION));
  const answer = await openaiOf(hold).chat.completions.create(QUESTION, { query: { a: "b c" } });
  assert.equal(answer.choices[0]?.message.content, "hello");
  const [asked] = endpoint.asked;
  assert.equal(asked?.line, "POST /v1/chat/completions?a=b%20c HTTP/1.1");
  assert.deepEqual(JSON.parse(asked.body), QUESTION);
  const { headers } = asked;
  assert.deepEqual(
    ["authorization", "host", "content-type"].map((name) => headers.get(name)),
    ["Bearer key", endpoint.url.slice("http://".length), "application/json"],
  );
});

withService("without a key none is sent", async (pool, service, context) => {
  const endpoint = await Endpoint.listening(context, json({ data: [] }));
  service.answer("hold", held({ endpoint: endpoint.url }), STAY);
  await openaiOf(pool.hold("m")).models.list();
  assert.equal(endpoint.asked[0]?.line, "GET /v1/models HTTP/1.1");
  assert.equal(endpoint.asked[0].headers.has("authorization"), false);
});

withService("a refused request goes to the next process", async (pool, service, context) => {
  const dead = await Endpoint.listening(context);
  const next = await Endpoint.listening(context, json(COMPLETION));
  const gate = new Gate();
  const moved = held({ ...MOVED, endpoint: next.url }, "next key");
  service.answer("hold", held({ endpoint: dead.url }, "key"), gate, moved, STAY);
  service.answer("get", { server: undefined, answers: false });
  const hold = pool.hold("m");
  const before = await hold.ready();
  assert.equal(before.endpoint, dead.url);
  dead.close();
  const call = openaiOf(hold).chat.completions.create(QUESTION);
  await service.until(() => service.calls("get") === 1);
  gate.open();
  assert.equal((await call).choices[0]?.message.content, "hello");
  assert.equal(next.asked[0]?.headers.get("authorization"), "Bearer next key");
  assert.deepEqual(JSON.parse(next.asked[0].body), QUESTION);
});

withService("a connection that broke is no death", async (pool, service, context) => {
  const answers = [reset, json(COMPLETION)];
  const { hold, endpoint } = await heldAt({ pool, service, context }, ...answers);
  const answer = await openaiOf(hold).chat.completions.create(QUESTION);
  assert.equal(answer.choices[0]?.message.content, "hello");
  assert.equal(endpoint.asked.length, 2);
});

withService("it is asked again once", async (pool, service, context) => {
  const { hold, endpoint } = await heldAt({ pool, service, context }, reset);
  const error = await failure(openaiOf(hold).chat.completions.create(QUESTION));
  assert.ok(error instanceof APIConnectionError);
  assert.ok(error.cause instanceof TypeError);
  assert.equal(error.cause.message, "fetch failed");
  assert.equal((error.cause.cause as NodeJS.ErrnoException).code, "ECONNRESET");
  assert.equal(endpoint.asked.length, 2);
});

withService("an answer that had begun is not asked for again", async (pool, service, context) => {
  const begun: Answer = (socket) => {
    socket.write("HTTP/1.1 200", () => socket.destroy());
  };
  const { hold, endpoint } = await heldAt({ pool, service, context }, begun);
  await assert.rejects(openaiOf(hold).chat.completions.create(QUESTION), APIConnectionError);
  assert.deepEqual([endpoint.asked.length, service.calls("get")], [1, 0]);
});

withService("nor by a connection that had served before", async (pool, service, context) => {
  const begun: Answer = (socket) => {
    socket.write("HTTP/1.1 200", () => socket.destroy());
  };
  const answers = [json(COMPLETION), reset, json(COMPLETION), begun];
  const { hold, endpoint } = await heldAt({ pool, service, context }, ...answers);
  const openai = openaiOf(hold);
  await openai.chat.completions.create(QUESTION);
  await openai.chat.completions.create(QUESTION);
  assert.equal(endpoint.asked.length, 3);
  await assert.rejects(openai.chat.completions.create(QUESTION), APIConnectionError);
  assert.equal(endpoint.asked.length, 4);
});

withService("a stream that is cut is a TypeError", async (pool, service, context) => {
  const { hold, endpoint } = await heldAt({ pool, service, context }, cut("one", "two"));
  const answer = await openaiOf(hold).chat.completions.create({ ...QUESTION, stream: true });
  const told: unknown[] = [];
  const reading = (async () => {
    for await (const part of answer) told.push(part.choices[0]?.delta.content);
  })();
  await assert.rejects(reading, { name: "TypeError", message: "terminated" });
  assert.deepEqual([told, endpoint.asked.length], [["one", "two"], 1]);
});

withService("a stream that is left ends its connection", async (pool, service, context) => {
  const gate = new Gate();
  const endless: Answer = (socket) => {
    socket.on("close", gate.open).write(words("one"));
  };
  const { hold } = await heldAt({ pool, service, context }, endless);
  const answer = await openaiOf(hold).chat.completions.create({ ...QUESTION, stream: true });
  for await (const part of answer) if (part.choices.length > 0) break;
  await gate.opened;
});

withService("a body that is a stream is sent once", async (pool, service, context) => {
  const answers = [json(COMPLETION), reset];
  const { hold, endpoint } = await heldAt({ pool, service, context }, ...answers);
  const { baseURL, fetch } = openAIOptions(hold);
  const send = (): Promise<Response> => {
    const body = new Blob(["a stream"]).stream();
    return fetch(`${baseURL}/files`, { method: "POST", body, duplex: "half" });
  };
  assert.deepEqual(await (await send()).json(), COMPLETION);
  assert.equal(endpoint.asked[0]?.body, "8\r\na stream\r\n0\r\n\r\n");
  await assert.rejects(send(), { name: "TypeError", message: "fetch failed" });
  assert.deepEqual([endpoint.asked.length, service.calls("get")], [2, 0]);
});

withService("other bodies are sent again as they were", async (pool, service, context) => {
  const answers = [reset, json({ text: "said" })];
  const { hold, endpoint } = await heldAt({ pool, service, context }, ...answers);
  const file = new File(["bytes"], "a.wav");
  const { text } = await openaiOf(hold).audio.transcriptions.create({ file, model: "served-m" });
  assert.equal(text, "said");
  const [first, second] = endpoint.asked;
  assert.match(first?.body ?? "", /filename="a\.wav"[^]*bytes/);
  assert.deepEqual(second, first);
});

withService("a redirect is an answer, and is not followed", async (pool, service, context) => {
  const elsewhere = await Endpoint.listening(context, json(COMPLETION));
  const redirect = (url: string): Answer => json({}, `307 No\r\nLocation: ${url}/v1/models`);
  const { hold, endpoint } = await heldAt({ pool, service, context }, redirect(elsewhere.url));
  const { status: code } = await failureStatus(openaiOf(hold).models.list());
  assert.deepEqual([code, endpoint.asked.length, elsewhere.asked.length], [307, 1, 0]);
});

withService("a signal ends the wait for a server", async (pool) => {
  const { baseURL, fetch } = openAIOptions(pool.hold("m"));
  const controller = new AbortController();
  const call = fetch(`${baseURL}/models`, { signal: controller.signal });
  const enough = new Error("enough");
  controller.abort(enough);
  assert.equal(await failure(call), enough);
});

withService("a signal ends an answer that is waited for", async (pool, service, context) => {
  const gate = new Gate();
  const silent: Answer = (socket) => {
    gate.open();
    socket.on("close", () => undefined);
  };
  const { hold, endpoint } = await heldAt({ pool, service, context }, silent);
  const { baseURL, fetch } = openAIOptions(hold);
  const controller = new AbortController();
  const call = fetch(`${baseURL}/models`, { signal: controller.signal });
  await gate.opened;
  controller.abort();
  await assert.rejects(call, { name: "AbortError" });
  assert.equal(endpoint.asked.length, 1);
});

withService("a signal ends an answer that is read", async (pool, service, context) => {
  const endless: Answer = (socket) => socket.write(words("one"));
  const { hold } = await heldAt({ pool, service, context }, endless);
  const { baseURL, fetch } = openAIOptions(hold);
  const controller = new AbortController();
  const response = await fetch(`${baseURL}/models`, { signal: controller.signal });
  const text = response.text();
  controller.abort();
  await assert.rejects(text, { name: "AbortError" });
});

withService("a hold that has ended says why", async (pool, service) => {
  const gone: Step = new Refusal(status.ABORTED, "evicted", "EVICTED");
  service.answer("hold", gone);
  const error = await failure(openaiOf(pool.hold("m")).models.list());
  assert.ok(error instanceof APIConnectionError);
  assert.ok(error.cause instanceof Evicted);
});

withService("no other address than the placeholder is requested", async (pool) => {
  const { fetch } = openAIOptions(pool.hold("m"));
  for (const url of ["http://127.0.0.1:1/v1/models", "http://hold.invalid/v2/models"]) {
    await assert.rejects(fetch(url), /is not below the baseURL of openAIOptions/);
  }
});

/** The HTTP status of a request that failed by its answer. */
async function failureStatus(call: PromiseLike<unknown>): Promise<{ status: number | undefined }> {
  const error = await failure(Promise.resolve(call));
  assert.ok((error as unknown) instanceof OpenAI.APIError);
  return error as unknown as { status: number | undefined };
}
