import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { PoolClient } from "../src/index.js";
import { encryption, type TlsOptions } from "../src/tls.js";

const directory = mkdtempSync(join(tmpdir(), "pool-tls-"));
after(() => {
  rmSync(directory, { recursive: true });
});

function written(name: string, text: string, mode = 0o600): string {
  const path = join(directory, name);
  writeFileSync(path, text, { mode });
  return path;
}

const key = written(
  "key",
  generateKeyPairSync("ec", { namedCurve: "P-256" })
    .privateKey.export({ type: "pkcs8", format: "pem" })
    .toString(),
);

test("to another machine TLS is always spoken", () => {
  for (const far of [
    "10.0.0.1:1",
    "0.0.0.0:1",
    "[::]:1",
    "[::ffff:127.0.0.1]:1",
    "pool.test:1",
    "localhost.test:1",
    "127.test:1",
    "128.0.0.1:1",
    "127.1:1",
  ]) {
    assert.notEqual(encryption({}, far, {}), undefined, far);
    PoolClient.connect(far, { token: "hush" }).close();
  }
});

test("on this machine it is not, whatever the variables say", () => {
  for (const near of ["127.0.0.1:1", "127.8.9.10:1", "[::1]:1", "LocalHost:1", "unix:/s"]) {
    assert.equal(encryption({}, near, { POOL_SERVICE_CA: "/nonexistent" }), undefined, near);
  }
  assert.equal(encryption({}, undefined, { POOL_SERVICE_CA: "/nonexistent" }), undefined);
});

test("by loopback it is if an option says something about it", () => {
  const spoken = encryption({ serverName: "pool.test" }, "localhost:1", {});
  assert.equal(spoken?.options["grpc.ssl_target_name_override"], "pool.test");
});

test("the variables say the same for another machine, after what is given", () => {
  const environment = { POOL_SERVICE_SERVER_NAME: "pool.test" };
  const name = "grpc.ssl_target_name_override";
  assert.equal(encryption({}, "far.test:1", environment)?.options[name], "pool.test");
  const given = encryption({ serverName: "given" }, "far.test:1", environment);
  assert.equal(given?.options[name], "given");
  for (const variable of ["POOL_SERVICE_CA", "POOL_SERVICE_CERT", "POOL_SERVICE_KEY"]) {
    const missing = { [variable]: "/nonexistent" };
    assert.throws(() => encryption({}, "far.test:1", missing), TypeError, variable);
  }
  // A certificate and its key are of one source.
  const other = { POOL_SERVICE_KEY: key };
  assert.throws(() => encryption({ cert: "/c" }, "far.test:1", other), /give both/);
});

test("what cannot be used is refused before a call", () => {
  const cases: [string | undefined, TlsOptions, RegExp][] = [
    ["unix:/s", { serverName: "x" }, /no TLS by a unix socket/],
    [undefined, { serverName: "x" }, /no TLS by a unix socket/],
    ["far.test:1", { cert: key }, /give both cert and key/],
    ["far.test:1", { key }, /give both cert and key/],
    ["far.test:1", { cert: key, key }, /not in PEM/],
    ["far.test:1", { cert: key, key: written("open", "x", 0o644) }, /chmod 600/],
    ["far.test:1", { cert: "/nonexistent", key }, /cannot read the certificate file/],
    ["far.test:1", { ca: key }, /holds no certificates in PEM/],
    ["far.test:1", { ca: directory }, /no regular file/],
    ["far.test:1", { ca: "~other/ca" }, /another user's home/],
  ];
  for (const [address, options, words] of cases) {
    assert.throws(() => encryption(options, address, {}), words);
  }
});
