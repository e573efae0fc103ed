/** The address of a service that nobody named. */

import { lstatSync } from "node:fs";
import { connect } from "node:net";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

/** The TCP address on which a service listens by default. */
export const DEFAULT_ADDRESS = "127.0.0.1:50051";

const OPEN_TO_OTHERS = 0o077;

type Environment = Readonly<Record<string, string | undefined>>;

/** Return the address of `ownSocket`, else DEFAULT_ADDRESS. */
export async function defaultAddress(environment: Environment = process.env): Promise<string> {
  return (await ownSocket(environment)) ?? DEFAULT_ADDRESS;
}

/**
 * Return the address of the first default socket on which a program listens, if there is one.
 *
 * A socket counts only in a directory of this user that no other user can enter: a program of
 * another user could pose as the service.
 */
export async function ownSocket(
  environment: Environment = process.env,
): Promise<string | undefined> {
  for (const directory of directories(environment)) {
    const path = join(directory, "socket");
    if (isPrivate(directory) && (await isListenedOn(path))) return `unix:${path}`;
  }
  return undefined;
}

/** The directories in which a service makes its socket by default. */
function directories(environment: Environment): readonly string[] {
  const runtime = environment.XDG_RUNTIME_DIR ?? "";
  return [
    ...(isAbsolute(runtime) ? [join(runtime, "pool-service")] : []),
    join(stateHome(environment), "pool-service", "run"),
  ];
}

function stateHome(environment: Environment): string {
  const named = environment.XDG_STATE_HOME ?? "";
  if (isAbsolute(named)) return named;
  const ofSystem =
    process.platform === "darwin" ? ["Library", "Application Support"] : [".local", "state"];
  return join(homedir(), ...ofSystem);
}

function isPrivate(directory: string): boolean {
  try {
    const stats = lstatSync(directory);
    const isOwn = stats.isDirectory() && stats.uid === process.geteuid?.();
    return isOwn && (stats.mode & OPEN_TO_OTHERS) === 0;
  } catch {
    return false;
  }
}

/** Whether a program listens at the path, even one that is too busy to accept. */
async function isListenedOn(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.on("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.on("error", (error: NodeJS.ErrnoException) => {
      resolve(error.code === "EAGAIN");
    });
  });
}
