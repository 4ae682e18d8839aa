import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { Router } from 'zeromq';

import { decodeFrame, encodeFrame, joinBatch, Kind } from '../frames.mjs';
import { uuid7 } from '../ids.mjs';
import { Client, NoyauError } from '../noyau.mjs';

/** A supervisor that answers what a test tells it to, and keeps what it is told. */
class Supervisor {
  #router = new Router();
  #heard = [];
  #wake = () => {};

  constructor(endpoint, answers) {
    this.endpoint = endpoint;
    this.answers = { 'supervisor.directory': [[Kind.CHUNK, { entries: [] }]], ...answers };
  }

  async start() {
    await this.#router.bind(this.endpoint);
    this.#serve();
  }

  stop() {
    this.#router.close();
  }

  /** The first thing that it heard, or hears, of which this holds. */
  async heard(wanted) {
    for (;;) {
      const found = this.#heard.find(wanted);
      if (found !== undefined) return found;
      await new Promise((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async #serve() {
    for await (const [peer, message] of this.#router) {
      const envelope = decodeFrame(message);
      this.#heard.push(envelope);
      this.#wake();
      if (envelope.kind === Kind.REQUEST) await this.#answer(peer, envelope);
    }
  }

  async #answer(peer, { id, operation }) {
    let sequence = -1;
    const frames = (this.answers[operation] ?? []).map(([kind, body, number]) => {
      sequence = number ?? sequence + 1;
      return encodeFrame({ id, operation, kind, sequence, body });
    });
    if (frames.length > 0) await this.#router.send([peer, joinBatch(frames)]);
  }
}

async function talking(answers, use) {
  const runFolder = mkdtempSync(join(tmpdir(), 'ny'));
  const supervisor = new Supervisor(`ipc://${runFolder}/supervisor`, answers);
  await supervisor.start();
  const client = await Client.connect({ runFolder });
  try {
    await use(client, supervisor);
  } finally {
    client.close();
    supervisor.stop();
    rmSync(runFolder, { recursive: true });
  }
}

async function read(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const cancelOf = (operation) => (one) => one.kind === Kind.CANCEL && one.operation === operation;

test('where no supervisor is, the client says so', async () => {
  const runFolder = mkdtempSync(join(tmpdir(), 'ny'));
  await assert.rejects(Client.connect({ runFolder }), { code: 'not_running', retryable: true });
  rmSync(runFolder, { recursive: true });
});

test('a reply is read, and what was asked had a target and a deadline', () =>
  talking({ 'supervisor.status': [[Kind.REPLY, { health: 'healthy' }]] }, async (client, peer) => {
    const status = await client.ask('supervisor.status', {}, { timeoutMs: 5000 });
    assert.deepEqual(status, { health: 'healthy' });
    const request = await peer.heard((one) => one.operation === 'supervisor.status');
    assert.equal(request.target, 'supervisor');
    assert.ok(request.deadline_ms > 0 && request.deadline_ms <= 5000);
    assert.equal(request.epoch, '');
  }));

test('a stream that came in one batch is read whole', () => {
  const chunks = [Kind.CHUNK, Kind.CHUNK].map((kind) => [kind, { events: [] }]);
  return talking({ 'supervisor.events': [...chunks, [Kind.END, { n: 1 }]] }, async (client) => {
    const stream = client.stream('supervisor.events');
    assert.equal((await read(stream)).length, 2);
    assert.deepEqual(stream.end, { n: 1 });
  });
});

test('a stream with a hole is broken, and taken back', () => {
  const chunks = [0, 2].map((number) => [Kind.CHUNK, { events: [] }, number]);
  return talking({ 'supervisor.events': chunks }, async (client, peer) => {
    await assert.rejects(read(client.stream('supervisor.events')), { code: 'stream_broken' });
    await peer.heard(cancelOf('supervisor.events'));
  });
});

test('who stops reading cancels, and so does who aborts', () =>
  talking({ 'supervisor.events': [[Kind.CHUNK, { events: [] }]] }, async (client, peer) => {
    for await (const _ of client.stream('supervisor.events')) break;
    await peer.heard(cancelOf('supervisor.events'));
    const abort = new AbortController();
    const asked = client.ask('supervisor.status', {}, { signal: abort.signal });
    await peer.heard((one) => one.operation === 'supervisor.status');
    abort.abort();
    await assert.rejects(asked, { code: 'cancelled' });
    await peer.heard(cancelOf('supervisor.status'));
  }));

test('nothing is waited for beyond its deadline', () =>
  talking({}, async (client) => {
    const asked = client.ask('supervisor.status', {}, { timeoutMs: 20 });
    await assert.rejects(asked, { code: 'deadline_exceeded' });
  }));

test('an error keeps its code, message and details', () => {
  const body = { code: 'overloaded', message: 'full', details: { retry_after_s: 0.1 } };
  return talking({ 'supervisor.status': [[Kind.ERROR, body]] }, async (client) => {
    const error = await client.ask('supervisor.status').catch((one) => one);
    assert.ok(error instanceof NoyauError);
    const { code, message, details, retryable } = error;
    assert.deepEqual({ code, message, details }, body);
    assert.equal(retryable, true);
  });
});

test('what is open when the supervisor goes away ends as died', () =>
  talking({}, async (client, peer) => {
    const asked = client.ask('supervisor.status');
    await peer.heard((one) => one.operation === 'supervisor.status');
    peer.stop();
    await assert.rejects(asked, { code: 'actor_died' });
  }));

test('an actor that the directory does not name is not found', () =>
  talking({}, async (client) => {
    await assert.rejects(client.ask('nobody.there'), { code: 'not_found' });
  }));

test('an id is a UUIDv7: its time comes first, the rest is chance', () => {
  const id = uuid7(0x0192a1b2c3d4);
  assert.match(id.toString('hex'), /^0192a1b2c3d47[0-9a-f]{3}[89ab][0-9a-f]{15}$/);
  assert.notDeepEqual(id, uuid7(0x0192a1b2c3d4));
});
