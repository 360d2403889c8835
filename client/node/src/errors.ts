/** What a call can end with, and what a node's answer means for the next attempt. */

import { type Metadata, status as Code } from "@grpc/grpc-js";
import protobuf from "protobufjs";

export { Code };

/** One field that was wrong. */
export interface Violation {
  field: string;
  description: string;
}

/** A node's refusal, as it came over the wire. */
export interface Refusal {
  code: Code;
  /** The ErrorInfo's reason; empty when there was none. */
  reason: string;
  /** For people. */
  message: string;
  violations: Violation[];
  /** The ErrorInfo's metadata, such as the last_seq. */
  metadata: Record<string, string>;
  /** Milliseconds after which the node says that trying again is worth it. */
  retryAfter?: number;
}

export function refusal(code: Code, reason = "", message = "", retryAfter?: number): Refusal {
  return { code, reason, message, violations: [], metadata: {}, ...(retryAfter === undefined ? {} : { retryAfter }) };
}

/** What helps a caller of this client. */
const HELP = new Map([
  ["CREDENTIALS_MISSING", "give the Client apiKey"],
  ["TLS_REQUIRED", "give the Client ca, the file of the authority that has certified the nodes"],
]);

function text(refusal: Refusal): string {
  let said = refusal.message || Code[refusal.code];
  if (refusal.reason) said += ` (${refusal.reason})`;
  if (HELP.has(refusal.reason)) said += `; ${HELP.get(refusal.reason)}`;
  for (const { field, description } of refusal.violations) {
    if (!refusal.message.includes(`${field}: ${description}`)) said += `; ${field}: ${description}`;
  }
  return said;
}

/** Why a call did not succeed. */
export class FirebreakError extends Error {
  /** The gRPC code that says this. */
  code: Code = Code.UNKNOWN;
  /** The reason of the answer's ErrorInfo, such as SEQ_MISMATCH; of the last answer when the deadline passed. Empty
   * when no node gave one. */
  reason = "";
  /** The ErrorInfo's metadata. */
  metadata: Record<string, string> = {};
  /** Every field that was wrong. */
  violations: Violation[] = [];
  /** Whether the same call, with the same id, may succeed later. */
  retryable = false;
  /** Whether it may have been done although this error came back. */
  outcomeUnknown = false;

  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }

  /** Whether the named thing does not exist. */
  get isNotFound(): boolean {
    return this.code === Code.NOT_FOUND;
  }
}

/** A node refused the call, and sending the same again would change nothing. */
export class Refused extends FirebreakError {
  constructor(
    readonly refusal: Refusal,
    outcomeUnknown = false,
  ) {
    super(text(refusal) + (outcomeUnknown ? "; an earlier attempt may have been carried out" : ""));
    this.code = refusal.code;
    this.reason = refusal.reason;
    this.metadata = refusal.metadata;
    this.violations = refusal.violations;
    this.retryable = retryable(refusal);
    this.outcomeUnknown = outcomeUnknown;
  }
}

/** The deadline passed. */
export class Deadline extends FirebreakError {
  override code = Code.DEADLINE_EXCEEDED;
  override retryable = true;

  constructor(
    outcomeUnknown: boolean,
    /** How often it was sent. */
    readonly attempts: number,
    /** What the last attempt ended with. */
    readonly last?: Refusal,
  ) {
    const unknown = "; whether it was done is not known, and asking the same again is safe";
    const said = last ? `; the last answer was: ${text(last)}` : "";
    super(`the deadline passed after ${attempts} attempts${outcomeUnknown ? unknown : ""}${said}`);
    this.outcomeUnknown = outcomeUnknown;
    this.reason = last?.reason ?? "";
    this.metadata = last?.metadata ?? {};
  }
}

/** A tail was given messages with one left out, by several nodes in a row. */
export class Gap extends FirebreakError {
  override code = Code.DATA_LOSS;

  constructor(
    readonly expected: number,
    readonly found: number,
  ) {
    super(`message ${expected} is missing: ${found} came instead`);
  }
}

/** The client was not set up rightly: an address that is none, no address, no session token, a file that does not hold
 * what it should. */
export class Config extends FirebreakError {
  override code = Code.INVALID_ARGUMENT;
}

/** The client or the stream was closed before this was answered. */
export class Closed extends FirebreakError {
  override code = Code.CANCELLED;
  override retryable = true;
  override outcomeUnknown = true;

  constructor() {
    super("the stream was closed");
  }
}

/** What a failed attempt says about the node that was asked: it does not answer; it answers and cannot serve this
 * now; it wants its clients to go elsewhere for a while; nothing. */
export type Fault = "node" | "refused" | "leaving" | "none";

const RETRIED = new Set([Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.UNKNOWN, Code.DATA_LOSS]);
const SETTLED = new Set([
  Code.INVALID_ARGUMENT,
  Code.NOT_FOUND,
  Code.ALREADY_EXISTS,
  Code.ABORTED,
  Code.OUT_OF_RANGE,
]);
const TRANSPORT = new Set([
  Code.UNAVAILABLE,
  Code.DEADLINE_EXCEEDED,
  Code.CANCELLED,
  Code.UNKNOWN,
  Code.INTERNAL,
]);
const LEAVING = new Set(["NODE_STOPPING", "CLUSTER_NOT_READY"]);

/** Whether another attempt, here or elsewhere, may be answered otherwise. */
export function retryable({ code, reason, retryAfter }: Refusal): boolean {
  if (retryAfter !== undefined || RETRIED.has(code)) return true;
  // Without a reason these come from the transport: a reset stream, a refused frame.
  return (code === Code.INTERNAL || code === Code.RESOURCE_EXHAUSTED) && reason === "";
}

/** Whether it also says that no earlier attempt under the same id was carried out: nodes look an id up before every
 * rule that depends on state. */
export function settles({ code }: Refusal): boolean {
  return SETTLED.has(code);
}

/** What a refusal says about its node. */
export function faultOf({ code, reason }: Refusal): Fault {
  if (code === Code.DATA_LOSS) return "refused";
  if (code === Code.UNAVAILABLE && LEAVING.has(reason)) return "leaving";
  if ((code === Code.UNAVAILABLE || code === Code.DEADLINE_EXCEEDED) && reason) return "refused";
  return TRANSPORT.has(code) && !reason ? "node" : "none";
}

/** Whether no connection could be opened, so that no node can have seen the request. */
export function neverSent({ code, reason, message }: Refusal): boolean {
  return code === Code.UNAVAILABLE && !reason && message.startsWith("No connection established");
}

/** A node that did not answer in time. */
export function silent(after: number): Refusal {
  return refusal(Code.DEADLINE_EXCEEDED, "", `no answer for ${Math.round(after)} ms`);
}

/** What a streamed message gets when the outcome of one before it in its conversation stays unknown. */
export function predecessor(): Refusal {
  return refusal(Code.ABORTED, "PREDECESSOR_FAILED", "an earlier message of this conversation failed", 0);
}

const rpc = protobuf.Root.fromJSON({
  nested: {
    Status: { fields: { details: { rule: "repeated", type: "Any", id: 3 } } },
    Any: { fields: { typeUrl: { type: "string", id: 1 }, value: { type: "bytes", id: 2 } } },
    ErrorInfo: {
      fields: { reason: { type: "string", id: 1 }, metadata: { keyType: "string", type: "string", id: 3 } },
    },
    RetryInfo: { fields: { retryDelay: { type: "Duration", id: 1 } } },
    Duration: { fields: { seconds: { type: "int64", id: 1 }, nanos: { type: "int32", id: 2 } } },
    BadRequest: { fields: { fieldViolations: { rule: "repeated", type: "FieldViolation", id: 1 } } },
    FieldViolation: { fields: { field: { type: "string", id: 1 }, description: { type: "string", id: 2 } } },
  },
} as protobuf.INamespace);

function decode(name: string, bytes: Uint8Array): Record<string, any> {
  const type = rpc.lookupType(name);
  return type.toObject(type.decode(bytes), { longs: Number, defaults: true, arrays: true, objects: true });
}

/** A refusal with the details that came in its metadata. */
export function fromStatus(error: { code: Code; details: string; metadata?: Metadata }): Refusal {
  const all = refusal(error.code, "", error.details ?? "");
  const encoded = error.metadata?.get("grpc-status-details-bin")[0];
  if (!encoded || typeof encoded === "string") return all;
  try {
    for (const { typeUrl, value } of decode("Status", encoded)["details"]) {
      const name = String(typeUrl).split("google.rpc.")[1] ?? "";
      if (name === "ErrorInfo") {
        const info = decode(name, value);
        all.reason = info["reason"];
        all.metadata = info["metadata"];
      } else if (name === "RetryInfo") {
        const delay = decode(name, value)["retryDelay"];
        all.retryAfter = delay ? delay.seconds * 1_000 + delay.nanos / 1e6 : 0;
      } else if (name === "BadRequest") {
        all.violations = decode(name, value)["fieldViolations"];
      }
    }
  } catch {
    // Not what a node writes: the code and the text remain.
  }
  return all;
}

/** The refusal of one item of a stream. */
export function fromItem(error: { code: number; reason: string; message: string; retryAfterMs: number }): Refusal {
  const code = Code[error.code] === undefined ? Code.UNKNOWN : (error.code as Code);
  return refusal(code, error.reason, error.message, error.retryAfterMs > 0 ? error.retryAfterMs : undefined);
}
