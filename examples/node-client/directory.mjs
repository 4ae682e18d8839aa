/** Where every actor is, as the supervisor's stream `supervisor.directory` tells it. */

import { EventEmitter } from 'node:events';

import { NoyauError } from './errors.mjs';

/** States that pass by themselves: whoever waits may find the actor ready. */
const PASSING = new Set(['waiting', 'starting', 'draining']);

/**
 * @typedef {object} Entry
 * @property {string} name
 * @property {string} [epoch]
 * @property {string} [endpoint]
 * @property {string} state
 * @property {string} [reason]
 */

export class Directory {
  #entries = new Map();
  #isKnown = false;
  #changes = new EventEmitter().setMaxListeners(0);

  /**
   * @param {Entry[]} entries
   * @param {boolean} isWhole whether these are all there are, as in a stream's first chunk
   */
  take(entries, isWhole) {
    if (isWhole) this.#entries.clear();
    this.#isKnown = true;
    for (const entry of entries) this.#entries.set(entry.name, entry);
    this.#changes.emit('change');
  }

  /** The supervisor is gone, and no actor outlives it: all are unknown until the next one speaks. */
  clear() {
    this.#entries.clear();
    this.#isKnown = false;
    this.#changes.emit('change');
  }

  /** Whether a supervisor said where everybody is, and is still there. */
  get isKnown() {
    return this.#isKnown;
  }

  /**
   * @param {string} name
   * @returns {import('./connection.mjs').Peer|null} null while it is not ready but may become so
   * @throws {NoyauError} not_found or actor_unavailable
   */
  find(name) {
    if (!this.#isKnown) return null;
    const entry = this.#entries.get(name);
    if (entry === undefined) throw new NoyauError('not_found', `there is no actor ${name}`);
    if (entry.state === 'ready') {
      return { name, epoch: entry.epoch ?? '', endpoint: entry.endpoint ?? '' };
    }
    if (PASSING.has(entry.state)) return null;
    throw new NoyauError('actor_unavailable', `${name} is ${entry.state}: ${entry.reason ?? ''}`);
  }

  /**
   * Whether this incarnation is still the one that there is.
   * @param {import('./connection.mjs').Peer} peer
   */
  has(peer) {
    return this.#entries.get(peer.name)?.epoch === peer.epoch;
  }

  /**
   * Wait until it says something new, at most this long.
   * @param {number} atMostMs
   * @returns {Promise<void>}
   */
  change(atMostMs) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#changes.off('change', done);
        resolve();
      };
      const timer = setTimeout(done, atMostMs);
      this.#changes.on('change', done);
    });
  }
}
