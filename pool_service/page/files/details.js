// The dialog of one model: its description, and its log.

import { call, isTemporary, waitingWords } from "./calls.js";
import { describedBy } from "./describe.js";
import { showLogs } from "./logs.js";
import { visible } from "./visibility.js";

// A description is read again when its model does something, and because its ages grow.
const LEAST_PAUSE_MS = 1000;
const MOST_PAUSE_MS = 5000;

const dialog = document.getElementById("details");
const title = document.getElementById("details-title");
const panels = { describe: document.getElementById("describe"), logs: document.getElementById("logs") };
const tabs = { describe: document.getElementById("tab-describe"), logs: document.getElementById("tab-logs") };
const names = Object.keys(tabs);
const show = { describe, logs: showLogs };

let model = "";
let generation;
let chosen = "";
let showing = new AbortController();
let hasFailed = false;
let wake = () => {};

/** Show one model. tab: "describe" or "logs"; from: the generation that its log begins with. */
export function showDetails(name, tab, from) {
  model = name;
  generation = from;
  title.textContent = name;
  for (const panel of Object.values(panels)) panel.replaceChildren();
  if (!dialog.open) dialog.showModal();
  choose(tab);
}

/**
 * Show a model again that has changed, if it is shown: its description, and a log that there was not.
 * name: of the model; null: of all.
 */
export function refreshDetails(name) {
  if (!dialog.open || (name !== null && name !== model)) return;
  if (hasFailed) begin(chosen);
  else wake();
}

function choose(tab) {
  chosen = tab;
  for (const name of names) {
    panels[name].hidden = name !== tab;
    tabs[name].setAttribute("aria-selected", String(name === tab));
    tabs[name].tabIndex = name === tab ? 0 : -1;
  }
  begin(tab);
}

function begin(tab) {
  showing.abort();
  showing = new AbortController();
  const { signal } = showing;
  hasFailed = false;
  show[tab](panels[tab], model, signal, generation).catch((error) => {
    if (signal.aborted) return;
    hasFailed = true;
    // What a server wrote stays, whatever became of it.
    if (tab === "describe") panels[tab].replaceChildren();
    panels[tab].append(noteOf(error.message));
  });
}

function noteOf(text) {
  return Object.assign(document.createElement("div"), { className: "note", textContent: text });
}

/** Show the description of a model until `signal` aborts; it stays while the service is away. */
async function describe(panel, name, signal) {
  while (!signal.aborted) {
    await visible();
    const woken = new Promise((resolve) => {
      wake = resolve;
    });
    const description = await call("Describe", { model: name }).catch((error) => {
      if (!isTemporary(error)) throw error;
      if (!signal.aborted && !isDescribed(panel)) showChanged(panel, [noteOf(waitingWords(error))]);
    });
    if (signal.aborted) return;
    if (description && !isSelected(panel)) showChanged(panel, describedBy(description));
    await Promise.all([pause(LEAST_PAUSE_MS), Promise.race([woken, pause(MOST_PAUSE_MS)])]);
  }
}

function isDescribed(panel) {
  return panel.querySelector(":scope > :not(.note)") !== null;
}

/** Return whether somebody has selected text of a description, which is not taken away. */
function isSelected(panel) {
  const selection = getSelection();
  const ends = [selection.anchorNode, selection.focusNode];
  return isDescribed(panel) && !selection.isCollapsed && ends.some((end) => panel.contains(end));
}

/** Show nodes in a panel, and leave those in it that are the same: they may be scrolled. */
function showChanged(panel, nodes) {
  if (panel.childNodes.length !== nodes.length) panel.replaceChildren(...nodes);
  for (const [index, node] of nodes.entries()) {
    const shown = panel.childNodes[index];
    if (!shown.isEqualNode(node)) shown.replaceWith(node);
  }
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

for (const [index, name] of names.entries()) {
  tabs[name].addEventListener("click", () => choose(name));
  tabs[name].addEventListener("keydown", ({ key }) => {
    if (key !== "ArrowLeft" && key !== "ArrowRight") return;
    const next = names[(index + 1) % names.length];
    choose(next);
    tabs[next].focus();
  });
}
document.getElementById("close").addEventListener("click", () => dialog.close());
// Beside the dialog is its backdrop.
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
dialog.addEventListener("close", () => showing.abort());
