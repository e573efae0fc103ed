import assert from "node:assert/strict";
import { test } from "node:test";
import { Cancellation, startTimer } from "../src/cancellation.js";
import { Cancelled } from "../src/index.js";
import { countedSignal, failure } from "./support.js";

const DAY = 86_400_000;
/** What a timer of Node takes at most, in milliseconds: 24.8 days. */
const LONGEST = 2 ** 31 - 1;

test("a pause between two attempts ends with the signal", async () => {
  const { controller, listeners } = countedSignal();
  const operation = new Cancellation(controller.signal);
  const pause = failure(operation.sleep(DAY));
  controller.abort();
  assert.ok((await pause) instanceof Cancelled);
  operation.release();
  assert.equal(listeners(), 0);
});

test("what is begun after the end is not begun", async () => {
  const operation = new Cancellation(AbortSignal.abort());
  let begun = false;
  const wait = operation.wait(() => {
    begun = true;
    return () => undefined;
  });
  assert.ok((await failure(wait)) instanceof Cancelled);
  assert.equal(begun, false);
});

test("the first reason to give up is the one that is told", async () => {
  const operation = new Cancellation(undefined);
  const [first, second] = [new Cancelled("first"), new Cancelled("second")];
  const pause = failure(operation.sleep(DAY));
  operation.cancel(first);
  operation.cancel(second);
  assert.equal(await pause, first);
  assert.equal(operation.error, first);
});

test("a pause longer than a timer of Node is as long as it should be", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  let over = false;
  startTimer(30 * DAY, () => {
    over = true;
  });
  context.mock.timers.tick(LONGEST);
  context.mock.timers.tick(30 * DAY - LONGEST - 1);
  assert.equal(over, false);
  context.mock.timers.tick(1);
  assert.equal(over, true);
});

test("a long pause that was stopped does not come back", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  let over = false;
  const stop = startTimer(30 * DAY, () => {
    over = true;
  });
  context.mock.timers.tick(29 * DAY);
  stop();
  context.mock.timers.tick(30 * DAY);
  assert.equal(over, false);
});
