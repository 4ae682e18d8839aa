/** How long a caller waits, and whether it still wants what it asked for. */

import { NoyauError } from './errors.mjs';

/** What a timer of node's can count to. */
const LONGEST_MS = 2 ** 31 - 1;

export class Limit {
  #controller = new AbortController();
  #over;
  #timer;
  #unlisten = () => {};

  /** @param {{timeoutMs?: number|null, signal?: AbortSignal}} options */
  constructor({ timeoutMs = null, signal }) {
    if (timeoutMs !== null) this.#bound(timeoutMs);
    if (signal) this.#heed(signal);
  }

  /** Aborted, with the reason as a NoyauError, as soon as it is over. */
  get signal() {
    return this.#controller.signal;
  }

  /**
   * What to send as a deadline.
   * @returns {number|null}
   */
  remainingMs() {
    if (this.#over === undefined) return null;
    return Math.max(0, Math.floor(this.#over - performance.now()));
  }

  /**
   * The promise's value, unless the limit is over before.
   * @template T
   * @param {Promise<T>} promise
   * @returns {Promise<T>}
   * @throws {NoyauError} deadline_exceeded or cancelled
   */
  async within(promise) {
    this.signal.throwIfAborted();
    let stop;
    const over = new Promise((_, reject) => {
      stop = () => reject(this.signal.reason);
      this.signal.addEventListener('abort', stop);
    });
    try {
      return await Promise.race([promise, over]);
    } finally {
      this.signal.removeEventListener('abort', stop);
    }
  }

  /** Let go of the timer and the signal. */
  end() {
    clearTimeout(this.#timer);
    this.#unlisten();
  }

  #bound(timeoutMs) {
    this.#over = performance.now() + timeoutMs;
    const error = new NoyauError('deadline_exceeded', `nothing after ${timeoutMs} ms`);
    const wait = Math.min(timeoutMs, LONGEST_MS);
    this.#timer = setTimeout(() => this.#controller.abort(error), wait);
  }

  #heed(signal) {
    const cancel = () => this.#controller.abort(new NoyauError('cancelled', 'it was aborted'));
    if (signal.aborted) cancel();
    signal.addEventListener('abort', cancel);
    this.#unlisten = () => signal.removeEventListener('abort', cancel);
  }
}
