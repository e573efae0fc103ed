/** `connectOrStart`: the service that is there, or the one that a program starts. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { PoolClient, ServiceNotStarted, type ConnectOrStartOptions } from "../src/index.js";
import { Script } from "./scripted.js";
import { failure } from "./support.js";

const UNUSED = "/nowhere/no-program";

/** A machine of its own: a service that a script plays, and no variables but these. */
interface Machine {
  readonly service: Script;
  readonly root: string;
  /** Where the socket of one's own service is. */
  readonly own: string;
  /** Write a program that has these lines; returns its path. */
  readonly program: (...lines: string[]) => string;
  readonly fifo: (name: string) => string;
}

function onMachine(
  name: string,
  body: (machine: Machine, context: TestContext) => Promise<void>,
): void {
  test(name, { timeout: 60_000 }, async (context) => {
    const root = mkdtempSync("/tmp/pool-");
    const before = { ...process.env };
    const own = join(root, "run", "pool-service");
    mkdirSync(own, { recursive: true, mode: 0o700 });
    const places = { XDG_RUNTIME_DIR: join(root, "run"), XDG_STATE_HOME: join(root, "state") };
    Object.assign(process.env, places, { POOL_SERVICE_ADDRESS: "", POOL_SERVICE_PROGRAM: "" });
    const service = new Script();
    service.answer("forget", { runtimeModel: "r" });
    const program = (...lines: string[]): string => {
      const path = join(root, "pool-service");
      writeFileSync(path, ["#!/bin/sh", ...lines, ""].join("\n"), { mode: 0o755 });
      return path;
    };
    const fifo = (fifoName: string): string => {
      const path = join(root, fifoName);
      execFileSync("mkfifo", [path]);
      return path;
    };
    try {
      await body({ service, root, own, program, fifo }, context);
    } finally {
      process.env = before;
      service.stop();
      rmSync(root, { recursive: true });
    }
  });
}

/** Connect, and make a call, which only the scripted service answers like this. */
async function connectAndCall(options: ConnectOrStartOptions): Promise<void> {
  await using pool = await PoolClient.connectOrStart(options);
  assert.equal(await pool.forget("m"), "r");
}

async function notStarted(options: ConnectOrStartOptions): Promise<ServiceNotStarted> {
  const error = await failure(PoolClient.connectOrStart(options));
  assert.ok(error instanceof ServiceNotStarted, String(error));
  assert.deepEqual([error.code, error.reason], ["UNAVAILABLE", ""]);
  return error;
}

onMachine("a service that is named is connected to, and none is started", async ({ service }) => {
  await service.start();
  process.env.POOL_SERVICE_ADDRESS = service.address;
  await connectAndCall({ program: UNUSED });
});

onMachine("your own service is connected to, and none is started", async ({ service, own }) => {
  await service.start(`unix:${own}/socket`);
  await connectAndCall({ program: UNUSED });
});

onMachine("else the program is run, and its service is connected to", async (machine) => {
  const { service, root, program } = machine;
  await service.start();
  const started = program(
    `cat > ${root}/stdin`,
    `echo "$@" > ${root}/given`,
    `echo ${service.address}`,
  );
  await connectAndCall({ program: started, arguments: ["--config", "a b"] });
  assert.equal(readFileSync(join(root, "given"), "utf8"), "start --config a b\n");
  assert.equal(readFileSync(join(root, "stdin"), "utf8"), "");
});

onMachine("the socket that it prints may be anywhere", async ({ service, root, program }) => {
  await service.start(`unix:${root}/s`);
  await connectAndCall({ program: program(`echo unix:${root}/s`) });
});

onMachine("the program is the environment's, else on PATH", async ({ service, root, program }) => {
  await service.start();
  process.env.POOL_SERVICE_PROGRAM = program(`echo ${service.address}`);
  await connectAndCall({});
  process.env.POOL_SERVICE_PROGRAM = "";
  process.env.PATH = `${root}:${process.env.PATH ?? ""}`;
  await connectAndCall({});
});

onMachine("a program that is nowhere is told as such", async ({ root }) => {
  process.env.PATH = root;
  assert.equal(
    (await notStarted({})).message,
    "cannot start the pool service: pool-service was not found on PATH: " +
      "install it (docs/how-to/install.md), or name it in POOL_SERVICE_PROGRAM",
  );
  assert.match(
    (await notStarted({ program: UNUSED })).message,
    /no-program was not found: install/,
  );
  writeFileSync(join(root, "text"), "", { mode: 0o644 });
  const { message } = await notStarted({ program: join(root, "text") });
  assert.match(message, /cannot run .*text \(.*EACCES\): install/);
});

onMachine("a program that fails is told with its last lines", async ({ program }) => {
  const lines = Array.from({ length: 20 }, (_, line) => `echo line ${String(line)} >&2`);
  const error = await notStarted({ program: program(...lines, "exit 3"), arguments: ["-v"] });
  assert.equal(error.lastLines.length, 10);
  assert.equal(error.lastLines.at(-1), "line 19");
  assert.match(
    error.message,
    /pool-service start -v" exited with code 3: line 10\n(.*\n)*line 19\n/,
  );
  assert.match(error.message, /or name a running service in POOL_SERVICE_ADDRESS$/);
});

onMachine("a program that is killed is told as such", async ({ program }) => {
  const error = await notStarted({ program: program("kill -9 $$") });
  assert.match(error.message, /start" was ended by SIGKILL: it wrote no error/);
});

for (const printed of ["", "hello", "127.0.0.1:1\\n127.0.0.1:2"]) {
  onMachine(`${JSON.stringify(printed)} is no address`, async ({ program }) => {
    const error = await notStarted({ program: program(`printf '${printed}'`) });
    assert.match(error.message, /it printed ".*" instead of an address/);
  });
}

onMachine("a program that is late is killed", async ({ program, fifo }, context) => {
  const path = fifo("alive");
  const lasting = program(
    `exec 3> ${path}`,
    "echo started >&3",
    "echo waits >&2",
    "exec sleep 600",
  );
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const error = notStarted({ program: lasting, startTimeoutMs: 5_000 });
  const alive = await open(path);
  const { buffer, bytesRead } = await alive.read();
  assert.equal(buffer.toString("utf8", 0, bytesRead), "started\n");
  context.mock.timers.tick(5_000);
  assert.match((await error).message, /start" was not done within 5000 ms: /);
  assert.equal((await alive.read()).bytesRead, 0, "the end of the program");
  await alive.close();
});

onMachine("a service that keeps the program's output is no matter", async (machine) => {
  const { service, program, fifo } = machine;
  await service.start();
  const path = fifo("end");
  await connectAndCall({ program: program(`cat ${path} &`, `echo ${service.address}`) });
  await (await open(path, "w")).close();
});
