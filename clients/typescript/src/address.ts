/** The address of the service, and the channel to it. */

import { isIPv4 } from "node:net";
import { homedir } from "node:os";
import type { ChannelOptions } from "@grpc/grpc-js";
import { VERSION } from "./version.js";

/** The environment variable with the service's address. */
export const ADDRESS_VARIABLE = "POOL_SERVICE_ADDRESS";

/** Begins the address of a socket. */
export const UNIX = "unix:";
const HIGHEST_PORT = 65_535;

/**
 * The address to use: the given one, else POOL_SERVICE_ADDRESS, else undefined: the default one.
 *
 * A path may begin with `~`. Several host:port are separated by commas. Throws TypeError if the
 * address is neither host:port nor unix:PATH.
 */
export function target(
  address: string | undefined,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): string | undefined {
  const chosen = [address, environment[ADDRESS_VARIABLE]].find(Boolean);
  if (chosen === undefined) return undefined;
  if (isPrintable(chosen)) {
    if (isSocketPath(chosen)) return expanded(chosen);
    const several = chosen.split(",").map((one) => one.trim());
    if (several.every(isHostAndPort)) return several.join(",");
  }
  throw new TypeError(
    `${JSON.stringify(chosen)} is no address of a pool service: write host:port or unix:PATH, or ` +
      "several host:port with commas",
  );
}

/** Each address of a target, in the order in which they are called. */
export function eachOf(address: string): string[] {
  return address.startsWith(UNIX) ? [address] : address.split(",");
}

function expanded(address: string): string {
  if (!address.startsWith(UNIX)) return address;
  const path = address.slice(UNIX.length).replace(/^\/\/(?=~)/, "");
  const whole = withHome(path);
  if (whole === undefined) {
    throw new TypeError(`${JSON.stringify(address)} names another user's home: write its path`);
  }
  return `${UNIX}${whole}`;
}

/** Replaces `~` by the home directory, as the service does; undefined for another user's. */
export function withHome(path: string): string | undefined {
  if (!path.startsWith("~")) return path;
  return path === "~" || path.startsWith("~/") ? `${homedir()}${path.slice(1)}` : undefined;
}

/**
 * Whether what is sent to the address, or to each of several, stays on this machine. A host name
 * other than localhost counts as another machine's.
 */
export function isThisMachine(address: string): boolean {
  return address.startsWith(UNIX) || eachOf(address).every(isLoopback);
}

function isLoopback(address: string): boolean {
  const host = address.slice(0, address.lastIndexOf(":")).toLowerCase();
  return host === "localhost" || host === "[::1]" || (isIPv4(host) && host.startsWith("127."));
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
 * Options of a channel to a service on this machine, which may be restarted.
 *
 * No proxy from the environment belongs between a caller and its own machine. By default gRPC would
 * wait up to two minutes before it reconnects to a service that is back.
 */
export function channelOptions(): ChannelOptions {
  return {
    "grpc.primary_user_agent": `pool-service-client-typescript/${VERSION}`,
    "grpc.enable_http_proxy": 0,
    "grpc.service_config_disable_resolution": 1,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1000,
    // A watch may be quiet for hours; the keepalive notices a peer that vanished.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 20_000,
    // Each client has its own connections, which end with it.
    "grpc.use_local_subchannel_pool": 1,
  };
}
