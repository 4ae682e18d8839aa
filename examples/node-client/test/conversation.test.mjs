import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Conversation } from '../conversation.mjs';
import { NoyauError } from '../errors.mjs';
import { decodeFrame, Kind, saysNothing } from '../frames.mjs';
import { hex, vectors } from './vectors.mjs';

function outcomeOf(conversation) {
  if (conversation.isOpen) return 'open';
  return conversation.error?.code ?? 'end';
}

function chunk(sequence) {
  return { kind: Kind.CHUNK, operation: 'a.stream', sequence, body: {} };
}

for (const { name, frames, chunks_read: read, outcome } of vectors('streams')) {
  test(`a stream is read as it should be: ${name}`, () => {
    const conversation = new Conversation('stream');
    const told = frames.map(hex).filter((frame) => !saysNothing(frame));
    told.forEach((frame) => conversation.take(decodeFrame(frame)));
    assert.equal(conversation.received, read);
    assert.equal(outcomeOf(conversation), outcome);
  });
}

test('an ask is over with its reply', () => {
  const conversation = new Conversation('ask');
  conversation.take({ kind: Kind.REPLY, operation: 'an.ask', body: { n: 1 } });
  assert.deepEqual(conversation.answer, { n: 1 });
  assert.equal(conversation.isOpen, false);
});

test('an ask is not answered by a chunk', () => {
  const conversation = new Conversation('ask');
  conversation.take(chunk(0));
  assert.equal(outcomeOf(conversation), 'illegal_transition');
});

test('a credit is sent when half of the last is used, and lets as many more come', () => {
  const conversation = new Conversation('stream');
  assert.equal(conversation.creditAfter(31), null);
  assert.equal(conversation.creditAfter(32), 96);
  assert.equal(conversation.creditAfter(33), null);
  for (let number = 0; number < 96; number += 1) conversation.take(chunk(number));
  assert.equal(outcomeOf(conversation), 'open');
  conversation.take(chunk(96));
  assert.equal(outcomeOf(conversation), 'illegal_transition');
});

test('an error knows whether asking again can help', () => {
  assert.equal(NoyauError.fromBody({ code: 'overloaded' }).retryable, true);
  assert.equal(NoyauError.fromBody({ code: 'brand_new' }).retryable, false);
});
