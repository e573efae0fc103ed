/** A file that holds a token. */

import { statSync, type BigIntStats } from "node:fs";
import { absolute, bad, contents, type Kind } from "./file.js";

/** What a token is, for an error about one that is none. */
export const WHAT_A_TOKEN_IS =
  "a token has 1 to 4096 printable ASCII characters, and no white space";

const TOKEN_FILE: Kind = { name: "token file", holds: "token", isSecret: true };

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
    this.#path = absolute(path, TOKEN_FILE);
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

function read(path: string): Read {
  const { stats, text } = contents(path, TOKEN_FILE);
  const token = text.trim();
  if (token === "") throw bad(path, TOKEN_FILE, "is empty: write the token into it");
  if (!isToken(token)) throw bad(path, TOKEN_FILE, `holds no valid token: ${WHAT_A_TOKEN_IS}`);
  return { token, stats };
}
