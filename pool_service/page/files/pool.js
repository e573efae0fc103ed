// The pool as the page knows it: servers by the stream of changes, their use by polling.

import { call, stream } from "./calls.js";
import { Connection } from "./connection.js";
import { Requests } from "./requests.js";
import { byAge, isCurrent, isSettled, keyOf, Servers } from "./servers.js";
import { poolClock } from "./service_clock.js";
import { withSlot } from "./slots.js";
import { repeatWhileVisible, visible, whileVisible } from "./visibility.js";

const RETRY_MS = 1000;
const USAGE_MS = 2000;
// Looking costs the service the same, a thousandth of a processor, however many servers there are.
const USAGE_SERVER_MS = 40;
const MODELS_MODEL_MS = 600;
const MODELS_MS = 60000;
const MODELS_PAGE = 50;
const MOST_ENDS = 200;
// What is polled is read again so much sooner after a change, which tells less than all.
const SOONER = 4;

/** Keeps the servers, the models and the totals up to date, and says when they have changed. */
export class Pool {
  /**
   * changed: called after each change, at most once a frame; connected: called with "live", "away",
   * "waiting" if too many windows follow the pool, or "silent" if what is polled is not answered;
   * transition: called with the model of a server whose state has changed; news: called with the
   * model of a server of which anything has changed, or null: of any.
   */
  constructor({ changed, connected, transition, news }) {
    this.models = new Map();
    this.hasReadModels = false;
    this.totals = null;
    this.notices = [];
    /** The hosts of a fleet, each with its state and its totals; empty: this is one pool. */
    this.hosts = [];
    this.revision = null;
    /** Why the last start of a model came to nothing, by model. */
    this.ends = new Map();
    this._changed = changed;
    this._connection = new Connection(connected);
    this._transition = transition;
    this._news = news;
    this._isDue = false;
    this._servers = new Servers();
    this._usages = new Requests();
    this._lists = new Requests();
    /** Pins that were set here, by model, with the last list that was asked for before. */
    this._pins = new Map();
    this._usageTimer = 0;
  }

  /** The servers by key, as far as they are known. */
  get servers() {
    return this._servers.shown;
  }

  /** Whether these are the servers of the pool: not before the service has told them. */
  get isKnown() {
    return this._servers.isKnown;
  }

  /** The number of servers in each state, or null. */
  get counts() {
    return this._servers.counts() ?? this.totals;
  }

  /** Follow the pool until the page is closed. */
  start() {
    this._follow();
    repeatWhileVisible(() => this.polled("usage", this._readUsage()), () => this._usagePause());
    repeatWhileVisible(() => this.polled("models", this._readModels()), () => Math.max(MODELS_MS, MODELS_MODEL_MS * this.models.size));
  }

  /** Return what something polled returns; its failures are told. */
  polled(name, work) {
    return this._connection.polled(name, work);
  }

  /** Read again now what Watch does not tell of a change: the use, and a model that is new. */
  async refresh(model) {
    const isListed = this.models.has(model);
    await Promise.allSettled([this._readUsage(), isListed ? null : this._readModels()]);
  }

  /** Note that a model was pinned, or no longer is. */
  setPinned(model, isPinned) {
    const listed = this.models.get(model);
    if (listed) this.models.set(model, { ...listed, pinned: isPinned });
    this._pins.set(model, { isPinned, last: this._lists.last });
    this._notify();
  }

  /** Return whether a model has a server beside its current one. */
  hasSeveral(model) {
    return [...this.servers.values()].filter((one) => one.model === model).length > 1;
  }

  /** Return the generation of the current server of a model; undefined: it has none. */
  generationOf(model) {
    const current = [...this.servers.values()].filter((one) => one.model === model && isCurrent(one));
    return current.sort(byAge)[0]?.generation;
  }

  /** Return whether there is a server of a model with a generation. host: undefined: whichever. */
  has(model, generation, host) {
    const isIt = (one) => one.model === model && String(one.generation) === String(generation);
    return [...this.servers.values()].some((one) => isIt(one) && (host === undefined || one.host === host));
  }

  async _follow() {
    for (;;) {
      await visible();
      this._servers.isFollowed = false;
      try {
        await whileVisible((seen) =>
          withSlot("watch", seen, () => this._connection.follow("waiting"), () => this._watch(seen)),
        );
      } catch (error) {
        if (error.reason === "REVISION_COMPACTED") {
          this.revision = null;
          continue;
        }
      }
      if (document.hidden) continue;
      this._connection.follow("away");
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /** Follow the pool until the stream ends, or nobody sees the page: then it goes on from there. */
  async _watch(seen) {
    const isResumed = this.revision !== null;
    const request = isResumed ? { after_revision: this.revision } : {};
    const present = new Map();
    let isSynced = isResumed;
    const opened = () => isResumed && this._goOn();
    for await (const event of stream("Watch", request, seen, opened)) {
      this.revision = event.revision;
      if (event.synced) {
        isSynced = true;
        const before = new Map(this.servers);
        this._servers.reset(present, event.revision);
        this._tellTransitions(before);
        this._news(null);
        Promise.allSettled([this._readUsage(), this._readModels()]);
        this._connection.follow("live");
      } else if (!isSynced) {
        present.set(keyOf(event.server), event.server);
      } else {
        this._apply(event);
      }
      if (isSynced) {
        this._servers.isFollowed = true;
        this._notify();
      }
    }
  }

  /**
   * Show what is told again, as the stream has begun that goes on after the last change: its changes
   * are from what was told, not from what has been polled since.
   */
  _goOn() {
    this._servers.isFollowed = true;
    this._connection.follow("live");
    this._notify();
  }

  _apply(event) {
    const before = this._servers.apply(event);
    const server = event.server ?? event.removed;
    this._noteEnd(event, before);
    if (event.removed || before?.state !== server.state) this._transition(server.model);
    if (event.server && !isSettled(server, before)) this._readUsageSoon();
    this._news(server.model);
  }

  /** Keep why a start came to nothing, until its model has another server. */
  _noteEnd({ server, removed }, before) {
    const { model } = server ?? removed;
    this.ends.delete(model);
    // What it had told before, as what it waits for, is no reason why it went.
    const isTold = !removed?.detail || removed.detail === before?.detail;
    if (isTold || before?.state === "SERVER_STATE_STOPPING") return;
    this.ends.set(model, removed.detail);
    if (this.ends.size > MOST_ENDS) this.ends.delete(this.ends.keys().next().value);
  }

  _tellTransitions(before) {
    for (const model of modelsThatDiffer(before, this.servers)) this._transition(model);
  }

  _usagePause() {
    return Math.max(USAGE_MS, USAGE_SERVER_MS * this._servers.size);
  }

  _readUsageSoon() {
    if (this._usageTimer) return;
    this._usageTimer = setTimeout(() => {
      this._usageTimer = 0;
      if (!document.hidden) this._readUsage().catch(() => {});
    }, this._usagePause() / SOONER);
  }

  async _readUsage() {
    const number = this._usages.send();
    const usage = await call("Usage");
    if (!this._usages.isNews(number)) return;
    poolClock.set(usage.now);
    this.totals = { ...usage.totals, memory_current: usage.memory_current };
    this.notices = usage.notices;
    this.hosts = usage.hosts ?? [];
    const before = new Map(this.servers);
    this._servers.use(usage);
    this._tellTransitions(before);
    this._notify();
  }

  async _readModels() {
    const number = this._lists.send();
    const models = new Map();
    let token = "";
    do {
      const page = await call("ListModels", { page_size: MODELS_PAGE, page_token: token, found: true });
      for (const model of page.models) models.set(model.model, model);
      token = page.next_page_token;
    } while (token);
    if (!this._lists.isNews(number)) return;
    this._keepPins(models, number);
    this.models = withSameObjects(models, this.models);
    this.hasReadModels = true;
    this._notify();
  }

  /** Keep in a list the pins that were set since it was asked for: it may have been read before. */
  _keepPins(models, number) {
    for (const [model, { isPinned, last }] of this._pins) {
      if (number > last) this._pins.delete(model);
      else if (models.has(model)) models.set(model, { ...models.get(model), pinned: isPinned });
    }
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

/** Return the models; one that is as it was stays the same object, and is not drawn anew. */
function withSameObjects(models, before) {
  const isSame = (name, model) => JSON.stringify(model) === JSON.stringify(before.get(name));
  return new Map([...models].map(([name, model]) => [name, isSame(name, model) ? before.get(name) : model]));
}

/** Return the models with a server that only one of two maps has, or has in another state. */
function modelsThatDiffer(before, after) {
  const all = [...before, ...after];
  return new Set(all.filter(([key]) => before.get(key)?.state !== after.get(key)?.state).map(([, { model }]) => model));
}
