/** A server that is broken or hostile: no busy loop, no end without an error. */

import assert from "node:assert/strict";
import { PoolError } from "../src/index.js";
import { ready } from "./scripted.js";
import { failure, withService } from "./support.js";

async function readAll(values: AsyncIterable<unknown>): Promise<number> {
  let count = 0;
  for await (const value of values) count += value === undefined ? 0 : 1;
  return count;
}

for (const tokens of [["again"], ["a", "b", "a"]]) {
  withService(`pages that come again are an error: ${tokens.join()}`, async (pool, service) => {
    for (const nextPageToken of tokens) {
      const page = { revision: 1n, notices: [], totals: undefined, servers: [ready()] };
      service.answer("list", { ...page, nextPageToken });
      service.answer("listModels", { models: [], nextPageToken });
    }
    for (const pages of [pool.list(), pool.models()]) {
      const told = await failure(readAll(pages));
      assert.ok(told instanceof PoolError);
      assert.match(told.message, /its pages have no end/);
    }
  });
}

withService("an answer without a server is an error", async (pool, service) => {
  service.answer("ensure", { server: undefined, started: false });
  const told = await failure(pool.ensure("m"));
  assert.ok(told instanceof PoolError);
  assert.match(told.message, /names no server/);
});
