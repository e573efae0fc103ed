/** What the tests have in common. */

import { test, type TestContext } from "node:test";
import {
  PoolClient,
  TOKEN_FILE_VARIABLE,
  TOKEN_VARIABLE,
  type ConnectOptions,
  type PoolError,
} from "../src/index.js";
import type { Clock } from "../src/retry.js";
import { Script } from "./scripted.js";

// A token of whoever runs the tests would change what they see.
Reflect.deleteProperty(process.env, TOKEN_VARIABLE);
Reflect.deleteProperty(process.env, TOKEN_FILE_VARIABLE);

/** Time and chance as the test has them. */
export class HandClock implements Clock {
  time = 0;
  luck = 0;

  now(): number {
    return this.time;
  }

  chance(): number {
    return this.luck;
  }
}

/** A test with a script and a client of its service, both closed after it. */
export function withService(
  name: string,
  body: (pool: PoolClient, service: Script, context: TestContext) => Promise<void>,
  options: ConnectOptions = {},
): void {
  test(name, { timeout: 60_000 }, async (context) => {
    const service = new Script();
    await service.start();
    const pool = PoolClient.connect(service.address, options);
    try {
      await body(pool, service, context);
    } finally {
      pool.close();
      service.stop();
    }
  });
}

/** The error that a promise rejects with. */
export async function failure(promise: Promise<unknown>): Promise<PoolError> {
  try {
    await promise;
  } catch (error) {
    return error as PoolError;
  }
  throw new Error("it did not fail");
}

/** The error that a function throws. */
export function thrown(body: () => unknown): PoolError {
  try {
    body();
  } catch (error) {
    return error as PoolError;
  }
  throw new Error("it did not throw");
}

/** An AbortSignal that counts its listeners. */
export function countedSignal(): { controller: AbortController; listeners: () => number } {
  const controller = new AbortController();
  const { signal } = controller;
  let count = 0;
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...given: Parameters<typeof add>): void => {
    count += 1;
    add(...given);
  };
  signal.removeEventListener = (...given: Parameters<typeof remove>): void => {
    count -= 1;
    remove(...given);
  };
  return { controller, listeners: () => count };
}
