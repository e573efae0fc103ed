// Whether the page shows the present state: it follows the pool, and what it polls is answered.

const MOST_FAILURES = 2;

/** Joins what is known of the stream and of the polls. */
export class Connection {
  /**
   * told: called with "live", "away", or "waiting" as the page follows the pool, and with "silent"
   * if it does but is not answered when it polls.
   */
  constructor(told) {
    this._told = told;
    this._followed = "";
    this._failures = new Map();
  }

  /** Tell how the pool is followed now: "live", "away" or "waiting". */
  follow(state) {
    this._followed = state;
    // What has failed while the service was away says nothing of now.
    if (state === "live") this._failures.clear();
    this._tell();
  }

  /** Return what something polled returns. name: of what is polled; throws as `work` does. */
  async polled(name, work) {
    const was = this._isSilent();
    try {
      const result = await work;
      this._failures.delete(name);
      return result;
    } catch (error) {
      this._failures.set(name, (this._failures.get(name) ?? 0) + 1);
      throw error;
    } finally {
      if (this._isSilent() !== was) this._tell();
    }
  }

  _isSilent() {
    return [...this._failures.values()].some((count) => count >= MOST_FAILURES);
  }

  _tell() {
    this._told(this._isSilent() && this._followed !== "away" ? "silent" : this._followed);
  }
}
