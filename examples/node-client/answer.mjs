/** What was received of an answer, and how it goes on when its orchestrator dies. */

/** After so many deaths in a row without a word between, it is the question that kills. */
const MAX_DEATHS = 2;
/** So long after the last word, a refusal is an answer. */
const PATIENCE_MS = 20_000;

export class Received {
  #text = '';
  #seams = [];
  #loss = null;
  #deaths = 0;
  #lastMs;

  /** @param {number} nowMs */
  constructor(nowMs) {
    this.#lastMs = nowMs;
  }

  /**
   * @param {{text: string, seam?: object|null}} chunk
   * @param {number} nowMs
   */
  add(chunk, nowMs) {
    this.#text += chunk.text;
    if (chunk.seam) this.#seams.push(chunk.seam);
    this.#deaths = 0;
    this.#lastMs = nowMs;
  }

  /**
   * Take note of an error that ended it.
   * @param {import('./errors.mjs').NoyauError} error
   * @param {number} nowMs
   * @returns {boolean} whether it may be asked for again
   */
  survives(error, nowMs) {
    if (error.code === 'actor_unavailable') {
      return error.details.refused === true && nowMs - this.#lastMs < PATIENCE_MS;
    }
    if (error.code !== 'actor_died') return false;
    this.#deaths += 1;
    this.#loss = error;
    return this.#deaths < MAX_DEATHS;
  }

  /**
   * What to tell the next orchestrator; null where none had it before.
   * @param {number} nowMs
   */
  begun(nowMs) {
    if (this.#loss === null) return null;
    const { actor, epoch } = this.#loss.details;
    return {
      text: this.#text,
      seams: this.#seams,
      lost: `${actor}.${epoch}`,
      died: true,
      reason: this.#loss.message,
      gap_ms: nowMs - this.#lastMs,
    };
  }
}
