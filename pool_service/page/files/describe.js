// The description of one model, as headings, lists and tables.

import { bytes, clock, duration, ordinal, stateName, time } from "./format.js";
import { poolClock } from "./service_clock.js";

/** Return the nodes that show a description, as the service returns it. */
export function describedBy(description) {
  const now = poolClock.now();
  return [
    ...section("Now", facts(nowOf(description, now))),
    ...section("Who holds it", list(description.holders.map((one) => `${one.label || "without a label"}, for ${age(one.since, now)}`))),
    ...section("Who waits for it", list(description.waiting.map((one) => waitingOf(one, now)))),
    ...section("Goes next for another model", table(["", "model", "frees", "in use", "worth"], description.next_to_go.map(candidateOf))),
    ...section("Starts, the newest first", table(["generation", "from", "queued", "spawned in", "loaded in", "ready at", "memory", "ended"], [...description.runs].reverse().map(runOf))),
    ...section("Decisions, the newest first", table(["at", "generation", "what", "why"], [...description.decisions].reverse().map(decisionOf))),
    ...section("Settings of its next server", table(["key", "value", "from"], description.settings.map(settingOf))),
  ];
}

function nowOf(description, now) {
  const [server] = description.servers;
  const found = [];
  if (server) found.push(["state", `${stateName(server.state)}${server.detail ? `: ${server.detail}` : ""}`]);
  if (!server) found.push(["state", "not running"]);
  if (description.queue_time) found.push(["queued", `for ${age(description.queue_time, now)}`]);
  if (server?.endpoint) found.push(["endpoint", server.endpoint]);
  found.push(["memory", memoryOf(description, server)]);
  if (description.usual_load) found.push(["usual load", `${parseFloat(description.usual_load).toFixed(1)} s`]);
  if (description.on_disk !== undefined) found.push(["on disk", description.on_disk ? bytes(description.disk_bytes) : "no"]);
  if (server) found.push(["leaves", goesOf(description)]);
  if (description.problem) found.push(["problem", description.problem]);
  if (description.failure_message) found.push(["fails until", `${clock(time(description.retry_time))}: ${description.failure_message}`]);
  const exit = server?.last_exit ?? description.last_exit;
  if (exit) found.push(["last exit", `generation ${exit.generation}, ${causeOf(exit)}: ${exit.message}`]);
  if (exit?.last_lines.length) found.push(["it wrote", exit.last_lines.join("\n")]);
  return found;
}

function memoryOf(description, server) {
  const source = description.expected_by.replace("EXPECTATION_", "").toLowerCase();
  const expected = `needs ${bytes(description.expected_bytes)} (${source})`;
  return server && Number(server.footprint_bytes) ? `takes ${bytes(server.footprint_bytes)}, at most ${bytes(server.peak_bytes)}; ${expected}` : expected;
}

function goesOf(description) {
  const place = description.eviction_position;
  if (place) return `${ordinal(place)} to go for another model, of ${description.eviction_candidates}`;
  return `not for another model${description.kept_because ? `: ${description.kept_because}` : ""}`;
}

function waitingOf(one, now) {
  const who = one.own ? "the service itself" : one.hold ? `a hold${one.holder ? ` of ${one.holder}` : ""}` : "a call";
  return `${who}, for ${age(one.since, now)}`;
}

function candidateOf(one, index) {
  return [String(index + 1), `${one.model} (${one.generation})`, bytes(one.freed_bytes), one.busy ? "yes" : "no", `${Number(one.retention_seconds).toPrecision(3)} s`];
}

function runOf(run) {
  const exit = run.exit ? `${clock(time(run.end_time))}, ${causeOf(run.exit)}` : "";
  return [
    run.generation,
    run.origin.replace("RUN_ORIGIN_", "").toLowerCase(),
    between(run.create_time, run.admit_time),
    between(run.admit_time, run.start_time),
    run.load ? `${parseFloat(run.load).toFixed(1)} s` : "",
    run.ready_time ? clock(time(run.ready_time)) : "",
    Number(run.peak_bytes) ? bytes(run.peak_bytes) : "",
    exit,
  ];
}

function decisionOf(one) {
  const before = nameOf(one.before);
  const after = nameOf(one.after);
  return [clock(time(one.time)), one.generation, before === after ? after : `${before} → ${after}`, one.why];
}

function settingOf(one) {
  const running = one.running ? ` (now: ${one.running})` : "";
  return [one.key, one.value + running, one.source];
}

function nameOf(state) {
  return state === "SERVER_STATE_UNSPECIFIED" ? "gone" : stateName(state);
}

function causeOf(exit) {
  return exit.cause.replace("EXIT_CAUSE_", "").replaceAll("_", " ").toLowerCase();
}

function age(since, now) {
  return duration(now - time(since));
}

function between(from, to) {
  return from && to ? `${(time(to) - time(from)).toFixed(1)} s` : "";
}

function section(title, content) {
  if (!content) return [];
  return [element("h3", title), content];
}

function facts(pairs) {
  const made = document.createElement("dl");
  for (const [name, value] of pairs) made.append(element("dt", name), element("dd", value));
  return made;
}

function list(words) {
  if (!words.length) return null;
  const made = document.createElement("ul");
  made.append(...words.map((word) => element("li", word)));
  return made;
}

function table(names, rows) {
  if (!rows.length) return null;
  const scroll = document.createElement("div");
  scroll.className = "scroll";
  const made = document.createElement("table");
  const head = made.createTHead().insertRow();
  head.append(...names.map((name) => element("th", name)));
  const body = made.createTBody();
  for (const cells of rows) body.insertRow().append(...cells.map((cell) => element("td", cell)));
  scroll.append(made);
  return scroll;
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}
