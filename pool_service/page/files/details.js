// The dialog of one model: its description, and its log.

import { call } from "./calls.js";
import { describedBy } from "./describe.js";
import { showLogs } from "./logs.js";

const dialog = document.getElementById("details");
const title = document.getElementById("details-title");
const panels = { describe: document.getElementById("describe"), logs: document.getElementById("logs") };
const tabs = { describe: document.getElementById("tab-describe"), logs: document.getElementById("tab-logs") };
const names = Object.keys(tabs);
const show = { describe, logs: showLogs };

let model = "";
let chosen = "";
let showing = new AbortController();
let hasFailed = false;

/** Show one model. tab: "describe" or "logs". */
export function showDetails(name, tab) {
  model = name;
  title.textContent = name;
  for (const panel of Object.values(panels)) panel.replaceChildren();
  if (!dialog.open) dialog.showModal();
  choose(tab);
}

/**
 * Show a model again whose state has changed, if it is shown: its description, unless somebody has
 * selected a part of it, and a log that there was not.
 */
export function refreshDetails(name) {
  if (!dialog.open || name !== model) return;
  const isReading = !getSelection().isCollapsed;
  if (hasFailed || (chosen === "describe" && !isReading)) begin(chosen);
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
  show[tab](panels[tab], model, signal).catch((error) => {
    if (signal.aborted) return;
    hasFailed = true;
    const note = document.createElement("div");
    note.className = "note";
    note.textContent = error.message;
    panels[tab].replaceChildren(note);
  });
}

async function describe(panel, name, signal) {
  const description = await call("Describe", { model: name });
  if (!signal.aborted) panel.replaceChildren(...describedBy(description));
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
