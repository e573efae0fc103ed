/** Small files that a client is given: a token, a key, certificates. */

import { closeSync, fstatSync, openSync, readFileSync, statSync, type BigIntStats } from "node:fs";
import { isAbsolute } from "node:path";
import { getSystemErrorMap } from "node:util";
import { withHome } from "./address.js";

const MOST_BYTES = 1024n * 1024n;
/** The permissions that make a secret none: all of others', and the group's to write. */
const OPEN_TO_OTHERS = 0o027n;
const PERMISSIONS = 0o7777n;

/** What a file is, and what it has, for errors. */
export interface Kind {
  readonly name: string;
  readonly holds: string;
  /** Nobody else may read it. */
  readonly isSecret: boolean;
}

/** What is in a file, and the very file that was read. */
export interface Contents {
  readonly stats: BigIntStats;
  readonly text: string;
}

/** The path with `~` replaced, whatever becomes of the working directory. Throws TypeError. */
export function absolute(path: string, kind: Kind): string {
  const expanded = withHome(path);
  if (expanded === undefined) throw bad(path, kind, "is in another user's home: write its path");
  return expanded === "" || isAbsolute(expanded) ? expanded : `${process.cwd()}/${expanded}`;
}

/** Throws TypeError, with what to do, if the file cannot be used. */
export function contents(path: string, kind: Kind): Contents {
  let file: number | undefined;
  try {
    // Looked at before it is opened, as opening a named pipe waits for its writer.
    if (!statSync(path).isFile()) {
      throw bad(path, kind, `is no regular file: name one that holds only the ${kind.holds}`);
    }
    file = openSync(path, "r");
    // Of the file that is read, should another have taken its place.
    const stats = fstatSync(file, { bigint: true });
    check(path, kind, stats);
    return { stats, text: readFileSync(file, "utf8") };
  } catch (error) {
    throw error instanceof TypeError ? error : unreadable(path, kind, error);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** The error about a file. */
export function bad(path: string, kind: Kind, why: string): TypeError {
  return new TypeError(`the ${kind.name} ${JSON.stringify(path)} ${why}`);
}

function check(path: string, kind: Kind, stats: BigIntStats): void {
  const mode = stats.mode & PERMISSIONS;
  if (kind.isSecret && (mode & OPEN_TO_OTHERS) !== 0n) {
    const octal = mode.toString(8).padStart(4, "0");
    const why = `so its ${kind.holds} is no secret: run chmod 600 ${path}`;
    throw bad(path, kind, `is open to other users (mode ${octal}), ${why}`);
  }
  if (stats.size > MOST_BYTES) {
    throw bad(path, kind, `is larger than 1 MiB: name one that holds only the ${kind.holds}`);
  }
}

function unreadable(path: string, kind: Kind, error: unknown): TypeError {
  const { errno, message } = error as NodeJS.ErrnoException;
  const reason = getSystemErrorMap().get(errno ?? 0)?.[1] ?? message;
  const advice = kind.isSecret ? `, for you alone to read (chmod 600 ${path})` : "";
  return new TypeError(
    `cannot read the ${kind.name} ${JSON.stringify(path)}: ${reason}: write the ${kind.holds} into ` +
      `it${advice}`,
    { cause: error },
  );
}
