/** Frames and batches: bytes in, envelopes out, and back. Nothing here has a socket or a clock. */

import { NoyauError } from './errors.mjs';
import { layout, pack, packUnsigned, unpack } from './msgpack.mjs';

export const MAX_FRAME_BYTES = 8 * 2 ** 20;
export const MAX_MESSAGE_BYTES = 64 * 2 ** 20;
export const NO_ID = Buffer.alloc(16);

export const Kind = Object.freeze({
  REQUEST: 1,
  REPLY: 2,
  CHUNK: 3,
  END: 4,
  ERROR: 5,
  CANCEL: 6,
  CREDIT: 7,
  EVENT: 8,
  HEARTBEAT: 9,
});

const MAGIC = 0x6e;
const BATCH_MAGIC = 0x4e;
const VERSION = 1;
const ARRAY_OF_13 = 0x9d;
const ID_HEAD = Buffer.from([0xc4, 0x10]);
const ID_START = 5;
const ID_END = ID_START + NO_ID.length;
const MAX_BATCH = 1024;
const NORMAL = 2;

const isId = (value) => value.length === NO_ID.length;
const upTo = (first, last) => (value) => value >= first && value <= last;

/** Of each field, in their order: its types and what more has to hold. */
const FIELDS = [
  ['id', ['bin'], isId],
  ['kind', ['int'], upTo(Kind.REQUEST, Kind.HEARTBEAT)],
  ['operation', ['str']],
  ['source', ['str']],
  ['epoch', ['str']],
  ['target', ['str']],
  ['correlation', ['bin'], isId],
  ['sequence', ['int'], upTo(0, Infinity)],
  ['deadline_ms', ['int', 'nil'], upTo(0, Infinity)],
  ['priority', ['int'], upTo(0, 3)],
  ['idempotency_key', ['str']],
  ['traceparent', ['str']],
  ['body', null],
];

/**
 * @typedef {object} Envelope
 * @property {Buffer} id 16 bytes
 * @property {number} kind one of `Kind`
 * @property {string} operation
 * @property {string} source
 * @property {string} epoch
 * @property {string} target
 * @property {Buffer} correlation 16 bytes
 * @property {number|bigint} sequence
 * @property {number|bigint|null} deadline_ms
 * @property {number} priority
 * @property {string} idempotency_key
 * @property {string} traceparent
 * @property {any} body
 */

/** A frame that is no envelope; `id` is that of the conversation it was for, or zeros. */
export class FrameError extends NoyauError {
  /**
   * @param {string} code
   * @param {string} message
   * @param {Buffer} id
   */
  constructor(code, message, id) {
    super(code, message);
    this.id = id;
  }
}

/**
 * Whether a frame is an empty one, which a receiver may send at any time.
 * @param {Buffer} frame
 * @returns {boolean}
 */
export function saysNothing(frame) {
  return frame.length === 0;
}

/**
 * @param {Uint8Array} frame
 * @returns {Envelope}
 * @throws {FrameError} when it is none
 */
export function decodeFrame(frame) {
  const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength);
  const refuse = (code, why) => new FrameError(code, `${code}: ${why}`, salvagedId(bytes));
  if (bytes.length > MAX_FRAME_BYTES) throw refuse('frame_too_large', `${bytes.length} bytes`);
  if (bytes[0] !== MAGIC) throw refuse('malformed_frame', 'it does not begin with n');
  if (bytes.length < 2) throw refuse('malformed_frame', 'it is cut');
  if (bytes[1] !== VERSION) throw refuse('unsupported_version', `version ${bytes[1]}`);
  const why = whatIsWrong(bytes);
  if (why !== null) throw refuse('malformed_frame', why);
  return readEnvelope(bytes, (reason) => refuse('malformed_frame', reason));
}

/** The id of a frame that may be broken behind it. The fields may be more or fewer than 13. */
function salvagedId(bytes) {
  const isReadable =
    bytes[0] === MAGIC && bytes.length >= ID_END && bytes.subarray(3, ID_START).equals(ID_HEAD);
  return isReadable ? Buffer.from(bytes.subarray(ID_START, ID_END)) : NO_ID;
}

/** What is wrong with the form of these bytes; null where nothing is. */
function whatIsWrong(bytes) {
  if (bytes[2] !== ARRAY_OF_13) return 'it is no array of 13 fields';
  if (!bytes.subarray(3, ID_START).equals(ID_HEAD)) return 'it does not begin with an id';
  try {
    const { items } = layout(bytes.subarray(2));
    const wrong = FIELDS.findIndex(([, types], n) => !(types?.includes(items[n].type) ?? true));
    return wrong === -1 ? null : `${FIELDS[wrong][0]} is of type ${items[wrong].type}`;
  } catch (error) {
    if (error instanceof RangeError) return error.message;
    throw error;
  }
}

function readEnvelope(bytes, refuse) {
  const values = unpack(bytes.subarray(2));
  FIELDS.forEach(([name, , holds], n) => {
    if (holds && values[n] !== null && !holds(values[n])) throw refuse(`${name} is out of range`);
  });
  return Object.fromEntries(FIELDS.map(([name], n) => [name, values[n]]));
}

/**
 * @param {Partial<Envelope> & Pick<Envelope, 'id'|'kind'|'operation'>} envelope
 * @returns {Buffer}
 * @throws {NoyauError} frame_too_large or invalid_message
 */
export function encodeFrame(envelope) {
  const frame = Buffer.concat([
    Buffer.from([MAGIC, VERSION, ARRAY_OF_13]),
    pack(envelope.id),
    pack(envelope.kind),
    pack(envelope.operation),
    pack(envelope.source ?? ''),
    pack(envelope.epoch ?? ''),
    pack(envelope.target ?? ''),
    pack(envelope.correlation ?? NO_ID),
    packUnsigned(envelope.sequence ?? 0),
    packDeadline(envelope.deadline_ms),
    pack(envelope.priority ?? NORMAL),
    pack(envelope.idempotency_key ?? ''),
    pack(envelope.traceparent ?? ''),
    pack(envelope.body ?? null),
  ]);
  if (frame.length > MAX_FRAME_BYTES) {
    throw new NoyauError('frame_too_large', `a frame of ${frame.length} bytes`);
  }
  return frame;
}

function packDeadline(deadline) {
  return deadline === null || deadline === undefined ? pack(null) : packUnsigned(deadline);
}

/**
 * The frames in one message of the transport. What is no batch is one frame, good or bad.
 * @param {Uint8Array} message
 * @returns {Buffer[]}
 */
export function splitBatch(message) {
  const bytes = Buffer.from(message.buffer, message.byteOffset, message.byteLength);
  return isBatch(bytes) ? unpack(bytes.subarray(2)) : [bytes];
}

function isBatch(bytes) {
  if (bytes[0] !== BATCH_MAGIC || bytes[1] !== VERSION) return false;
  try {
    const { type, items } = layout(bytes.subarray(2));
    const isSized = items.length >= 1 && items.length <= MAX_BATCH;
    return type === 'array' && isSized && items.every((item) => item.type === 'bin');
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

/**
 * One message that holds these frames.
 * @param {Uint8Array[]} frames 1 to 1,024 of them
 * @returns {Buffer}
 */
export function joinBatch(frames) {
  return Buffer.concat([Buffer.from([BATCH_MAGIC, VERSION]), pack(frames)]);
}
