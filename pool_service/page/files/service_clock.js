// The clock of the service: the page may be on another machine, whose clock goes ahead or behind.

/** A clock that is set by what the service tells. Times are Unix times in seconds. */
export class ServiceClock {
  constructor() {
    this._ahead = 0;
  }

  /** Set the clock by the time that the service has just told. */
  set(now) {
    this._ahead = now - Date.now() / 1000;
  }

  /** Return the time of the service. */
  now() {
    return Date.now() / 1000 + this._ahead;
  }
}

/** The clock of all times but those of the timeline: it stays as it is if the machine's is set. */
export const poolClock = new ServiceClock();
