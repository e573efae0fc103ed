// The log of one model, as it is written, over its generations.

import { isTemporary, stream, waitingWords } from "./calls.js";
import { counted } from "./format.js";
import { withSlot } from "./slots.js";
import { visible, whileVisible } from "./visibility.js";

const FIRST_LINES = 500;
const MAX_LINES = 3000;
const RETRY_MS = 1000;
const NEAR_END_PX = 30;

/**
 * Show the lines of a model in a panel, the last ones at first, until `signal` aborts.
 * generation: the one to begin with, if that is not the newest.
 */
export async function showLogs(panel, model, signal, generation) {
  panel.replaceChildren();
  const log = new Log(panel);
  let request = { model, generation, lines: FIRST_LINES, follow: true };
  while (!signal.aborted) {
    await visible();
    try {
      await whileVisible((seen) => withSlot("logs", seen, () => log.tell("waits: other windows follow logs; close one"), async () => {
        for await (const part of stream("TailLogs", request, seen, () => log.tell(""))) {
          log.add(part);
          request = { model, cursor: part.cursor, follow: true };
        }
      }), signal);
    } catch (error) {
      if (signal.aborted) return;
      if (!isTemporary(error)) throw error;
      if (!document.hidden) log.tell(waitingWords(error));
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/** The lines in a panel: each part an element of its own, and the oldest removed. */
class Log {
  constructor(panel) {
    this._panel = panel;
    this._lines = 0;
    this._note = null;
  }

  /** Add a part of the log. */
  add(part) {
    this.tell("");
    const missed = Number(part.missed_bytes);
    if (missed) this._append(`${counted(missed, "byte is", "bytes are")} no longer there`, 1, "note");
    if (part.lines.length) this._append(part.lines.join("\n"), part.lines.length, "");
    if (part.ended) this._append(`generation ${part.generation} has ended${part.exit ? `: ${part.exit.message}` : ""}`, 1, "note");
  }

  /** Tell what the log waits for; empty: for nothing but lines. */
  tell(text) {
    if (this._note?.textContent === text) return;
    this._note?.remove();
    this._note = text ? this._append(text, 0, "note") : null;
  }

  _append(text, count, name) {
    const panel = this._panel;
    const isAtEnd = panel.scrollTop + panel.clientHeight >= panel.scrollHeight - NEAR_END_PX;
    const made = document.createElement("div");
    made.className = name;
    made.textContent = text;
    made.dataset.lines = count;
    panel.append(made);
    this._lines += count;
    while (this._lines > MAX_LINES && panel.firstChild !== made) {
      this._lines -= Number(panel.firstChild.dataset.lines);
      panel.firstChild.remove();
    }
    if (isAtEnd) panel.scrollTop = panel.scrollHeight;
    return made;
  }
}
