// The timeline: a lane for each model, coloured by what its server was doing.

import { changesAfter } from "./calls.js";
import { clock, duration, stateClass, stateName } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const LANE = 22;
const LABEL = 190;
const AXIS = 18;
const TICK = 70;
const MAX_LANES = 40;
const MAX_CHANGES = 20000;
const STEPS = [60, 120, 300, 600, 1800, 3600, 7200, 14400];

const place = document.getElementById("timeline");
const span = document.getElementById("span");

/** Keeps the changes of state, and draws those of the chosen time. */
export class Timeline {
  constructor() {
    this._changes = [];
    this._cursor = "";
    this._reading = Promise.resolve();
    span.addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(place);
  }

  /** The seconds that are shown. */
  get seconds() {
    return Number(span.value);
  }

  /** Read the changes of state since the last time, and draw them. */
  async read() {
    // One after the other, so that each begins where the one before has ended.
    this._reading = this._reading.catch(() => {}).then(() => this._readOn());
    await this._reading;
  }

  async _readOn() {
    const { changes, whole, cursor } = await changesAfter(this._cursor);
    // Each change: model, generation, state ("" once the server is gone), at, why.
    this._changes = (whole ? changes : this._changes.concat(changes)).slice(-MAX_CHANGES);
    this._cursor = cursor;
    this.draw();
  }

  /** Draw the lanes of the models that had a server in the chosen time. */
  draw() {
    const now = Date.now() / 1000;
    const from = now - this.seconds;
    const lanes = lanesOf(this._changes, from, now);
    const names = [...lanes.keys()].sort((one, other) => lastOf(lanes, other) - lastOf(lanes, one)).slice(0, MAX_LANES);
    const width = Math.max(place.clientWidth, 320);
    const left = Math.min(LABEL, width * 0.35);
    const x = (at) => left + ((Math.max(at, from) - from) / (now - from)) * (width - left - 4);
    const svg = element("svg", { width, height: names.length * LANE + AXIS, role: "img", "aria-label": `What the servers of ${names.length} models did` });
    drawAxis(svg, from, now, x, names.length * LANE, (width - left) / TICK);
    names.forEach((name, index) => drawLane(svg, name, lanes.get(name), index * LANE, x, left));
    place.replaceChildren(svg);
  }
}

/** Return the stretches of each model: [{state, from, to, why}], oldest first. */
function lanesOf(changes, from, now) {
  const lanes = new Map();
  const open = new Map();
  for (const { model, generation, state, at, why } of changes) {
    const key = `${model}\0${generation}`;
    const stretch = open.get(key);
    if (stretch) {
      stretch.to = at;
      open.delete(key);
    }
    if (state) {
      const next = { state, from: at, to: now, why, generation };
      open.set(key, next);
      if (!lanes.has(model)) lanes.set(model, []);
      lanes.get(model).push(next);
    }
  }
  for (const [model, stretches] of lanes) {
    const shown = stretches.filter((one) => one.to >= from);
    if (shown.length) lanes.set(model, shown);
    else lanes.delete(model);
  }
  return lanes;
}

function lastOf(lanes, name) {
  return Math.max(...lanes.get(name).map((one) => one.to));
}

function drawAxis(svg, from, now, x, bottom, mostTicks) {
  const step = STEPS.find((one) => (now - from) / one <= mostTicks) ?? STEPS.at(-1);
  const offset = new Date(now * 1000).getTimezoneOffset() * 60;
  for (let at = Math.ceil((from - offset) / step) * step + offset; at < now; at += step) {
    svg.append(element("line", { class: "grid", x1: x(at), x2: x(at), y1: 0, y2: bottom }));
    svg.append(words(clock(at).slice(0, 5), { x: x(at), y: bottom + 14, "text-anchor": "middle" }));
  }
}

function drawLane(svg, name, stretches, top, x, left) {
  const room = Math.floor((left - 8) / 6.6);
  const label = words(name.length > room ? `…${name.slice(1 - room)}` : name, { class: "lane", x: 0, y: top + 15 });
  label.append(titled(name));
  svg.append(label);
  for (const one of stretches) {
    const begin = x(one.from);
    const rect = element("rect", { class: stateClass(one.state), x: begin, y: top + 4, width: Math.max(1.5, x(one.to) - begin), height: LANE - 8, rx: 2 });
    rect.append(titled(`${name} (${one.generation}): ${stateName(one.state)} from ${clock(one.from)}, ${duration(one.to - one.from)}${one.why ? `\n${one.why}` : ""}`));
    svg.append(rect);
  }
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function words(text, attributes) {
  const made = element("text", attributes);
  made.textContent = text;
  return made;
}

function titled(text) {
  const made = element("title", {});
  made.textContent = text;
  return made;
}
