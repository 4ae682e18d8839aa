/** The project's test vectors, which any client can be held to. */

import { readFileSync } from 'node:fs';

/**
 * @param {string} name of a file in tests/vectors
 * @returns {any[]}
 */
export function vectors(name) {
  const file = new URL(`../../../tests/vectors/${name}.json`, import.meta.url);
  // JSON.parse would round whole numbers beyond 2⁵³; in these files they stand at the end of a line.
  const text = readFileSync(file, 'utf8').replace(/: (\d{16,})(?=,?\n)/g, ': {"int": "$1"}');
  return JSON.parse(text, revive).vectors;
}

/** @param {string} text */
export function hex(text) {
  return Buffer.from(text, 'hex');
}

function revive(_, value) {
  if (typeof value?.int === 'string') return exact(BigInt(value.int));
  if (typeof value?.bytes === 'string') return hex(value.bytes);
  return value;
}

function exact(whole) {
  return whole <= 2n ** 53n ? Number(whole) : whole;
}
