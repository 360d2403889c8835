/** The wire's own messages, as far as callers see them, and the services. Numbers are exact up to 2^53. */

import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

export interface Timestamp {
  seconds: number;
  nanos: number;
}

export interface ReactionCount {
  /** An emoji, or a key of the application's. */
  kind: string;
  /** Users who have set it. */
  count: number;
  /** The reader that the request names is one of them. */
  mine: boolean;
}

/** A message as it is read. */
export interface Message {
  name: string;
  seq: number;
  /** The shard's change number. */
  revision: number;
  sender: string;
  clientMessageId: string;
  type: string;
  body: Buffer;
  attributes: Record<string, string>;
  /** 0 = none. */
  replyToSeq: number;
  silent: boolean;
  createTime: Timestamp | null;
  originalTime: Timestamp | null;
  /** Of the last edit. */
  editTime?: Timestamp | null;
  /** Set when it was erased, or has expired. */
  redaction?: { redactTime: Timestamp | null; expired?: boolean } | null;
  expireTime?: Timestamp | null;
  reactions?: ReactionCount[];
}

export interface ResponseInfo {
  sessionToken: string;
  /** Node and data center that answered. */
  servedBy: string;
  staleness: Timestamp | null;
}

export interface Conversation {
  name: string;
  lastSeq: number;
  minSeq: number;
  /** Changes when it is deleted and created again. */
  incarnation: number;
  createTime: Timestamp | null;
  attributes: Record<string, string>;
  shard: number;
  contentHash: Buffer;
  info: ResponseInfo | null;
  revision?: number;
  deleteTime?: Timestamp | null;
  /** Empty = none. */
  fenceToken?: string;
  ttl?: Timestamp | null;
  legalHold?: boolean;
  keys?: { key: string; lastSeq: number }[];
}

export function unixMs(time: Timestamp | null | undefined): number {
  return time ? time.seconds * 1_000 + Math.floor(time.nanos / 1e6) : 0;
}

export function timestamp(unixMs: number): Timestamp {
  const seconds = Math.floor(unixMs / 1_000);
  return { seconds, nanos: (unixMs - seconds * 1_000) * 1_000_000 };
}

const folder = fileURLToPath(new URL("../proto", import.meta.url));
const loaded = loadSync(["firebreak/v1/messages.proto", "firebreak/v1/admin.proto"], {
  includeDirs: [folder],
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
});
const packages = grpc.loadPackageDefinition(loaded) as any;

export type Service = "Messages" | "Conversations" | "Admin";

/** The stub of a service on a channel; its calls carry the API key or token, if there is one. */
export function stub(service: Service, address: string, channel: grpc.Channel, apiKey?: string): any {
  const credentials = grpc.credentials.createInsecure();
  const carry: grpc.Interceptor = (options, next) =>
    new grpc.InterceptingCall(next(options), {
      start(metadata, listener, start) {
        metadata.set("authorization", `Bearer ${apiKey}`);
        start(metadata, listener);
      },
    });
  const interceptors = apiKey ? [carry] : [];
  return new packages.firebreak.v1[service](address, credentials, { channelOverride: channel, interceptors });
}

/** Whether nodes of this version have a method. */
export function hasMethod(service: Service, method: string): boolean {
  return method in packages.firebreak.v1[service].service;
}
