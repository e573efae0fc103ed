/** Keys of servers: on what `ensure` and `hold` return, and in no text that shows it. */

import assert from "node:assert/strict";
import { inspect } from "node:util";
import { held, ready, STAY, starting } from "./scripted.js";
import { withService } from "./support.js";

const KEY = "psk_secret";

for (const key of [KEY, ""]) {
  withService(
    `ensure gives ${key ? "the key" : "no key"} with the server`,
    async (pool, service) => {
      service.answer("ensure", { server: ready(), started: true, apiKey: key });
      assert.equal((await pool.ensure("m")).server.apiKey, key);
    },
  );
}

withService("a hold gives the key of the server that is ready", async (pool, service) => {
  const second = held({ generation: 2n, pid: 4712 }, "another");
  service.answer("hold", starting(), held({}, KEY), second, STAY);
  await using hold = pool.hold("m");
  const first = await hold.ready();
  if (first.generation === 1) {
    assert.equal(first.apiKey, KEY);
    assert.equal((await hold.ready({ after: first })).apiKey, "another");
  } else {
    assert.equal(first.apiKey, "another");
  }
});

withService("no other answer has a key", async (pool, service) => {
  service.answer("list", { servers: [ready()], nextPageToken: "", revision: 1n, notices: [] });
  service.answer("get", { server: ready(), answers: false });
  const { server } = await pool.get("m");
  assert.deepEqual(
    [...(await pool.list()), server].map((one) => one?.apiKey),
    ["", ""],
  );
});

withService("no text shows a key", async (pool, service) => {
  service.answer("ensure", { server: ready(), started: true, apiKey: KEY });
  const result = await pool.ensure("m");
  assert.equal(result.server.apiKey, KEY);
  for (const one of [result, result.server, result.server.message, [result.server]]) {
    for (const shown of [inspect(one, { depth: 9 }), JSON.stringify(one, shortened)])
      assert.ok(!shown.includes(KEY), shown);
  }
});

/** JSON has no numbers of this kind. */
function shortened(_name: string, value: unknown): unknown {
  return typeof value === "bigint" ? Number(value) : value;
}
