import assert from 'node:assert/strict';
import { test } from 'node:test';

import { decodeFrame, encodeFrame, FrameError, joinBatch, Kind, splitBatch } from '../frames.mjs';
import { layout } from '../msgpack.mjs';
import { hex, vectors } from './vectors.mjs';

const ID = hex('0192a1b2c3d47e5f8011223344556677');
const REQUEST = { id: ID, kind: Kind.REQUEST, operation: 'actor.ping' };

function bodyOf(body) {
  return decodeFrame(encodeFrame({ ...REQUEST, body })).body;
}

for (const { name, hex: bytes, envelope } of vectors('envelopes')) {
  test(`what has to be understood is: ${name}`, () => {
    assert.deepEqual(decodeFrame(hex(bytes)), envelope);
  });
}

for (const { name, hex: bytes } of vectors('envelopes').filter((one) => one.canonical)) {
  test(`it is written as short as it can be: ${name}`, () => {
    assert.equal(encodeFrame(decodeFrame(hex(bytes))).toString('hex'), bytes);
  });
}

for (const { name, hex: bytes, error, answers } of vectors('malformed')) {
  test(`what is no envelope is refused, and its id read where that can be: ${name}`, () => {
    assert.throws(
      () => decodeFrame(hex(bytes)),
      (refusal) =>
        refusal instanceof FrameError &&
        refusal.code === error &&
        refusal.id.toString('hex') === answers,
    );
  });
}

for (const { name, hex: message, frames } of vectors('batches')) {
  test(`a message is taken apart into its frames: ${name}`, () => {
    const found = splitBatch(hex(message)).map((frame) => frame.toString('hex'));
    assert.deepEqual(found, frames);
  });
}

test('a batch comes apart into the frames that it was made of', () => {
  const frames = [encodeFrame(REQUEST), encodeFrame({ ...REQUEST, kind: Kind.CANCEL })];
  assert.deepEqual(splitBatch(joinBatch(frames)), frames);
});

test('a frame of more than 8 MiB is neither sent nor taken', () => {
  const body = { payload: Buffer.alloc(8 * 2 ** 20) };
  assert.throws(() => encodeFrame({ ...REQUEST, body }), { code: 'frame_too_large' });
  const frame = Buffer.concat([encodeFrame(REQUEST), body.payload]);
  assert.throws(() => decodeFrame(frame), { code: 'frame_too_large', id: ID });
});

test('a field that is undefined is left out', () => {
  assert.deepEqual(bodyOf({ text: 'hi', seed: undefined }), { text: 'hi' });
});

test('a byte string arrives as bytes and text as text', () => {
  assert.deepEqual(bodyOf({ a: new Uint8Array([0, 255]), b: 'é🌍' }), {
    a: Buffer.from([0, 255]),
    b: 'é🌍',
  });
});

for (const number of [0, -1, 2 ** 32, -(2 ** 31) - 1, 2 ** 53 - 1, 2n ** 64n - 1n]) {
  test(`the whole number ${number} is sent as one`, () => {
    const frame = encodeFrame({ ...REQUEST, body: number });
    const start = encodeFrame(REQUEST).length - 1;
    assert.equal(layout(frame.subarray(start)).type, 'int');
    assert.equal(decodeFrame(frame).body, number);
  });
}

test('a fraction stays one', () => {
  assert.equal(bodyOf(0.1), 0.1);
});

for (const value of [new Date(), new Map(), () => 1, Symbol('s'), '\ud800']) {
  test(`what has no place in a body is not sent: ${typeof value}`, () => {
    assert.throws(() => bodyOf({ value }), { code: 'invalid_message' });
  });
}

test('an extension type is refused', () => {
  const frame = Buffer.concat([encodeFrame(REQUEST).subarray(0, -1), hex('d40100')]);
  assert.throws(() => decodeFrame(frame), { code: 'malformed_frame', id: ID });
});
