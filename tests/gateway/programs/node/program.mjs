// Asks a model by OpenAI's library or by the Vercel AI SDK, as its standard input says.
//
//     node program.mjs openai|vercel BASE_URL
//
// See ../program.py for the questions and what it prints.

import { createInterface } from "node:readline";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";
import OpenAI, { toFile } from "openai";

const [library, baseURL] = process.argv.slice(2);

const say = (event) => console.log(JSON.stringify(event));

function prompt(question) {
  return "x".repeat(question.characters ?? 5);
}

class ByOpenAI {
  constructor() {
    this.client = new OpenAI({ baseURL: `${baseURL}/v1`, apiKey: "none" });
  }

  async *pieces(question) {
    const content = question.image
      ? [
          { type: "text", text: prompt(question) },
          { type: "image_url", image_url: { url: question.image } },
        ]
      : prompt(question);
    const request = {
      model: question.model,
      max_tokens: question.tokens,
      messages: [{ role: "user", content }],
    };
    if (!question.stream) {
      yield (await this.client.chat.completions.create(request)).choices[0].message.content;
      return;
    }
    for await (const chunk of await this.client.chat.completions.create({
      ...request,
      stream: true,
    })) {
      if (chunk.choices[0]?.delta.content) yield chunk.choices[0].delta.content;
    }
  }

  async spoken(question) {
    const { model } = question;
    const sound = await this.client.audio.speech.create({ model, voice: "a", input: "hello" });
    const file = await toFile(await sound.arrayBuffer(), "a.wav");
    return (await this.client.audio.transcriptions.create({ model, file })).text;
  }
}

class ByVercel {
  constructor() {
    this.provider = createOpenAICompatible({ name: "pool", baseURL: `${baseURL}/v1` });
  }

  async *pieces(question) {
    const left = new AbortController();
    const content = [{ type: "text", text: prompt(question) }];
    if (question.image) content.push({ type: "image", image: question.image });
    const request = {
      model: this.provider(question.model),
      maxOutputTokens: question.tokens,
      messages: [{ role: "user", content }],
      abortSignal: left.signal,
    };
    if (!question.stream) {
      yield (await generateText(request)).text;
      return;
    }
    try {
      // It logs errors by itself otherwise, and hands them on as parts.
      for await (const part of streamText({ ...request, onError: () => {} }).fullStream) {
        if (part.type === "error") throw part.error;
        if (part.type === "text-delta") yield part.text;
      }
    } finally {
      left.abort();
    }
  }
}

async function answer(by, question) {
  if (question.audio) {
    say({ event: "end", text: await by.spoken(question) });
    return;
  }
  let text = "";
  let pieces = 0;
  for await (const piece of by.pieces(question)) {
    text += piece;
    pieces += 1;
    if (pieces === 1) say({ event: "piece" });
    if (pieces === question.stop_after) break;
  }
  say({ event: "end", text: text.slice(0, 100) });
}

const by = library === "openai" ? new ByOpenAI() : new ByVercel();
say({ event: "ready" });
for await (const line of createInterface({ input: process.stdin })) {
  try {
    await answer(by, JSON.parse(line));
  } catch (error) {
    say({ event: "error", text: String(error) });
  }
}
