/** The commands of the runner's protocol, each on top of the client. */

import { InterceptingCall, type Interceptor } from "@grpc/grpc-js";
import { PoolClient, type EvictedServer, type Hold, type Server } from "pool-service-client";
import { infer } from "./infer.js";
import { wire, wireError, wireEvent } from "./wire.js";

/** One line of the conductor; each op reads its own fields. */
interface Command {
  readonly id: string;
  readonly op: string;
  readonly client: string;
  readonly hold: string;
  readonly target: string;
  readonly address?: string;
  readonly start?: readonly string[] | null;
  readonly program?: string | null;
  readonly start_timeout?: number | null;
  readonly token?: string;
  readonly token_file?: string;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly server_name?: string;
  readonly model: string;
  readonly text: string;
  readonly count: number;
  readonly attempts?: number | null;
  readonly patience?: number | null;
  readonly runtime_model?: string | null;
  readonly keep_alive?: number | null;
  readonly download?: boolean | null;
  readonly holder?: string | null;
  readonly timeout?: number | null;
  readonly check?: boolean | null;
  readonly progress?: boolean | null;
  readonly force?: boolean | null;
  readonly found?: boolean | null;
  readonly pinned?: boolean | null;
  readonly idle?: boolean | null;
  readonly page_size?: number | null;
  readonly parallel?: number | null;
  readonly after?: number | null;
  readonly after_revision?: number | null;
  readonly generation?: number | null;
  readonly previous?: boolean | null;
  readonly oldest?: boolean | null;
  readonly cursor?: string | null;
  readonly lines?: number | null;
  readonly follow?: boolean | null;
}

/** What an operation gets: its command, its signal, and where its events go. */
interface Running {
  readonly command: Command;
  readonly signal: AbortSignal;
  readonly event: (event: unknown) => void;
}

type Operation = (running: Running) => unknown;

interface Connection {
  readonly pool: PoolClient;
  readonly calls: Record<string, number>;
}

/** What the conductor named, and what is under way. */
export class Commands {
  readonly #write: (line: unknown) => void;
  readonly #connections = new Map<string, Connection>();
  readonly #holds = new Map<string, Hold>();
  readonly #running = new Map<string, AbortController>();

  constructor(write: (line: unknown) => void) {
    this.#write = write;
  }

  /** Begin a command; its end is written when it comes. */
  begin(line: unknown): void {
    void this.#run(line as Command);
  }

  /** Close all clients. */
  close(): void {
    for (const { pool } of this.#connections.values()) pool.close();
  }

  async #run(command: Command): Promise<void> {
    const { id } = command;
    const controller = new AbortController();
    this.#running.set(id, controller);
    const event = (told: unknown): void => {
      this.#write({ id, event: told });
    };
    try {
      const operation = this.#operations[command.op];
      if (operation === undefined) throw new Error(`no op ${command.op}`);
      const result = await operation({ command, signal: controller.signal, event });
      this.#write({ id, result });
    } catch (error) {
      this.#write({ id, error: wireError(error) });
    } finally {
      this.#running.delete(id);
    }
  }

  readonly #operations: Readonly<Record<string, Operation>> = {
    connect: ({ command }) => this.#connect(command),
    close: ({ command }) => {
      this.#pool(command).close();
      return {};
    },
    calls: ({ command }) => this.#connection(command).calls,
    ensure: async ({ command, signal, event }) => {
      const report = (server: Server): void => {
        event({ server: wire(server) });
      };
      const onProgress = command.progress ? report : undefined;
      const limits = { timeoutMs: milliseconds(command.timeout), signal };
      const options = { ...modelOptions(command), ...limits, onProgress };
      return wire(await this.#pool(command).ensure(command.model, options));
    },
    get: async ({ command, signal }) => {
      const options = { check: command.check ?? false, signal };
      return wire(await this.#pool(command).get(command.model, options));
    },
    servers: async ({ command, signal }) => ({
      servers: wire(await this.#pool(command).list({ signal })),
    }),
    evict: async (running) => ({ evicted: wire(await this.#evict(running)) }),
    list: (running) => this.#list(running),
    watch: (running) => this.#watch(running),
    hold: (running) => this.#hold(running),
    ready: async ({ command, signal }) => {
      const after = command.after == null ? undefined : { generation: command.after };
      const timeoutMs = milliseconds(command.timeout);
      return { server: wire(await this.#held(command).ready({ timeoutMs, after, signal })) };
    },
    release: ({ command }) => {
      this.#held(command).close();
      return {};
    },
    infer: ({ command, signal, event }) => {
      const load = {
        count: command.count,
        text: command.text,
        parallel: command.parallel ?? 1,
      };
      return infer(this.#held(command), load, signal, (done) => {
        event({ done });
      });
    },
    models: async ({ command, signal }) => ({
      models: wire(await this.#pool(command).models({ found: command.found ?? false, signal })),
    }),
    logs: (running) => this.#logs(running),
    pull: (running) => this.#pull(running),
    forget: async ({ command, signal }) => ({
      runtime_model: await this.#pool(command).forget(command.model, { signal }),
    }),
    pin: async ({ command, signal }) =>
      wire(await this.#pool(command).pin(command.model, command.pinned ?? null, { signal })),
    describe: async ({ command, signal }) =>
      wire(await this.#pool(command).describe(command.model, { signal })),
    reload: async ({ command, signal }) => wire(await this.#pool(command).reload({ signal })),
    cancel: ({ command }) => {
      this.#running.get(command.target)?.abort();
      return {};
    },
  };

  async #connect(command: Command): Promise<unknown> {
    const { id, address, token, token_file: tokenFile, attempts, patience } = command;
    const { ca, cert, key, server_name: serverName } = command;
    const calls: Record<string, number> = {};
    const retry = {
      ...(attempts == null ? {} : { attempts }),
      ...(patience == null ? {} : { patienceMs: patience * 1000 }),
    };
    const channel = { interceptors: [counting(calls)] };
    const tls = { ca, cert, key, serverName };
    const options = { token, tokenFile, ...tls, retry, channel };
    const pool =
      command.start == null
        ? PoolClient.connect(address, options)
        : await PoolClient.connectOrStart({
            ...options,
            program: command.program ?? undefined,
            arguments: command.start,
            startTimeoutMs: milliseconds(command.start_timeout),
          });
    this.#connections.set(id, { pool, calls });
    return {};
  }

  #evict({ command, signal }: Running): Promise<readonly EvictedServer[]> {
    const pool = this.#pool(command);
    const options = {
      force: command.force ?? false,
      timeoutMs: milliseconds(command.timeout),
      signal,
    };
    const { model } = command as Partial<Command>;
    if (model !== undefined) return pool.evict(model, options);
    return command.idle ? pool.evictIdle(options) : pool.evictAll(options);
  }

  async #list({ command, signal }: Running): Promise<unknown> {
    const timeoutMs = milliseconds(command.timeout);
    const options = { pageSize: command.page_size ?? 0, timeoutMs, signal };
    const pages = await all(this.#pool(command).pages(options));
    const last = pages.at(-1);
    if (last === undefined) throw new Error("there was not even one page");
    const servers = pages.flatMap((page) => page.servers);
    return wire({ ...last, servers, pages: pages.length });
  }

  async #watch({ command, signal, event }: Running): Promise<unknown> {
    const from = command.after_revision;
    const afterRevision = from == null ? undefined : BigInt(from);
    for await (const told of this.#pool(command).watch({ afterRevision, signal })) {
      event(wireEvent(told));
    }
    return {};
  }

  async #hold({ command, signal, event }: Running): Promise<unknown> {
    const options = { ...modelOptions(command), holder: command.holder ?? undefined, signal };
    const hold = this.#pool(command).hold(command.model, options);
    this.#holds.set(command.id, hold);
    for await (const server of hold) event({ server: wire(server) });
    return {};
  }

  async #logs({ command, signal, event }: Running): Promise<unknown> {
    const options = {
      generation: command.generation ?? undefined,
      previous: command.previous ?? undefined,
      oldest: command.oldest ?? undefined,
      cursor: command.cursor ?? undefined,
      lines: command.lines ?? undefined,
      follow: command.follow ?? undefined,
      signal,
    };
    for await (const part of this.#pool(command).logs(command.model, options)) event(wire(part));
    return {};
  }

  async #pull({ command, signal, event }: Running): Promise<unknown> {
    const options = { runtimeModel: command.runtime_model ?? undefined, signal };
    for await (const progress of this.#pool(command).pull(command.model, options)) {
      event({ done: progress.doneBytes, total: progress.totalBytes });
    }
    return {};
  }

  #connection({ client }: Command): Connection {
    return named(this.#connections, client, "client");
  }

  #pool(command: Command): PoolClient {
    return this.#connection(command).pool;
  }

  #held({ hold }: Command): Hold {
    return named(this.#holds, hold, "hold");
  }
}

function modelOptions(command: Command): {
  runtimeModel: string | undefined;
  keepAliveMs: number | undefined;
  download: boolean | undefined;
} {
  return {
    runtimeModel: command.runtime_model ?? undefined,
    keepAliveMs: milliseconds(command.keep_alive),
    download: command.download ?? undefined,
  };
}

function milliseconds(seconds: number | null | undefined): number | undefined {
  return seconds == null ? undefined : seconds * 1000;
}

function named<V>(values: ReadonlyMap<string, V>, name: string, kind: string): V {
  const value = values.get(name);
  if (value === undefined) throw new Error(`there is no ${kind} ${name}`);
  return value;
}

async function all<V>(values: AsyncIterable<V>): Promise<V[]> {
  const found: V[] = [];
  for await (const value of values) found.push(value);
  return found;
}

function counting(calls: Record<string, number>): Interceptor {
  return (options, nextCall) => {
    const method = options.method_definition.path.split("/").at(-1) ?? "";
    calls[method] = (calls[method] ?? 0) + 1;
    return new InterceptingCall(nextCall(options));
  };
}
