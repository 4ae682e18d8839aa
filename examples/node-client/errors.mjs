/** What can go wrong: one class, whose `code` is one of those in docs/protocol.md. */

const RETRYABLE = new Set([
  'actor_died',
  'actor_unavailable',
  'asset_unavailable',
  'engine_failed',
  'not_running',
  'overloaded',
  'stream_broken',
  'unavailable',
]);

export class NoyauError extends Error {
  /**
   * @param {string} code stable, for programs; one that is not known is an error like any other
   * @param {string} message for people
   * @param {Record<string, any>} [details]
   * @param {boolean} [isRemote] whether the other side said so, and not this client
   */
  constructor(code, message, details = {}, isRemote = false) {
    super(message);
    this.name = 'NoyauError';
    this.code = code;
    this.details = details;
    this.isRemote = isRemote;
  }

  /** Whether it may pass, so that asking again can help. */
  get retryable() {
    return RETRYABLE.has(this.code);
  }

  /**
   * The error that the body of an error frame tells of.
   * @param {any} body
   * @returns {NoyauError}
   */
  static fromBody(body) {
    if (typeof body?.code !== 'string') {
      return new NoyauError('malformed_frame', 'an error came without a code');
    }
    return new NoyauError(body.code, String(body.message ?? ''), body.details ?? {}, true);
  }
}
