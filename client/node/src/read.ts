/** What a read asks for, and what it gives. */

import type * as v1 from "./v1.js";

/** How fresh a read must be. */
export interface Level {
  name: "LINEARIZABLE" | "SESSION" | "BOUNDED" | "LOCAL";
  token?: string;
  /** Milliseconds. */
  maxStaleness?: number;
}

export const Level = {
  /** Everything acknowledged before the read began. */
  LINEARIZABLE: { name: "LINEARIZABLE" } as Level,
  /** Whatever the nearest replica has; its age is labelled. */
  LOCAL: { name: "LOCAL" } as Level,
  /** At least what this token has seen; Session keeps it. */
  session: (token: string): Level => ({ name: "SESSION", token }),
  /** Not older than so many milliseconds. */
  bounded: (maxStaleness: number): Level => ({ name: "BOUNDED", maxStaleness }),
};

export function readOptions({ name, token, maxStaleness }: Level = Level.LINEARIZABLE): object {
  const most = maxStaleness ?? 0;
  const seconds = Math.floor(most / 1_000);
  const bound = { seconds, nanos: Math.round((most - seconds * 1_000) * 1e6) };
  return { level: name, sessionToken: token ?? "", ...(name === "BOUNDED" ? { maxStaleness: bound } : {}) };
}

/** What a list asks for. */
export interface ListOptions {
  /** Messages of one page; 50 unless given, at most 1,000. */
  pageSize?: number;
  /** Where the page before ended. */
  pageToken?: string;
  /** Newest first. */
  descending?: boolean;
  /** Where to begin; left out: the first, or when descending the last. */
  startSeq?: number;
  /** Instead: at the first message of this create time or later, descending at the last of it or earlier; Unix
   * milliseconds. */
  startTimeMs?: number;
  /** Instead: at the first unread message, behind this seq. */
  unreadAfter?: number;
  /** Messages before that, in the list's order, that the first page holds too; at most 1,000. */
  contextBefore?: number;
  /** How fresh. */
  level?: Level;
  /** A user, whose own reactions are marked. */
  reader?: string;
}

/** A page of a conversation. */
export interface Page {
  /** In the order asked for. */
  messages: v1.Message[];
  /** Where the next page begins; empty at the end. */
  nextPageToken: string;
  /** Where the page before this one begins; empty at the beginning. */
  prevPageToken: string;
  /** On the first page: where the list begins, without its context; 0 where it begins at an end. */
  anchorSeq: number;
  /** Older ones have expired. */
  minSeq: number;
  /** The conversation's last seq. */
  lastSeq: number;
  /** Node and data center that answered. */
  servedBy: string;
  /** How old this may be at most, milliseconds; undefined when unknown. */
  staleness: number | undefined;
  /** For reads at Level.session that must see at least this. */
  sessionToken: string;
}

export function pageOf({ messages, nextPageToken, prevPageToken, anchorSeq, minSeq, lastSeq, info }: any): Page {
  const { servedBy = "", sessionToken = "", staleness } = info ?? {};
  const age = staleness ? staleness.seconds * 1_000 + staleness.nanos / 1e6 : undefined;
  const tokens = { nextPageToken, prevPageToken, sessionToken };
  return { messages, ...tokens, anchorSeq, minSeq, lastSeq, servedBy, staleness: age };
}
