import assert from "node:assert/strict";
import { homedir } from "node:os";
import { test } from "node:test";
import { channelOptions, eachOf, target } from "../src/address.js";

test("the address given goes before the environment", () => {
  const environment = { POOL_SERVICE_ADDRESS: "host:1" };
  assert.equal(target("other:2", environment), "other:2");
  assert.equal(target(undefined, environment), "host:1");
  assert.equal(target(undefined, {}), undefined);
  assert.equal(target("", { POOL_SERVICE_ADDRESS: "" }), undefined);
});

test("a host with its port, or a path, is an address", () => {
  for (const good of ["localhost:50051", "[::1]:80", "unix:/run/s", "unix:///run/s", "unix:rel"]) {
    assert.equal(target(good, {}), good);
  }
});

test("several addresses are separated by commas, which a path may have", () => {
  assert.equal(target("a:1, [::1]:2,b:3", {}), "a:1,[::1]:2,b:3");
  assert.deepEqual(eachOf("a:1,b:2"), ["a:1", "b:2"]);
  assert.deepEqual(eachOf("unix:/a,b:2"), ["unix:/a,b:2"]);
});

test("the home directory stands for a tilde", () => {
  assert.equal(target("unix:~/pool/s", {}), `unix:${homedir()}/pool/s`);
  assert.equal(target("unix://~/pool/s", {}), `unix:${homedir()}/pool/s`);
});

test("anything else is refused with what to write", () => {
  const bad = [
    "host",
    ":1",
    "host:",
    "host:0",
    "host:65536",
    "host:1x",
    "http://h:1",
    "::1:5",
    "unix:",
    "a:1,",
    "a:1,b",
    "a:1,unix:/b",
  ];
  for (const address of [...bad, "a\n:1", "unix:~other/s"]) {
    assert.throws(() => target(address, {}), TypeError, address);
  }
});

test("a service that is back is tried within a second, and no proxy is asked", () => {
  const options = channelOptions();
  assert.equal(options["grpc.initial_reconnect_backoff_ms"], 100);
  assert.equal(options["grpc.max_reconnect_backoff_ms"], 1000);
  assert.equal(options["grpc.enable_http_proxy"], 0);
  assert.equal(options["grpc.keepalive_time_ms"], 30_000);
  assert.equal(options["grpc.keepalive_timeout_ms"], 20_000);
});
