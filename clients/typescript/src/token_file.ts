/** A file that holds a token. */

import { closeSync, fstatSync, openSync, readFileSync, statSync, type BigIntStats } from "node:fs";
import { isAbsolute } from "node:path";
import { getSystemErrorMap } from "node:util";
import { withHome } from "./address.js";

/** What a token is, for an error about one that is none. */
export const WHAT_A_TOKEN_IS =
  "a token has 1 to 4096 printable ASCII characters, and no white space";

const MOST_BYTES = 1024n * 1024n;
/** The permissions that make a token no secret: all of others', and the group's to write. */
const OPEN_TO_OTHERS = 0o027n;
const PERMISSIONS = 0o7777n;

/** Whether the text can be a token. */
export function isToken(text: string): boolean {
  return /^[!-~]{1,4096}$/.test(text);
}

interface Read {
  readonly token: string;
  readonly stats: BigIntStats;
}

/** A file with a token, which may be replaced at any time. */
export class TokenFile {
  readonly #path: string;
  #last: Read;

  /** Throws TypeError if the file does not hold a token that is a secret. */
  constructor(path: string) {
    this.#path = absolute(path);
    this.#last = read(this.#path);
  }

  /**
   * The token, read again if the file has changed.
   *
   * A file that is bad now, since it is being written, say, keeps the last token.
   */
  token(): string {
    try {
      if (isChanged(this.#last.stats, statSync(this.#path, { bigint: true }))) {
        this.#last = read(this.#path);
      }
    } catch {
      // Another call finds it mended.
    }
    return this.#last.token;
  }
}

function isChanged(before: BigIntStats, now: BigIntStats): boolean {
  const parts = ["dev", "ino", "size", "mtimeNs"] as const;
  return parts.some((part) => before[part] !== now[part]);
}

/** The path with `~` replaced, whatever becomes of the working directory. */
function absolute(path: string): string {
  const expanded = withHome(path);
  if (expanded === undefined) throw bad(path, "is in another user's home: write its path");
  return expanded === "" || isAbsolute(expanded) ? expanded : `${process.cwd()}/${expanded}`;
}

function read(path: string): Read {
  const { stats, text } = contents(path);
  const token = text.trim();
  if (token === "") throw bad(path, "is empty: write the token into it");
  if (!isToken(token)) throw bad(path, `holds no valid token: ${WHAT_A_TOKEN_IS}`);
  return { token, stats };
}

function contents(path: string): { readonly stats: BigIntStats; readonly text: string } {
  let file: number | undefined;
  try {
    // Looked at before it is opened, as opening a named pipe waits for its writer.
    if (!statSync(path).isFile()) {
      throw bad(path, "is no regular file: name one that holds only the token");
    }
    file = openSync(path, "r");
    // Of the file that is read, should another have taken its place.
    const stats = fstatSync(file, { bigint: true });
    check(path, stats);
    return { stats, text: readFileSync(file, "utf8") };
  } catch (error) {
    throw error instanceof TypeError ? error : unreadable(path, error);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

function check(path: string, stats: BigIntStats): void {
  const mode = stats.mode & PERMISSIONS;
  if ((mode & OPEN_TO_OTHERS) !== 0n) {
    const octal = mode.toString(8).padStart(4, "0");
    throw bad(
      path,
      `is open to other users (mode ${octal}), so its token is no secret: run chmod 600 ${path}`,
    );
  }
  if (stats.size > MOST_BYTES) {
    throw bad(path, "is larger than 1 MiB: name one that holds only the token");
  }
}

function bad(path: string, why: string): TypeError {
  return new TypeError(`the token file ${JSON.stringify(path)} ${why}`);
}

function unreadable(path: string, error: unknown): TypeError {
  const { errno, message } = error as NodeJS.ErrnoException;
  const reason = getSystemErrorMap().get(errno ?? 0)?.[1] ?? message;
  return new TypeError(
    `cannot read the token file ${JSON.stringify(path)}: ${reason}: write the token into it, for ` +
      `you alone to read (chmod 600 ${path})`,
    { cause: error },
  );
}
