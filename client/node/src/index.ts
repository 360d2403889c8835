/**
 * The Node client of Firebreak: thin, typed.
 *
 * The client knows nodes in several data centers, leaves one that is silent or refuses, and sends again elsewhere
 * under the same id until the caller's deadline. So the loss of a data center is one slow call and not an error, and
 * whatever was sent twice has one effect.
 */

export { Client } from "./client.js";
export type { AppendOptions, ClientOptions, Rules, Stats } from "./client.js";
export type { Credentials, Pem } from "./dialer.js";
export { Closed, Code, Config, Deadline, FirebreakError, Gap, Refused } from "./errors.js";
export type { Refusal, Violation } from "./errors.js";
export { Changes } from "./feed.js";
export { Follow } from "./follow.js";
export type { Followed } from "./follow.js";
export { Edit, Message } from "./message.js";
export type { Appended, Changed } from "./message.js";
export type { NodeHealth } from "./nodes.js";
export { DEADLINE_DEFAULT } from "./options.js";
export { Level } from "./read.js";
export type { ListOptions, Page } from "./read.js";
export { Session } from "./session.js";
export { AppendStream } from "./stream.js";
export type { Ack, StreamOptions } from "./stream.js";
export { From, Tail } from "./tail.js";
export type { Event } from "./tail.js";
export type { Tenant } from "./tenants.js";
export type * as v1 from "./v1.js";
