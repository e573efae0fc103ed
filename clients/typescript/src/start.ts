/** Finds your own service, or starts it by the command `pool-service start`. */

import { spawn } from "node:child_process";
import type { Readable } from "node:stream";
import type { MethodDefinition } from "@grpc/grpc-js";
import { ADDRESS_VARIABLE, target } from "./address.js";
import { startTimer } from "./cancellation.js";
import { ownSocket } from "./default_address.js";
import { ServiceNotStarted, type PoolErrorDetails } from "./errors.js";
import { Transport } from "./transport.js";

/** The environment variable with the program that starts a service. */
export const PROGRAM_VARIABLE = "POOL_SERVICE_PROGRAM";

const DEFAULT_PROGRAM = "pool-service";
const DEFAULT_TIMEOUT_MS = 30_000;
/** Stands for no limit, for which the program has no word. */
const LONGEST_TIMEOUT_MS = 365 * 86_400_000;
/** How much later than its limit the program is killed: its own message says more. */
const MORE_TIME_MS = 5_000;
const HEALTH_TIMEOUT_MS = 2_000;
/** How long after the end of the program its output may take: another process may hold it open. */
const OUTPUT_TIMEOUT_MS = 500;
const MOST_KEPT_CHARACTERS = 16_384;
const MOST_SHOWN_CHARACTERS = 200;
const MOST_LINES = 10;

/** How a service is started if none runs. */
export interface StartOptions {
  /** The program; by default POOL_SERVICE_PROGRAM, else `pool-service` on PATH. */
  readonly program?: string | undefined;
  /** What follows `start --timeout LIMIT` on its command line. */
  readonly arguments?: readonly string[] | undefined;
  /** Milliseconds that it may take, its `--timeout`; 30 s by default. It is killed 5 s later. */
  readonly startTimeoutMs?: number | undefined;
}

/** A command line. */
type Command = readonly [program: string, ...given: string[]];

/** How a program ended, and what it had written. */
interface End {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly complaint: string;
}

/** Checks a program's health: an empty request asks for all of it. The messages stay bytes. */
const CHECK: MethodDefinition<Buffer, Buffer> = {
  path: "/grpc.health.v1.Health/Check",
  requestStream: false,
  responseStream: false,
  requestSerialize: (request) => request,
  requestDeserialize: (bytes) => bytes,
  responseSerialize: (response) => response,
  responseDeserialize: (bytes) => bytes,
};
/** The answer whose status is SERVING. */
const SERVING = Buffer.of(0x08, 0x01);

/**
 * Return the address of your own service, which is started unless it serves.
 *
 * A socket on which a program listens is no proof: the service may be ending, or hang. Rejects
 * with ServiceNotStarted.
 */
export async function ownService(options: StartOptions): Promise<string> {
  const address = await ownSocket();
  return address !== undefined && (await serves(address)) ? address : startService(options);
}

/** Return whether the program that listens at the address says that it serves. */
async function serves(address: string): Promise<boolean> {
  const transport = new Transport(address, undefined, undefined, {});
  const operation = transport.begin(undefined);
  try {
    const limits = { remainingMs: HEALTH_TIMEOUT_MS };
    return SERVING.equals(await transport.unary(CHECK, Buffer.alloc(0), operation, limits));
  } catch {
    return false; // Why not, the program that starts a service finds out.
  } finally {
    operation.release();
    transport.close();
  }
}

/** Start a service, or find the running one; resolves to its address once it serves. */
async function startService(options: StartOptions): Promise<string> {
  const named = [options.program, process.env[PROGRAM_VARIABLE]].find(Boolean);
  const limitMs = Math.min(options.startTimeoutMs ?? DEFAULT_TIMEOUT_MS, LONGEST_TIMEOUT_MS);
  // The caller's arguments come last: the last limit on a command line counts.
  const given = ["start", "--timeout", seconds(limitMs), ...(options.arguments ?? [])];
  const command: Command = [named ?? DEFAULT_PROGRAM, ...given];
  const end = await run(command, limitMs + MORE_TIME_MS);
  if (end.code !== 0) throw failed(command, howItEnded(end), end.complaint);
  try {
    return addressIn(end.out);
  } catch {
    const printed = JSON.stringify(end.out.slice(0, MOST_SHOWN_CHARACTERS));
    throw failed(command, `it printed ${printed} instead of an address`, end.complaint);
  }
}

/** Return the duration as the program reads it, such as 0.3s. */
function seconds(milliseconds: number): string {
  return `${String(Math.ceil(milliseconds) / 1000)}s`;
}

/** Throws TypeError if the output is not one line with an address. */
function addressIn(out: string): string {
  const address = target(out.replace(/\r?\n$/, ""), {});
  if (address === undefined) throw new TypeError("there is no address");
  return address;
}

function howItEnded({ code, signal }: End): string {
  return code === null ? `was ended by ${String(signal)}` : `exited with code ${String(code)}`;
}

/** Run the command to its end; it is killed when the time is over. */
function run(command: Command, timeoutMs: number): Promise<End> {
  const [program, ...given] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(program, given, { stdio: ["ignore", "pipe", "pipe"] });
    const [out, complaint] = [written(child.stdout), written(child.stderr)];
    const late = (): void => {
      child.kill("SIGKILL");
      end(() => {
        reject(failed(command, `was not done within ${String(timeoutMs)} ms`, complaint()));
      });
    };
    let stopTimer = startTimer(timeoutMs, late);
    const end = (settle: () => void): void => {
      stopTimer();
      child.stdout.destroy();
      child.stderr.destroy();
      settle();
    };
    const ended = (code: number | null, signal: NodeJS.Signals | null): void => {
      end(() => {
        resolve({ code, signal, out: out(), complaint: complaint() });
      });
    };
    child.on("close", ended);
    child.on("exit", (code, signal) => {
      stopTimer();
      // What it had written is read before an immediate, however late the timer is.
      stopTimer = startTimer(OUTPUT_TIMEOUT_MS, () => setImmediate(ended, code, signal));
    });
    child.on("error", (error: NodeJS.ErrnoException) => {
      end(() => {
        reject(notRun(program, error));
      });
    });
  });
}

/** Collect the end of what is written; returns what returns it. */
function written(stream: Readable): () => string {
  let text = "";
  stream.setEncoding("utf8");
  stream.on("data", (part: string) => {
    text = (text + part).slice(-MOST_KEPT_CHARACTERS);
  });
  return () => text;
}

/** The error of a command that did not give an address. */
function failed(command: Command, why: string, complaint: string): ServiceNotStarted {
  const line = command.join(" ");
  const lastLines = complaint.split("\n").filter(Boolean).slice(-MOST_LINES);
  const said = lastLines.length === 0 ? "it wrote no error" : lastLines.join("\n");
  return notStarted(
    `${JSON.stringify(line)} ${why}: ${said}\n` +
      `mend that, or name a running service in ${ADDRESS_VARIABLE}`,
    { lastLines },
  );
}

/** The error of a program that could not be run. */
function notRun(program: string, cause: NodeJS.ErrnoException): ServiceNotStarted {
  const advice = `install it (docs/how-to/install.md), or name it in ${PROGRAM_VARIABLE}`;
  if (cause.code !== "ENOENT") {
    return notStarted(`cannot run ${program} (${cause.message}): ${advice}`, { cause });
  }
  const where = program.includes("/") ? "" : " on PATH";
  return notStarted(`${program} was not found${where}: ${advice}`, { cause });
}

function notStarted(why: string, details: PoolErrorDetails): ServiceNotStarted {
  const message = `cannot start the pool service: ${why}`;
  return new ServiceNotStarted(message, { code: "UNAVAILABLE", ...details });
}
