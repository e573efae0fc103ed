// The pool as the page knows it: servers by the stream of changes, their use by polling.

import { call, stream } from "./calls.js";

const RETRY_MS = 1000;
const USAGE_MS = 2000;
const MODELS_MS = 30000;

const keyOf = (server) => `${server.model}\0${server.generation}`;

const POLLED = ["footprint_bytes", "peak_bytes", "place", "busy", "waiting_calls"];

function useOf(server) {
  return Object.fromEntries(POLLED.filter((name) => server?.[name] !== undefined).map((name) => [name, server[name]]));
}

/** Return once the page is seen. */
function visible() {
  return new Promise((resolve) => {
    if (!document.hidden) resolve();
    else document.addEventListener("visibilitychange", () => resolve(visible()), { once: true });
  });
}

/** Return a signal that aborts once nobody sees the page: a browser has few connections to share. */
function whileVisible() {
  const controller = new AbortController();
  const look = () => {
    if (document.hidden) controller.abort();
    else document.addEventListener("visibilitychange", look, { once: true });
  };
  look();
  return controller.signal;
}

/** Keeps the servers, the models and the totals up to date, and says when they have changed. */
export class Pool {
  /**
   * changed: called after each change, at most once a frame; connected: called with a boolean;
   * transition: called when the state of a server has changed.
   */
  constructor({ changed, connected, transition }) {
    this.servers = new Map();
    this.models = new Map();
    this.totals = null;
    this.notices = [];
    this.revision = null;
    this._changed = changed;
    this._connected = connected;
    this._transition = transition;
    this._isDue = false;
  }

  /** Follow the pool until the page is closed. */
  start() {
    this._follow();
    this._repeat(() => this._readUsage(), USAGE_MS);
    this._repeat(() => this._readModels(), MODELS_MS);
  }

  /** Return the current server of a model, or undefined. */
  serverOf(model) {
    for (const server of this.servers.values()) {
      if (server.model === model && server.role !== "SERVER_ROLE_SUPERSEDED") return server;
    }
    return undefined;
  }

  /** Read the models again now, as after a change that Watch does not tell. */
  async refresh() {
    await Promise.allSettled([this._readUsage(), this._readModels()]);
  }

  async _follow() {
    for (;;) {
      await visible();
      try {
        await this._watch();
      } catch (error) {
        if (error.reason === "REVISION_COMPACTED") {
          this.revision = null;
          continue;
        }
      }
      if (document.hidden) continue;
      this._connected(false);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /** Follow the pool until the stream ends, or nobody sees the page: then it goes on from there. */
  async _watch() {
    const isResumed = this.revision !== null;
    const request = isResumed ? { after_revision: this.revision } : {};
    const present = new Map();
    let isSynced = isResumed;
    const opened = () => isResumed && this._connected(true);
    for await (const event of stream("Watch", request, whileVisible(), opened)) {
      this.revision = event.revision;
      if (event.synced) {
        isSynced = true;
        this.servers = present;
        this._connected(true);
      } else if (!isSynced) {
        present.set(keyOf(event.server), event.server);
      } else {
        this._apply(event);
      }
      if (isSynced) this._notify();
    }
  }

  _apply(event) {
    const server = event.server ?? event.removed;
    const key = keyOf(server);
    const before = this.servers.get(key);
    // Its use is not news to Watch: what polling told last is newer.
    if (event.server) this.servers.set(key, { ...server, ...useOf(before) });
    else this.servers.delete(key);
    if (event.removed || before?.state !== server.state) {
      this._transition();
    }
  }

  async _readUsage() {
    const usage = await call("Usage");
    this.totals = usage.totals;
    this.notices = usage.notices;
    for (const use of usage.servers) {
      const server = this.servers.get(keyOf(use));
      if (server) Object.assign(server, use);
    }
    this._notify();
  }

  async _readModels() {
    const models = new Map();
    let token = "";
    do {
      const page = await call("ListModels", { page_token: token, found: true });
      for (const model of page.models) models.set(model.model, model);
      token = page.next_page_token;
    } while (token);
    this.models = models;
    this._notify();
  }

  _repeat(read, pause) {
    const again = async () => {
      // A page that nobody sees asks for nothing.
      if (!document.hidden) await read().catch(() => {});
      setTimeout(again, pause);
    };
    again();
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) read().catch(() => {});
    });
  }

  _notify() {
    if (this._isDue) return;
    this._isDue = true;
    requestAnimationFrame(() => {
      this._isDue = false;
      this._changed();
    });
  }
}
