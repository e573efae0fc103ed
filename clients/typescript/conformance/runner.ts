/** The conformance runner: does what the conductor says (tests/conformance/README.md). */

import { createInterface } from "node:readline";
import { Commands } from "./commands.js";

const commands = new Commands((line) => {
  process.stdout.write(`${JSON.stringify(line)}\n`);
});
for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() !== "") commands.begin(JSON.parse(line));
}
commands.close();
