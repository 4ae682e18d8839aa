/** One connection to one incarnation of one actor, and the conversations on it. */

import { setImmediate } from 'node:timers/promises';

import { Dealer } from 'zeromq';

import { Conversation } from './conversation.mjs';
import { NoyauError } from './errors.mjs';
import {
  decodeFrame,
  encodeFrame,
  FrameError,
  Kind,
  MAX_MESSAGE_BYTES,
  saysNothing,
  splitBatch,
} from './frames.mjs';
import { uuid7 } from './ids.mjs';

const OPTIONS = {
  // Never, as a connection that is lost is closed first. ZeroMQ's own word for never, -1, throws
  // away what had come and was not read yet.
  reconnectInterval: 3_600_000,
  maxMessageSize: MAX_MESSAGE_BYTES,
  handshakeInterval: 5000, // A process of the same machine that takes longer hangs.
  linger: 500, // For the cancels of a client that closes: they leave at once, or never.
};
const LOST = [
  'close',
  'connect:retry',
  'disconnect',
  'handshake:error:protocol',
  'handshake:error:other',
];
const SOURCE = 'node-client';

/**
 * @typedef {object} Peer one incarnation
 * @property {string} name
 * @property {string} epoch
 * @property {string} endpoint
 */

export class Connection {
  #peer;
  #onClose;
  #socket = new Dealer(OPTIONS);
  #exchanges = new Map();
  #outbox = [];
  #isSending = false;
  #messages = 0;

  /**
   * @param {Peer} peer
   * @param {() => void} onClose called once, when it is lost or closed
   */
  constructor(peer, onClose) {
    this.#peer = peer;
    this.#onClose = onClose;
  }

  /** Which incarnation it leads to. */
  get peer() {
    return this.#peer;
  }

  /**
   * Connect, and wait until the other side says hello.
   * @returns {Promise<boolean>} whether it did
   */
  open() {
    return new Promise((resolve) => {
      const { events } = this.#socket;
      events.on('handshake', () => resolve(true));
      for (const event of LOST) {
        events.on(event, () => {
          resolve(false);
          this.#lose();
        });
      }
      this.#socket.connect(this.#peer.endpoint);
      this.#receive();
    });
  }

  /**
   * Send a request.
   * @param {'ask'|'stream'} shape
   * @param {string} operation
   * @param {unknown} body
   * @param {import('./limits.mjs').Limit} limit
   * @returns {Exchange}
   */
  request(shape, operation, body, limit) {
    limit.signal.throwIfAborted();
    if (this.#socket.closed) throw refused(this.#peer);
    const id = uuid7();
    const send = (kind, fields) => this.#send({ id, kind, operation, ...fields });
    const exchange = new Exchange(shape, send, () => this.#exchanges.delete(key(id)));
    send(Kind.REQUEST, { body, correlation: id, deadline_ms: limit.remainingMs() });
    this.#exchanges.set(key(id), exchange);
    limit.signal.addEventListener('abort', () => exchange.leave(limit.signal.reason));
    return exchange;
  }

  /**
   * Take back what is open on it, and close it.
   * @param {NoyauError} error
   */
  leave(error) {
    for (const exchange of this.#exchanges.values()) exchange.leave(error);
    this.close(error);
  }

  /**
   * Close it; whatever is open on it ends with this error.
   * @param {NoyauError} error
   */
  close(error) {
    if (this.#socket.closed) return;
    this.#socket.close();
    for (const exchange of this.#exchanges.values()) exchange.fail(error);
    this.#exchanges.clear();
    this.#onClose();
  }

  /** Close it because its incarnation is gone. */
  async #lose() {
    let before;
    do {
      // What had come before still lies in the socket's queue: an end may be among it.
      before = this.#messages;
      await setImmediate();
    } while (this.#messages > before);
    this.close(died(this.#peer, 'its connection was lost'));
  }

  async #receive() {
    for await (const parts of this.#socket) {
      this.#messages += 1;
      // A message of several parts is nobody's: there is no id to tell whose it might be.
      if (parts.length === 1) splitBatch(parts[0]).forEach((frame) => this.#take(frame));
    }
  }

  #take(frame) {
    if (saysNothing(frame)) return;
    try {
      const envelope = decodeFrame(frame);
      this.#exchanges.get(key(envelope.id))?.take(envelope);
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      this.#exchanges.get(key(error.id))?.leave(error);
    }
  }

  #send(fields) {
    const frame = encodeFrame({ ...fields, source: SOURCE, target: this.#peer.name });
    this.#outbox.push(frame);
    if (!this.#isSending) this.#flush();
  }

  /** Send what waits, one after the other: a socket takes no second one while it is busy. */
  async #flush() {
    this.#isSending = true;
    try {
      while (this.#outbox.length > 0) await this.#socket.send(this.#outbox.shift());
    } catch (error) {
      if (!this.#socket.closed) throw error;
    } finally {
      this.#isSending = false;
    }
  }
}

/** A conversation as the one who waits for it has it. */
export class Exchange {
  #conversation;
  #send;
  #onOver;
  #chunks = [];
  #wake = () => {};

  /**
   * @param {'ask'|'stream'} shape
   * @param {(kind: number, fields?: object) => void} send
   * @param {() => void} onOver called when nothing more is to come
   */
  constructor(shape, send, onOver) {
    this.#conversation = new Conversation(shape);
    this.#send = send;
    this.#onOver = onOver;
  }

  /** @param {import('./frames.mjs').Envelope} envelope */
  take(envelope) {
    const chunk = this.#conversation.take(envelope);
    if (chunk !== undefined) this.#chunks.push(chunk);
    const isBroken = this.#conversation.error !== null && envelope.kind !== Kind.ERROR;
    if (isBroken) this.#send(Kind.CANCEL);
    this.#changed();
  }

  /**
   * End it, unless it is over: the other side is gone.
   * @param {NoyauError} error
   */
  fail(error) {
    this.#conversation.fail(error);
    this.#changed();
  }

  /**
   * End it, unless it is over, and tell the other side.
   * @param {NoyauError} error
   */
  leave(error) {
    if (!this.#conversation.isOpen) return;
    this.#send(Kind.CANCEL);
    this.fail(error);
  }

  /**
   * @returns {Promise<any>} the body of the reply
   * @throws {NoyauError}
   */
  async reply() {
    while (this.#conversation.isOpen) await this.#change();
    return this.#answer();
  }

  /**
   * The bodies of the chunks as they come; the generator returns that of the end.
   * @returns {AsyncGenerator<any, any>}
   */
  async *chunks() {
    try {
      for (let used = 0; ; ) {
        while (this.#chunks.length > 0) {
          yield this.#chunks.shift();
          used += 1;
          this.#extend(used);
        }
        if (!this.#conversation.isOpen) return this.#answer();
        await this.#change();
      }
    } finally {
      this.leave(new NoyauError('cancelled', 'its reader left'));
    }
  }

  #extend(used) {
    const credit = this.#conversation.creditAfter(used);
    if (credit !== null) this.#send(Kind.CREDIT, { sequence: credit });
  }

  #answer() {
    if (this.#conversation.error !== null) throw this.#conversation.error;
    return this.#conversation.answer;
  }

  #changed() {
    if (!this.#conversation.isOpen) this.#onOver();
    this.#wake();
  }

  #change() {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

/**
 * @param {Peer} peer
 * @param {string} why
 * @returns {NoyauError}
 */
export function died({ name, epoch }, why) {
  return new NoyauError('actor_died', `${name} died: ${why}`, { name, epoch });
}

/** It never had the request: whoever comes next may be asked. */
function refused({ name }) {
  return new NoyauError('actor_unavailable', `${name} is gone`, { name, refused: true });
}

function key(id) {
  return id.toString('hex');
}
