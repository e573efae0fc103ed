/** Goes through pages, whatever a server answers. */

import { noPoolService } from "./status.js";

const MOST_PAGES = 10_000;

/** Which page comes next. */
export class Paging {
  readonly #service: { readonly address: string };
  readonly #seen = new Set<string>();
  /** Of the page to ask for. */
  token = "";

  /** service: its address is known once it has answered. */
  constructor(service: { readonly address: string }) {
    this.#service = service;
  }

  /**
   * Go on to the page that the last one named; false if there is none.
   *
   * Throws PoolError if that page was read before, or if there are too many pages.
   */
  turn(token: string): boolean {
    if (token === "") return false;
    if (this.#seen.has(token) || this.#seen.size === MOST_PAGES) {
      throw noPoolService(this.#service.address, "its pages have no end");
    }
    this.#seen.add(token);
    this.token = token;
    return true;
  }
}
