// The table of models: one row for each server, and one for each model without a server.

import { bytes, duration, stateClass, stateName, time } from "./format.js";

const body = document.querySelector("#servers tbody");
const none = document.getElementById("no-servers");
const find = document.getElementById("find");
const rows = new Map();

// A column, its class and what it is called where the table has no head.
const COLUMNS = ["model", "state", "memory", "uses", "used", "leaves", "acts"];
const ORDER = ["STARTING", "QUEUED", "BACKING_OFF", "STOPPING", "READY", "FAILED", "NONE"];

/** Show a row for each server and model. act: called with the name of a button and the row's entry. */
export function showRows(pool, act) {
  const entries = entriesOf(pool).filter(isWanted);
  entries.sort(byNeed);
  const wanted = new Set(entries.map((entry) => entry.key));
  for (const [key, row] of rows) {
    if (!wanted.has(key)) {
      row.element.remove();
      rows.delete(key);
    }
  }
  entries.forEach((entry, index) => place(entry, index, act));
  none.hidden = pool.models.size + pool.servers.size > 0;
}

function entriesOf(pool) {
  const entries = [...pool.servers.entries()].map(([key, server]) => ({
    key,
    model: server.model || `orphan ${server.generation}`,
    state: server.state,
    server,
    listed: pool.models.get(server.model),
  }));
  const running = new Set(entries.map((entry) => entry.model));
  for (const listed of pool.models.values()) {
    if (!running.has(listed.model)) {
      entries.push({ key: listed.model, model: listed.model, state: "SERVER_STATE_NONE", listed });
    }
  }
  return entries;
}

function isWanted(entry) {
  const word = find.value.trim().toLowerCase();
  const names = [entry.model, ...(entry.listed?.aliases ?? [])];
  return names.some((name) => name.toLowerCase().includes(word));
}

function byNeed(one, other) {
  const rank = (entry) => ORDER.indexOf(entry.state.replace("SERVER_STATE_", ""));
  return rank(one) - rank(other) || one.model.localeCompare(other.model);
}

function place(entry, index, act) {
  let row = rows.get(entry.key);
  if (!row) {
    row = newRow(act);
    rows.set(entry.key, row);
  }
  row.entry = entry;
  fill(row, entry);
  if (body.children[index] !== row.element) body.insertBefore(row.element, body.children[index] ?? null);
}

function newRow(act) {
  const element = document.createElement("tr");
  const row = { element, cells: {}, buttons: {}, entry: null };
  for (const name of COLUMNS) {
    const cell = document.createElement("td");
    row.cells[name] = cell;
    element.append(cell);
  }
  const { cells } = row;
  cells.model.className = "model";
  cells.memory.className = "number";
  cells.acts.className = "acts";
  cells.used.dataset.label = "used";
  cells.leaves.dataset.label = "leaves";
  const button = (name, text, parent) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.addEventListener("click", () => act(name, row.entry, made));
    parent.append(made);
    row.buttons[name] = made;
  };
  button("describe", "", cells.model);
  row.sub = document.createElement("span");
  row.sub.className = "sub";
  cells.model.append(row.sub);
  row.state = document.createElement("span");
  row.progress = document.createElement("progress");
  row.progress.max = 1;
  row.why = document.createElement("span");
  row.why.className = "why";
  cells.state.append(row.state, row.progress);
  cells.model.append(row.why);
  button("ensure", "Start", cells.acts);
  button("evict", "Evict", cells.acts);
  cells.acts.append(" ");
  button("pin", "Pin", cells.acts);
  cells.acts.append(" ");
  button("logs", "Logs", cells.acts);
  return row;
}

function fill(row, { model, state, server, listed }) {
  const now = Date.now() / 1000;
  row.element.className = server ? "" : "absent";
  set(row.buttons.describe, model);
  set(row.sub, subOf(server, listed));
  row.cells.state.className = `state ${stateClass(state)}`;
  set(row.state, server ? stateName(state) : "not running");
  fillProgress(row.progress, server);
  set(row.why, whyOf(server, listed));
  set(row.cells.memory, memoryOf(server, listed));
  set(row.cells.uses, usesOf(server));
  set(row.cells.used, usedOf(server, now));
  set(row.cells.leaves, leavesOf(server, now));
  fillButtons(row.buttons, server, listed);
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function fillProgress(progress, server) {
  progress.hidden = server?.progress === undefined;
  if (!progress.hidden) progress.value = server.progress;
}

function subOf(server, listed) {
  const runtimeModel = server?.runtime_model ?? listed?.runtime_model ?? "";
  const parts = [];
  if (runtimeModel && runtimeModel !== (server?.model ?? listed?.model)) parts.push(runtimeModel);
  if (listed?.aliases?.length) parts.push(`also ${listed.aliases.join(", ")}`);
  if (server && Number(server.generation) > 1) parts.push(`generation ${server.generation}`);
  return parts.join(" · ");
}

function whyOf(server, listed) {
  if (!server) return listed?.problem ?? "";
  const place = server.queue_position ? `${ordinal(server.queue_position)} in the queue` : "";
  return [place, server.detail].filter(Boolean).join(": ");
}

function ordinal(number) {
  return number === 1 ? "next" : `number ${number}`;
}

function memoryOf(server, listed) {
  const expected = Number(server?.expected_bytes ?? listed?.expected_bytes ?? 0);
  const taken = Number(server?.footprint_bytes ?? 0);
  if (taken) return `${bytes(taken)} of ${bytes(expected)}`;
  return expected ? `needs ${bytes(expected)}` : "";
}

/** Return who uses a server now: holds, waiting calls, and whether requests are in flight. */
function usesOf(server) {
  const counted = [
    [server?.holds, "held", "holds"],
    [server?.waiting_calls, "1 waits", "wait"],
  ];
  const words = counted.filter(([count]) => count).map(([count, one, many]) => (count === 1 ? one : `${count} ${many}`));
  return [...words, server?.busy ? "in use" : ""].filter(Boolean).join(", ");
}

function usedOf(server, now) {
  if (server?.state !== "SERVER_STATE_READY") {
    const ready = time(server?.expected_ready_time);
    return ready ? `ready in ${duration(ready - now)}` : "";
  }
  return `${duration(now - time(server.last_use_time))} ago`;
}

function leavesOf(server, now) {
  if (server?.state !== "SERVER_STATE_READY") return "";
  if (server.pinned) return "pinned";
  const expire = time(server.expire_time);
  const left = expire ? `in ${duration(expire - now)}` : server.holds ? "not while held" : "stays";
  return server.place ? `${left} · ${ordinal(server.place)} to go` : left;
}

function fillButtons(buttons, server, listed) {
  const isOrphan = server?.role === "SERVER_ROLE_ORPHAN";
  const isRunning = Boolean(server) && server.state !== "SERVER_STATE_FAILED";
  const isPinned = Boolean(server?.pinned ?? listed?.pinned);
  buttons.ensure.hidden = isRunning || isOrphan;
  buttons.evict.hidden = !isRunning || isOrphan;
  buttons.evict.disabled = server?.state === "SERVER_STATE_STOPPING";
  buttons.pin.hidden = isOrphan;
  buttons.pin.setAttribute("aria-pressed", String(isPinned));
  set(buttons.pin, isPinned ? "Unpin" : "Pin");
}
