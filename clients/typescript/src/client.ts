/** The client. */

import type { MethodDefinition } from "@grpc/grpc-js";
import { eachOf, target } from "./address.js";
import type { Cancellation } from "./cancellation.js";
import * as convert from "./convert.js";
import { description } from "./convert_description.js";
import type { Description } from "./description.js";
import type { PoolError } from "./errors.js";
import { Following, Holding, Pulling, Reading, type Follower } from "./following.js";
import {
  PoolServiceService as methods,
  type GetRequest,
} from "./generated/pool_service/v1/pool_service.js";
import { Hold } from "./hold.js";
import type {
  CallOptions,
  ConnectOptions,
  ConnectOrStartOptions,
  EnsureOptions,
  EvictOptions,
  GetOptions,
  HoldOptions,
  LogOptions,
  ModelsOptions,
  PageOptions,
  PullOptions,
  WatchOptions,
} from "./options.js";
import { Paging } from "./paging.js";
import { PROGRESS_TIMEOUT_MS, withProgress } from "./progress.js";
import { Attempts, DEFAULT_RETRY, REAL_CLOCK, type PolicyOfSeveral } from "./retry.js";
import { READY_GRACE_MS } from "./serving.js";
import { ownService } from "./start.js";
import { follow, PoolStream } from "./stream.js";
import { encryption } from "./tls.js";
import { authorization } from "./token.js";
import { Transport } from "./transport.js";
import type {
  EnsureResult,
  Event,
  EvictedServer,
  Found,
  LogPart,
  Model,
  Page,
  Progress,
  Pinned,
  Reloaded,
  Server,
} from "./types.js";

/**
 * A connection to a pool service.
 *
 *     await using pool = PoolClient.connect();
 *     const { server } = await pool.ensure("vllm-mlx/qwen3-4b");
 *
 * Every method rejects with subclasses of PoolError. Errors that may pass are retried: within
 * `timeoutMs`, or, without one, for `RetryPolicy.patienceMs`. An open call, hold or watch keeps the
 * process alive; a client without any does not, closed or not.
 */
export class PoolClient implements AsyncDisposable {
  readonly #transport: Transport;
  readonly #retry: PolicyOfSeveral;

  private constructor(transport: Transport, retry: PolicyOfSeveral) {
    this.#transport = transport;
    this.#retry = retry;
  }

  /**
   * A client of the service at host:port or unix:PATH, or at several host:port, separated by
   * commas, of which the next one is called when one fails. It connects on first use.
   *
   * address: by default POOL_SERVICE_ADDRESS, else the socket of your own service if one listens
   * there at the first call, else 127.0.0.1:50051. The token is by default that of
   * POOL_SERVICE_TOKEN, else of the file POOL_SERVICE_TOKEN_FILE, else there is none. To another
   * machine it speaks TLS, by the options or by POOL_SERVICE_CA, POOL_SERVICE_CERT, POOL_SERVICE_KEY
   * and POOL_SERVICE_SERVER_NAME. Throws TypeError if the address, the token or a file is not valid.
   */
  static connect(address?: string, options: ConnectOptions = {}): PoolClient {
    const where = target(address);
    const encrypted = encryption(options, where);
    const shown = authorization(options);
    const transport = new Transport(where, shown, encrypted, options.channel ?? {});
    const addresses = where === undefined ? 1 : eachOf(where).length;
    return new PoolClient(transport, { ...DEFAULT_RETRY, ...options.retry, addresses });
  }

  /**
   * A client of the service of this machine, which is started if none serves.
   *
   * If POOL_SERVICE_ADDRESS names a service, or your own service says that it serves, this is
   * `connect`. Else `pool-service start` is run, which waits for the end of a service that is
   * ending, starts one that outlives your program, and finds it if another does the same at this
   * moment. Rejects with ServiceNotStarted if it fails, and with TypeError as `connect` throws it.
   */
  static async connectOrStart(options: ConnectOrStartOptions = {}): Promise<PoolClient> {
    return PoolClient.connect(target(undefined) ?? (await ownService(options)), options);
  }

  /** Close the channel; open calls end with Cancelled, and holds are released. */
  close(): void {
    this.#transport.close();
  }

  /** As `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  /**
   * Wait until the model's server is READY; start it if there is none.
   *
   * Giving up does not stop the start. `onProgress` is called with the server meanwhile.
   */
  async ensure(model: string, options: EnsureOptions = {}): Promise<EnsureResult> {
    const request = convert.ensureRequest(model, options);
    const response = await this.#operate(options.signal, (operation) => {
      const answer = this.#retried(methods.ensure, request, options.timeoutMs, operation);
      if (options.onProgress === undefined) return answer;
      const lookUp = async (): Promise<Server | undefined> =>
        (await this.#lookUp({ model, check: false }, PROGRESS_TIMEOUT_MS, operation)).server;
      return withProgress(answer, lookUp, options.onProgress, operation);
    });
    return convert.ensureResult(response, this.#transport.address);
  }

  /**
   * Make the model READY, and keep it so until the hold is closed: see Hold.
   *
   * It begins at once. Otherwise as `ensure`; keepAliveMs counts from the end of the last hold.
   */
  hold(model: string, options: HoldOptions = {}): Hold {
    const request = convert.holdRequest(model, options, options.holder);
    const holding = new Holding(request, this.#retry, REAL_CLOCK);
    const ask = (held: string, operation: Cancellation): Promise<Found> =>
      this.#lookUp({ model: held, check: true }, READY_GRACE_MS, operation);
    return new Hold(this.#stream(methods.hold, holding, options.signal), model, ask);
  }

  /**
   * Stop the model's server; resolves to the stopped server, or to none if there was none.
   *
   * Resolves when the process is gone; giving up does not stop the eviction.
   */
  async evict(model: string, options: EvictOptions = {}): Promise<readonly EvictedServer[]> {
    return this.#evict({ $case: "model", value: model }, options);
  }

  /** Stop every READY server that is neither in use nor pinned. */
  async evictIdle(options: CallOptions = {}): Promise<readonly EvictedServer[]> {
    return this.#evict({ $case: "idle", value: true }, options);
  }

  /** Stop every server that is not in use; with force also those in use. */
  async evictAll(options: EvictOptions = {}): Promise<readonly EvictedServer[]> {
    return this.#evict({ $case: "all", value: true }, options);
  }

  /**
   * Return the server of the model as it is now, if there is one.
   *
   * Starts nothing, and is no use of the server. With `check` the service first asks a READY server
   * whether it still serves: see `Found.answers`.
   */
  async get(model: string, options: GetOptions = {}): Promise<Found> {
    const request = { model, check: options.check ?? false };
    return convert.found(await this.#call(methods.get, request, options));
  }

  /** Return all servers, ordered by model. The timeout is each page's. */
  async list(options: CallOptions = {}): Promise<Server[]> {
    const servers: Server[] = [];
    for await (const page of this.pages(options)) servers.push(...page.servers);
    return servers;
  }

  /** All pages, each with the pool's totals and its revision, at least one. */
  async *pages(options: PageOptions = {}): AsyncGenerator<Page, void, undefined> {
    const paging = new Paging(this.#transport);
    let token: string;
    do {
      const request = { pageSize: options.pageSize ?? 0, pageToken: paging.token };
      const response = await this.#call(methods.list, request, options);
      yield convert.page(response);
      token = response.nextPageToken;
    } while (paging.turn(token));
  }

  /**
   * The present servers, synced, then every change; or each change after a revision.
   *
   * It outlives breaks of the connection and restarts of the service: see Watch. Throws
   * RangeError for a revision that no service can have given.
   */
  watch(options: WatchOptions = {}): Watch {
    const following = new Following(this.#retry, REAL_CLOCK, options.afterRevision);
    return new Watch(this.#transport, following, options.signal);
  }

  /**
   * What the servers of the model have written, oldest first, and the end of each process; from the
   * newest process on unless you say otherwise.
   *
   * After a break, also by a restart of the service, it goes on with the next line; with `follow`
   * it rejects with PoolUnavailable only if the service is unreachable for
   * `RetryPolicy.patienceMs`. Reading a log is no use of a server. Throws RangeError if it would
   * begin in two places.
   */
  logs(model: string, options: LogOptions = {}): PoolStream<LogPart> {
    const request = convert.logRequest(model, options);
    const reading = new Reading(request, this.#retry, REAL_CLOCK);
    return this.#stream(methods.tailLogs, reading, options.signal);
  }

  /**
   * Return the models that the service's configuration lists, ordered by model. The timeout is
   * each page's.
   */
  async models(options: ModelsOptions = {}): Promise<Model[]> {
    const models: Model[] = [];
    const paging = new Paging(this.#transport);
    let token: string;
    do {
      const request = { pageSize: 0, pageToken: paging.token, found: options.found ?? false };
      const response = await this.#call(methods.listModels, request, options);
      models.push(...response.models.map(convert.model));
      token = response.nextPageToken;
    } while (paging.turn(token));
    return models;
  }

  /**
   * Download the missing files of the model; yields the progress until all are there.
   *
   * It begins when it is iterated, and starts no server. Leaving the loop gives up; the downloaded
   * parts are kept. A download that breaks is resumed.
   */
  pull(model: string, options: PullOptions = {}): PoolStream<Progress> {
    const request = { model, runtimeModel: options.runtimeModel ?? "" };
    const pulling = new Pulling(request, this.#retry, REAL_CLOCK);
    return this.#stream(methods.pull, pulling, options.signal);
  }

  /**
   * Forget the runtime model that is remembered for the model; resolves to it, or to "".
   *
   * A running server goes on as it is.
   */
  async forget(model: string, options: CallOptions = {}): Promise<string> {
    return (await this.#call(methods.forget, { model }, options)).runtimeModel;
  }

  /**
   * Pin the model, or take its pin back (false), whatever the configuration says; null lets the
   * configuration decide again.
   *
   * The server of a pinned model is stopped neither for being unused nor for other models. Starts
   * nothing; kept over evictions and restarts of the service.
   */
  async pin(
    model: string,
    pinned: boolean | null = true,
    options: CallOptions = {},
  ): Promise<Pinned> {
    const request = { model, pinned: pinned ?? undefined };
    return convert.pinned(await this.#call(methods.pin, request, options));
  }

  /**
   * All that the service knows about the model: its settings, servers and last starts, who holds it
   * and waits for it, what would be stopped for another model, and the last decisions.
   */
  async describe(model: string, options: CallOptions = {}): Promise<Description> {
    return description(await this.#call(methods.describe, { model }, options));
  }

  /**
   * Make the service read its configuration again and apply the differences.
   *
   * Rejects with ConfigInvalid if the configuration has an error; then nothing is changed.
   */
  async reload(options: CallOptions = {}): Promise<Reloaded> {
    return convert.reloaded(await this.#call(methods.reload, {}, options));
  }

  async #evict(
    what: Parameters<typeof convert.evictRequest>[0],
    options: EvictOptions,
  ): Promise<readonly EvictedServer[]> {
    const request = convert.evictRequest(what, options.force);
    return convert.evictedServers(await this.#call(methods.evict, request, options));
  }

  /** Get a server by one attempt, within that time. */
  async #lookUp(request: GetRequest, limitMs: number, operation: Cancellation): Promise<Found> {
    const limits = { remainingMs: limitMs, timeoutMs: limitMs };
    return convert.found(await this.#transport.unary(methods.get, request, operation, limits));
  }

  #stream<Q, R, V>(
    method: MethodDefinition<Q, R>,
    follower: Follower<Q, R, V>,
    signal: AbortSignal | undefined,
  ): PoolStream<V> {
    return new PoolStream(this.#transport, signal, (operation) =>
      follow(this.#transport, method, follower, operation),
    );
  }

  async #call<Q, R>(
    method: MethodDefinition<Q, R>,
    request: Q,
    { timeoutMs, signal }: CallOptions,
  ): Promise<R> {
    return this.#operate(signal, (operation) =>
      this.#retried(method, request, timeoutMs, operation),
    );
  }

  async #operate<T>(
    signal: AbortSignal | undefined,
    body: (operation: Cancellation) => Promise<T>,
  ): Promise<T> {
    const operation = this.#transport.begin(signal);
    try {
      return await body(operation);
    } finally {
      operation.release();
    }
  }

  async #retried<Q, R>(
    method: MethodDefinition<Q, R>,
    request: Q,
    timeoutMs: number | undefined,
    operation: Cancellation,
  ): Promise<R> {
    const attempts = new Attempts(this.#retry, REAL_CLOCK, timeoutMs);
    for (;;) {
      try {
        const limits = { remainingMs: attempts.remainingMs(), timeoutMs };
        return await this.#transport.unary(method, request, operation, limits);
      } catch (error) {
        await operation.sleep(attempts.failed(error as PoolError));
      }
    }
  }
}

/**
 * The pool's events, in order, for as long as it is iterated.
 *
 * After a break, the watch resumes after the last revision; it rejects with PoolUnavailable only if
 * the service is unreachable for `RetryPolicy.patienceMs`. If the history since then is gone, a
 * watch that began with the present state begins with it again (with "removed" for servers that are
 * gone, and another "synced"); a watch that began after a revision rejects with RevisionCompacted.
 */
export class Watch extends PoolStream<Event> {
  readonly #following: Following;

  /** @internal */
  constructor(transport: Transport, following: Following, signal: AbortSignal | undefined) {
    super(transport, signal, (operation) => follow(transport, methods.watch, following, operation));
    this.#following = following;
  }

  /** The revision after which another watch can resume; undefined before the first "synced". */
  get revision(): bigint | undefined {
    return this.#following.revision;
  }
}
