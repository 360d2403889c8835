/** What is appended or changed, and what comes back. */

import { timestamp } from "./v1.js";

/** A message to append. */
export interface Message {
  /** Who sends it: 1 to 256 bytes. */
  sender: string;
  /** Opaque content: at most 64 KiB. */
  body?: Uint8Array;
  /** "text", "image", …: opaque to the store. A message needs a kind or a body. */
  kind?: string;
  /** Makes retries safe. Left out, the client draws one; give your own where your program may itself start again. */
  clientMessageId?: string;
  /** At most 16, 4 KiB together. */
  attributes?: Record<string, string>;
  /** The seq it replies to. */
  replyToSeq?: number;
  /** Not counted as unread. */
  silent?: boolean;
  /** When it was first said, Unix milliseconds, for imports. */
  originalTimeMs?: number;
  /** It expires so many milliseconds after its append, 1 s to 100 years; left out: as the conversation says. */
  ttl?: number;
  /** The conversation's fence token, where it has one; of a batch the call's own counts. */
  fenceToken?: string;
}

export const Message = {
  /** A message of kind "text". */
  text(sender: string, text: string, more: Omit<Message, "sender" | "body" | "kind"> = {}): Message {
    return { ...more, sender, body: Buffer.from(text), kind: "text" };
  },
};

/** As it goes over the wire, with the id that was `drawn` where it has none. */
export function toWire(message: Message, drawn: string): object {
  const { kind, clientMessageId, originalTimeMs, ttl, fenceToken: _, ...same } = message;
  return {
    ...same,
    type: kind ?? "",
    clientMessageId: clientMessageId || drawn,
    ...(originalTimeMs === undefined ? {} : { originalTime: timestamp(originalTimeMs) }),
    ...(ttl === undefined ? {} : { ttl: timestamp(ttl) }),
  };
}

/** The acknowledgement of one message: it is durable on a quorum. */
export interface Appended {
  /** Its number in the conversation, from 1. */
  seq: number;
  /** The shard's revision at its append. */
  revision: number;
  /** When the leader took it, Unix milliseconds; never decreases in a conversation. */
  createTimeMs: number;
  /** An earlier attempt (of this client or another) had appended it; the numbers are its. */
  deduplicated: boolean;
  /** From the call to the acknowledgement, milliseconds, all attempts and waiting included. */
  latency: number;
  /** How often it was sent. */
  attempts: number;
}

/** What a message is to say from now on; what is left out stays. */
export interface Edit {
  body?: Uint8Array;
  attributes?: Record<string, string>;
  /** Only if the message's revision is still this one; else REVISION_MISMATCH. */
  expectedRevision?: number;
  /** Makes a retry by the caller safe. Left out, the client draws one. */
  requestId?: string;
}

export const Edit = {
  /** Another text. */
  text(text: string, more: Omit<Edit, "body"> = {}): Edit {
    return { ...more, body: Buffer.from(text) };
  },
};

/** The acknowledgement of a change: it is durable on a quorum. */
export interface Changed {
  /** The message's number. */
  seq: number;
  /** Its revision after the change. */
  revision: number;
  /** When it was appended, Unix milliseconds. */
  createTimeMs: number;
  /** Of a reaction: users who have set this kind. */
  count: number;
  /** An earlier attempt (of this client or another) had done it; the numbers are its. */
  deduplicated: boolean;
  /** For reads at Level.session that must see the change. */
  sessionToken: string;
}
