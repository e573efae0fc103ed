/** What a client does to the process that it is in, and the package to who reads it. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { VERSION } from "../src/index.js";
import { broken, held, ready, Refusal, Script, STAY } from "./scripted.js";
import { status } from "@grpc/grpc-js";

interface End {
  readonly code: number;
  readonly out: string;
  readonly complaint: string;
}

/** Runs a module on the package as others see it; the end of its process. */
function run(source: string, address: string): Promise<End> {
  const environment = { ...process.env, POOL_SERVICE_ADDRESS: address };
  const prologue = 'import { PoolClient } from "pool-service-client";\n';
  const options = { env: environment, timeout: 30_000 };
  const args = ["--input-type=module", "--eval", prologue + source];
  return new Promise((resolve) => {
    execFile(process.execPath, args, options, (error, out, complaint) => {
      resolve({
        code: typeof error?.code === "number" ? error.code : error ? -1 : 0,
        out,
        complaint,
      });
    });
  });
}

function processTest(name: string, body: (service: Script) => Promise<void>): void {
  test(name, { timeout: 60_000 }, async () => {
    const service = new Script();
    await service.start();
    try {
      await body(service);
    } finally {
      service.stop();
    }
  });
}

processTest("a process whose calls are over ends, though its client is open", async (service) => {
  service.answer("ensure", { server: ready(), started: true });
  const source = `
    const pool = PoolClient.connect();
    console.log((await pool.ensure("m", { timeoutMs: 600_000 })).server.endpoint);`;
  const end = await run(source, service.address);
  assert.deepEqual(end, { code: 0, out: "http://127.0.0.1:49321\n", complaint: "" });
});

processTest("a process whose hold was closed ends", async (service) => {
  service.answer("hold", held(), STAY);
  const source = `
    const hold = PoolClient.connect().hold("m");
    await hold.ready({ timeoutMs: 600_000 });
    hold.close();`;
  assert.deepEqual(await run(source, service.address), { code: 0, out: "", complaint: "" });
});

processTest("failures that nobody asks for are no unhandled rejections", async (service) => {
  service.answer("hold", new Refusal(status.ABORTED, "evicted", "EVICTED"));
  service.answer("watch", new Refusal(status.ABORTED, "no", "NEW"));
  service.answer("pull", broken());
  const source = `
    const pool = PoolClient.connect(undefined, { retry: { attempts: 1 } });
    pool.hold("m");
    pool.hold("m", { signal: AbortSignal.abort() });
    const watch = pool.watch();
    watch.next().catch(() => {});
    watch.close();
    const pull = pool.pull("m");
    pull.next().catch(() => console.log("told"));
    await pool.hold("m").ready().catch(() => {});`;
  assert.deepEqual(await run(source, service.address), { code: 0, out: "told\n", complaint: "" });
});

test("the README shows the example as it is run", () => {
  const example = readFileSync("examples/example.ts", "utf8");
  assert.ok(readFileSync("README.md", "utf8").includes(`\`\`\`ts\n${example}\`\`\``));
});

test("the version is that of the package", () => {
  const manifest = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
  assert.equal(VERSION, manifest.version);
});
