/**
 * The unanswered messages of a stream and what may be sent of them: no IO and no waiting in here.
 *
 * Invariant: of each conversation either nothing is in flight, or what is in flight is older than everything of it
 * that waits. So order in a conversation holds through every failure.
 */

import { Code, Deadline, type FirebreakError, type Refusal, Refused } from "./errors.js";
import { fromItem, predecessor, retryable, settles } from "./errors.js";
import type { Appended } from "./message.js";
import { BACKOFF_MAX, BACKOFF_MIN, RETRY_AFTER_MAX } from "./options.js";

export interface Answer {
  resolve(appended: Appended): void;
  reject(error: FirebreakError): void;
}

/** One unanswered message. */
interface Entry {
  id: number;
  lane: Lane;
  message: any;
  fenceToken: string;
  size: number;
  started: number;
  deadline: number;
  answer: Answer;
  sentAt: number;
  attempts: number;
  last?: Refusal;
}

/** One conversation with unanswered messages. Ids grow in the order of enqueueing. */
class Lane {
  waiting: Entry[] = [];
  inFlight = new Map<number, Entry>();
  /** Refused for now; sent again once nothing is in flight. */
  failed: Entry[] = [];
  /** Refusals in a row. */
  refused = 0;
  delayedUntil: number | undefined;

  constructor(readonly parent: string) {}

  /** Puts what is in flight or refused back in front of what waits, in order. */
  recall(): void {
    const back = [...this.inFlight.values(), ...this.failed].sort((one, other) => one.id - other.id);
    this.inFlight.clear();
    this.failed = [];
    this.waiting.unshift(...back);
  }
}

/** What the results of one frame were. */
export interface Summary {
  acked: number;
  deduplicated: number;
  failed: number;
  /** Refused because this node cannot reach a quorum: another may. */
  unavailable: number;
}

/** What an item has beside its message's body, at most nearly: for the bounds of frames. */
const ITEM_BYTES = 512;

/** All lanes of a stream. */
export class Window {
  readonly #entries = new Map<number, Entry>();
  readonly #lanes = new Map<string, Lane>();
  /** Lanes with something to send, nothing in flight and no delay, in order. */
  readonly #ready = new Set<Lane>();
  #count = 0;

  get size(): number {
    return this.#entries.size;
  }

  /** Takes a message in. */
  push(parent: string, message: any, started: number, deadline: number, answer: Answer, fenceToken = ""): void {
    let lane = this.#lanes.get(parent);
    if (!lane) this.#lanes.set(parent, (lane = new Lane(parent)));
    const id = ++this.#count;
    const size = ITEM_BYTES + (message.body?.length ?? 0);
    const times = { started, deadline: started + deadline, sentAt: 0 };
    const entry: Entry = { id, lane, message, fenceToken, size, ...times, answer, attempts: 0 };
    this.#entries.set(id, entry);
    lane.waiting.push(entry);
    this.#place(lane);
  }

  /** Brings a lane to where it belongs: in flight, delayed, ready or gone. */
  #place(lane: Lane): void {
    const idle = lane.inFlight.size === 0 && lane.failed.length === 0;
    // One that is ready keeps its turn.
    if (idle && lane.waiting.length > 0 && lane.delayedUntil === undefined) return void this.#ready.add(lane);
    this.#ready.delete(lane);
    if (idle && lane.waiting.length === 0) this.#lanes.delete(lane.parent);
  }

  /** The next frame, up to `itemsMax` items and past `bytesMax` no more; how many had been sent before. */
  take(now: number, itemsMax: number, bytesMax: number): { items: any[]; again: number } {
    const items: any[] = [];
    let size = 0;
    let again = 0;
    for (const lane of this.#ready) {
      if (items.length >= itemsMax || size >= bytesMax) break;
      let count = 0;
      for (const entry of lane.waiting) {
        if (items.length >= itemsMax || size >= bytesMax) break;
        count += 1;
        const timeoutMs = Math.max(Math.round(entry.deadline - now), 1);
        const { id, message, fenceToken } = entry;
        items.push({ correlationId: id, parent: lane.parent, message, timeoutMs, fenceToken });
        size += entry.size;
        again += Number(entry.attempts > 0);
        entry.attempts += 1;
        entry.sentAt = now;
        lane.inFlight.set(entry.id, entry);
      }
      lane.waiting.splice(0, count);
      this.#ready.delete(lane);
    }
    return { items, again };
  }

  /** Takes in the results of one frame. */
  answer(results: any[], now: number): Summary {
    const summary = { acked: 0, deduplicated: 0, failed: 0, unavailable: 0 };
    for (const { correlationId, appended, error } of results) {
      const entry = this.#entries.get(correlationId);
      if (!entry?.lane.inFlight.delete(entry.id)) continue;
      if (appended) this.#acked(entry, appended, now, summary);
      else this.#refused(entry, fromItem(error ?? { code: Code.UNKNOWN, reason: "", message: "" }), summary);
      this.#settle(entry.lane, now);
    }
    return summary;
  }

  #acked(entry: Entry, appended: any, now: number, summary: Summary): void {
    const { seq, revision, createTimeMs, deduplicated } = appended;
    summary.acked += 1;
    summary.deduplicated += Number(deduplicated);
    entry.lane.refused = 0;
    this.#entries.delete(entry.id);
    const latency = now - entry.started;
    entry.answer.resolve({ seq, revision, createTimeMs, deduplicated, latency, attempts: entry.attempts });
  }

  #refused(entry: Entry, refusal: Refusal, summary: Summary): void {
    if (retryable(refusal)) {
      summary.unavailable += Number(refusal.code === Code.UNAVAILABLE);
      entry.last = refusal;
      entry.lane.failed.push(entry);
      return;
    }
    summary.failed += 1;
    this.#reject(entry, new Refused(refusal, entry.attempts > 1 && !settles(refusal)));
    // It may have been done or not, and may yet be: nothing may overtake it.
    if (refusal.code === Code.INTERNAL) summary.failed += this.#failBehind(entry);
  }

  #settle(lane: Lane, now: number): void {
    if (lane.failed.length > 0 && lane.inFlight.size === 0) {
      const asked = Math.max(...lane.failed.map(({ last }) => last?.retryAfter ?? 0));
      const wait = Math.min(BACKOFF_MIN * 2 ** Math.min(lane.refused, 16), BACKOFF_MAX);
      lane.refused += 1;
      lane.recall();
      lane.delayedUntil = now + Math.max(wait, Math.min(asked, RETRY_AFTER_MAX));
    }
    this.#place(lane);
  }

  /** Makes everything unanswered wait again, in the order of enqueueing: the stream broke. */
  rewind(): void {
    this.#ready.clear();
    for (const lane of this.#lanes.values()) {
      lane.recall();
      lane.delayedUntil = undefined;
    }
    const waiting = [...this.#lanes.values()].filter((lane) => lane.waiting.length > 0);
    waiting.sort((one, other) => one.waiting[0]!.id - other.waiting[0]!.id).forEach((lane) => this.#ready.add(lane));
  }

  /** Ends what was enqueued behind an entry in its conversation: with the outcome of that unknown, whatever came
   * behind it might come before it. Gives how many. */
  #failBehind({ id, lane }: Entry): number {
    const all = [...lane.inFlight.values(), ...lane.failed, ...lane.waiting];
    const behind = all.filter((entry) => entry.id > id).sort((one, other) => one.id - other.id);
    for (const entry of behind) {
      this.#remove(entry);
      this.#reject(entry, new Refused(predecessor(), entry.attempts > 0));
    }
    return behind.length;
  }

  #remove(entry: Entry): void {
    const { lane } = entry;
    lane.inFlight.delete(entry.id);
    lane.failed = lane.failed.filter((one) => one !== entry);
    const at = lane.waiting.indexOf(entry);
    if (at >= 0) lane.waiting.splice(at, 1);
  }

  /** Ends everything whose deadline has passed; gives how many. */
  expire(now: number): number {
    let ended = 0;
    for (const entry of [...this.#entries.values()]) {
      if (entry.deadline > now || !this.#entries.has(entry.id)) continue;
      this.#remove(entry);
      this.#reject(entry, new Deadline(entry.attempts > 0, entry.attempts, entry.last));
      ended += 1;
      if (entry.attempts > 0) ended += this.#failBehind(entry);
      this.#settle(entry.lane, now);
    }
    return ended;
  }

  /** Ends everything in flight with one error: the whole stream was refused for good. */
  refuseInFlight(refusal: Refusal, now: number): number {
    const lanes = [...this.#lanes.values()].filter((lane) => lane.inFlight.size > 0);
    const flying = lanes.flatMap((lane) => [...lane.inFlight.values(), ...lane.failed]);
    for (const entry of flying.sort((one, other) => one.id - other.id)) {
      this.#remove(entry);
      this.#reject(entry, new Refused(refusal, true));
    }
    for (const lane of lanes) this.#settle(lane, now);
    return flying.length;
  }

  /** Makes delayed lanes ready whose time has come. */
  wake(now: number): void {
    for (const lane of [...this.#lanes.values()]) {
      if (lane.delayedUntil === undefined || lane.delayedUntil > now) continue;
      lane.delayedUntil = undefined;
      this.#place(lane);
    }
  }

  /** When the first delayed lane becomes ready. */
  nextWake(): number | undefined {
    const all = [...this.#lanes.values()].flatMap(({ delayedUntil }) => delayedUntil ?? []);
    return all.length > 0 ? Math.min(...all) : undefined;
  }

  /** When the message that has been in flight longest was sent. */
  oldestInFlight(): number | undefined {
    let oldest: number | undefined;
    for (const { inFlight } of this.#lanes.values()) {
      const first = inFlight.values().next().value;
      if (first && (oldest === undefined || first.sentAt < oldest)) oldest = first.sentAt;
    }
    return oldest;
  }

  #reject(entry: Entry, error: FirebreakError): void {
    this.#entries.delete(entry.id);
    entry.answer.reject(error);
  }
}
