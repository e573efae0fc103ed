// Values as people read them.

import { poolClock } from "./service_clock.js";

// Units with the number of their decimal places, as the command line shows sizes.
const UNITS = [["B", 0], ["kB", 0], ["MB", 0], ["GB", 1], ["TB", 1]];
const STEP = 1000;

/** Return a count of bytes in decimal units, such as "512 MB" and "4.2 GB". */
export function bytes(count) {
  let value = Number(count);
  for (const [unit, digits] of UNITS.slice(0, -1)) {
    if (Number(value.toFixed(digits)) < STEP) return `${value.toFixed(digits)} ${unit}`;
    value /= STEP;
  }
  const [unit, digits] = UNITS.at(-1);
  return `${value.toFixed(digits)} ${unit}`;
}

/** Return a duration in seconds by its two largest units, such as "3m 12s". */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${whole % 60}s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}h ${Math.floor((whole % 3600) / 60)}m`;
  return `${Math.floor(whole / 86400)}d ${Math.floor((whole % 86400) / 3600)}h`;
}

/** Return the Unix time in seconds of a timestamp, which may be such a time already; or null. */
export function time(at) {
  if (typeof at === "number") return at;
  return at ? Date.parse(at) / 1000 : null;
}

/** Return a number with its noun: "1 call", "3 calls". */
export function counted(count, one, many) {
  return `${count} ${count === 1 ? one : many}`;
}

const ENDINGS = { one: "st", two: "nd", few: "rd", other: "th" };
const ordinals = new Intl.PluralRules("en", { type: "ordinal" });

/** Return a place in words: "next", "2nd". */
export function ordinal(place) {
  return place === 1 ? "next" : `${place}${ENDINGS[ordinals.select(place)]}`;
}

const TIME = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const MINUTE = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat([], { day: "numeric", month: "short" });

/** Return the time of day of a Unix time, with seconds, and its date if that is not today. */
export function clock(seconds) {
  const [day, today] = [seconds, poolClock.now()].map((at) => DAY.format(at * 1000));
  return `${day === today ? "" : `${day}, `}${TIME.format(seconds * 1000)}`;
}

/** Return the time of day of a Unix time, such as "14:02". */
export function minute(seconds) {
  return MINUTE.format(seconds * 1000);
}

/** Return the name of a state, as a word of the page: "READY", "BACKING OFF". */
export function stateName(state) {
  return state.replace("SERVER_STATE_", "").replaceAll("_", " ");
}

/** Return the class of a state for the style sheet. */
export function stateClass(state) {
  return `is-${state.replace("SERVER_STATE_", "").toLowerCase()}`;
}
