/** The options of the client's calls. */

import type { ClientOptions } from "@grpc/grpc-js";
import type { LogRange, ModelOptions } from "./convert.js";
import type { OnProgress } from "./progress.js";
import type { RetryPolicy } from "./retry.js";
import type { StartOptions } from "./start.js";
import type { TlsOptions } from "./tls.js";
import type { TokenOptions } from "./token.js";

/** How a client connects and retries. */
export interface ConnectOptions extends TokenOptions, TlsOptions {
  /** Differences from the default: 30 s of patience, any number of attempts. */
  readonly retry?: Partial<RetryPolicy> | undefined;
  /** Options of the channel of @grpc/grpc-js, such as interceptors, besides the client's own. */
  readonly channel?: Partial<ClientOptions> | undefined;
}

/** How a service is started if none runs, and how the client connects to it. */
export interface ConnectOrStartOptions extends StartOptions, ConnectOptions {}

/** How long a call may take. */
export interface CallOptions {
  /** Milliseconds for the whole call, its retries included; absent: as long as it takes. */
  readonly timeoutMs?: number | undefined;
  /** Gives up the call, which ends only the wait. */
  readonly signal?: AbortSignal | undefined;
}

/** How the server of a model is looked up, and how long that may take. */
export interface GetOptions extends CallOptions {
  /** Ask a READY server first whether it still serves. */
  readonly check?: boolean | undefined;
}

/** How a model is ensured, and how long that may take. */
export interface EnsureOptions extends ModelOptions, CallOptions {
  /**
   * Receives the server whenever it has changed while the call waits, until it is READY; looked up
   * every half second. What it throws ends the call.
   */
  readonly onProgress?: OnProgress | undefined;
}

/** How servers are evicted, and how long that may take. */
export interface EvictOptions extends CallOptions {
  /**
   * Also evict servers that are held or have requests in flight, which finish within the drain
   * limit.
   */
  readonly force?: boolean | undefined;
}

/** How a model is held. */
export interface HoldOptions extends ModelOptions {
  /** A label of the holder, shown to callers that want to evict it. */
  readonly holder?: string | undefined;
  /** Ends the hold; the next call on it rejects with Cancelled. */
  readonly signal?: AbortSignal | undefined;
}

/** How pages are read. The timeout is each page's. */
export interface PageOptions extends CallOptions {
  /** Maximum number of servers on a page; with 0 the service chooses. */
  readonly pageSize?: number | undefined;
}

/** Which models are returned. The timeout is each page's. */
export interface ModelsOptions extends CallOptions {
  /**
   * Also models that are not listed: models that have a server, whose runtime model is remembered,
   * or that are in the service's Hugging Face cache.
   */
  readonly found?: boolean | undefined;
}

/** Where a watch begins. */
export interface WatchOptions {
  /** Each change after it, instead of the present state and what follows. */
  readonly afterRevision?: bigint | undefined;
  /** Ends the watch, with Cancelled. */
  readonly signal?: AbortSignal | undefined;
}

/** What is read of a model's logs. */
export interface LogOptions extends LogRange {
  /** Gives it up. */
  readonly signal?: AbortSignal | undefined;
}

/** Options of a download. */
export interface PullOptions {
  /** The model that the runtime loads, if the service should not choose it. */
  readonly runtimeModel?: string | undefined;
  /** Gives it up; the downloaded parts are kept. */
  readonly signal?: AbortSignal | undefined;
}
