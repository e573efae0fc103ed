// The page of a pool: what it shows, and what its buttons do.

import { longCall } from "./accepted.js";
import { call, CallError } from "./calls.js";
import { refreshDetails, showDetails } from "./details.js";
import { onChoice, showHosts } from "./hosts.js";
import { showMemory } from "./memory.js";
import { tell } from "./messages.js";
import { Pool } from "./pool.js";
import { asked } from "./question.js";
import { isPinned } from "./row.js";
import { showRows } from "./rows.js";
import { Timeline } from "./timeline.js";

const connection = document.getElementById("connection");
const evicted = new Set();
const timeline = new Timeline((...server) => pool.has(...server), (work) => pool.polled("timeline", work));

const CONNECTION = {
  live: "live",
  away: "the service is away; trying again…",
  waiting: "not live: other windows show this pool; close or hide one",
  silent: "the service does not answer all that is asked; some of this is old. Trying again…",
};
const CHANGES = new Set(["ensure", "evict", "pin"]);

const pool = new Pool({
  changed: show,
  connected(state) {
    if (connection.className !== state) connection.textContent = CONNECTION[state];
    connection.className = state;
    showTitle();
    if (state === "live") timeline.readSoon();
  },
  transition: () => timeline.readSoon(),
  news: refreshDetails,
});

function show() {
  showMemory(pool);
  showHosts(pool);
  showRows(pool, act);
  showTitle();
}

/** Tell in the window's title what one would look for. */
function showTitle() {
  const { counts: known } = pool;
  const counts = [["failed", known?.failed], ["starting", known?.starting], ["ready", known?.ready ?? 0]];
  const words = counts.filter(([word, count]) => count || word === "ready").map(([word, count]) => `${count} ${word}`);
  const title = `${connection.className === "away" ? "away" : words.join(", ")} · Pool`;
  if (document.title !== title) document.title = title;
}

const ACTS = {
  describe: (entry) => showDetails(entry.model, "describe"),
  // Of several servers of a model each row shows its own; else the newest that there is.
  logs: ({ model, server }) => showDetails(model, "logs", pool.hasSeveral(model) ? server?.generation : undefined),
  ensure: (entry) => start(entry.model),
  evict: (entry) => evict(entry.model),
  pin: (entry) => pin(entry.model, !isPinned(entry)),
};

async function act(name, entry, button) {
  // Not disabled meanwhile: that would take the focus away.
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    await ACTS[name](entry);
    if (CHANGES.has(name)) pool.refresh(entry.model);
  } catch (error) {
    tell(wordsOf(error, entry.model));
  } finally {
    button.removeAttribute("aria-busy");
  }
}

async function pin(model, isWanted) {
  const { pinned } = await call("Pin", { model, pinned: isWanted });
  pool.setPinned(model, pinned);
}

async function start(model) {
  evicted.delete(model);
  try {
    await longCall("Ensure", { model });
  } catch (error) {
    // Who has just evicted it knows.
    if (error.reason !== "EVICTED" || !evicted.has(model)) throw error;
  }
}

async function evict(model) {
  evicted.add(model);
  const generation = pool.generationOf(model);
  try {
    await longCall("Evict", { model });
  } catch (error) {
    if (!(error instanceof CallError) || error.reason !== "SERVER_IN_USE") throw error;
    const isSure = await asked(`${error.message} Evict it all the same? Requests in flight still finish within its drain timeout.`, "Evict");
    if (!isSure) evicted.delete(model);
    // The answer is about the server that was in use: its successor is another question.
    else if (pool.generationOf(model) !== generation) await evict(model);
    else await longCall("Evict", { model, force: true });
  }
}

/** Return in words why a call about a model failed. */
function wordsOf(error, model) {
  const text = error instanceof CallError ? error.message : "The service does not answer.";
  return text.includes(`'${model}'`) ? text : `${model}: ${text}`;
}

document.getElementById("machine").textContent = location.hostname === "localhost" ? "" : location.host;
function showFound() {
  show();
  timeline.draw();
}

document.getElementById("find").addEventListener("input", showFound);
onChoice(showFound);
setInterval(() => {
  if (!document.hidden) {
    show();
    timeline.drawIfDue();
  }
}, 1000);
pool.start();
