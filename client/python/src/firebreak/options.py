"""Every bound of the client in one place, in seconds where nothing else is said."""

#: How long a call may take, all attempts together, when the caller says nothing else.
DEADLINE_DEFAULT = 5.0
#: How long one node may be silent before another is asked; half as much again with each silent node.
ATTEMPT_TIMEOUT_DEFAULT = 1.0
ATTEMPT_TIMEOUT_MAX = 4.0
#: Waits between attempts; the move to the second node does not wait.
BACKOFF_MIN = 0.010
BACKOFF_MAX = 0.200
#: Attempts that a client may make at once beyond what answers earn it.
RETRY_TOKENS_MAX = 500
#: Longest wait between attempts when these are used up.
BACKOFF_EMPTY = 1.0
#: Longest wait that a node's hint may impose.
RETRY_AFTER_MAX = 1.0

DISCOVER_INTERVAL = 10.0
MAINTAIN_INTERVAL = 0.5
PROBE_TIMEOUT = 1.0
PROBE_INTERVAL_MAX = 4.0
#: How long the other nodes of a lost node's data center are asked last.
DC_SUSPECT = 2.0
#: How long a node that wants its clients to go elsewhere is asked last.
LEAVING_VALID = 10.0
#: Calls in a row that a living node refuses for want of a quorum before it counts as lost.
REFUSALS_MAX = 3
NODES_MAX = 1_024

FRAME_ITEMS_MAX = 1_024
FRAME_BYTES = 512 * 1024
#: The largest frame that a node takes or gives.
FRAME_BYTES_MAX = 16 * 1024 * 1024
UNANSWERED_DEFAULT = 4_096
UNANSWERED_MAX = 8_192
#: How often unanswered messages are looked over for passed deadlines.
TICK = 0.050
#: A message unanswered for this long, on a stream whose node is there, moves the stream.
STUCK_AFTER = 1.0
#: Least time between two moves of a stream that nothing forced; doubles while moves do not help.
MOVE_INTERVAL_MIN = 0.100
MOVE_INTERVAL_MAX = 2.0
MOVE_FORGET = 5.0

TAIL_BACKOFF_MAX = 1.0
#: How often a tail asks again for a message that was left out before it gives up.
TAIL_GAPS_MAX = 5

#: Conversations, and their bytes, that one request of a Follow adds or removes.
FOLLOW_NAMES_MAX = 1_000
FOLLOW_BYTES_MAX = 48 * 1024
#: Entries of a page, at most.
PAGE_SIZE_MAX = 1_000
#: Between two questions of a feed while nothing is changed.
FEED_POLL = 0.200
#: How old what a feed reads may be: any replica answers that is younger.
FEED_STALENESS = 2.0

#: Positions that a session token names.
SESSION_SLOTS_MAX = 128

#: Metadata of an answer whose node drains or stops.
GOING_AWAY = "firebreak-going-away"
#: Metadata of every call: what this client is.
CLIENT = ("firebreak-client", "python/0.1.0")
#: Metadata of an import's appends.
IMPORT = "firebreak-import"
#: Metadata of calls that can wait: their class.
CLASS = "firebreak-class"
