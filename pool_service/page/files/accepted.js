// Calls that take long: the service accepts them, and says how they ended when it is asked.

import { call, endsOf } from "./calls.js";
import { visible } from "./visibility.js";

const ASK_MS = 1000;

const underWay = new Map();

/** Return once a call that may take minutes has ended. Throws CallError if it failed; see `call`. */
export async function longCall(method, request) {
  const { accepted } = await call(method, request);
  if (accepted) await end(accepted);
}

function end(number) {
  return new Promise((resolve, reject) => {
    underWay.set(number, { resolve, reject });
    if (underWay.size === 1) ask();
  });
}

/** Ask for the ends of all such calls, until there is none. */
async function ask() {
  while (underWay.size) {
    await new Promise((resolve) => setTimeout(resolve, ASK_MS));
    await visible();
    try {
      for (const [number, error] of await endsOf([...underWay.keys()])) settle(number, error);
    } catch {
      // The service is away, which is shown: once it is back, it is asked again.
    }
  }
}

function settle(number, error) {
  const { resolve, reject } = underWay.get(number);
  underWay.delete(number);
  if (error) reject(error);
  else resolve();
}
