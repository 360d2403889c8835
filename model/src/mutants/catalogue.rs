//! Every known bug, the oracles that are to catch it, and what it takes for anybody to see it.

use super::Mutant;

/// What most of them are like: at one place, and ready.
const ONE_SITE: Mutant = Mutant {
    name: "",
    bug: "",
    promise: 'D',
    oracles: &[],
    scenarios: &[],
    hint: "",
    sites: 1,
    pending: None,
};

/// All mutants, those of the disk first.
pub const ALL: &[Mutant] = &[
    Mutant {
        name: "ack-before-fsync",
        bug: "an entry counts as durable once it is written; nobody syncs it on purpose",
        promise: 'D',
        oracles: &["quorum-at-ack"],
        scenarios: &["all-power-cut", "dc-power-unsynced", "hot-room"],
        hint: "cut the power of everything under load: entries since the last vote, identity or \
               flush are unsynced on all replicas, acknowledged ones among them",
        ..ONE_SITE
    },
    Mutant {
        name: "vote-not-synced",
        bug: "a vote counts as saved once it is in memory; the disk never gets it",
        promise: 'D',
        oracles: &["disk-never-regresses"],
        scenarios: &["all-power-cut", "rolling-restart", "dc-back-after-5d"],
        hint: "any restart: the vote on the disk is below the one that was told, and below the \
               log's last term; restarted together, the replicas give away their old terms again. \
               openraft may stop on an assertion of its own over it",
        ..ONE_SITE
    },
    Mutant {
        name: "fsync-error-ignored",
        bug: "the log's writer acknowledges a round whose sync failed",
        promise: 'D',
        oracles: &["quorum-at-ack"],
        scenarios: &["swarm"],
        hint: "syncs fail on nodes of one data center: they must stop and do not. What they \
               acknowledge is not on their disks, so that it is on one other at most when a third \
               is down; a power cut of them loses it",
        ..ONE_SITE
    },
    Mutant {
        name: "torn-tail-accepted",
        bug: "recovery takes the part of a batch that was written when the power failed",
        promise: 'H',
        oracles: &["replicas-equal"],
        scenarios: &["all-power-cut", "dc-power-unsynced"],
        hint: "cut the power with Disk::power_cut_torn, of msgdb above all: messages and ids \
               without their applied position are counted as repeats by the replay, so that \
               revisions differ",
        sites: 1,
        pending: None,
    },
    Mutant {
        name: "corrupt-record-accepted",
        bug: "the checksum of a record is not looked at when it is read",
        promise: 'O',
        oracles: &["seq-function"],
        scenarios: &["bitflip"],
        hint: "flip a bit in the body of a message (msgdb) or of an entry (raftdb), then read it \
               back at LOCAL from that node; an entry shows after a restart that replays it",
        sites: 2,
        ..ONE_SITE
    },
    Mutant {
        name: "hard-state-and-log-in-the-wrong-order",
        bug: "a vote is written only behind the first entries of its term",
        promise: 'D',
        oracles: &["disk-never-regresses"],
        scenarios: &["all-power-cut", "rolling-fire", "flap-3s"],
        hint: "the last term of a durable log is above its durable vote until the next sync: seen \
               by watching the disk at each sync after an election, or by a power cut right there; \
               a voter that restarts before any entry came votes again",
        sites: 2,
        ..ONE_SITE
    },
    Mutant {
        name: "committed-log-truncated",
        bug: "at its start a replica cuts its log back to the commit position it had noted, which \
              lags",
        promise: 'D',
        oracles: &["acked-durable"],
        scenarios: &["all-power-cut", "rolling-restart"],
        hint: "cut the power of everything under load: all replicas drop the same acknowledged \
               tail. A single restart shows on its disk",
        ..ONE_SITE
    },
    Mutant {
        name: "snapshot-index-off-by-one",
        bug: "an installed snapshot counts as holding the entry behind its last one",
        promise: 'H',
        oracles: &["replicas-equal"],
        scenarios: &[
            "two-dc-return",
            "dc-power-unsynced",
            "rolling-fire",
            "membership-change-dc-loss",
        ],
        hint: "a replica is away until its log is cut (a short absent_ms_max or a small \
               log_bytes_max) and gets a snapshot under load: the entry behind it is missing there",
        sites: 2,
        ..ONE_SITE
    },
    Mutant {
        name: "snapshot-over-a-newer-log",
        bug: "a finished install is repeated at every start, and the log is cut back to it",
        promise: 'D',
        oracles: &["disk-never-regresses"],
        scenarios: &["dc-dies-twice", "two-dc-return"],
        hint: "a replica gets a snapshot as above, goes on for a while and loses its power: what \
               it acknowledged since is gone from its disk",
        sites: 2,
        ..ONE_SITE
    },
    Mutant {
        name: "room-of-its-own",
        bug: "a leader looks at its own disk alone before it proposes",
        promise: 'P',
        oracles: &["room-kept"],
        scenarios: &["small-disks-of-most"],
        hint: "the disks of two data centers fill up and the third has room: what its leaders propose \
               nobody takes, and callers learn nothing until their time is up",
        ..ONE_SITE
    },
    Mutant {
        name: "snapshot-begins-anew",
        bug: "what has come of a snapshot that broke off is thrown away, and it begins from zero",
        promise: 'P',
        oracles: &["recovery"],
        scenarios: &["thin-line-cuts"],
        hint: "a replica needs a snapshot that takes longer than its line stays whole: it does not come \
               to rest in time",
        ..ONE_SITE
    },
    Mutant {
        name: "snapshot-without-its-log",
        bug: "the log behind a snapshot that is on its way is cut as any other",
        promise: 'G',
        oracles: &["no-downtime", "recovery"],
        scenarios: &["thin-line"],
        hint: "a small budget for kept log and a thin line: who has got a snapshot needs another one, and \
               has not caught up when somebody else falls silent",
        ..ONE_SITE
    },
    Mutant {
        name: "votes-before-it-has-read",
        bug: "a voter that has just stood still refuses votes over what it has not read yet",
        promise: 'G',
        oracles: &["no-downtime"],
        scenarios: &["starved-dc-silent", "starved-dc-crash"],
        hint: "starved machines and a dead leader: a term is lost each time",
        ..ONE_SITE
    },
    Mutant {
        name: "bulk-before-control",
        bug: "pings, votes and heartbeats wait until all calls and entries before them have been sent",
        promise: 'G',
        oracles: &["no-downtime", "recovery"],
        scenarios: &["thin-line", "thin-line-cuts"],
        hint: "a thin line that is full of entries which a replica lacks: who is alive passes for silent",
        ..ONE_SITE
    },
    Mutant {
        name: "dedup-table-missing-from-the-snapshot",
        bug: "a snapshot carries heads and messages, and nothing that is remembered of ids",
        promise: 'E',
        oracles: &["one-seq-per-id"],
        scenarios: &["two-dc-return", "retry-ambiguity", "dc-power-unsynced"],
        hint: "a replica gets a snapshot, then an id from before it is sent again: there it is \
               appended, elsewhere not. Hashes that take in the ids differ at once",
        ..ONE_SITE
    },
    Mutant {
        name: "dedup-outside-the-apply-batch",
        bug: "an id is looked up in the database only, not among the changes being applied",
        promise: 'E',
        oracles: &["one-seq-per-id"],
        scenarios: &["retry-ambiguity", "fsync-stall", "process-pause-30s"],
        hint: "two attempts of one message in one apply: the leader stalls, the client tries \
               again, both are committed together. Batches differ by replica, so hashes may too",
        ..ONE_SITE
    },
    Mutant {
        name: "seq-allocated-before-commit",
        bug: "a number is taken before it is known whether the message needs one",
        promise: 'O',
        oracles: &["gap-free"],
        scenarios: &["retry-ambiguity", "dc-silent", "wan-loss-5pct"],
        hint: "any message that is sent again after it was appended leaves a hole, which lists show \
               and which stops tails, and replicas that restart after a flush, as corrupt",
        sites: 3,
        ..ONE_SITE
    },
    Mutant {
        name: "retry-gets-a-new-seq",
        bug: "what is remembered of an id counts as expired at once",
        promise: 'E',
        oracles: &["one-seq-per-id"],
        scenarios: &["retry-ambiguity", "dc-silent", "wan-loss-5pct"],
        hint: "any message that is sent again after it was appended is there twice",
        ..ONE_SITE
    },
    Mutant {
        name: "edit-loses-to-a-retry",
        bug: "what is remembered of a request that changes a message counts as expired at once",
        promise: 'E',
        oracles: &["changes-read"],
        scenarios: &["living-messages"],
        hint: "an edit that is sent again after it was done is done again, over what others have \
               edited meanwhile",
        ..ONE_SITE
    },
    Mutant {
        name: "expired-before-its-time",
        bug: "a message with a time to live counts as expired when the first look at what has expired comes",
        promise: 'D',
        oracles: &["expires-in-time"],
        scenarios: &["living-messages"],
        hint: "something of the conversation is due, and its messages from the first on go with it",
        ..ONE_SITE
    },
    Mutant {
        name: "redacted-body-still-read",
        bug: "an erased message keeps its content, and reads give it",
        promise: 'L',
        oracles: &["erased-is-gone"],
        scenarios: &["living-messages"],
        hint: "any read of an erased message",
        ..ONE_SITE
    },
    Mutant {
        name: "feed-skips-after-a-move",
        bug: "a replica that nobody has followed before goes on with what comes, not with what the cursor \
              has not seen",
        promise: 'E',
        oracles: &["feed-whole"],
        scenarios: &["living-messages"],
        hint: "a feed whose cursor comes to another replica, or to one that has started again",
        ..ONE_SITE
    },
    Mutant {
        name: "age-by-wall-clock",
        bug: "a leader counts what has passed for its shard by its wall clock",
        promise: 'E',
        oracles: &["one-seq-per-id"],
        scenarios: &["clock-jump-30d"],
        hint: "any clock of a leader leaps by more than seven days between two entries, and a message \
               from before is sent again",
        ..ONE_SITE
    },
    Mutant {
        name: "clock-believed",
        bug: "a leader stamps what its own wall clock says",
        promise: 'O',
        oracles: &["create-time"],
        scenarios: &["clock-jump-30d", "clock-jump-1h"],
        hint: "the wall clock of a leader leaps: its messages are of another time, and as stamps never \
               go back, so are all behind them",
        ..ONE_SITE
    },
    Mutant {
        name: "head-not-rebuilt-after-restart",
        bug: "a conversation's head is read as written last, without the messages behind it",
        promise: 'D',
        oracles: &["acked-durable"],
        scenarios: &["rolling-restart", "dc-back-after-5d"],
        hint: "restart after a flush (a graceful stop, or a short flush_age_ms) with conversations \
               not at a multiple of 16: the next append takes numbers that are taken",
        ..ONE_SITE
    },
    Mutant {
        name: "non-joint-membership-change",
        bug: "voters change from one set to another without the joint configuration between",
        promise: 'U',
        oracles: &["one-leader"],
        scenarios: &["membership-change-dc-loss"],
        hint: "a partition in the middle of a change of at least two voters",
        sites: 0,
        pending: Some(
            "openraft makes every change of voters joint by itself and refuses any other of more \
             than one voter, so there is no place of ours to spoil",
        ),
    },
    Mutant {
        name: "two-votes-in-a-term",
        bug: "a voter grants its vote to every candidate of the term with a log as long as its own",
        promise: 'U',
        oracles: &["one-leader"],
        scenarios: &["all-power-cut", "two-dc-return", "flap-3s"],
        hint: "two candidates in one term: elections by openraft's own timers in many shards at \
               once, over slow links best",
        ..ONE_SITE
    },
    Mutant {
        name: "vote-for-a-shorter-log",
        bug: "a voter does not compare the candidate's log with its own",
        promise: 'D',
        oracles: &["acked-durable"],
        scenarios: &["two-dc-return", "dc-all-disks-slow", "all-power-cut"],
        hint: "a replica that has been away returns together with one other while the third is \
               down, all restarted, so that they elect by timers: the one that lags stands first. \
               A mere power cut leaves logs too equal",
        ..ONE_SITE
    },
    Mutant {
        name: "boot-counter-ignored",
        bug: "a node that comes back with an older copy of its disk is let in",
        promise: 'D',
        oracles: &["disk-never-regresses"],
        scenarios: &["old-disk"],
        hint: "put an older image of both disks back while the node is down: it must be refused \
               for good, and serves",
        sites: 2,
        ..ONE_SITE
    },
    Mutant {
        name: "address-believed",
        bug: "whoever answers at a node's address counts as that node",
        promise: 'D',
        oracles: &["quorum-at-ack"],
        scenarios: &["moved-swapped"],
        hint: "two nodes come back at each other's addresses: each finds itself where it looks for the \
               other, and counts its own disk twice",
        sites: 3,
        ..ONE_SITE
    },
    Mutant {
        name: "mark-ignored",
        bug: "a node that comes back with an image from within its last start is let in",
        promise: 'D',
        oracles: &["disk-never-regresses"],
        scenarios: &["stale-image"],
        hint: "put an image of both disks back that was taken since the node started last: its boot \
               counter is the one that was seen, and only how far its disk was synced tells",
        ..ONE_SITE
    },
    Mutant {
        name: "marks-in-memory",
        bug: "what a node was told of the others' disks is gone with its process",
        promise: 'D',
        oracles: &["disk-never-regresses"],
        scenarios: &["outcast-forgotten"],
        hint: "as outcast-votes, and who knew how far the disk had been starts again meanwhile: it takes \
               the old disk's vote",
        ..ONE_SITE
    },
    Mutant {
        name: "outcast-votes",
        bug: "nobody looks at who answers: an old disk grants votes that count",
        promise: 'D',
        oracles: &["disk-never-regresses"],
        scenarios: &["outcast"],
        hint: "put an older image back at a node that can be called and cannot call, while the leader \
               is silent and the third replica lags: that one wins with the old disk's vote",
        ..ONE_SITE
    },
    Mutant {
        name: "term-leap-believed",
        bug: "a term is taken however far it leaps, and is on the disk before anybody can tell",
        promise: 'U',
        oracles: &["votes-never-regress"],
        scenarios: &["forged-term"],
        hint: "a broken peer sends one append of a term beyond all that were: the next elections go on \
               from there, until there is no next one",
        ..ONE_SITE
    },
    Mutant {
        name: "all-replicas-in-one-dc",
        bug: "a layout gives all replicas of a shard to the data center of its leader",
        promise: 'D',
        oracles: &["quorum-at-ack"],
        scenarios: &["calm", "dc-silent", "dc-crash"],
        hint: "at least three nodes to a data center, or the layout is refused. The loss of one \
               stops a third of the shards",
        ..ONE_SITE
    },
    Mutant {
        name: "discarded-told-as-nothing-done",
        bug: "an entry that gave way to a snapshot counts as not decided, though the snapshot holds it",
        promise: 'E',
        oracles: &["no-phantom"],
        scenarios: &["leader-dc-isolated"],
        hint: "a leader that hears nothing any more gets its entries to the others, who go on without \
               it; it is back, behind a cut log, when its callers' time is up: they are told that \
               nothing was done",
        sites: 0,
        pending: Some(
            "gateways and clients send the same id again within the caller's time, and find the first \
             answer; only who is out of time in that very moment is told, and no scenario meets that. A \
             test of raft/src/replica/batcher/ looks at what is told",
        ),
    },
    Mutant {
        name: "turns-without-back-off",
        bug: "a turn of an election ends in the same short time however often nobody won, and \
              however late the machines are",
        promise: 'G',
        oracles: &["no-downtime"],
        scenarios: &["starved-dc-crash", "starved-dc-silent"],
        hint: "machines that are late by more than a turn: each candidate stands again before its \
               votes are there, until openraft's own timers happen to do better",
        sites: 2,
        ..ONE_SITE
    },
    Mutant {
        name: "reserve-of-a-share-alone",
        bug: "the reserve is a share of the disk, however small the disk is",
        promise: 'P',
        oracles: &["room-kept"],
        scenarios: &["small-disks"],
        hint: "a disk of which a twentieth is less than a flush or a compaction writes: it finds no \
               room, and the node stops",
        ..ONE_SITE
    },
    Mutant {
        name: "answers-swapped",
        bug: "the answers to the commands of an entry are given out in the opposite order",
        promise: 'O',
        oracles: &["seq-function"],
        scenarios: &["hot-room", "calm"],
        hint: "two appends in one entry: each caller is told the other's seq. Many senders to few \
               shards",
        ..ONE_SITE
    },
    Mutant {
        name: "lease-kept-after-step-down",
        bug: "a node that led a short while ago answers LINEARIZABLE reads that reach it",
        promise: 'L',
        oracles: &["linearizable"],
        scenarios: &["leader-dc-isolated", "flap-3s", "bridge"],
        hint: "reads through a node without a replica whose hint is the former leader, or at that \
               itself: with clients inside the cut-off data center, in the second after the heal",
        sites: 3,
        ..ONE_SITE
    },
    Mutant {
        name: "lease-ignores-clock-error",
        bug: "a new leader waits for the largest window, not for 1.05 of it, before its first answer",
        promise: 'L',
        oracles: &["linearizable", "age-honest", "bounded-staleness"],
        scenarios: &["slow-clock-lease"],
        hint: "the old leader's clock runs slower than the new one's by more than nothing and less \
               than 5 %, and windows are so large that 5 % of them is longer than an election takes: \
               1.4 s. With 150 ms the margin is 7.5 ms, less than two rounds between data centers",
        ..ONE_SITE
    },
    Mutant {
        name: "lease-of-its-own",
        bug: "a new leader is silent for its own read window, whatever the others have",
        promise: 'L',
        oracles: &["linearizable", "age-honest", "bounded-staleness"],
        scenarios: &["mixed-read-windows"],
        hint: "the old leader's setting is large and the new one's small or 0: cut the old one off \
               with clients inside, while the others write and read",
        ..ONE_SITE
    },
    Mutant {
        name: "suspended-time-forgotten",
        bug: "leases and ages are measured on the monotonic clock, which leaves out what the machine was \
              suspended for",
        promise: 'L',
        oracles: &["linearizable", "age-honest", "bounded-staleness"],
        scenarios: &["machine-suspended"],
        hint: "suspend machines for longer than an election takes, and read at them in the moment \
               behind",
        ..ONE_SITE
    },
    Mutant {
        name: "read-index-without-quorum",
        bug: "who calls itself leader answers LINEARIZABLE reads without asking a quorum",
        promise: 'L',
        oracles: &["linearizable"],
        scenarios: &["leader-dc-isolated", "asymmetric-recv", "process-pause-30s"],
        hint: "clients inside a cut-off data center read what its leaders last knew, while the \
               others write",
        ..ONE_SITE
    },
    Mutant {
        name: "linearizable-read-at-any-replica",
        bug: "a LINEARIZABLE read is answered by the nearest replica",
        promise: 'L',
        oracles: &["linearizable"],
        scenarios: &["calm", "leader-dc-isolated", "wan-rtt-30-to-300"],
        hint: "reads through a node whose replica follows, right after writes elsewhere: a \
               follower learns of a commit with the next append or heartbeat",
        ..ONE_SITE
    },
    Mutant {
        name: "follower-read-without-waiting-for-apply",
        bug: "a replica answers as of a read index that it has not applied",
        promise: 'L',
        oracles: &["linearizable", "bounded-staleness"],
        scenarios: &["calm", "wan-loss-5pct", "dc-all-disks-slow"],
        hint: "reads at followers that are behind",
        ..ONE_SITE
    },
    Mutant {
        name: "session-token-dropped-on-data-center-switch",
        bug: "a client that goes to another data center forgets its session token",
        promise: 'S',
        oracles: &["session"],
        scenarios: &["calm", "dc-silent", "flap-3s"],
        hint: "a device writes, then reads through a replica that follows, in another data center or \
               not, before that has applied it",
        ..ONE_SITE
    },
    Mutant {
        name: "age-since-the-answer",
        bug: "a replica counts its age from when the leader's answer came, not from when it asked",
        promise: 'S',
        oracles: &["age-honest"],
        scenarios: &["process-pause-30s", "wan-rtt-30-to-300", "wan-loss-5pct"],
        hint: "answers that are long on their way: a process that was stopped finds them in its \
               sockets and takes itself for fresh",
        ..ONE_SITE
    },
    Mutant {
        name: "wrong-shard-after-a-map-change",
        bug: "a node that has not heard of a new shard map takes what is no longer its own",
        promise: 'D',
        oracles: &["acked-durable"],
        scenarios: &["membership-change-dc-loss"],
        hint: "write through a gateway with an old map while a shard splits or moves",
        sites: 0,
        pending: Some(
            "a shard keeps its slots for life: moves change its replicas only; splits and merges \
             come later",
        ),
    },
    Mutant {
        name: "learner-that-remembers",
        bug: "a learner that was wiped becomes a voter by what its leader remembers of the one before",
        promise: 'D',
        oracles: &["whole-before-it-votes"],
        scenarios: &["replica-taken-back"],
        hint: "a move is taken back and begun again within seconds, before the leader has swept the \
               learner of the first one out of the membership",
        ..ONE_SITE
    },
    Mutant {
        name: "votes-before-it-is-whole",
        bug: "a replica that was wiped is asked, and votes, as the one that it was before",
        promise: 'D',
        oracles: &["whole-before-it-votes"],
        scenarios: &["rebuilt-beside-a-fire"],
        hint: "a replica breaks while another lags, and the leader, which has what both lack, falls \
               silent: the empty one and the lagging one must elect nobody",
        sites: 3,
        ..ONE_SITE
    },
    Mutant {
        name: "scrub-that-does-not-compare",
        bug: "a scrub reads everything, and takes what it finds for alike",
        promise: 'H',
        oracles: &["replicas-equal"],
        scenarios: &["rot"],
        hint: "a record vanishes from one replica without a trace",
        ..ONE_SITE
    },
    Mutant {
        name: "cache-ignores-its-share",
        bug: "heads and ids of conversations are kept whatever share of the memory they have",
        promise: 'P',
        oracles: &["memory-kept"],
        scenarios: &["calm"],
        hint: "a node with a tiny share, and more conversations than fit",
        ..ONE_SITE
    },
    Mutant {
        name: "fault-outlives-its-ttl",
        bug: "a drill's fault goes on until somebody ends it",
        promise: 'P',
        oracles: &["drill-ends"],
        scenarios: &["drill-controller-dies"],
        hint: "a drill whose controller dies",
        ..ONE_SITE
    },
    Mutant {
        name: "page-boundary-skips-one",
        bug: "the next page of a list begins one message too late",
        promise: 'O',
        oracles: &["gap-free"],
        scenarios: &["calm"],
        hint: "page upwards through a conversation of more than a page",
        ..ONE_SITE
    },
    Mutant {
        name: "tail-resumes-off-by-one",
        bug: "a tail whose stream broke goes on with the message it gave last",
        promise: 'O',
        oracles: &["tail-suffix"],
        scenarios: &["dc-silent", "rolling-restart", "flap-3s", "reconnect-storm"],
        hint: "break the stream of a tail by any means",
        ..ONE_SITE
    },
    Mutant {
        name: "client-retry-with-a-new-id",
        bug: "what a client's append stream sends again carries another client message id",
        promise: 'E',
        oracles: &["no-phantom"],
        scenarios: &[
            "retry-ambiguity",
            "dc-silent",
            "dc-crash",
            "rolling-restart",
        ],
        hint: "break a stream between an append and its answer: the message is there twice, once \
               under an id that nobody gave",
        ..ONE_SITE
    },
    Mutant {
        name: "stream-resend-out-of-order",
        bug: "what a client's append stream sends again goes out in the opposite order",
        promise: 'O',
        oracles: &["sender-order"],
        scenarios: &["dc-silent", "dc-crash", "rolling-restart"],
        hint: "one sender with several messages of one conversation in flight on a stream when it \
               breaks",
        ..ONE_SITE
    },
];
