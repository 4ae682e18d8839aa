/**
 * msgpack as the protocol wants it: byte strings are bin, text is str, whole numbers are int.
 *
 * msgpackr reads and writes it, and is lenient: it takes what is cut, text that is not UTF-8 and
 * extension types, and does not tell 1.0 from 1. So `layout` looks at the bytes first.
 */

import { isUtf8 } from 'node:buffer';

import { Packr } from 'msgpackr';

import { NoyauError } from './errors.mjs';

/** Deeper is no message of anybody's; without a bound, a frame could use up the stack. */
const MAX_DEPTH = 128;

const packr = new Packr({
  useRecords: false,
  variableMapSize: true,
  mapsAsObjects: true,
  int64AsType: 'auto',
  moreTypes: false,
});

/** Of each first byte: the type, where its length or value is, and what that counts. */
const HEADS = new Map([
  [0xc0, { type: 'nil', bytes: 0 }],
  [0xc2, { type: 'bool', bytes: 0 }],
  [0xc3, { type: 'bool', bytes: 0 }],
  [0xc4, { type: 'bin', counted: 1 }],
  [0xc5, { type: 'bin', counted: 2 }],
  [0xc6, { type: 'bin', counted: 4 }],
  [0xca, { type: 'float', bytes: 4 }],
  [0xcb, { type: 'float', bytes: 8 }],
  [0xcc, { type: 'int', bytes: 1 }],
  [0xcd, { type: 'int', bytes: 2 }],
  [0xce, { type: 'int', bytes: 4 }],
  [0xcf, { type: 'int', bytes: 8 }],
  [0xd0, { type: 'int', bytes: 1 }],
  [0xd1, { type: 'int', bytes: 2 }],
  [0xd2, { type: 'int', bytes: 4 }],
  [0xd3, { type: 'int', bytes: 8 }],
  [0xd9, { type: 'str', counted: 1 }],
  [0xda, { type: 'str', counted: 2 }],
  [0xdb, { type: 'str', counted: 4 }],
  [0xdc, { type: 'array', counted: 2 }],
  [0xdd, { type: 'array', counted: 4 }],
  [0xde, { type: 'map', counted: 2 }],
  [0xdf, { type: 'map', counted: 4 }],
]);

/**
 * @typedef {object} Item one value among the bytes
 * @property {'nil'|'bool'|'int'|'float'|'str'|'bin'|'array'|'map'} type
 * @property {number} end where the next one begins
 * @property {Item[]} items of an array at the top: what is in it
 */

/**
 * Check that the bytes are one msgpack value, whole and strict, and say how it is laid out.
 * @param {Buffer} bytes
 * @returns {Item}
 * @throws {RangeError} when they are not
 */
export function layout(bytes) {
  const item = look(bytes, 0, 0);
  if (item.end !== bytes.length) throw new RangeError('something is behind it');
  return item;
}

/** @returns {Item} */
function look(bytes, at, depth) {
  if (depth > MAX_DEPTH) throw new RangeError('it is nested too deeply');
  const { type, start, count } = head(bytes, at);
  if (type !== 'array' && type !== 'map') return lookAtPlain(bytes, type, start, count);
  const items = [];
  let end = start;
  for (let left = type === 'map' ? 2 * count : count; left > 0; left -= 1) {
    const item = look(bytes, end, depth + 1);
    end = item.end;
    if (depth === 0) items.push(item);
  }
  return { type, end, items };
}

function lookAtPlain(bytes, type, start, count) {
  const end = start + count;
  if (end > bytes.length) throw new RangeError('it is cut');
  if (type === 'str' && !isUtf8(bytes.subarray(start, end))) {
    throw new RangeError('there is text that is not UTF-8');
  }
  return { type, end, items: [] };
}

/** The type of the value at this place, where its content starts, and how many of them there are. */
function head(bytes, at) {
  if (at >= bytes.length) throw new RangeError('it is cut');
  const first = bytes[at];
  const start = at + 1;
  if (first <= 0x7f || first >= 0xe0) return { type: 'int', start, count: 0 };
  if (first <= 0x8f) return { type: 'map', start, count: first & 0x0f };
  if (first <= 0x9f) return { type: 'array', start, count: first & 0x0f };
  if (first <= 0xbf) return { type: 'str', start, count: first & 0x1f };
  const found = HEADS.get(first);
  if (found === undefined) throw new RangeError(`the byte 0x${first.toString(16)} is not used`);
  if (found.counted === undefined) return { type: found.type, start, count: found.bytes };
  if (start + found.counted > bytes.length) throw new RangeError('it is cut');
  const count = bytes.readUIntBE(start, found.counted);
  return { type: found.type, start: start + found.counted, count };
}

/**
 * The value of bytes that `layout` has passed. Whole numbers beyond 2⁵³ come as BigInt.
 * @param {Buffer} bytes
 * @returns {any}
 */
export function unpack(bytes) {
  return packr.unpack(bytes);
}

/**
 * @param {unknown} value null, booleans, numbers, BigInts, strings, byte arrays, arrays and plain
 *   objects of them; a field that is undefined is left out
 * @returns {Buffer}
 */
export function pack(value) {
  // A copy: msgpackr packs the next value into the same memory.
  return Buffer.from(packr.pack(plain(value)));
}

/**
 * A whole number from 0. (msgpackr writes those of more than 32 bits as floats, or as signed ones.)
 * @param {number|bigint} value
 * @returns {Buffer}
 */
export function packUnsigned(value) {
  if (value <= 0xffffffff) return pack(Number(value));
  const bytes = Buffer.alloc(9, 0xcf);
  bytes.writeBigUInt64BE(BigInt(value), 1);
  return bytes;
}

/** The same value in the few types that msgpackr writes as the protocol wants them. */
function plain(value) {
  if (value === null || typeof value === 'boolean' || typeof value === 'bigint') return value;
  if (typeof value === 'number') return plainNumber(value);
  if (typeof value === 'string') return plainText(value);
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (Array.isArray(value)) return value.map(plain);
  if (isPlainObject(value)) return plainObject(value);
  throw new NoyauError('invalid_message', `${String(value)} cannot be sent`);
}

function plainNumber(value) {
  const isLong = Number.isSafeInteger(value) && (value > 0xffffffff || value < -0x80000000);
  return isLong ? BigInt(value) : value;
}

function plainText(text) {
  if (!text.isWellFormed()) throw new NoyauError('invalid_message', 'text with half a character');
  return text;
}

function plainObject(value) {
  const fields = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(fields.map(([name, field]) => [plainText(name), plain(field)]));
}

function isPlainObject(value) {
  if (typeof value !== 'object') return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
