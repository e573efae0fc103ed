/** `connectOrStart`: the service that is there, or the one that a program starts. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { test, type TestContext } from "node:test";
import { status } from "@grpc/grpc-js";
import { PoolClient, ServiceNotStarted, type ConnectOrStartOptions } from "../src/index.js";
import { Refusal, Script, STAY, type Step } from "./scripted.js";
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

/** Run `body` while another program, with this health, listens on your own socket. */
async function withAnother(
  { service, own, program }: Machine,
  health: Step,
  body: (options: ConnectOrStartOptions, other: Script) => Promise<void>,
): Promise<void> {
  await service.start();
  const other = new Script();
  other.health = health;
  await other.start(`unix:${own}/socket`);
  try {
    await body({ program: program(`echo ${service.address}`) }, other);
    assert.deepEqual([other.healthChecks.length, other.calls("forget")], [1, 0]);
  } finally {
    other.stop();
  }
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

onMachine("your own service that serves is connected to", async ({ service, own }) => {
  await service.start(`unix:${own}/socket`);
  await connectAndCall({ program: UNUSED });
  assert.deepEqual(service.healthChecks, [Buffer.alloc(0)]);
});

const UNHEALTHY: readonly [string, Step][] = [
  ["does not know whether it serves", Buffer.of()],
  ["does not serve", Buffer.of(8, 2)],
  ["is no pool service", new Refusal(status.UNIMPLEMENTED, "unknown")],
  ["ends", new Refusal(status.UNAVAILABLE, "it ends")],
];
for (const [what, health] of UNHEALTHY) {
  onMachine(`if what listens ${what}, the program is run`, async (machine) => {
    await withAnother(machine, health, connectAndCall);
  });
}

onMachine(
  "if what listens is silent for two seconds, the program is run",
  async (machine, context) => {
    await withAnother(machine, STAY, async (options, other) => {
      context.mock.timers.enable({ apis: ["setTimeout"] });
      const connected = connectAndCall(options);
      await other.until(() => other.healthChecks.length === 1);
      context.mock.timers.tick(2_000);
      await connected;
    });
  },
);

onMachine("a named service is not asked whether it serves", async ({ service }) => {
  service.health = Buffer.of(8, 2);
  await service.start();
  process.env.POOL_SERVICE_ADDRESS = service.address;
  await connectAndCall({ program: UNUSED });
  assert.deepEqual(service.healthChecks, []);
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
  assert.equal(readFileSync(join(root, "given"), "utf8"), "start --timeout 30s --config a b\n");
  assert.equal(readFileSync(join(root, "stdin"), "utf8"), "");
});

for (const [startTimeoutMs, told] of [
  [300, "0.3s"],
  [0.5, "0.001s"],
  [90_500, "90.5s"],
  [Infinity, "31536000s"],
] as const) {
  onMachine(`the program is told its limit: ${told}`, async ({ service, root, program }) => {
    await service.start();
    const started = program(`echo "$@" > ${root}/given`, `echo ${service.address}`);
    await connectAndCall({ program: started, startTimeoutMs });
    assert.equal(readFileSync(join(root, "given"), "utf8"), `start --timeout ${told}\n`);
  });
}

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
    /pool-service start --timeout 30s -v" exited with code 3: line 10\n(.*\n)*line 19\n/,
  );
  assert.match(error.message, /or name a running service in POOL_SERVICE_ADDRESS$/);
});

onMachine("a program that is killed is told as such", async ({ program }) => {
  const error = await notStarted({ program: program("kill -9 $$") });
  assert.match(error.message, /start --timeout 30s" was ended by SIGKILL: it wrote no error/);
});

for (const printed of ["", "hello", "127.0.0.1:1\\n127.0.0.1:2"]) {
  onMachine(`${JSON.stringify(printed)} is no address`, async ({ program }) => {
    const error = await notStarted({ program: program(`printf '${printed}'`) });
    assert.match(error.message, /it printed ".*" instead of an address/);
  });
}

onMachine(
  "a program is killed five seconds after its limit",
  async ({ program, fifo }, context) => {
    const path = fifo("alive");
    const lasting = program(
      `exec 3> ${path}`,
      "echo started >&3",
      "echo waits >&2",
      "exec sleep 600",
    );
    context.mock.timers.enable({ apis: ["setTimeout"] });
    const error = notStarted({ program: lasting, startTimeoutMs: 1_000 });
    const alive = await open(path);
    const { buffer, bytesRead } = await alive.read();
    assert.equal(buffer.toString("utf8", 0, bytesRead), "started\n");
    context.mock.timers.tick(5_999);
    assert.equal(await Promise.race([error, setImmediate("waits")]), "waits");
    context.mock.timers.tick(1);
    assert.match((await error).message, /start --timeout 1s" was not done within 6000 ms: /);
    assert.equal((await alive.read()).bytesRead, 0, "the end of the program");
    await alive.close();
  },
);

onMachine("a service that keeps the program's output is no matter", async (machine) => {
  const { service, program, fifo } = machine;
  await service.start();
  const path = fifo("end");
  await connectAndCall({ program: program(`cat ${path} &`, `echo ${service.address}`) });
  await (await open(path, "w")).close();
});
