import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Received } from '../answer.mjs';
import { NoyauError } from '../errors.mjs';

const DEATH = new NoyauError('actor_died', 'it was killed', { name: 'orchestrator', epoch: 'b-7' });

function remote(code, details) {
  return new NoyauError(code, '', details, true);
}

function received() {
  return new Received('orchestrator', 0);
}

test('a question that nobody had yet is asked without a beginning', () => {
  assert.equal(received().begun(0), null);
});

test('after a death the next one is told the text, the seams, who died, why, and since when', () => {
  const answer = received();
  const seam = { position: 4, lost: 'cpu_engine.b-3', reason: 'it died' };
  answer.add({ text: 'one ' }, 100);
  answer.add({ text: 'two ', seam }, 200);
  assert.equal(answer.survives(DEATH, 300), true);
  assert.deepEqual(answer.begun(350), {
    text: 'one two ',
    seams: [seam],
    lost: 'orchestrator.b-7',
    died: true,
    reason: 'it was killed',
    gap_ms: 50,
  });
});

test('an orchestrator that hands its work back did not die of it', () => {
  const answer = received();
  assert.equal(answer.survives(remote('actor_unavailable', { name: 'orchestrator' }), 0), true);
  const { lost, died } = answer.begun(0);
  assert.deepEqual({ lost, died }, { lost: 'orchestrator', died: false });
});

test('what was refused is asked again as it was, but not for ever', () => {
  const answer = received();
  const refusal = remote('actor_unavailable', { name: 'orchestrator', refused: true });
  assert.equal(answer.survives(refusal, 1), true);
  assert.equal(answer.begun(2), null);
  assert.equal(answer.survives(refusal, 60_000), false);
});

for (const [what, error] of [
  ['the death of another', remote('actor_died', { name: 'cpu_engine' })],
  ['an actor that is failed for good', new NoyauError('actor_unavailable', 'it is failed')],
  ['a question that cannot be answered', remote('invalid_request', {})],
]) {
  test(`it does not go on after ${what}`, () => {
    assert.equal(received().survives(error, 0), false);
  });
}
