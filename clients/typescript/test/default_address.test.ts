import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { dirname, join } from "node:path";
import { test, type TestContext } from "node:test";
import { DEFAULT_ADDRESS, defaultAddress } from "../src/default_address.js";
import { PoolClient } from "../src/index.js";
import { Script } from "./scripted.js";

interface Places {
  readonly environment: Readonly<Record<string, string>>;
  readonly first: string;
  readonly second: string;
}

/** The two directories in which a socket may be, and the environment that names them. */
function places(context: TestContext): Places {
  // Short: on macOS the path of a socket has 103 bytes at most.
  const root = mkdtempSync("/tmp/pool-");
  context.after(() => {
    rmSync(root, { recursive: true });
  });
  const environment = {
    XDG_RUNTIME_DIR: join(root, "run"),
    XDG_STATE_HOME: join(root, "Application Support"),
  };
  const first = join(environment.XDG_RUNTIME_DIR, "pool-service");
  const second = join(environment.XDG_STATE_HOME, "pool-service", "run");
  for (const directory of [first, second]) mkdirSync(directory, { recursive: true, mode: 0o700 });
  return { environment, first, second };
}

async function listenIn(directory: string, context: TestContext): Promise<Server> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(join(directory, "socket"), resolve));
  context.after(() => server.close());
  return server;
}

test("the first socket on which a program listens is the default", async (context) => {
  const { environment, first, second } = places(context);
  assert.equal(await defaultAddress(environment), DEFAULT_ADDRESS);
  await listenIn(second, context);
  assert.equal(await defaultAddress(environment), `unix:${second}/socket`);
  const server = await listenIn(first, context);
  assert.equal(await defaultAddress(environment), `unix:${first}/socket`);
  await new Promise((resolve) => server.close(resolve));
  assert.equal(await defaultAddress(environment), `unix:${second}/socket`);
});

test("a socket in a directory that others can enter does not count", async (context) => {
  const { environment, first } = places(context);
  await listenIn(first, context);
  for (const mode of [0o710, 0o701, 0o777]) {
    chmodSync(first, mode);
    assert.equal(await defaultAddress(environment), DEFAULT_ADDRESS);
  }
});

test(
  "a socket in a directory of another user does not count",
  { skip: process.geteuid?.() !== 0 && "only root can give a directory away" },
  async (context) => {
    const { environment, first } = places(context);
    await listenIn(first, context);
    chownSync(first, 65_534, 65_534);
    assert.equal(await defaultAddress(environment), DEFAULT_ADDRESS);
  },
);

test("a directory behind a link does not count", async (context) => {
  const { environment, first } = places(context);
  await listenIn(first, context);
  const moved = join(dirname(first), "moved");
  renameSync(first, moved);
  symlinkSync(moved, first);
  assert.equal(await defaultAddress(environment), DEFAULT_ADDRESS);
});

test("without variables the socket is in the home directory", async (context) => {
  const { second } = places(context);
  const home = dirname(dirname(dirname(second)));
  const below = process.platform === "darwin" ? "Library/Application Support" : ".local/state";
  const directory = join(home, below, "pool-service", "run");
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  await listenIn(directory, context);
  const before = process.env.HOME;
  process.env.HOME = home;
  try {
    assert.equal(await defaultAddress({ XDG_STATE_HOME: "relative" }), `unix:${directory}/socket`);
  } finally {
    process.env.HOME = before;
  }
});

test("a client without an address finds the socket with its first call", async (context) => {
  const { environment, second } = places(context);
  const before = { ...process.env };
  Object.assign(process.env, environment, { POOL_SERVICE_ADDRESS: "" });
  const service = new Script();
  try {
    const pool = PoolClient.connect();
    await service.start(`unix:${second}/socket`);
    for (let call = 0; call < 2; call += 1) service.answer("forget", { runtimeModel: "r" });
    assert.deepEqual(await Promise.all([pool.forget("m"), pool.forget("m")]), ["r", "r"]);
    pool.close();
    const closed = PoolClient.connect();
    closed.close();
    await assert.rejects(closed.forget("m"), /was closed/);
  } finally {
    service.stop();
    process.env = before;
  }
});
