/** Values and errors as the runner's protocol writes them. */

import { InternalError, PoolError, type Event } from "pool-service-client";

/** In snake case, absent fields null, times in seconds since 1970; without raw messages. */
export function wire(value: unknown): unknown {
  if (value === undefined || value === null) return null;
  if (value instanceof Date) return value.getTime() / 1000;
  if (typeof value === "bigint") return Number(value);
  if (Array.isArray(value)) return value.map(wire);
  if (typeof value !== "object") return value;
  const hidden = "apiKey" in value ? { apiKey: value.apiKey } : {};
  const all = Object.entries({ ...value, ...hidden });
  const fields = all.filter(([name, field]) => !isRaw(name, field));
  return Object.fromEntries(fields.map(([name, field]) => wireField(name, field)));
}

/** A duration of the client has its unit in its name; the protocol has seconds. */
function wireField(name: string, field: unknown): [string, unknown] {
  if (!name.endsWith("Ms")) return [snake(name), wire(field)];
  return [snake(name.slice(0, -2)), typeof field === "number" ? field / 1000 : wire(field)];
}

/** Of the client's own type of error, not of its reason. */
export function wireError(error: unknown): unknown {
  if (!(error instanceof PoolError)) return { kind: "Error", message: String(error) };
  return {
    kind: error instanceof InternalError ? "Internal" : error.constructor.name,
    code: error.code,
    reason: error.reason,
    message: error.message,
    retry_after: error.retryAfterMs === undefined ? null : error.retryAfterMs / 1000,
    metadata: error.metadata,
    last_lines: error.lastLines,
    violations: error.violations,
    request_id: error.requestId,
  };
}

export function wireEvent(event: Event): unknown {
  return wire({ server: undefined, ...event });
}

function isRaw(name: string, field: unknown): boolean {
  return name === "message" && typeof field === "object";
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
