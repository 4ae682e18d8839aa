/**
 * A client of noyau, written from docs/protocol.md alone.
 *
 *     const client = await Client.connect();
 *     const answer = client.query('Why is the sky blue?');
 *     for await (const { text } of answer) process.stdout.write(text);
 *     console.log(answer.end.tokens);
 *     client.close();
 */

import { randomUUID } from 'node:crypto';
import { userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { Received } from './answer.mjs';
import { Connection, died } from './connection.mjs';
import { Directory } from './directory.mjs';
import { NoyauError } from './errors.mjs';
import { Limit } from './limits.mjs';

export { NoyauError };

const SUPERVISOR = 'supervisor';
const ORCHESTRATOR = 'orchestrator';
/** Between two looks for who is not there, where the directory tells nothing of it. */
const RETRY_MS = 100;
/** How long whoever is ready by the directory, or the supervisor, may be out of reach. */
const PATIENCE_MS = 20_000;

/**
 * @typedef {object} CallOptions
 * @property {number|null} [timeoutMs] after this, it ends with deadline_exceeded; null: never
 * @property {AbortSignal} [signal] takes the request back
 * @property {string} [to] the actor to ask, where it is not the first word of the operation
 */

/**
 * Where noyau's sockets are unless it is told otherwise.
 * @returns {string}
 */
export function defaultRunFolder() {
  const { NOYAU_RUN__FOLDER: own, XDG_RUNTIME_DIR: runtime } = process.env;
  if (own) return own;
  return runtime?.startsWith('/') ? join(runtime, 'noyau') : `/tmp/noyau-${userInfo().uid}`;
}

/** The chunks of a stream, to be read once with `for await`; whoever stops early cancels it. */
export class Stream {
  #chunks;

  /** @param {AsyncGenerator<any, any>} chunks returns the body of the end */
  constructor(chunks) {
    this.#chunks = chunks;
    /** The body of the end; null until it has come. */
    this.end = null;
  }

  /** @returns {AsyncGenerator<any, void>} */
  async *[Symbol.asyncIterator]() {
    this.end = yield* this.#chunks;
  }
}

export class Client {
  #supervisor;
  #directory = new Directory();
  #connections = new Map();
  #closing = new AbortController();

  /** @param {string} runFolder */
  constructor(runFolder) {
    const endpoint = `ipc://${resolve(runFolder)}/${SUPERVISOR}`;
    this.#supervisor = { name: SUPERVISOR, epoch: '', endpoint };
  }

  /**
   * @param {{runFolder?: string}} [options]
   * @returns {Promise<Client>} as soon as it knows where everybody is
   * @throws {NoyauError} not_running
   */
  static async connect({ runFolder = defaultRunFolder() } = {}) {
    const client = new Client(runFolder);
    try {
      await client.#start();
    } catch (error) {
      client.close();
      throw error;
    }
    return client;
  }

  /**
   * Ask for one reply.
   * @param {string} operation
   * @param {object} [body]
   * @param {CallOptions} [options]
   * @returns {Promise<any>} the body of the reply
   * @throws {NoyauError}
   */
  async ask(operation, body = {}, options = {}) {
    const limit = new Limit(options);
    try {
      const connection = await this.#reach(options.to ?? receiverOf(operation), limit);
      return await connection.request('ask', operation, body, limit).reply();
    } finally {
      limit.end();
    }
  }

  /**
   * Ask for a stream. It is requested when its first chunk is.
   * @param {string} operation
   * @param {object} [body]
   * @param {CallOptions} [options]
   * @returns {Stream}
   */
  stream(operation, body = {}, options = {}) {
    const to = options.to ?? receiverOf(operation);
    return new Stream(limited(options, (limit) => this.#read(to, operation, () => body, limit)));
  }

  /**
   * Ask a question. Its answer goes on when the orchestrator dies, and no word is missing or double.
   * @param {string} text
   * @param {CallOptions & {fields?: object}} [options] `fields`: more of the query's, `max_tokens`
   *   for example
   * @returns {Stream} of pieces with a `text`
   */
  query(text, { fields = {}, ...options } = {}) {
    const body = { id: randomUUID(), text, ...fields };
    return new Stream(limited(options, (limit) => this.#answer(body, limit)));
  }

  /** Take back what is open, and close all connections. */
  close() {
    this.#closing.abort();
    const error = new NoyauError('cancelled', 'the client was closed');
    for (const { connection } of this.#connections.values()) connection.leave(error);
  }

  async #start() {
    const { connection, isOpen } = this.#connectionTo(this.#supervisor);
    if (!(await isOpen)) throw notRunning(this.#supervisor);
    const changes = this.#watch(connection);
    await changes.next();
    this.#follow(changes);
  }

  /** Keep the directory up to date, also when the supervisor is started again. */
  async #follow(changes) {
    while (!this.#closing.signal.aborted) {
      try {
        for await (const _ of changes);
      } catch (error) {
        if (!(error instanceof NoyauError)) throw error;
      }
      this.#directory.clear();
      await delay(RETRY_MS, undefined, { ref: false });
      changes = this.#rewatch();
    }
  }

  async *#rewatch() {
    const { connection, isOpen } = this.#connectionTo(this.#supervisor);
    if (await isOpen) yield* this.#watch(connection);
  }

  async *#watch(connection) {
    const limit = new Limit({});
    let isWhole = true;
    const chunks = connection.request('stream', 'supervisor.directory', {}, limit).chunks();
    for await (const { entries } of chunks) {
      this.#directory.take(entries, isWhole);
      isWhole = false;
      this.#closeConnectionsToTheDead();
      yield;
    }
  }

  #closeConnectionsToTheDead() {
    for (const { connection } of this.#connections.values()) {
      const { peer } = connection;
      if (peer !== this.#supervisor && !this.#directory.has(peer)) {
        connection.close(died(peer, 'the directory says so'));
      }
    }
  }

  /** A connection to the incarnation that there is now, or will be. */
  async #reach(name, limit) {
    const patient = performance.now() + PATIENCE_MS;
    for (;;) {
      const peer = name === SUPERVISOR ? this.#supervisor : this.#directory.find(name);
      if (peer !== null) {
        const { connection, isOpen } = this.#connectionTo(peer);
        if (await limit.within(isOpen)) return connection;
        if (performance.now() > patient) throw unreachable(peer);
      } else if (!this.#directory.isKnown && performance.now() > patient) {
        throw unreachable(this.#supervisor);
      }
      await limit.within(this.#directory.change(RETRY_MS));
    }
  }

  #connectionTo(peer) {
    const { endpoint } = peer;
    const known = this.#connections.get(endpoint);
    if (known !== undefined) return known;
    const connection = new Connection(peer, () => this.#connections.delete(endpoint));
    const opening = { connection, isOpen: connection.open() };
    this.#connections.set(endpoint, opening);
    return opening;
  }

  /** `makeBody` is called when there is somebody to send it to. */
  async *#read(to, operation, makeBody, limit) {
    const connection = await this.#reach(to, limit);
    return yield* connection.request('stream', operation, makeBody(), limit).chunks();
  }

  async *#answer(body, limit) {
    const received = new Received(ORCHESTRATOR, performance.now());
    const makeBody = () => ({ ...body, begun: received.begun(performance.now()) });
    for (;;) {
      const chunks = this.#read(ORCHESTRATOR, `${ORCHESTRATOR}.query`, makeBody, limit);
      try {
        return yield* noted(chunks, (chunk) => received.add(chunk, performance.now()));
      } catch (error) {
        if (!received.survives(error, performance.now())) throw error;
        await limit.within(this.#directory.change(RETRY_MS));
      }
    }
  }
}

function receiverOf(operation) {
  return operation.split('.', 1)[0];
}

/** Read within a limit, and let go of its timer afterwards. */
async function* limited(options, read) {
  const limit = new Limit(options);
  try {
    return yield* read(limit);
  } finally {
    limit.end();
  }
}

/** The same chunks and the same end, each chunk noted before it is handed on. */
async function* noted(chunks, note) {
  try {
    for (;;) {
      const { value, done } = await chunks.next();
      if (done) return value;
      note(value);
      yield value;
    }
  } finally {
    await chunks.return();
  }
}

function unreachable(peer) {
  if (peer.name === SUPERVISOR) return notRunning(peer);
  return new NoyauError('actor_unavailable', `${peer.name} is out of reach`);
}

function notRunning({ endpoint }) {
  return new NoyauError('not_running', `no supervisor answers at ${endpoint}`);
}
