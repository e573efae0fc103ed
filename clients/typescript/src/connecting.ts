/** Connections that take too long, where another address could be called instead. */

import { connectivityState, type Client } from "@grpc/grpc-js";

/** The time for a connection. gRPC waits for that of the system, on Linux some two minutes. */
const CONNECT_TIMEOUT_MS = 5000;

const BEING_MADE = [connectivityState.IDLE, connectivityState.CONNECTING];

/** A client of one of several addresses, and the attempt to connect that its calls wait for. */
export class Connecting {
  readonly client: Client;
  #attempt: Promise<boolean> | undefined;

  constructor(client: Client) {
    this.client = client;
  }

  /**
   * Whether the connection has been made or refused in time, so that a call ends soon. All calls
   * that come while it is being made wait for the same end.
   */
  hasEnded(): Promise<boolean> {
    this.#attempt ??= this.#watch().finally(() => {
      this.#attempt = undefined;
    });
    return this.#attempt;
  }

  async #watch(): Promise<boolean> {
    const channel = this.client.getChannel();
    const deadline = Date.now() + CONNECT_TIMEOUT_MS;
    for (;;) {
      const state = channel.getConnectivityState(true);
      if (!BEING_MADE.includes(state)) return true;
      const hasChanged = await new Promise<boolean>((resolve) => {
        channel.watchConnectivityState(state, deadline, (late) => {
          resolve(late === undefined);
        });
      });
      if (!hasChanged) return false;
    }
  }
}
