/** Calls over a channel of gRPC, as promises. */

import {
  Client,
  credentials,
  Metadata,
  status,
  type CallOptions,
  type ClientOptions,
  type ClientReadableStream,
  type MethodDefinition,
  type StatusObject,
} from "@grpc/grpc-js";
import { channelOptions, eachOf } from "./address.js";
import { Cancellation, startTimer, type Stop } from "./cancellation.js";
import { Connecting } from "./connecting.js";
import { DEFAULT_ADDRESS, defaultAddress } from "./default_address.js";
import { Cancelled } from "./errors.js";
import { errorOf } from "./status.js";
import type { Encryption } from "./tls.js";
import type { Authorization } from "./token.js";

/** How a call ends at an address from which nothing comes. */
const NO_CONNECTION: StatusObject = {
  code: status.UNAVAILABLE,
  details: "no connection could be made in time",
  metadata: new Metadata(),
};

/**
 * The channel to one service, and its open operations.
 *
 * Of several addresses one is called. A call that ends as UNAVAILABLE, or that the service drops
 * (CANCELLED), moves the next calls on to the next address, the first again after the last; retries
 * then make the call there.
 */
export class Transport {
  readonly #authorization: Authorization | undefined;
  readonly #encryption: Encryption | undefined;
  readonly #options: Partial<ClientOptions>;
  #address: string;
  #clients: readonly Connecting[] | undefined;
  #at = 0;
  #finding: Promise<readonly Connecting[]> | undefined;
  readonly #underWay = new Set<Cancellation>();
  #closed = false;

  /** address: undefined: the default one, which the first call finds. */
  constructor(
    address: string | undefined,
    authorization: Authorization | undefined,
    encryption: Encryption | undefined,
    options: Partial<ClientOptions>,
  ) {
    this.#authorization = authorization;
    this.#encryption = encryption;
    this.#options = options;
    this.#address = address ?? DEFAULT_ADDRESS;
    if (address !== undefined) this.#clients = this.#newClients();
  }

  /** The address, as error messages name it. */
  get address(): string {
    return this.#address;
  }

  /**
   * Begin an operation, which its signal or the end of the client gives up; release it
   * afterwards.
   */
  begin(signal: AbortSignal | undefined): Cancellation {
    const operation: Cancellation = new Cancellation(signal, () => {
      this.#underWay.delete(operation);
    });
    this.#underWay.add(operation);
    if (this.#closed) operation.cancel(this.#closedError());
    return operation;
  }

  /** Make a call with one answer. Rejects with a PoolError. */
  async unary<Q, R>(
    method: MethodDefinition<Q, R>,
    request: Q,
    operation: Cancellation,
    limits: {
      readonly remainingMs?: number | undefined;
      readonly timeoutMs?: number | undefined;
    },
  ): Promise<R> {
    const { remainingMs, timeoutMs } = limits;
    const options: CallOptions =
      remainingMs === undefined ? {} : { deadline: Date.now() + remainingMs };
    const { client, at } = await this.#called(operation, remainingMs);
    return operation.wait<R>((resolve, reject) => {
      const call = client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        this.#metadata(),
        options,
        (failure, response) => {
          this.#note(at, failure?.code, operation);
          if (failure) reject(errorOf(failure, this.address, timeoutMs));
          else resolve(response as R);
        },
      );
      return () => {
        call.cancel();
      };
    });
  }

  /** Make a call that is answered with a stream. */
  async open<Q, R>(
    method: MethodDefinition<Q, R>,
    request: Q,
    operation: Cancellation,
  ): Promise<Incoming<R>> {
    const { client, at } = await this.#called(operation, undefined);
    if (operation.error !== undefined) throw operation.error;
    const call = client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      this.#metadata(),
    );
    call.on("status", (told: StatusObject) => {
      this.#note(at, told.code, operation);
    });
    return new Incoming(call, this.address, operation);
  }

  /** Give up all open operations, and close the channel. */
  close(): void {
    this.#closed = true;
    for (const operation of [...this.#underWay]) operation.cancel(this.#closedError());
    for (const { client } of this.#clients ?? []) client.close();
  }

  /**
   * The client that is called now, and its place. Rejects with a PoolError if it is one of several,
   * and nothing comes from its address. limitMs: for how long the caller waits at most.
   */
  async #called(
    operation: Cancellation,
    limitMs: number | undefined,
  ): Promise<{ readonly client: Client; readonly at: number }> {
    const clients = this.#clients ?? (await this.#found());
    const at = this.#at;
    const called = clients[at];
    if (called === undefined) throw new RangeError(`there is no address ${String(at)}`);
    if (clients.length > 1 && !(await this.#hasConnected(called, operation, limitMs))) {
      this.#note(at, status.UNAVAILABLE, operation);
      throw errorOf(NO_CONNECTION, this.address);
    }
    return { client: called.client, at };
  }

  /** Whether an attempt to connect has ended in time. A call whose caller is late says so itself. */
  async #hasConnected(
    called: Connecting,
    operation: Cancellation,
    limitMs: number | undefined,
  ): Promise<boolean> {
    return operation.wait<boolean>((resolve) => {
      const late = (): void => {
        resolve(true);
      };
      const stop = limitMs === undefined ? () => undefined : startTimer(limitMs, late);
      void called.hasEnded().then((hasEnded) => {
        stop();
        resolve(hasEnded);
      });
      return stop;
    });
  }

  /** Moves on from an address at which a call has failed, unless another call has done so. */
  #note(at: number, code: status | undefined, operation: Cancellation): void {
    const count = this.#clients?.length ?? 1;
    const isDropped = code === status.CANCELLED && operation.error === undefined;
    const hasFailed = code === status.UNAVAILABLE || isDropped;
    if (hasFailed && at === this.#at) this.#at = (at + 1) % count;
  }

  /** The client of the default address, which all calls wait for that come before it is found. */
  async #found(): Promise<readonly Connecting[]> {
    this.#finding ??= defaultAddress().then((address) => {
      this.#address = address;
      this.#clients = this.#newClients();
      if (this.#closed) for (const { client } of this.#clients) client.close();
      return this.#clients;
    });
    return this.#finding;
  }

  #newClients(): readonly Connecting[] {
    const encrypted = this.#encryption;
    const shown = encrypted?.credentials ?? credentials.createInsecure();
    const options = { ...channelOptions(), ...encrypted?.options, ...this.#options };
    return eachOf(this.#address).map(
      (address) => new Connecting(new Client(address, shown, options)),
    );
  }

  /** Each call's own, which its interceptors may change. */
  #metadata(): Metadata {
    const metadata = new Metadata();
    if (this.#authorization) metadata.set("authorization", this.#authorization());
    return metadata;
  }

  #closedError(): Cancelled {
    return new Cancelled(`the client of ${this.address} was closed`, { code: "CANCELLED" });
  }
}

/** The messages of a stream, read one by one. */
export class Incoming<R> {
  readonly #call: ClientReadableStream<R>;
  readonly #address: string;
  readonly #operation: Cancellation;
  readonly #forget: Stop;
  #status: StatusObject | undefined;
  #wake: Stop | undefined;

  constructor(call: ClientReadableStream<R>, address: string, operation: Cancellation) {
    this.#call = call;
    this.#address = address;
    this.#operation = operation;
    this.#forget = operation.onCancel(() => {
      call.cancel();
    });
    call.on("readable", () => this.#wake?.());
    call.on("status", (told: StatusObject) => {
      this.#status = told;
      this.#wake?.();
    });
    // The status says the same; but an error without a listener would end the process.
    call.on("error", () => undefined);
  }

  /** The next message; undefined at the end. Rejects with a PoolError. */
  async next(): Promise<R | undefined> {
    for (;;) {
      if (this.#operation.error !== undefined) throw this.#operation.error;
      const message = this.#call.read() as R | null;
      if (message !== null) return message;
      if (this.#status !== undefined) break;
      await this.#news();
    }
    if (this.#status.code === status.OK) return undefined;
    throw errorOf(this.#status, this.#address);
  }

  /** End the call. */
  cancel(): void {
    this.#forget();
    this.#call.cancel();
  }

  async #news(): Promise<void> {
    await this.#operation.wait<undefined>((resolve) => {
      this.#wake = () => {
        resolve(undefined);
      };
      return () => undefined;
    });
    this.#wake = undefined;
  }
}
