import assert from "node:assert/strict";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { inspect } from "node:util";
import { status } from "@grpc/grpc-js";
import { ScopeMissing, TokenUnknown } from "../src/index.js";
import { authorization, type TokenOptions } from "../src/token.js";
import { broken, held, ready, Refusal, retryAfter, STAY } from "./scripted.js";
import { failure, thrown, withService } from "./support.js";

const READY = { server: ready(), started: true };

const directory = mkdtempSync(join(tmpdir(), "pool-token-"));
after(() => {
  rmSync(directory, { recursive: true });
});

/** A file for the user alone, in place of one that is there. */
function written(name: string, text: string | Uint8Array, mode = 0o600): string {
  const path = join(directory, name);
  writeFileSync(`${path}.new`, text);
  chmodSync(`${path}.new`, mode);
  renameSync(`${path}.new`, path);
  return path;
}

/** What a client with these options would send. */
function sent(options: TokenOptions, environment: Record<string, string> = {}): string | undefined {
  return authorization(options, environment)?.();
}

/** The message that the token is refused with. */
function refused(options: TokenOptions, environment: Record<string, string> = {}): string {
  const error: Error = thrown(() => authorization(options, environment));
  assert.ok(error instanceof TypeError);
  assert.doesNotMatch(inspect(error, { depth: Infinity }), /hush/);
  return error.message;
}

test("a given token goes before the environment's, and that before its file", () => {
  const tokenFile = written("given", " of-file\n");
  const named = { POOL_SERVICE_TOKEN_FILE: written("named", "of-named-file") };
  const both = { ...named, POOL_SERVICE_TOKEN: "of-variable" };
  assert.equal(sent({}), undefined);
  assert.equal(sent({}, { POOL_SERVICE_TOKEN: "", POOL_SERVICE_TOKEN_FILE: "" }), undefined);
  assert.equal(sent({}, named), "Bearer of-named-file");
  assert.equal(sent({}, both), "Bearer of-variable");
  assert.equal(sent({ tokenFile }, both), "Bearer of-file");
  assert.equal(sent({ token: "of-call" }, both), "Bearer of-call");
  assert.match(refused({ token: "hush", tokenFile }), /give one of them/);
});

test("a new token counts from the next call on, and a bad file keeps the last", () => {
  const tokenFile = written("rotated", "first\n");
  const next = authorization({ tokenFile }, {});
  assert.equal(next?.(), "Bearer first");
  written("rotated", "other");
  assert.equal(next(), "Bearer other");
  writeFileSync(tokenFile, "written in place");
  assert.equal(next(), "Bearer other");
  writeFileSync(tokenFile, "written-in-place");
  assert.equal(next(), "Bearer written-in-place");
  unlinkSync(tokenFile);
  assert.equal(next(), "Bearer written-in-place");
  written("rotated", "hidden", 0o644);
  assert.equal(next(), "Bearer written-in-place");
  chmodSync(tokenFile, 0o640);
  assert.equal(next(), "Bearer hidden");
});

test("a token file is found below the home and the working directory", (context) => {
  mkdirSync(join(directory, "home"));
  written("home/token", "first");
  const here = process.cwd();
  const home = process.env.HOME;
  context.after(() => {
    process.chdir(here);
    process.env.HOME = home;
  });
  process.env.HOME = join(directory, "home");
  assert.equal(sent({ tokenFile: "~/token" }), "Bearer first");
  process.chdir(join(directory, "home"));
  const next = authorization({ tokenFile: "token" }, {});
  process.chdir("/");
  written("home/token", "second");
  assert.equal(next?.(), "Bearer second");
});

test("each bad token file is refused with what to do", () => {
  const absent = join(directory, "absent");
  const open = written("open", "hush", 0o604);
  const cases: [string, RegExp][] = [
    [absent, /no such file or directory.*chmod 600 .*absent/],
    [join(written("plain", "hush"), "below"), /not a directory.*chmod 600/],
    ["", /no such file or directory/],
    [directory, /no regular file/],
    ["/dev/null", /no regular file/],
    ["~other/token", /another user's home/],
    [written("empty", " \n"), /is empty/],
    [written("large", `${" ".repeat(1 << 20)}t`), /larger than 1 MiB/],
    [open, /mode 0604.*run chmod 600 .*open$/],
    [written("others-write", "hush", 0o602), /mode 0602/],
    [written("group-writes", "hush", 0o620), /mode 0620/],
    [written("two", "hush hush"), /no white space/],
    [written("long", "hush".repeat(1025)), /4096/],
    [written("bytes", Buffer.from("hush\xff", "latin1")), /printable ASCII/],
  ];
  for (const [tokenFile, words] of cases) {
    const message = refused({ tokenFile });
    assert.match(message, words);
    assert.ok(message.includes(tokenFile), message);
  }
});

test("what is no token is refused, and not repeated", () => {
  for (const token of ["", "hush hush", "hush\n", "hüsh", "hush\x7f", "hush".repeat(1025)]) {
    const message = refused({ token });
    assert.match(message, /^the token is not valid: .*no white space$/);
  }
  assert.match(
    refused({}, { POOL_SERVICE_TOKEN: "hush hush" }),
    /^POOL_SERVICE_TOKEN is not valid/,
  );
  assert.equal(sent({ token: "~".repeat(4096) })?.length, 4096 + "Bearer ".length);
});

withService(
  "a token comes with each call, its retries and streams",
  async (pool, service) => {
    service.answer("ensure", broken());
    service.answer("ensure", READY);
    service.answer("hold", broken());
    service.answer("hold", held(), STAY);
    await pool.ensure("m");
    const hold = pool.hold("m");
    await hold.ready();
    hold.close();
    assert.deepEqual(service.authorizations, Array(4).fill("Bearer hush"));
  },
  { token: "hush" },
);

withService("without a token none is sent", async (pool, service) => {
  service.answer("ensure", READY);
  await pool.ensure("m");
  assert.deepEqual(service.authorizations, [""]);
});

withService(
  "a refused token is final, a quota is waited for, and neither shows the token",
  async (pool, service) => {
    service.answer("ensure", new Refusal(status.UNAUTHENTICATED, "no", "TOKEN_UNKNOWN"));
    service.answer("ensure", new Refusal(status.PERMISSION_DENIED, "no", "SCOPE_MISSING"));
    service.answer(
      "ensure",
      new Refusal(status.RESOURCE_EXHAUSTED, "full", "QUOTA_EXCEEDED", [retryAfter(200)]),
    );
    service.answer("ensure", READY);
    for (const type of [TokenUnknown, ScopeMissing]) {
      const error = await failure(pool.ensure("m"));
      assert.ok(error instanceof type);
      assert.doesNotMatch(inspect(error, { depth: Infinity, showHidden: true }), /hush/);
    }
    const before = performance.now();
    await pool.ensure("m");
    assert.ok(performance.now() - before >= 199);
    assert.equal(service.calls("ensure"), 4);
    assert.doesNotMatch(inspect(pool, { depth: Infinity, showHidden: true }), /hush/);
    assert.doesNotMatch(JSON.stringify(pool), /hush/);
  },
  { token: "hush" },
);
