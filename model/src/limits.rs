//! The limits that callers, nodes and operators meet, with the relations between them checked when
//! compiling. Timings stand beside the mechanism that needs them.

/// Longest tenant or conversation id, bytes.
pub const NAME_SEGMENT_BYTES_MAX: usize = 128;
/// Bytes of an address, host:port; a host's name has at most 253.
pub const ADDRESS_BYTES_MAX: usize = 300;
/// Longest sender, bytes.
pub const SENDER_BYTES_MAX: usize = 256;
/// Longest client message id, bytes.
pub const CLIENT_MESSAGE_ID_BYTES_MAX: usize = 128;
/// Longest message type, bytes.
pub const TYPE_BYTES_MAX: usize = 64;
/// Longest kind of a reaction, bytes.
pub const REACTION_KIND_BYTES_MAX: usize = 64;
/// Longest key of a precondition, bytes.
pub const KEY_BYTES_MAX: usize = 64;
/// Keys of preconditions that a conversation may have: its head is held in memory.
pub const KEYS_MAX: usize = 64;
/// Longest fence token, bytes.
pub const FENCE_TOKEN_BYTES_MAX: usize = 128;
/// Longest time to live of a message, milliseconds: a hundred years.
pub const TTL_MS_MAX: u64 = 100 * 366 * 24 * 3_600 * 1_000;
/// Messages that one command removes because they have expired, at most: each is read.
pub const EXPIRE_MAX: usize = 512;
/// Most kinds of reactions to one message.
pub const REACTION_KINDS_MAX: usize = 64;
/// Most reactions to one message.
pub const REACTIONS_MAX: u32 = 100_000;
/// Largest message body, bytes (default of the setting).
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Most attributes of a message or conversation.
pub const ATTRIBUTES_MAX: usize = 16;
/// Keys and values of all attributes together, bytes.
pub const ATTRIBUTES_BYTES_MAX: usize = 4 * 1024;
/// Seconds of 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, the range of a protobuf Timestamp.
pub const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// Most messages of one atomic batch.
pub const BATCH_MESSAGES_MAX: usize = 1_000;
/// Bodies and fields of one atomic batch, bytes.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Most items of one AppendStream frame.
pub const STREAM_FRAME_ITEMS_MAX: usize = 1_024;
/// Unanswered items of one AppendStream; reading from the stream waits above that.
pub const STREAM_UNANSWERED_MAX: usize = 8_192;

/// Calls of one connection at once; the next is refused (default of the setting).
pub const CALLS_PER_CONNECTION_MAX: usize = 4_096;
/// Wrong fields that an answer names; it says how many more there are. Clients bound the metadata of an
/// answer: gRPC's C core at 16 KiB, Java's at 8.
pub const VIOLATIONS_MAX: usize = 20;
/// Bytes of what it says of each.
pub const VIOLATION_BYTES_MAX: usize = 120;

/// Tokens that nodes join a cluster with.
pub const JOIN_TOKENS_MAX: usize = 64;
/// API keys of a cluster, those that were revoked among them: every node knows them all.
pub const API_KEYS_MAX: usize = 1_000;
/// Issuers of tokens that a cluster believes.
pub const ISSUERS_MAX: usize = 16;
/// Public keys of one issuer.
pub const ISSUER_KEYS_MAX: usize = 8;
/// Bytes of a public key's text.
pub const ISSUER_KEY_BYTES_MAX: usize = 4 * 1024;
/// Bytes of an issuer's name, and of an audience.
pub const AUDIENCE_BYTES_MAX: usize = 256;
/// Records of the audit that are kept at most; the oldest make room.
pub const AUDIT_RECORDS_MAX: u64 = 200_000;
/// How long a record of the audit is kept, days.
pub const AUDIT_DAYS_MAX: u64 = 400;
/// Bytes of each text of an audit record; what is longer is cut.
pub const AUDIT_TEXT_BYTES_MAX: usize = 256;
/// Notes for the audit that one change carries.
pub const AUDIT_NOTES_MAX: usize = 100;

/// Default page of a list, messages.
pub const PAGE_SIZE_DEFAULT: usize = 50;
/// Largest page of a list, messages.
pub const PAGE_SIZE_MAX: usize = 1_000;
/// A page stops growing past this, bytes.
pub const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Messages that one Raft entry holds at most.
pub const ENTRY_MESSAGES_MAX: usize = 2_048;
/// Bytes of commands at which a Raft entry is closed.
pub const ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// Entries of one shard that the batcher keeps in flight.
pub const ENTRIES_IN_FLIGHT_MAX: usize = 2;
/// The same where what is on its way takes long, as over a wide area: one each
/// [`ENTRY_SPACING_MS`].
pub const ENTRIES_SPACED_MAX: usize = 8;
/// How long commands wait for an entry that is on its way before they make one of their own,
/// milliseconds.
pub const ENTRY_SPACING_MS: u64 = 8;
/// Commands that make a further entry worth its fixed cost while another is on its way.
pub const ENTRY_MESSAGES_GOOD: usize = 256;
/// What an open replica of a shard takes in memory beside what is counted of it, bytes: its tasks,
/// channels and records, and its place in the allocator. As measured where each is replicated three
/// times; without others it is about 60 KiB. `open_shards_cost` in `tests/tests/memory.rs` measures it.
pub const OPEN_SHARD_BYTES: usize = 88 * 1024;

/// Largest gRPC message between nodes and from clients, bytes.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A term may be this far above the highest that this replica knows. Each election raises it by one,
/// so that no absence comes near it, and what is further away is refused before it is stored.
pub const TERM_LEAP_MAX: u64 = 1 << 32;
/// Highest term, and highest index of a log: far above what is reached, and far from overflowing.
pub const TERM_MAX: u64 = 1 << 62;
/// Highest index of a log.
pub const INDEX_MAX: u64 = 1 << 62;
/// Starts that a node may have made since its last one was seen: twelve days of one each second.
pub const BOOT_LEAP_MAX: u64 = 1 << 20;
/// Changes of the cluster that a node may be told of at once.
pub const EPOCH_LEAP_MAX: u64 = 1 << 32;
/// Answers that wait for one peer to take them; above that nothing more is read from it.
pub const LINK_ANSWERS_MAX: usize = 65_536;
/// Files of one snapshot.
pub const SNAPSHOT_FILES_MAX: u32 = 1 << 20;
/// Bytes at which frames to one peer are closed into one gRPC message.
pub const LINK_BATCH_BYTES_MAX: usize = 128 * 1024;
/// Bytes of frames that wait for one peer; above that calls to it fail.
pub const LINK_QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes on their way to one peer that it has not confirmed; it is less where the line is thin.
pub const LINK_WINDOW_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The same of what can wait: entries that a replica lacks, and snapshots.
pub const LINK_BULK_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Entries of one shard on their way to one peer that it has not answered, bytes.
pub const APPENDS_UNANSWERED_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The same, messages.
pub const APPENDS_UNANSWERED_MAX: usize = 128;
/// Bytes of one snapshot chunk at most; it is less where the line is thin.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 * 1024;
/// Bytes of records at which a snapshot file is closed. One is on the sender's disk at a time.
pub const SNAPSHOT_FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Snapshots that a node sends at once, each to another node.
pub const SNAPSHOTS_SENT_MAX: usize = 4;
/// How long what has come of a snapshot that broke off is kept at both ends, milliseconds.
pub const SNAPSHOT_KEPT_MS: u64 = 10 * 60 * 1_000;

/// How long a client message id is remembered, milliseconds of command time.
pub const DEDUP_WINDOW_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Client message ids that begin so name the messages of an import and are remembered for ever.
pub const IMPORT_ID_PREFIX: &[u8] = b"import:";
/// Longest id of an import, bytes: `import:=` and any id that a message can have had elsewhere.
pub const IMPORT_ID_BYTES_MAX: usize = CLIENT_MESSAGE_ID_BYTES_MAX + 8;
/// State written since the last flush at which the next one starts, bytes.
pub const STATE_FLUSH_BYTES: u64 = 16 * 1024 * 1024;
/// Log of a shard that is kept behind a snapshot on its way to a replica, whatever the budget, bytes.
pub const LOG_BEHIND_SNAPSHOT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Log kept for an absent replica, bytes; past that it gets a snapshot.
pub const LOG_KEPT_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Conversations (slots) that a session token names one by one; a session of more reads the others
/// as if they had just been written.
pub const SESSION_SLOTS_MAX: usize = 128;
/// Between two rounds of questions in which the nodes learn how old their replicas are, milliseconds.
pub const AGE_INTERVAL_MS: u64 = 200;
/// A shard sleeps once nothing has been decided in it for so long, milliseconds.
pub const IDLE_MS: u64 = 3_000;
/// How long a node goes on trying when it hears no majority of a shard's replicas, milliseconds;
/// from then on it refuses what needs one.
pub const QUORUM_LACK_MS_MAX: u64 = 1_500;
/// How long such a refusal may take, milliseconds.
pub const REFUSAL_MS_MAX: u64 = 200;

/// Most data shards.
pub const SHARDS_MAX: u32 = 16_384;
/// Addresses that guess at the join token and are kept in mind.
pub const GUESSERS_MAX: usize = 4_096;
/// Most nodes.
pub const NODES_MAX: usize = 1_024;
/// Least time between two moves of a shard's leader that only a policy asks for, milliseconds.
pub const LEADER_MOVE_INTERVAL_MS: u64 = 60_000;
/// Shards that a node which drains, or is slow, hands over at once.
pub const HAND_OVERS_AT_ONCE_MAX: usize = 64;
/// Replicas on their way at once, in the whole cluster.
pub const MOVES_MAX: usize = 64;
/// Of these, how many the meta shard begins by itself.
pub const MOVES_PLANNED_MAX: usize = 8;
/// Of these, how many go to one node: each copies a shard onto its disk.
pub const MOVES_TO_NODE_MAX: usize = 2;
/// Entries that a new replica may be behind when it becomes a voter: more than are on their way at once.
pub const MOVE_LAG_MAX: u64 = 32;
/// How long a node is gone before its replicas are replaced, milliseconds (default of the setting).
pub const REPLACE_AFTER_MS: u64 = 5 * 60 * 1_000;
/// Between two reads of everything that is stored, milliseconds (default of the setting).
pub const SCRUB_EVERY_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// What a node reads for that, bytes a second (default of the setting).
pub const SCRUB_BYTES_PER_S: u64 = 16 * 1024 * 1024;
/// Terms of leader history kept for each shard.
pub const LEADER_HISTORY_MAX: usize = 1_000;

const _: () = {
    assert!(BATCH_BYTES_MAX <= ENTRY_BYTES_MAX);
    assert!(BATCH_MESSAGES_MAX <= ENTRY_MESSAGES_MAX);
    assert!(ENTRY_MESSAGES_GOOD <= ENTRY_MESSAGES_MAX);
    assert!(ENTRIES_IN_FLIGHT_MAX <= ENTRIES_SPACED_MAX);
    assert!(BODY_BYTES_MAX + ATTRIBUTES_BYTES_MAX < BATCH_BYTES_MAX);
    assert!(PAGE_BYTES_MAX + BATCH_BYTES_MAX < FRAME_BYTES_MAX);
    assert!(2 * ENTRY_BYTES_MAX < FRAME_BYTES_MAX);
    assert!(LINK_BATCH_BYTES_MAX + 2 * ENTRY_BYTES_MAX < FRAME_BYTES_MAX);
    assert!(4 * ENTRY_BYTES_MAX < LINK_QUEUE_BYTES_MAX);
    assert!(ENTRY_BYTES_MAX as u64 * 4 <= APPENDS_UNANSWERED_BYTES_MAX);
    assert!(LINK_BULK_BYTES_MAX <= LINK_WINDOW_BYTES_MAX);
    assert!(STREAM_FRAME_ITEMS_MAX <= STREAM_UNANSWERED_MAX);
    assert!(VIOLATIONS_MAX * 2 * VIOLATION_BYTES_MAX * 4 / 3 < 7 * 1024);
    assert!(SESSION_SLOTS_MAX <= u8::MAX as usize);
    assert!(2 * AGE_INTERVAL_MS <= 500);
    assert!(REFUSAL_MS_MAX < QUORUM_LACK_MS_MAX);
    assert!(MOVES_TO_NODE_MAX <= MOVES_PLANNED_MAX);
    assert!(ENTRIES_SPACED_MAX as u64 * 2 <= MOVE_LAG_MAX);
    assert!(MOVES_PLANNED_MAX < MOVES_MAX);
    assert!(SHARDS_MAX < crate::id::Slot::COUNT);
};
