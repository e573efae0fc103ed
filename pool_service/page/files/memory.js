// The memory of the pool: a bar of what each server takes and reserves, and the facts in words.

import { bytes, counted, stateClass } from "./format.js";

const bar = document.getElementById("memory-bar");
const text = document.getElementById("memory-text");
const facts = document.getElementById("facts");
const notices = document.getElementById("notices");

/** Show the memory of the pool and what goes wrong. */
export function showMemory(pool) {
  const { totals } = pool;
  if (!totals) return;
  const total = Number(totals.memory_total_bytes);
  const budget = totals.memory_budget_bytes === undefined ? total : Number(totals.memory_budget_bytes);
  const reserved = Number(totals.memory_reserved_bytes);
  const limit = totals.memory_budget_bytes === undefined ? ", no budget" : ` of ${bytes(budget)} budget`;
  const words = [`${bytes(reserved)} reserved${limit}`, ...machineOf(totals, pool.hosts.length ? "on all hosts" : "on the machine")].join(" · ");
  if (text.textContent !== words) text.textContent = words;
  const whole = Math.max(budget, reserved);
  bar.hidden = !whole;
  if (whole) showBar(pool, whole);
  showItems(facts, factsOf(totals, pool.counts));
  showItems(notices, pool.notices.concat(totals.memory_pressured ? [pool.hosts.length ? "A host is short of memory." : "The machine is short of memory."] : []));
}

/** Return what is known of the machine's memory: nothing before a server was started. */
function machineOf(totals, where) {
  const total = Number(totals.memory_total_bytes);
  if (!total) return [];
  // Without servers nobody looks, and what was found before is no longer so.
  if (!totals.memory_current) return [`${bytes(total)} ${where}`];
  return [`${bytes(totals.memory_available_bytes)} of ${bytes(total)} available ${where}`];
}

function showBar(pool, whole) {
  const taking = [...pool.servers.values()].filter((one) => reservation(one) > 0);
  taking.sort((one, other) => reservation(other) - reservation(one));
  while (bar.children.length > taking.length) bar.lastChild.remove();
  taking.forEach((server, index) => showPart(partAt(index), server, whole));
  bar.setAttribute("aria-label", taking.map((one) => `${one.model}: ${bytes(reservation(one))}`).join(", ") || "nothing is reserved");
}

function reservation(server) {
  const hasProcess = /STARTING|READY|STOPPING/.test(server.state);
  return hasProcess ? Math.max(Number(server.expected_bytes), Number(server.peak_bytes)) : 0;
}

function partAt(index) {
  if (index < bar.children.length) return bar.children[index];
  const part = document.createElement("span");
  part.append(document.createElement("i"), document.createElement("b"));
  bar.append(part);
  return part;
}

function showPart(part, server, whole) {
  const size = reservation(server);
  const [used, name] = part.children;
  part.className = stateClass(server.state);
  part.style.width = `${(100 * size) / whole}%`;
  used.style.width = `${Math.min(100, (100 * Number(server.footprint_bytes)) / size)}%`;
  name.textContent = size / whole > 0.08 ? server.model : "";
  part.title = `${server.model}: takes ${bytes(server.footprint_bytes)} of ${bytes(size)} reserved`;
}

function factsOf(totals, counts) {
  const states = ["ready", "starting", "queued", "backing_off", "failed"].filter((state) => counts[state]).map((state) => `${counts[state]} ${state.replace("_", " ")}`);
  const waiting = totals.waiting_calls ? [counted(totals.waiting_calls, "call waits", "calls wait")] : [];
  const standbys = totals.standbys ? [`${totals.standbys} on standby`] : [];
  return [...states, ...waiting, ...standbys];
}

function showItems(list, words) {
  if (list.dataset.shown === words.join("\n")) return;
  list.dataset.shown = words.join("\n");
  list.replaceChildren(
    ...words.map((word) => {
      const item = document.createElement("li");
      item.textContent = word;
      return item;
    }),
  );
}
