// The order of answers: two requests may be under way, and the older one may be answered last.

/** Numbers requests, so that an answer that a newer one has overtaken can be dropped. */
export class Requests {
  constructor() {
    this._sent = 0;
    this._answered = 0;
  }

  /** The number of the last request that was sent; 0: none was. */
  get last() {
    return this._sent;
  }

  /** Return the number of a request that is sent now. */
  send() {
    this._sent += 1;
    return this._sent;
  }

  /** Return whether the answer to a request is newer than all before. */
  isNews(number) {
    if (number < this._answered) return false;
    this._answered = number;
    return true;
  }
}
