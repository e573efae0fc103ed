// The table of models: one row for each server, and one for each model without a server.

import { bytes, counted, duration, ordinal, stateClass, stateName, time } from "./format.js";

const NONE = "SERVER_STATE_NONE";
// What needs somebody comes first; within a group the names stand in their order.
const ORDER = ["FAILED", "BACKING_OFF", "STARTING", "QUEUED", "STOPPING", "READY", "NONE"];
const COLUMNS = ["model", "state", "memory", "uses", "used", "leaves", "acts"];

const body = document.querySelector("#servers tbody");
const none = document.getElementById("no-servers");
const nothingFound = document.getElementById("nothing-found");
const find = document.getElementById("find");
const canHover = matchMedia("(hover: hover)");
const rows = new Map();

/** Return whether one of the names is looked for. */
export function isFound(...names) {
  const word = find.value.trim().toLowerCase();
  return names.some((name) => name.toLowerCase().includes(word));
}

/** Show a row for each server and model. act: called with the name of a button and the row's entry. */
export function showRows(pool, act) {
  const entries = inOrder(entriesOf(pool).filter((entry) => isFound(entry.model, ...(entry.listed?.aliases ?? []))));
  const wanted = new Set(entries.map((entry) => entry.key));
  const focused = document.activeElement;
  for (const [key, row] of rows) {
    if (!wanted.has(key)) {
      row.element.remove();
      rows.delete(key);
    }
  }
  entries.forEach((entry, index) => place(entry, index, act));
  if (body.contains(focused)) keepFocus(focused);
  none.hidden = pool.models.size + pool.servers.size > 0;
  nothingFound.hidden = entries.length > 0 || !none.hidden;
}

/** Give the focus back to a button that lost it as its row was moved, or to that in its place. */
function keepFocus(focused) {
  if (document.activeElement === focused && !focused.hidden) return;
  const next = focused.hidden ? focused.parentElement.querySelector(".evict:not([hidden]), .ensure:not([hidden])") : focused;
  next?.focus({ preventScroll: true });
}

function entriesOf(pool) {
  const entries = new Map();
  for (const [key, server] of pool.servers) {
    const isMain = server.role === "SERVER_ROLE_CURRENT";
    const model = server.model || `orphan ${server.generation}`;
    entries.set(isMain ? model : key, { model, state: server.state, server, listed: pool.models.get(server.model) });
  }
  for (const listed of pool.models.values()) {
    const end = pool.ends.get(listed.model);
    if (!entries.has(listed.model)) entries.set(listed.model, { model: listed.model, state: NONE, listed, end });
  }
  return [...entries].map(([key, entry]) => ({ key, ...entry }));
}

/** Return the entries in their order; under the pointer each row stays where it is. */
function inOrder(entries) {
  entries.sort(byNeed);
  if (!canHover.matches || !body.matches(":hover")) return entries;
  const byKey = new Map(entries.map((entry) => [entry.key, entry]));
  const shown = [...rows].sort(([, one], [, other]) => one.index - other.index);
  const staying = shown.filter(([, { entry }]) => isFound(entry.model, ...(entry.listed?.aliases ?? [])));
  const first = staying.map(([key, { entry }]) => byKey.get(key) ?? { key, model: entry.model, state: NONE, listed: entry.listed });
  return first.concat(entries.filter((entry) => !rows.has(entry.key)));
}

function byNeed(one, other) {
  const rank = (entry) => ORDER.indexOf(entry.state.replace("SERVER_STATE_", ""));
  return rank(one) - rank(other) || (one.key < other.key ? -1 : 1);
}

function place(entry, index, act) {
  let row = rows.get(entry.key);
  if (!row) {
    row = newRow(act);
    rows.set(entry.key, row);
  }
  row.entry = entry;
  row.index = index;
  fill(row, entry);
  if (body.children[index] !== row.element) body.insertBefore(row.element, body.children[index] ?? null);
}

function newRow(act) {
  const row = { element: document.createElement("tr"), cells: {}, buttons: {}, entry: null, index: 0 };
  for (const name of COLUMNS) {
    row.cells[name] = row.element.insertCell();
    row.cells[name].className = name;
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
  made.addEventListener("click", () => act(name, row.entry, made));
  row.buttons[name] = made;
}

function fill(row, { model, state, server, listed, end }) {
  const now = Date.now() / 1000;
  row.element.className = server ? stateClass(state) : "absent";
  set(row.sub, subOf(server, listed));
  row.cells.state.classList.value = `state ${stateClass(state)}`;
  set(row.state, server ? stateName(state) : "not running");
  fillProgress(row.progress, server, model);
  set(row.why, whyOf(server, listed, end));
  placeReason(row, state);
  set(row.cells.memory, memoryOf(server, listed));
  set(row.uses, usesOf(server));
  set(row.cells.used, usedOf(server, now));
  set(row.cells.leaves, leavesOf(server, now));
  row.cells.leaves.classList.toggle("next", server?.place === 1);
  fillButtons(row.buttons, model, server, listed);
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

function subOf(server, listed) {
  const runtimeModel = server?.runtime_model ?? listed?.runtime_model ?? "";
  const parts = [];
  if (runtimeModel && runtimeModel !== (server?.model ?? listed?.model)) parts.push(runtimeModel);
  if (listed?.aliases?.length) parts.push(`also ${listed.aliases.join(", ")}`);
  if (server && Number(server.generation) > 1) parts.push(`generation ${server.generation}`);
  if (server?.outdated) parts.push("runs with old settings");
  return parts.join(" · ");
}

function whyOf(server, listed, end) {
  if (!server) return listed?.problem || end || "";
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
  const ready = server?.state === "SERVER_STATE_STARTING" ? time(server.expected_ready_time) : null;
  if (ready) return ready > now ? `ready in ${duration(ready - now)}` : "ready soon";
  return server?.state === "SERVER_STATE_READY" ? `${duration(now - time(server.last_use_time))} ago` : "";
}

function leavesOf(server, now) {
  if (server?.state !== "SERVER_STATE_READY") return "";
  if (server.pinned) return "pinned";
  const expire = time(server.expire_time);
  const left = expire ? `in ${duration(expire - now)}` : server.holds ? "not while held" : "stays";
  return server.place ? `${left} · ${ordinal(server.place)} to go` : left;
}

function fillButtons(buttons, model, server, listed) {
  const isOrphan = server?.role === "SERVER_ROLE_ORPHAN";
  const isRunning = Boolean(server) && server.state !== "SERVER_STATE_FAILED";
  const isPinned = Boolean(server?.pinned ?? listed?.pinned);
  set(buttons.describe, model);
  buttons.describe.title = `Describe ${model}`;
  name(buttons.ensure, "Start", model);
  name(buttons.evict, "Evict", model);
  name(buttons.pin, isPinned ? "Unpin" : "Pin", model);
  name(buttons.logs, "Logs", model);
  buttons.ensure.hidden = isRunning || isOrphan;
  buttons.evict.hidden = !isRunning || isOrphan;
  buttons.pin.hidden = isOrphan;
  buttons.evict.disabled = server?.state === "SERVER_STATE_STOPPING";
  buttons.pin.setAttribute("aria-pressed", String(isPinned));
}

/** Name a button, for those who hear it with its model. */
function name(button, text, model) {
  set(button, text);
  const label = `${text} ${model}`;
  if (button.getAttribute("aria-label") !== label) button.setAttribute("aria-label", label);
}
