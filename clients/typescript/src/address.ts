/** Where the service is, and how a channel to it is set up. */

import { homedir } from "node:os";
import type { ChannelOptions } from "@grpc/grpc-js";
import { VERSION } from "./version.js";

/** The environment variable that says where the service is. */
export const ADDRESS_VARIABLE = "POOL_SERVICE_ADDRESS";

/** Where the service is if nothing else is said. */
export const DEFAULT_ADDRESS = "127.0.0.1:50051";

const UNIX = "unix:";
const HIGHEST_PORT = 65_535;

/**
 * The address to use: the one given, or POOL_SERVICE_ADDRESS, or the default.
 *
 * A path may begin with `~`. Throws TypeError if it is neither host:port nor unix:PATH.
 */
export function target(
  address: string | undefined,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): string {
  const chosen = [address, environment[ADDRESS_VARIABLE]].find(Boolean) ?? DEFAULT_ADDRESS;
  if (!isPrintable(chosen) || !(isSocketPath(chosen) || isHostAndPort(chosen))) {
    throw new TypeError(
      `${JSON.stringify(chosen)} is no address of a pool service: write host:port or unix:PATH`,
    );
  }
  return expanded(chosen);
}

/** With the home directory in place of `~`, as the service has it; gRPC knows none. */
function expanded(address: string): string {
  if (!address.startsWith(UNIX)) return address;
  const path = address.slice(UNIX.length).replace(/^\/\/(?=~)/, "");
  if (!path.startsWith("~")) return address;
  if (path !== "~" && !path.startsWith("~/")) {
    throw new TypeError(`${JSON.stringify(address)} names another user's home: write its path`);
  }
  return `${UNIX}${homedir()}${path.slice(1)}`;
}

function isPrintable(text: string): boolean {
  return !/[\p{C}\p{Zl}\p{Zp}]/u.test(text);
}

function isSocketPath(address: string): boolean {
  return address.startsWith(UNIX) && address.length > UNIX.length;
}

function isHostAndPort(address: string): boolean {
  const parts = /^(?:\[(?<v6>[^/[\]]+)\]|(?<name>[^/:]+)):(?<port>\d{1,5})$/.exec(address)?.groups;
  const port = Number(parts?.port ?? 0);
  return port > 0 && port <= HIGHEST_PORT;
}

/**
 * Options of a channel to a service that is near, and that may be restarted.
 *
 * A proxy from the environment has no business between a caller and its own machine; and
 * by default gRPC would wait up to two minutes before it tries again to reach a service
 * that is back already.
 */
export function channelOptions(): ChannelOptions {
  return {
    "grpc.primary_user_agent": `pool-service-client-typescript/${VERSION}`,
    "grpc.enable_http_proxy": 0,
    "grpc.service_config_disable_resolution": 1,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1000,
    // A watch may be quiet for hours; a peer that vanished without a word is noticed by this.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 20_000,
    // Each client has connections of its own, which end with it.
    "grpc.use_local_subchannel_pool": 1,
  };
}
