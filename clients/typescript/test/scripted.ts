/** A pool service on loopback that answers what its script says, and keeps what it was asked. */

import {
  Metadata,
  Server,
  ServerCredentials,
  status,
  type handleServerStreamingCall,
  type handleUnaryCall,
  type sendUnaryData,
  type ServiceDefinition,
  type ServerWritableStream,
  type UntypedHandleCall,
} from "@grpc/grpc-js";
import type { Any } from "../src/generated/google/protobuf/any.js";
import { ErrorInfo, RetryInfo } from "../src/generated/google/rpc/error_details.js";
import { Status } from "../src/generated/google/rpc/status.js";
import {
  HoldResponse,
  PoolServiceService,
  Server as ServerMessage,
  ServerState,
  WatchResponse,
} from "../src/generated/pool_service/v1/pool_service.js";

export type Rpc = keyof typeof PoolServiceService;

/** A status other than OK: with a reason as the service sends it, or a bare one. */
export class Refusal {
  readonly code: status;
  readonly details: string;
  readonly metadata = new Metadata();

  constructor(code: status, message: string, reason = "", details: Any[] = []) {
    this.code = code;
    this.details = message;
    if (reason !== "") this.metadata = richMetadata(code, message, [info(reason), ...details]);
  }
}

/** Answers nothing, until the caller goes. */
export const STAY = Symbol("stay");

/** Goes on when the test opens it. */
export class Gate {
  open: () => void = () => undefined;
  readonly opened = new Promise<void>((resolve) => {
    this.open = resolve;
  });
}

/** A message is anything else. */
export type Step = object | Refusal | Gate | typeof STAY;

/** The check of health, which a program asks to know whether it serves. */
const HEALTH: ServiceDefinition = {
  check: {
    path: "/grpc.health.v1.Health/Check",
    requestStream: false,
    responseStream: false,
    requestSerialize: (request: Buffer) => request,
    requestDeserialize: (bytes: Buffer) => bytes,
    responseSerialize: (response: Buffer) => response,
    responseDeserialize: (bytes: Buffer) => bytes,
  },
};

/** An answer of HEALTH; the other statuses are UNKNOWN (0) and NOT_SERVING (2). */
export const SERVING = Buffer.of(8, 1);

/** Each call takes the next answer of its RPC; the last one is repeated. */
export class Script {
  readonly asked: Partial<Record<Rpc, unknown[]>> = {};
  /** What each call came with as `authorization`; without one it is "". */
  readonly authorizations: string[] = [];
  /** Streams that are open. */
  open = 0;
  address = "";
  /** What it answers about its health. */
  health: Step = SERVING;
  /** The requests for it. */
  readonly healthChecks: Buffer[] = [];
  readonly #server = new Server();
  readonly #answers = new Map<Rpc, Step[][]>();
  readonly #cancelled = new Set<Rpc>();
  readonly #waiting = new Set<() => void>();

  /** One answer to one call: a message or a failure; to a call with a stream, several. */
  answer(rpc: Rpc, ...steps: Step[]): void {
    this.#answers.set(rpc, [...(this.#answers.get(rpc) ?? []), steps]);
  }

  /** How often it was called. */
  calls(rpc: Rpc): number {
    return this.asked[rpc]?.length ?? 0;
  }

  /** Resolves when the caller of a unary call has given it up. */
  async whenCancelled(rpc: Rpc): Promise<void> {
    await this.until(() => this.#cancelled.has(rpc));
  }

  /** Resolves when this is so, looked at after each call and each end of a stream. */
  async until(so: () => boolean): Promise<void> {
    while (!so()) await new Promise<void>((resolve) => this.#waiting.add(resolve));
  }

  async start(at = "127.0.0.1:0"): Promise<void> {
    const handlers = Object.entries(PoolServiceService).map(([name, method]) => {
      const rpc = name as Rpc;
      return [name, method.responseStream ? this.#stream(rpc) : this.#unary(rpc)] as const;
    });
    const implementation: Record<string, UntypedHandleCall> = Object.fromEntries(handlers);
    this.#server.addService(PoolServiceService, implementation);
    this.#server.addService(HEALTH, { check: this.#checkHealth });
    const port = await new Promise<number>((resolve, reject) => {
      this.#server.bindAsync(at, ServerCredentials.createInsecure(), (error, bound) => {
        if (error) reject(error);
        else resolve(bound);
      });
    });
    this.address = at.startsWith("unix:") ? at : `127.0.0.1:${String(port)}`;
  }

  stop(): void {
    this.#server.forceShutdown();
  }

  #unary(rpc: Rpc): handleUnaryCall<object, object> {
    return (call, callback) => {
      const steps = this.#next(rpc, call);
      call.on("cancelled", () => {
        this.#cancelled.add(rpc);
        this.#looked();
      });
      void answer(callback, steps);
      this.#looked();
    };
  }

  readonly #checkHealth: handleUnaryCall<Buffer, object> = (call, callback) => {
    this.healthChecks.push(call.request);
    void answer(callback, [this.health]);
    this.#looked();
  };

  #stream(rpc: Rpc): handleServerStreamingCall<object, object> {
    return (call) => {
      this.open += 1;
      call.on("close", () => {
        this.open -= 1;
        this.#looked();
      });
      void play(call, this.#next(rpc, call));
      this.#looked();
    };
  }

  #next(rpc: Rpc, call: { readonly request: object; readonly metadata: Metadata }): Step[] {
    (this.asked[rpc] ??= []).push(call.request);
    this.authorizations.push(call.metadata.get("authorization").join());
    const answers = this.#answers.get(rpc) ?? [];
    return (answers.length > 1 ? answers.shift() : answers[0]) ?? [STAY];
  }

  #looked(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}

async function answer(callback: sendUnaryData<object>, steps: Step[]): Promise<void> {
  for (const step of steps) {
    if (step instanceof Gate) await step.opened;
    else if (step instanceof Refusal) callback(step);
    else if (step !== STAY) callback(null, step);
  }
}

async function play(call: ServerWritableStream<object, object>, steps: Step[]): Promise<void> {
  for (const step of steps) {
    if (step === STAY) return;
    if (step instanceof Gate) await step.opened;
    else if (step instanceof Refusal) {
      call.emit("error", step);
      return;
    } else call.write(step);
  }
  call.end();
}

export function richMetadata(code: status, message: string, details: Any[]): Metadata {
  const metadata = new Metadata();
  const bytes = Status.encode(Status.fromPartial({ code, message, details })).finish();
  metadata.set("grpc-status-details-bin", Buffer.from(bytes));
  return metadata;
}

export function packed<M>(
  name: string,
  type: { encode(message: M): { finish(): Uint8Array } },
  message: M,
): Any {
  return {
    typeUrl: `type.googleapis.com/google.rpc.${name}`,
    value: type.encode(message).finish(),
  };
}

export function info(reason: string, domain = "pool_service"): Any {
  return packed("ErrorInfo", ErrorInfo, { reason, domain, metadata: { model: "m" } });
}

export function retryAfter(milliseconds: number): Any {
  const seconds = BigInt(Math.trunc(milliseconds / 1000));
  const retryDelay = { seconds, nanos: (milliseconds % 1000) * 1e6 };
  return packed("RetryInfo", RetryInfo, { retryDelay });
}

/** A server that is READY, but for the fields given. */
export function ready(fields: Partial<ServerMessage> = {}): ServerMessage {
  return {
    ...ServerMessage.fromPartial({ model: "m", generation: 1n, pid: 4711 }),
    state: ServerState.SERVER_STATE_READY,
    endpoint: "http://127.0.0.1:49321",
    servedModelName: "served-m",
    ...fields,
  };
}

export function held(fields: Partial<ServerMessage> = {}, apiKey = ""): HoldResponse {
  return { server: ready(fields), apiKey };
}

export function starting(detail = ""): HoldResponse {
  const state = ServerState.SERVER_STATE_STARTING;
  return { server: ready({ state, detail, endpoint: "", servedModelName: "" }), apiKey: "" };
}

export function changed(revision: bigint, model = "m"): WatchResponse {
  return { revision, event: { $case: "server", value: ready({ model }) } };
}

/** The server of `m` as that generation. */
export function changedTo(revision: bigint, generation: bigint): WatchResponse {
  return { revision, event: { $case: "server", value: ready({ generation }) } };
}

export function removed(revision: bigint, model = "m"): WatchResponse {
  return { revision, event: { $case: "removed", value: ready({ model }) } };
}

export function synced(revision: bigint): WatchResponse {
  return { revision, event: { $case: "synced", value: {} } };
}

/** A break that is retried after 5 ms. */
export function broken(reason = "RECOVERING"): Refusal {
  return new Refusal(status.UNAVAILABLE, "it breaks", reason, [retryAfter(5)]);
}
