// The timeline: a lane for each model, coloured by what its server was doing, with a mark where one
// was stopped or crashed.

import { changesAfter } from "./calls.js";
import { clock, counted, duration, minute, stateClass, stateName } from "./format.js";
import { isChosen } from "./hosts.js";
import { isFound } from "./rows.js";
import { ServiceClock } from "./service_clock.js";

const SVG = "http://www.w3.org/2000/svg";
const LANE = 22;
const LABEL = 190;
const AXIS = 18;
const TICK = 70;
const MAX_LANES = 40;
const MAX_CHANGES = 20000;
const MAX_ENDS = 20;
// Changes come in groups, and one request brings them all.
const SOON_MS = 200;
const RETRY_MS = 3000;
const STEPS = [60, 120, 300, 600, 1800, 3600, 7200, 14400];
const SHORT_S = 600;
const ENDED = new Set(["SERVER_STATE_BACKING_OFF", "SERVER_STATE_FAILED"]);
const UNDER_WAY = new Set(["SERVER_STATE_QUEUED", "SERVER_STATE_STARTING"]);
// The causes of an end that nobody wanted.
const CRASHES = new Set(["CRASHED", "WEDGED", "START_TIMEOUT", "MEMORY_LIMIT", "ORPHANED"]);

const place = document.getElementById("timeline");
const more = document.getElementById("more-lanes");
const span = document.getElementById("span");
const tip = document.getElementById("tip");
const ends = document.getElementById("ends");
const unknown = document.querySelector("#legend .unknown");

/** Keeps the changes of state, and draws those of the chosen time. */
export class Timeline {
  /**
   * isThere: returns whether the pool has the server of a model with a generation, on a host of a
   * fleet; polled: receives the promise of each reading, and returns it.
   */
  constructor(isThere, polled) {
    this._isThere = isThere;
    this._polled = polled;
    // The times of changes are by the machine's clock, which can be set.
    this._clock = new ServiceClock();
    this._began = 0;
    this._since = 0;
    this._timer = 0;
    this._changes = [];
    this._cursor = "";
    this._reading = Promise.resolve();
    this._drawnAt = 0;
    span.addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(place);
    place.addEventListener("pointermove", showTip);
    place.addEventListener("pointerdown", showTip);
    place.addEventListener("pointerleave", () => { tip.hidden = true; });
  }

  /** Read the changes of state since the last time, and draw them, in a moment; try until they come. */
  readSoon(pause = SOON_MS) {
    if (this._timer) return;
    this._timer = setTimeout(() => {
      this._timer = 0;
      // Once the page is seen again, it is live again, which reads the timeline.
      if (!document.hidden) this._polled(this._read()).catch(() => this.readSoon(RETRY_MS));
    }, pause);
  }

  async _read() {
    // One after the other, so that each begins where the one before has ended.
    this._reading = this._reading.catch(() => {}).then(() => this._readOn());
    await this._reading;
  }

  async _readOn() {
    const { changes, whole, cursor, began, since, now } = await changesAfter(this._cursor);
    // Each change: model, generation, state ("" once the server is gone), at, why, cause, preemptor;
    // of a fleet: host.
    const isFirst = !this._began;
    this._changes = whole ? changes : this._changes.concat(changes);
    // The service keeps fewer, and of each server that is there the last: these are read anew.
    this._cursor = this._changes.length > MAX_CHANGES ? "" : cursor;
    this._began = began;
    this._since = since ?? this._since;
    this._clock.set(now);
    // A pool that has just begun fills its timeline.
    if (isFirst && now - since < SHORT_S) span.value = String(SHORT_S);
    this.draw();
  }

  /** Draw the lanes again if one pixel or more has passed since. */
  drawIfDue() {
    const pixel = Number(span.value) / Math.max(place.clientWidth, 1);
    if (this._clock.now() - this._drawnAt >= pixel) this.draw();
  }

  /** Draw the lanes of the models that had a server in the chosen time. */
  draw() {
    const now = this._clock.now();
    this._drawnAt = now;
    const from = now - Number(span.value);
    const lanes = lanesOf(this._changes.filter(({ host }) => isChosen(host)), from, now);
    endLost(lanes, this._began, this._isThere);
    const all = [...lanes.keys()].filter((name) => isFound(name));
    const names = all.sort((one, other) => lanes.get(other).end - lanes.get(one).end || (one < other ? -1 : 1)).slice(0, MAX_LANES);
    more.hidden = all.length <= MAX_LANES;
    more.textContent = `and ${counted(all.length - MAX_LANES, "model", "models")} more; Find shows them`;
    const width = Math.max(place.clientWidth, 280);
    const left = Math.min(LABEL, width * 0.3);
    const x = (at) => left + ((Math.max(at, from) - from) / (now - from)) * (width - left - 6);
    const label = names.length ? `What the servers of ${counted(names.length, "model", "models")} did` : "No server ran";
    const svg = element("svg", { width, height: names.length * LANE + AXIS, role: "img", "aria-label": label });
    unknown.hidden = this._since <= from;
    if (!unknown.hidden) drawUnknown(svg, x(from), x(this._since), names.length * LANE, this._since);
    drawAxis(svg, from, now, x, names.length * LANE, (width - left) / TICK);
    names.forEach((name, index) => drawLane(svg, name, lanes.get(name), index * LANE, x, left));
    place.replaceChildren(svg);
    showEnds(all.flatMap((name) => lanes.get(name).marks.map((one) => ({ at: one.at, text: endOf(name, one) }))));
  }
}

/** Return the stretches and marks of each model, oldest first, and the end of its last stretch. */
function lanesOf(changes, from, now) {
  const lanes = new Map();
  for (const change of changes) {
    const { model, state, at } = change;
    const generation = serverOf(change);
    if (!lanes.has(model)) lanes.set(model, { stretches: [], marks: [], open: new Map(), end: 0 });
    const lane = lanes.get(model);
    const before = lane.open.get(generation)?.state;
    for (const [other, stretch] of lane.open) {
      // The next generation takes the place of one that has ended.
      if (other === generation || (state && ENDED.has(stretch.state))) {
        stretch.to = at;
        lane.open.delete(other);
      }
    }
    if (state) {
      const stretch = { ...change, from: at, to: now };
      lane.open.set(generation, stretch);
      lane.stretches.push(stretch);
    }
    if (at >= from && isEnd(change, before)) lane.marks.push(change);
  }
  for (const [model, lane] of lanes) {
    lane.stretches = lane.stretches.filter((one) => one.to >= from);
    if (!lane.stretches.length) lanes.delete(model);
  }
  return lanes;
}

/** Return whether a change is the end of a server, or of a start that came to nothing. */
function isEnd({ state, cause, why }, before) {
  if (state === "SERVER_STATE_STOPPING") return Boolean(cause);
  return !state && Boolean(why) && UNDER_WAY.has(before);
}

/** End what an earlier service left, and this one has not found: nobody saw when it went. */
function endLost(lanes, began, isThere) {
  for (const lane of lanes.values()) {
    for (const one of lane.open.values()) {
      if (one.from < began && !isThere(one.model, one.generation, one.host)) one.to = began;
    }
    lane.end = Math.max(...lane.stretches.map((one) => one.to));
  }
}

/** Draw the time of which not all is known: changes are missing there. */
function drawUnknown(svg, left, right, bottom, since) {
  const rect = element("rect", { class: "unknown", x: left, y: 0, width: Math.max(0, right - left), height: bottom });
  rect.dataset.tip = `Changes before ${clock(since)} are no longer known, or there was no service`;
  svg.append(rect);
}

function drawAxis(svg, from, now, x, bottom, mostTicks) {
  const step = STEPS.find((one) => (now - from) / one <= mostTicks) ?? STEPS.at(-1);
  const offset = new Date(now * 1000).getTimezoneOffset() * 60;
  for (let at = Math.ceil((from - offset) / step) * step + offset; at < now; at += step) {
    svg.append(element("line", { class: "grid", x1: x(at), x2: x(at), y1: 0, y2: bottom }));
    const isLast = x(now) - x(at) < TICK / 3;
    svg.append(words(minute(at), { x: x(at), y: bottom + 14, "text-anchor": isLast ? "end" : "middle" }));
  }
}

function drawLane(svg, name, lane, top, x, left) {
  const room = Math.max(Math.floor((left - 8) / 6.6), 4);
  const label = words(name.length > room ? `…${name.slice(1 - room)}` : name, { class: "lane", x: 0, y: top + 15 });
  label.dataset.tip = name;
  svg.append(label);
  for (const one of lane.stretches) {
    const begin = x(one.from);
    const rect = element("rect", { class: stateClass(one.state), x: begin, y: top + 4, width: Math.max(1.5, x(one.to) - begin), height: LANE - 8, rx: 2 });
    rect.dataset.tip = `${name} (${serverOf(one)})\n${stateName(one.state)} from ${clock(one.from)} for ${duration(one.to - one.from)}${one.why ? `\n${one.why}` : ""}`;
    svg.append(rect);
  }
  for (const one of lane.marks) svg.append(markOf(name, one, x(one.at), top + LANE / 2));
}

/** Return the generation of a server, and its host in a fleet. */
function serverOf({ generation, host }) {
  return host ? `${generation} on ${host}` : generation;
}

/** Return the mark of an end: a diamond if it crashed, a triangle that points down if it was stopped. */
function markOf(name, one, x, y) {
  const isCrash = CRASHES.has(one.cause);
  const shape = isCrash ? `M${x} ${y - 7} l6 7 l-6 7 l-6 -7 z` : `M${x - 4} ${y - 6} h8 l-4 7 z`;
  const mark = element("path", { class: isCrash ? "mark crash" : "mark stop", d: shape });
  mark.dataset.tip = endOf(name, one);
  return mark;
}

/** Return in words when and why a server ended. */
function endOf(name, one) {
  const { state, at, cause, why, preemptor } = one;
  const what = !state ? "did not start" : CRASHES.has(cause) ? "crashed" : "stopped";
  const forWhom = preemptor ? ` (for ${preemptor})` : "";
  return `${name} (${serverOf(one)})\n${what} at ${clock(at)}${why ? `: ${why}` : ""}${forWhom}`;
}

/** List the last ends, for those who do not see the marks or have no pointer for their tips. */
function showEnds(found) {
  const words = found.sort((one, other) => other.at - one.at).slice(0, MAX_ENDS).map((one) => one.text.replace("\n", " "));
  ends.parentElement.hidden = !words.length;
  if (ends.dataset.shown === words.join("\n")) return;
  ends.dataset.shown = words.join("\n");
  ends.replaceChildren(...words.map((word) => Object.assign(document.createElement("li"), { textContent: word })));
}

function showTip(event) {
  const text = event.target.dataset?.tip;
  tip.hidden = !text;
  if (!text) return;
  if (tip.textContent !== text) tip.textContent = text;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - width - 8))}px`;
  tip.style.top = `${event.clientY + 16 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 16}px`;
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
