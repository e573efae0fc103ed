// The table of models: one row for each server, and one for each model without a server.

import { isChosen } from "./hosts.js";
import { fill, newRow, NONE } from "./row.js";
import { byAge, isCurrent } from "./servers.js";

// What needs somebody comes first; within a group the names stand in their order.
const ORDER = ["FAILED", "BACKING_OFF", "STARTING", "QUEUED", "STOPPING", "READY", "NONE"];
const RANKS = new Map(ORDER.map((state, rank) => [`SERVER_STATE_${state}`, rank]));
// After a touch the next one may follow: no row moves away from under the finger so long.
const STILL_MS = 5000;
const NO_STATE = "SERVER_STATE_UNSPECIFIED";

const body = document.querySelector("#servers tbody");
const none = document.getElementById("no-servers");
const nothingFound = document.getElementById("nothing-found");
const find = document.getElementById("find");
const canHover = matchMedia("(hover: hover)");
const rows = new Map();
let order = [];
let touchedAt = -Infinity;

for (const name of ["touchstart", "touchmove", "touchend", "scroll"]) {
  addEventListener(name, noteTouch, { passive: true, capture: true });
}

function noteTouch() {
  if (!canHover.matches) touchedAt = performance.now();
}

/** Return whether one of the names is looked for. */
export function isFound(...names) {
  const word = find.value.trim().toLowerCase();
  return names.some((name) => name.toLowerCase().includes(word));
}

/** Show a row for each server and model. act: see `newRow`. */
export function showRows(pool, act) {
  const entries = inOrder(entriesOf(pool).filter(isEntryFound));
  const wanted = new Set(entries.map((entry) => entry.key));
  const focused = document.activeElement;
  for (const [key, row] of rows) {
    if (!wanted.has(key)) {
      row.element.remove();
      rows.delete(key);
    }
  }
  for (const entry of entries) {
    if (!rows.has(entry.key)) rows.set(entry.key, newRow(act));
    fill(rows.get(entry.key), entry);
  }
  arrange(entries.map(({ key }) => rows.get(key).element));
  order = entries.map(({ key }) => key);
  if (body.contains(focused)) keepFocus(focused);
  none.hidden = !pool.isKnown || !pool.hasReadModels || pool.models.size + pool.servers.size > 0;
  nothingFound.hidden = entries.length > 0 || pool.models.size + pool.servers.size === 0;
}

/** Give the focus back to a button whose row was moved; to the model's name if the button is gone. */
function keepFocus(focused) {
  if (document.activeElement === focused && !focused.hidden) return;
  const next = focused.hidden ? focused.closest("tr").querySelector(".describe") : focused;
  next.focus({ preventScroll: true });
}

function isEntryFound({ model, listed, server }) {
  return isChosen(server?.host) && isFound(model, ...(listed?.aliases ?? []));
}

function entriesOf(pool) {
  const entries = new Map();
  const aliases = aliasesOf(pool.models);
  // Of several hosts that have a model, callers get the newest server.
  const servers = [...pool.servers].sort(([, one], [, other]) => byAge(one, other));
  for (const [key, server] of servers) {
    const isBeside = !isCurrent(server) || entries.has(server.model);
    const model = server.model || `orphan ${server.generation}`;
    const listed = pool.models.get(server.model);
    const meant = aliases.get(server.model);
    const host = pool.hosts.length ? server.host : "";
    entries.set(isBeside ? key : model, { model, state: server.state, server, listed, isBeside, meant, host });
  }
  for (const listed of pool.models.values()) {
    if (entries.has(listed.model)) continue;
    // Until the servers are known, the list of models tells what they do.
    const state = pool.isKnown || listed.state === NO_STATE ? NONE : listed.state;
    const end = pool.ends.get(listed.model);
    const meant = aliases.get(listed.model);
    entries.set(listed.model, { model: listed.model, state, listed, end, isBeside: false, meant });
  }
  return [...entries].map(([key, entry]) => ({ key, ...entry }));
}

/** Return the model of each alias. */
function aliasesOf(models) {
  return new Map([...models.values()].flatMap(({ model, aliases }) => aliases.map((alias) => [alias, model])));
}

/** Return the entries in their order; under the pointer or a finger each row stays where it is. */
function inOrder(entries) {
  entries.sort(byNeed);
  const isStill = canHover.matches ? body.matches(":hover") : performance.now() - touchedAt < STILL_MS;
  if (!isStill) return entries;
  const byKey = new Map(entries.map((entry) => [entry.key, entry]));
  const shown = order.map((key) => rows.get(key).entry).filter(isEntryFound);
  const first = shown.map((entry) => byKey.get(entry.key) ?? gone(entry));
  return first.concat(entries.filter((entry) => !rows.has(entry.key)));
}

/** Return what is left of a row that stays for the pointer. */
function gone({ key, model, listed, isBeside, meant }) {
  return { key, model, state: NONE, listed, isBeside, meant };
}

function byNeed(one, other) {
  return RANKS.get(one.state) - RANKS.get(other.state) || (one.key < other.key ? -1 : 1);
}

/** Put elements into their order; those that are in order already are not moved. */
function arrange(elements) {
  if (elements.every((element, index) => element === body.children[index])) return;
  const places = new Map([...body.children].map((element, index) => [element, index]));
  const staying = inOrderAlready(elements, places);
  let next = null;
  for (const element of elements.toReversed()) {
    if (!staying.has(element)) body.insertBefore(element, next);
    next = element;
  }
}

/** Return the most elements whose places rise, of those that have one. */
function inOrderAlready(elements, places) {
  // The element with the lowest place that ends a run of so many, and what comes before each.
  const ends = [];
  const before = new Map();
  for (const element of elements) {
    if (!places.has(element)) continue;
    let low = 0;
    for (let high = ends.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (places.get(ends[middle]) < places.get(element)) low = middle + 1;
      else high = middle;
    }
    before.set(element, ends[low - 1]);
    ends[low] = element;
  }
  const staying = new Set();
  for (let element = ends.at(-1); element; element = before.get(element)) staying.add(element);
  return staying;
}
