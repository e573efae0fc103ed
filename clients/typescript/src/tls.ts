/** TLS: which services a client trusts, and the certificate that it shows. */

import { X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";
import { credentials, type ChannelCredentials, type ChannelOptions } from "@grpc/grpc-js";
import { isThisMachine, UNIX } from "./address.js";
import { absolute, bad, contents, type Kind } from "./file.js";

/** The environment variable with the path of the authorities that are trusted. */
export const CA_VARIABLE = "POOL_SERVICE_CA";

/** The environment variable with the path of the certificate that is shown. */
export const CERT_VARIABLE = "POOL_SERVICE_CERT";

/** The environment variable with the path of its key. */
export const KEY_VARIABLE = "POOL_SERVICE_KEY";

/** The environment variable with the name that the service's certificate must have. */
export const SERVER_NAME_VARIABLE = "POOL_SERVICE_SERVER_NAME";

/**
 * How TLS is spoken.
 *
 * To another machine a client always speaks TLS. To a loopback address it does if one of these is
 * given. The files are read when it is made: make a new client when you have replaced them.
 */
export interface TlsOptions {
  /** The file with the authorities, in PEM, that are trusted; by default those of Node.js. */
  readonly ca?: string | undefined;
  /** The file with the certificate, in PEM, that is shown to the service. */
  readonly cert?: string | undefined;
  /** The file with its key, for you alone to read (`chmod 600`). */
  readonly key?: string | undefined;
  /** The name that the service's certificate must have, if that is not the host of the address. */
  readonly serverName?: string | undefined;
}

/** How a channel is encrypted. */
export interface Encryption {
  readonly credentials: ChannelCredentials;
  readonly options: ChannelOptions;
}

type Environment = Readonly<Record<string, string | undefined>>;

const CA: Kind = { name: "CA file", holds: "certificates", isSecret: false };
const CERT: Kind = { name: "certificate file", holds: "certificate", isSecret: false };
const KEY: Kind = { name: "key file", holds: "key", isSecret: true };

/**
 * How what is sent to the address is encrypted; undefined if it is not.
 *
 * 1. To another machine it always is.
 * 2. To a loopback address it is if an option is given. Variables do not count there: they are for
 *    other machines.
 * 3. By a unix socket it is not.
 *
 * address: undefined: the default one. Throws TypeError if an option or a file cannot be used.
 */
export function encryption(
  given: TlsOptions,
  address: string | undefined,
  environment: Environment = process.env,
): Encryption | undefined {
  const isGiven = [given.ca, given.cert, given.key, given.serverName].some(Boolean);
  if (isGiven && (address === undefined || address.startsWith(UNIX))) {
    throw new TypeError(
      `there is no TLS by a unix socket (${address ?? "the default address"}): give host:port, or ` +
        "no option about TLS",
    );
  }
  if (!isGiven && (address === undefined || isThisMachine(address))) return undefined;
  const said = withEnvironment(given, environment);
  const { cert, key } = pair(said);
  const name = said.serverName;
  return {
    credentials: credentials.createSsl(authorities(said.ca), key, cert),
    options: name === undefined ? {} : { "grpc.ssl_target_name_override": name },
  };
}

/** What is given, else what the environment says; a certificate and its key are of one source. */
function withEnvironment(given: TlsOptions, environment: Environment): TlsOptions {
  const variable = (name: string): string | undefined => some(environment[name]);
  const hasPair = some(given.cert) !== undefined || some(given.key) !== undefined;
  return {
    ca: some(given.ca) ?? variable(CA_VARIABLE),
    cert: hasPair ? some(given.cert) : variable(CERT_VARIABLE),
    key: hasPair ? some(given.key) : variable(KEY_VARIABLE),
    serverName: some(given.serverName) ?? variable(SERVER_NAME_VARIABLE),
  };
}

function some(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}

function authorities(ca: string | undefined): Buffer | null {
  if (ca === undefined) return null;
  const { text } = contents(absolute(ca, CA), CA);
  try {
    new X509Certificate(text);
  } catch (error) {
    throw new TypeError(bad(ca, CA, "holds no certificates in PEM").message, { cause: error });
  }
  return Buffer.from(text);
}

function pair({ cert, key }: TlsOptions): { cert: Buffer | null; key: Buffer | null } {
  if (cert === undefined && key === undefined) return { cert: null, key: null };
  if (cert === undefined || key === undefined) {
    throw new TypeError("a certificate and its key belong together: give both cert and key");
  }
  const chain = contents(absolute(cert, CERT), CERT).text;
  const secret = contents(absolute(key, KEY), KEY).text;
  try {
    createSecureContext({ cert: chain, key: secret });
  } catch (error) {
    throw new TypeError(
      `the certificate file ${JSON.stringify(cert)} and the key file ${JSON.stringify(key)} do not ` +
        `belong together, or are not in PEM: ${(error as Error).message}`,
      { cause: error },
    );
  }
  return { cert: Buffer.from(chain), key: Buffer.from(secret) };
}
