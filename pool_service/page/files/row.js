// One row of the table of models: what it shows, and its buttons.

import { bytes, counted, duration, ordinal, stateClass, stateName, time } from "./format.js";
import { poolClock } from "./service_clock.js";

/** The state of a model without a server. */
export const NONE = "SERVER_STATE_NONE";

const COLUMNS = ["model", "state", "memory", "uses", "used", "leaves", "acts"];
const SHOWN = ["model", "state", "server", "listed", "end", "isBeside", "meant", "host"];
const ROLES = {
  SERVER_ROLE_SUCCESSOR: "takes the place of the present one once it is ready",
  SERVER_ROLE_SUPERSEDED: "was replaced; ends once nothing uses it",
  SERVER_ROLE_ORPHAN: "left by an earlier service; is ended",
};

/**
 * Return a new row. Its entry has: key, model, state, server and listed (either may be missing),
 * isBeside: the server is or was not the one that callers of the model get, end: why the last
 * server went that nobody had stopped, meant: the model that its name stands for now, if it has
 * become an alias, and host: of the server, in a fleet.
 *
 * act: called with the name of a button, the entry of its row, and the button.
 */
export function newRow(act) {
  const row = { element: document.createElement("tr"), cells: {}, buttons: {}, entry: null };
  row.element.setAttribute("role", "row");
  for (const name of COLUMNS) {
    row.cells[name] = row.element.insertCell();
    row.cells[name].className = name;
    // On a phone it is laid out as a block, and would be no cell any more.
    row.cells[name].setAttribute("role", "cell");
  }
  const { cells } = row;
  addButton(row, "describe", cells.model, act);
  row.sub = added("span", "sub", cells.model);
  row.state = added("span", "name", cells.state);
  row.progress = added("progress", "", cells.state);
  row.progress.max = 1;
  row.uses = added("span", "", cells.uses);
  row.why = added("span", "why", cells.model);
  for (const name of ["ensure", "evict", "pin", "logs"]) addButton(row, name, cells.acts, act);
  return row;
}

function added(tag, name, parent) {
  const made = document.createElement(tag);
  made.className = name;
  parent.append(made);
  return made;
}

function addButton(row, name, parent, act) {
  const made = added("button", name, parent);
  made.type = "button";
  // Neither a key that is held nor a second click is for the button that has taken its place.
  made.addEventListener("click", (event) => event.detail <= 1 && act(name, row.entry, made));
  made.addEventListener("keydown", (event) => event.repeat && event.key === "Enter" && event.preventDefault());
  row.buttons[name] = made;
}

/** Show an entry in a row; what has not changed since the last time is left as it is. */
export function fill(row, entry) {
  const isSame = SHOWN.every((name) => row.entry?.[name] === entry[name]);
  row.entry = entry;
  if (!isSame) fillAll(row, entry);
  if (entry.server) fillTimes(row.cells, entry.server, poolClock.now());
}

function fillAll(row, entry) {
  const { model, state, server, listed } = entry;
  row.element.className = state === NONE ? "absent" : stateClass(state);
  set(row.sub, subOf(entry));
  row.cells.state.classList.value = `state ${stateClass(state)}`;
  set(row.state, state === NONE ? "not running" : stateName(state));
  fillProgress(row.progress, server, model);
  set(row.why, whyOf(entry));
  placeReason(row, state);
  set(row.cells.memory, memoryOf(server, listed));
  set(row.uses, usesOf(server));
  if (!server) for (const cell of [row.cells.used, row.cells.leaves]) set(cell, "");
  row.cells.leaves.classList.toggle("next", server?.place === 1);
  fillButtons(row.buttons, entry);
}

function fillTimes(cells, server, now) {
  set(cells.used, usedOf(server, now));
  set(cells.leaves, leavesOf(server, now));
}

/** Give the reason of a failure the room of what only a server in use has. */
function placeReason({ cells, why }, state) {
  const isFailed = state === "SERVER_STATE_FAILED" || state === "SERVER_STATE_BACKING_OFF";
  const cell = isFailed ? cells.uses : cells.model;
  if (why.parentElement !== cell) cell.append(why);
  cells.uses.colSpan = isFailed ? 3 : 1;
  cells.used.hidden = isFailed;
  cells.leaves.hidden = isFailed;
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function fillProgress(progress, server, model) {
  progress.hidden = server?.state !== "SERVER_STATE_STARTING";
  if (progress.hidden) return;
  progress.setAttribute("aria-label", `Start of ${model}`);
  if (server.progress === undefined) progress.removeAttribute("value");
  else progress.value = server.progress;
}

function subOf({ server, listed, isBeside, host }) {
  const runtimeModel = server?.runtime_model ?? listed?.runtime_model ?? "";
  const parts = host ? [`on ${host}`] : [];
  if (runtimeModel && runtimeModel !== (server?.model ?? listed?.model)) parts.push(runtimeModel);
  if (listed?.aliases?.length) parts.push(`also ${listed.aliases.join(", ")}`);
  // That of an orphan is its process id, which it is named by.
  if (server?.model && (isBeside || Number(server.generation) > 1)) parts.push(`generation ${server.generation}`);
  if (ROLES[server?.role]) parts.push(ROLES[server.role]);
  if (server?.outdated) parts.push("runs with old settings");
  return parts.join(" · ");
}

function whyOf({ server, listed, end, meant }) {
  // What callers of this name get is another model, which its problem says.
  if (!server || meant) return listed?.problem || end || "";
  const place = server.queue_position ? `${ordinal(server.queue_position)} in the queue` : "";
  return [place, server.detail].filter(Boolean).join(": ");
}

function memoryOf(server, listed) {
  const expected = Number(server?.expected_bytes ?? listed?.expected_bytes ?? 0);
  const taken = Number(server?.footprint_bytes ?? 0);
  if (taken) return `${bytes(taken)} of ${bytes(Math.max(expected, taken))}`;
  return expected ? `needs ${bytes(expected)}` : "";
}

/** Return who uses a server now: holds, waiting calls, and whether requests are in flight. */
function usesOf(server) {
  const words = [];
  if (server?.holds) words.push(server.holds === 1 ? "held" : `${server.holds} holds`);
  if (server?.waiting_calls) words.push(counted(server.waiting_calls, "call waits", "calls wait"));
  if (server?.busy) words.push("in use");
  return words.join(", ");
}

function usedOf(server, now) {
  const ready = server.state === "SERVER_STATE_STARTING" ? time(server.expected_ready_time) : null;
  if (ready) return ready > now ? `ready in ${duration(ready - now)}` : "ready soon";
  return server.state === "SERVER_STATE_READY" ? `${duration(now - time(server.last_use_time))} ago` : "";
}

function leavesOf(server, now) {
  if (server.state !== "SERVER_STATE_READY") return "";
  if (server.pinned) return "pinned";
  const expire = time(server.expire_time);
  const left = expire ? `in ${duration(expire - now)}` : server.holds ? "not while held" : "stays";
  return server.place ? `${left} · ${ordinal(server.place)} to go` : left;
}

/** Return whether the model of an entry is pinned. */
export function isPinned({ server, listed }) {
  return Boolean(server?.pinned ?? listed?.pinned);
}

function fillButtons(buttons, entry) {
  const { model, state, server, isBeside, meant } = entry;
  // An orphan is of no model that is known, what is gone of none that could be asked for, and a name
  // that has become an alias would mean another model.
  const isNamed = !meant && (!isBeside || Boolean(server?.model));
  const isActedOn = isNamed && !isBeside;
  const generation = isBeside && server ? `generation ${server.generation}` : "";
  const isRunning = state !== NONE && state !== "SERVER_STATE_FAILED";
  buttons.describe.title = `Describe ${model}`;
  buttons.describe.disabled = !isNamed;
  name(buttons.describe, model, generation);
  name(buttons.ensure, "Start", model);
  name(buttons.evict, "Evict", model);
  name(buttons.pin, isPinned(entry) ? "Unpin" : "Pin", model);
  name(buttons.logs, "Logs", model, generation);
  // What they do is done to the current server: no other row has them.
  buttons.ensure.hidden = isRunning || !isActedOn;
  buttons.evict.hidden = !isRunning || !isActedOn;
  buttons.pin.hidden = !isActedOn;
  buttons.logs.hidden = !isNamed;
  buttons.evict.disabled = state === "SERVER_STATE_STOPPING";
  buttons.pin.classList.toggle("is-on", isPinned(entry));
}

/** Name a button, for those who hear it, also by what it is for. */
function name(button, text, ...what) {
  set(button, text);
  const label = [text, ...what].filter(Boolean).join(" ");
  if (button.getAttribute("aria-label") !== label) button.setAttribute("aria-label", label);
}
