/** Ids of conversations. */

import { randomFillSync } from 'node:crypto';

/**
 * A UUIDv7 (RFC 9562): 48 bits of time, then chance.
 * @param {number} [now] milliseconds since 1970
 * @returns {Buffer} 16 bytes
 */
export function uuid7(now = Date.now()) {
  const id = randomFillSync(Buffer.alloc(16));
  id.writeUIntBE(now, 0, 6);
  id[6] = 0x70 | (id[6] & 0x0f);
  id[8] = 0x80 | (id[8] & 0x3f);
  return id;
}
