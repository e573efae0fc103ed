/** The token that tells a service who calls. */

import { isToken, TokenFile, WHAT_A_TOKEN_IS } from "./token_file.js";

/** The environment variable with the token. */
export const TOKEN_VARIABLE = "POOL_SERVICE_TOKEN";

/** The environment variable with the path of the token's file; TOKEN_VARIABLE goes before it. */
export const TOKEN_FILE_VARIABLE = "POOL_SERVICE_TOKEN_FILE";

/** Where the token of a client is, of which at most one is given. */
export interface TokenOptions {
  /** The token that is sent with each call. */
  readonly token?: string | undefined;
  /**
   * The file that holds the token, for you alone to read (`chmod 600`); `~` is the home directory.
   *
   * It is read again when it has changed, so that a new token is sent with the next call.
   */
  readonly tokenFile?: string | undefined;
}

/** Returns the value of `authorization` for the next call. A function shows its token nowhere. */
export type Authorization = () => string;

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The authorization by the given token, else by the environment's; undefined without one.
 *
 * Throws TypeError, which does not repeat the token, if it is not valid.
 */
export function authorization(
  given: TokenOptions,
  environment: Environment = process.env,
): Authorization | undefined {
  if (given.token !== undefined && given.tokenFile !== undefined) {
    throw new TypeError("both token and tokenFile are given: give one of them");
  }
  const isGiven = given.token !== undefined || given.tokenFile !== undefined;
  const { token, tokenFile } = isGiven ? given : ofEnvironment(environment);
  if (token !== undefined) {
    return ofToken(token, isGiven ? "the token" : TOKEN_VARIABLE);
  }
  if (tokenFile !== undefined) {
    return ofFile(tokenFile);
  }
  return undefined;
}

/** What the environment says; an empty variable says nothing. */
function ofEnvironment(environment: Environment): TokenOptions {
  const variable = (name: string): string | undefined =>
    environment[name] === "" ? undefined : environment[name];
  return { token: variable(TOKEN_VARIABLE), tokenFile: variable(TOKEN_FILE_VARIABLE) };
}

function ofToken(token: string, name: string): Authorization {
  if (!isToken(token)) throw new TypeError(`${name} is not valid: ${WHAT_A_TOKEN_IS}`);
  return () => `Bearer ${token}`;
}

function ofFile(path: string): Authorization {
  const file = new TokenFile(path);
  return () => `Bearer ${file.token()}`;
}
