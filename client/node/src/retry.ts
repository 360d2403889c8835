/** Waits between attempts, and what may be sent again so that a failover does not become a storm. */

import { randomBytes } from "node:crypto";
import { BACKOFF_EMPTY, BACKOFF_MAX, BACKOFF_MIN, RETRY_AFTER_MAX, RETRY_TOKENS_MAX } from "./options.js";

/** Between half of `wait` and the whole of it. */
export function jitter(wait: number): number {
  return wait * (0.5 + Math.random() / 2);
}

/** 32 hex digits that no other client draws. */
export function drawId(): string {
  return randomBytes(16).toString("hex");
}

/** 10 ms, doubling to 200 ms, each between half of that and the whole. */
export class Backoff {
  #steps = 0;

  next(): number {
    const wait = Math.min(BACKOFF_MIN * 2 ** this.#steps, BACKOFF_MAX);
    this.#steps = Math.min(this.#steps + 1, 16);
    return jitter(wait);
  }

  reset(): void {
    this.#steps = 0;
  }
}

/** A token, in what the bucket counts. */
const TOKEN = 10;
const FULL = RETRY_TOKENS_MAX * TOKEN;

/** A token bucket. An answer earns a tenth of a token; an attempt after a call's second costs one. An empty bucket
 * fails no call, it makes waits longer. */
export class Budget {
  #held = FULL;

  /** So many calls or streamed messages were answered. */
  earn(count = 1): void {
    this.#held = Math.min(this.#held + count, FULL);
  }

  /** Takes a token for an attempt; false when there is none. */
  spend(): boolean {
    if (this.#held < TOKEN) return false;
    this.#held -= TOKEN;
    return true;
  }

  /** The wait before another attempt, at least what the last answer `asked` for; longer when the budget is used up,
   * and then not so long that the attempt would have nothing of the time that is `left`. */
  pause(backoff: Backoff, asked: number, left: number): number {
    const wait = Math.max(backoff.next(), Math.min(asked, RETRY_AFTER_MAX));
    return this.spend() ? wait : Math.max(wait, Math.min(jitter(BACKOFF_EMPTY), left / 2));
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}
