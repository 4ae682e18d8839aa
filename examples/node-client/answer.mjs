/** What was received of an answer, and how it goes on when its orchestrator is lost. */

/** So long after the last word, a refusal is an answer. */
const PATIENCE_MS = 20_000;

export class Received {
  #receiver;
  #text = '';
  #seams = [];
  #loss = null;
  #lostMs = 0;
  #lastMs;

  /**
   * @param {string} receiver who answers
   * @param {number} nowMs
   */
  constructor(receiver, nowMs) {
    this.#receiver = receiver;
    this.#lastMs = nowMs;
  }

  /**
   * @param {{text: string, seam?: object|null}} chunk
   * @param {number} nowMs
   */
  add(chunk, nowMs) {
    this.#text += chunk.text;
    if (chunk.seam) this.#seams.push(chunk.seam);
    this.#lastMs = nowMs;
  }

  /**
   * Take note of an error that ended it. A question that kills whoever has it is not asked for
   * ever: noyau counts the deaths itself, and answers `poisoned`.
   * @param {import('./errors.mjs').NoyauError} error
   * @param {number} nowMs
   * @returns {boolean} whether the answer may be asked for again
   */
  survives(error, nowMs) {
    if (this.#isRefusal(error)) return nowMs - this.#lastMs < PATIENCE_MS;
    if (!this.#isLoss(error)) return false;
    this.#loss = error;
    this.#lostMs = nowMs;
    return true;
  }

  /**
   * What to tell the next orchestrator; null where none had it before.
   * @param {number} nowMs
   */
  begun(nowMs) {
    if (this.#loss === null) return null;
    const { code, message, details } = this.#loss;
    const hasDied = code === 'actor_died';
    return {
      text: this.#text,
      seams: this.#seams,
      lost: hasDied && details.epoch ? `${details.name}.${details.epoch}` : this.#receiver,
      died: hasDied,
      reason: message,
      gap_ms: nowMs - this.#lostMs,
    };
  }

  /** Whether nothing of it was begun. */
  #isRefusal({ code, details }) {
    return code === 'actor_unavailable' && details.refused === true;
  }

  /** Whether the receiver itself is lost, and not somebody whom it asked in its turn. */
  #isLoss({ code, isRemote, details }) {
    if (isRemote) return code === 'actor_unavailable' && details.name === this.#receiver;
    return code === 'actor_died' || code === 'stream_broken';
  }
}
