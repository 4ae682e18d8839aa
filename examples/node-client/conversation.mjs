/** What may be answered to a request, and what comes of it: pure, without sockets or clocks. */

import { NoyauError } from './errors.mjs';
import { Kind } from './frames.mjs';

/** How many chunks may come without a credit, and how many this reader holds at most. */
export const WINDOW = 64;

const isText = (value) => typeof value === 'string';

/** What this client relies on in the bodies of chunks; all else is taken as it comes. */
const CHUNK_CHECKS = {
  'orchestrator.query': (body) => isText(body?.text),
  'supervisor.directory': (body) => Array.isArray(body?.entries) && body.entries.every(isEntry),
  'supervisor.events': (body) => Array.isArray(body?.events),
};

function isEntry(entry) {
  return isText(entry?.name) && isText(entry.state);
}

/** The caller's end of an ask or a stream. */
export class Conversation {
  #shape;
  #granted = WINDOW;
  #received = 0;

  /** @param {'ask'|'stream'} shape */
  constructor(shape) {
    this.#shape = shape;
    /** Whether more may come. */
    this.isOpen = true;
    /** @type {NoyauError|null} why it is over, where it failed */
    this.error = null;
    /** The body of its reply or end. */
    this.answer = undefined;
  }

  /** How many chunks came. */
  get received() {
    return this.#received;
  }

  /**
   * Take what came for it.
   * @param {import('./frames.mjs').Envelope} envelope
   * @returns {any} the body of a chunk; undefined for all else
   */
  take(envelope) {
    if (!this.isOpen) return undefined; // Late: there is nothing wrong with that.
    switch (envelope.kind) {
      case Kind.CHUNK:
        return this.#takeChunk(envelope);
      case Kind.HEARTBEAT:
        return this.#takeHeartbeat(envelope);
      case Kind.END:
        return this.#takeEnd(envelope);
      case Kind.REPLY:
        return this.#takeReply(envelope);
      case Kind.ERROR:
        return this.fail(NoyauError.fromBody(envelope.body));
      default:
        return this.#failOutOfTurn(envelope);
    }
  }

  /**
   * End it with an error, unless it is over.
   * @param {NoyauError} error
   */
  fail(error) {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.error = error;
  }

  /**
   * The credit to send now that so many chunks are used, or null while the last one is enough.
   * @param {number} used
   * @returns {number|null}
   */
  creditAfter(used) {
    if (!this.isOpen || this.#granted - used > WINDOW / 2) return null;
    this.#granted = used + WINDOW;
    return this.#granted;
  }

  #takeChunk(envelope) {
    const { operation, sequence, body } = envelope;
    if (this.#shape !== 'stream') return this.#failOutOfTurn(envelope);
    if (sequence !== this.#received) {
      return this.#break(`chunk ${sequence} came where ${this.#received} was due`);
    }
    if (sequence >= this.#granted) {
      return this.fail(new NoyauError('illegal_transition', `chunk ${sequence} had no credit`));
    }
    if (CHUNK_CHECKS[operation]?.(body) === false) {
      return this.fail(new NoyauError('invalid_message', `not a chunk of ${operation}`));
    }
    this.#received += 1;
    return body;
  }

  #takeHeartbeat(envelope) {
    if (this.#shape !== 'stream') return this.#failOutOfTurn(envelope);
    if (envelope.sequence !== this.#received) {
      this.#break(`${this.#received} chunks came of ${envelope.sequence}`);
    }
    return undefined;
  }

  #takeEnd(envelope) {
    this.#takeHeartbeat(envelope); // It says how many chunks there were, too.
    return this.isOpen ? this.#finish(envelope.body) : undefined;
  }

  #takeReply(envelope) {
    if (this.#shape !== 'ask') return this.#failOutOfTurn(envelope);
    return this.#finish(envelope.body);
  }

  #finish(body) {
    this.isOpen = false;
    this.answer = body;
  }

  #break(message) {
    this.fail(new NoyauError('stream_broken', message));
  }

  #failOutOfTurn({ kind, operation }) {
    const message = `kind ${kind} came for ${operation}, which is open as ${this.#shape}`;
    this.fail(new NoyauError('illegal_transition', message));
  }
}
