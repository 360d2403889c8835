/** Following what is changed in a tenant. */

import type { Client } from "./client.js";
import { FEED_POLL, FEED_STALENESS, PAGE_SIZE_MAX } from "./options.js";
import { Level, readOptions } from "./read.js";
import { sleep } from "./retry.js";
import type * as v1 from "./v1.js";

/**
 * The changes of a tenant, from a cursor on.
 *
 * Keep `cursor` when what came was dealt with, and begin there again after a restart: then nothing is missing, and what
 * was on its way may come again, under the same id.
 */
export class Changes implements AsyncIterable<v1.Change[]> {
  /** Where to go on behind what came last. */
  cursor: string;
  /** Whether there was nothing else when the last ones were read. */
  caughtUp = false;
  readonly #client: Client;
  readonly #tenant: string;

  constructor(client: Client, tenant: string, cursor: string) {
    this.#client = client;
    this.#tenant = tenant;
    this.cursor = cursor;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<v1.Change[], void, undefined> {
    for (;;) yield await this.next();
  }

  /** What comes next; empty when there is nothing now. Goes from node to node as every call does; after an error the
   * same can be asked for again. A cursor of another cluster is refused (SESSION_AHEAD). */
  async poll(level: Level = Level.bounded(FEED_STALENESS)): Promise<v1.Change[]> {
    const page = { parent: `tenants/${this.#tenant}`, cursor: this.cursor, pageSize: PAGE_SIZE_MAX };
    const answer = await this.#client.call("Changes", "ReadChanges", { ...page, read: readOptions(level) });
    this.cursor = answer.value.cursor;
    this.caughtUp = answer.value.caughtUp;
    return answer.value.changes;
  }

  /** What comes next; waits for it. */
  async next(): Promise<v1.Change[]> {
    for (;;) {
      const changes = await this.poll();
      if (changes.length > 0) return changes;
      if (this.caughtUp) await sleep(FEED_POLL);
    }
  }
}
