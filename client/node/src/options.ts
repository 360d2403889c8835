/** Every bound of the client in one place, in milliseconds where nothing else is said. */

/** How long a call may take, all attempts together, when the caller says nothing else. */
export const DEADLINE_DEFAULT = 5_000;
/** How long one node may be silent before another is asked; half as much again with each silent node. */
export const ATTEMPT_TIMEOUT_DEFAULT = 1_000;
export const ATTEMPT_TIMEOUT_MAX = 4_000;
/** Waits between attempts; the move to the second node does not wait. */
export const BACKOFF_MIN = 10;
export const BACKOFF_MAX = 200;
/** Attempts that a client may make at once beyond what answers earn it. */
export const RETRY_TOKENS_MAX = 500;
/** Longest wait between attempts when these are used up. */
export const BACKOFF_EMPTY = 1_000;
/** Longest wait that a node's hint may impose. */
export const RETRY_AFTER_MAX = 1_000;

export const DISCOVER_INTERVAL = 10_000;
export const MAINTAIN_INTERVAL = 500;
export const PROBE_TIMEOUT = 1_000;
export const PROBE_INTERVAL_MAX = 4_000;
/** How long the other nodes of a lost node's data center are asked last. */
export const DC_SUSPECT = 2_000;
/** How long a node that wants its clients to go elsewhere is asked last. */
export const LEAVING_VALID = 10_000;
/** Calls in a row that a living node refuses for want of a quorum before it counts as lost. */
export const REFUSALS_MAX = 3;
export const NODES_MAX = 1_024;

export const FRAME_ITEMS_MAX = 1_024;
export const FRAME_BYTES = 512 * 1024;
/** The largest frame that a node takes or gives. */
export const FRAME_BYTES_MAX = 16 * 1024 * 1024;
export const UNANSWERED_DEFAULT = 4_096;
export const UNANSWERED_MAX = 8_192;
/** How often unanswered messages are looked over for passed deadlines. */
export const TICK = 50;
/** A message unanswered for this long, on a stream whose node is there, moves the stream. */
export const STUCK_AFTER = 1_000;
/** How long a node that goes away may take for what it owes. */
export const OWED_MAX = 1_000;
/** Least time between two moves of a stream that nothing forced; doubles while moves do not help. */
export const MOVE_INTERVAL_MIN = 100;
export const MOVE_INTERVAL_MAX = 2_000;
export const MOVE_FORGET = 5_000;

export const TAIL_BACKOFF_MAX = 1_000;
/** How often a tail asks again for a message that was left out before it gives up. */
export const TAIL_GAPS_MAX = 5;
/** Events of a tail that wait for its reader before the node is told to wait. */
export const TAIL_READY_MAX = 64;

/** Conversations, and their bytes, that one request of a Follow adds or removes. */
export const FOLLOW_NAMES_MAX = 1_000;
export const FOLLOW_BYTES_MAX = 48 * 1024;
/** Entries of a page, at most. */
export const PAGE_SIZE_MAX = 1_000;
/** Between two questions of a feed while nothing is changed. */
export const FEED_POLL = 200;
/** How old what a feed reads may be: any replica answers that is younger. */
export const FEED_STALENESS = 2_000;

/** Positions that a session token names. */
export const SESSION_SLOTS_MAX = 128;

/** Metadata of an answer whose node drains or stops. */
export const GOING_AWAY = "firebreak-going-away";
/** Metadata of every call, and what this client is. */
export const CLIENT = "firebreak-client";
export const CLIENT_NAME = "node/0.1.0";
/** Metadata of an import's appends. */
export const IMPORT = "firebreak-import";
/** Metadata of calls that can wait: their class. */
export const CLASS = "firebreak-class";
