// The dialog of one model: its description, and its log as it is written.

import { call, stream } from "./calls.js";
import { describedBy } from "./describe.js";

const MAX_LINES = 5000;

const dialog = document.getElementById("details");
const title = document.getElementById("details-title");
const panels = { describe: document.getElementById("describe"), logs: document.getElementById("logs") };
const tabs = { describe: document.getElementById("tab-describe"), logs: document.getElementById("tab-logs") };

let model = "";
let following = new AbortController();

/** Show one model. tab: "describe" or "logs". */
export function showDetails(name, tab) {
  model = name;
  title.textContent = name;
  for (const panel of Object.values(panels)) panel.textContent = "";
  if (!dialog.open) dialog.showModal();
  choose(tab);
}

function choose(tab) {
  following.abort();
  following = new AbortController();
  for (const [name, panel] of Object.entries(panels)) {
    panel.hidden = name !== tab;
    tabs[name].setAttribute("aria-selected", String(name === tab));
  }
  const show = { describe, logs }[tab];
  show(panels[tab], model, following.signal).catch((error) => {
    if (error.name !== "AbortError") panels[tab].append(`\n${error.message}`);
  });
}

async function describe(panel, name) {
  const description = await call("Describe", { model: name });
  if (name === model) panel.replaceChildren(...describedBy(description));
}

async function logs(panel, name, signal) {
  panel.textContent = "";
  const lines = [];
  for await (const part of stream("TailLogs", { model: name, lines: 500, follow: true }, signal)) {
    if (Number(part.missed_bytes)) lines.push(`… ${part.missed_bytes} bytes are no longer there …`);
    lines.push(...part.lines);
    if (part.ended) lines.push(`— generation ${part.generation} has ended${part.exit ? `: ${part.exit.message}` : ""} —`);
    lines.splice(0, lines.length - MAX_LINES);
    const isAtEnd = panel.scrollTop + panel.clientHeight >= panel.scrollHeight - 30;
    panel.textContent = lines.join("\n");
    if (isAtEnd) panel.scrollTop = panel.scrollHeight;
  }
}

for (const [name, tab] of Object.entries(tabs)) tab.addEventListener("click", () => choose(name));
document.getElementById("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => following.abort());
