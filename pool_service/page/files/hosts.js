// The hosts of a fleet: what each has and takes, and of which one the models are shown.

import { bytes } from "./format.js";

const section = document.getElementById("hosts-section");
const list = document.getElementById("hosts");
const items = new Map();
let chosen = "";
let changed = () => {};

/** Call `work` when another host is chosen, or none. */
export function onChoice(work) {
  changed = work;
}

/** Return whether what is on a host is shown; undefined or empty: it is on none. */
export function isChosen(host) {
  return !chosen || host === chosen;
}

/** Show the hosts; nothing is shown of one pool alone. */
export function showHosts({ hosts }) {
  section.hidden = !hosts.length;
  const names = new Set(hosts.map(({ host }) => host));
  for (const [name, item] of items) {
    if (names.has(name)) continue;
    item.element.remove();
    items.delete(name);
  }
  // Nothing would be found on a host that is no member any more.
  if (chosen && !names.has(chosen)) choose("");
  for (const host of hosts) fill(itemOf(host.host), host);
}

function itemOf(name) {
  if (!items.has(name)) {
    const element = document.createElement("li");
    const button = document.createElement("button");
    const [state, facts, why] = ["state", "facts", "why"].map((each) => Object.assign(document.createElement("span"), { className: each }));
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => choose(chosen === name ? "" : name));
    element.append(button, state, facts, why);
    items.set(name, { element, button, state, facts, why });
    list.append(element);
  }
  return items.get(name);
}

function fill({ element, button, state, facts, why }, host) {
  element.className = `is-${host.state}`;
  set(state, host.state);
  set(facts, host.totals ? factsOf(host.totals) : "its servers are not known");
  set(why, host.why);
  const isPressed = String(chosen === host.host);
  if (button.getAttribute("aria-pressed") !== isPressed) button.setAttribute("aria-pressed", isPressed);
  button.classList.toggle("is-on", chosen === host.host);
  button.title = `Show only the models on ${host.host}`;
}

function factsOf(totals) {
  const budget = totals.memory_budget_bytes;
  const reserved = bytes(totals.memory_reserved_bytes);
  const memory = budget === undefined ? `${reserved} reserved` : `${reserved} of ${bytes(budget)} reserved`;
  const states = ["ready", "starting", "queued", "backing_off", "failed"].filter((state) => totals[state]).map((state) => `${totals[state]} ${state.replace("_", " ")}`);
  return [memory, ...states, ...(totals.memory_pressured ? ["short of memory"] : [])].join(" · ");
}

function choose(name) {
  chosen = name;
  changed();
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
