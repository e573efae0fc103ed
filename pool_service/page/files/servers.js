// The servers of the pool, as two sources tell them: changes by Watch, and their use by polling.

// What changes without a change that Watch tells, and what polling alone tells.
const USED = ["footprint_bytes", "peak_bytes", "last_use_time", "expire_time"];
const POLLED = ["place", "busy", "waiting_calls"];
// What is polled about a server is no longer so once one of these is another.
const SETTLED = ["state", "holds", "pinned"];

/** The states that are counted, as the totals of the pool name them. */
const COUNTED = ["ready", "starting", "queued", "backing_off", "failed"];

const UNKNOWN = -1;

/** Return the key of a server; two hosts of a fleet may have one of the same generation. */
export function keyOf({ model, generation, host }) {
  return `${model}\0${generation}\0${host ?? ""}`;
}

/** Compare servers of a model: the newest, which callers get, comes first. */
export function byAge(one, other) {
  return Number(other.generation) - Number(one.generation);
}

/** Return whether a server is the one that callers of its model get on its host. */
export function isCurrent(server) {
  return server.role === "SERVER_ROLE_CURRENT";
}

/** Return whether a server is as it was, as far as that decides who uses it and when it leaves. */
export function isSettled(server, before) {
  return SETTLED.every((name) => server?.[name] === before?.[name]);
}

/**
 * Keeps what both sources have told, and shows what is newest. Changes have revisions, and what is
 * polled has that of the last change before: so no answer undoes a newer change.
 *
 * shown: the servers by key; one that has not changed stays the same object.
 * isKnown: whether these are the servers of the pool: not before the first answer.
 */
export class Servers {
  constructor() {
    this.shown = new Map();
    this.isKnown = false;
    this._isFollowed = false;
    this._told = new Map();
    this._uses = new Map();
    this._usedAt = UNKNOWN;
  }

  /** The number of servers, of whichever source has more. */
  get size() {
    return Math.max(this.shown.size, this._uses.size);
  }

  /** Whether changes are told; else what is polled is shown alone. */
  set isFollowed(isFollowed) {
    if (this._isFollowed === isFollowed) return;
    this._isFollowed = isFollowed;
    if (!isFollowed) return;
    this.isKnown = true;
    this._showAll();
  }

  /** Begin anew with the servers that are there, by key, at a revision. */
  reset(present, revision) {
    this._told = new Map([...present].map(([key, server]) => [key, { server, at: Number(revision) }]));
    this.isFollowed = true;
    this._showAll();
  }

  /** Take a change of a server; return the server as it was shown before. */
  apply({ server, removed, revision }) {
    const key = keyOf(server ?? removed);
    const before = this.shown.get(key);
    if (server) {
      this._told.set(key, { server, at: Number(revision) });
      this._show(key);
    } else {
      this._told.delete(key);
      this.shown.delete(key);
    }
    return before;
  }

  /** Take the use of all servers; revision: empty while the service does not know them. */
  use({ servers, revision }) {
    if (!revision) {
      this.isKnown &&= this._isFollowed;
      return;
    }
    this._uses = new Map(servers.map((use) => [keyOf(use), use]));
    this._usedAt = Number(revision);
    this.isKnown = true;
    this._showAll();
  }

  /** Return the number of servers in each state; null if that is not known. */
  counts() {
    if (!this.isKnown) return null;
    const counts = Object.fromEntries(COUNTED.map((state) => [state, 0]));
    for (const { state } of this.shown.values()) counts[state.replace("SERVER_STATE_", "").toLowerCase()] += 1;
    return counts;
  }

  _showAll() {
    const keys = this._isFollowed ? this._told : this._uses;
    for (const key of this.shown.keys()) if (!keys.has(key)) this.shown.delete(key);
    for (const key of keys.keys()) this._show(key);
  }

  _show(key) {
    const server = this._newest(this._told.get(key), this._uses.get(key));
    const before = this.shown.get(key);
    if (!isEqual(server, before)) this.shown.set(key, server);
  }

  _newest(told, use) {
    if (!use) return told.server;
    if (!this._isFollowed) return told && isSettled(use, told.server) ? { ...told.server, ...use } : use;
    if (told.at <= this._usedAt) return { ...told.server, ...only(use, USED), ...only(use, POLLED) };
    return isSettled(use, told.server) ? { ...told.server, ...only(use, POLLED) } : told.server;
  }
}

function only(values, names) {
  return Object.fromEntries(names.map((name) => [name, values[name]]));
}

function isEqual(one, other) {
  if (!other) return false;
  const names = Object.keys(one);
  return names.length === Object.keys(other).length && names.every((name) => one[name] === other[name]);
}
