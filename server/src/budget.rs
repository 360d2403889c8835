//! How a node divides what its machine gives it: memory and descriptors. One place decides, from the
//! configuration and from what there is; everything that grows with use gets its bound here.
//!
//! ```text
//!  memory.max_mb ─┬─ 1/16 what a process needs whatever it does
//!   (half of the  ├─ 1/8  memtables, two of the log's; a quarter of that the state's
//!    machine's)   ├─      open shards, what each of them takes
//!                 └─ what remains, 1/8 at least:
//!                    ├─ 6/16 network: requests, answers and calls (proto::net::guard)
//!                    ├─ 3/16 heads and ids of conversations (store::state)
//!                    ├─ 3/16 blocks (RocksDB), unless storage.cache_mb says otherwise
//!                    ├─ 2/16 last entries of the logs (store::log)
//!                    ├─ 1/16 commands that wait for their leader (raft)
//!                    └─ 1/16 what waits to be sent to other nodes (raft)
//! ```
//!
//! [`crate::memory`] divides it anew when shards are opened or closed.

use std::sync::Arc;
use std::time::Duration;

use model::limits;
use proto::net::guard::{CONNECTION_BYTES, Guard, Limits, Refused, Rules, Takes};
use proto::v1;
use raft::Tuning;
use tonic::Status;

use crate::config::Config;
use crate::error::Failure;

const MIB: u64 = 1024 * 1024;
/// The least that a node runs with.
pub const MEMORY_BYTES_MIN: u64 = 128 * MIB;
/// The least that a node runs with: two databases, and a few nodes and clients.
pub const DESCRIPTORS_MIN: u64 = 96;
/// Descriptors that a node has whatever it does: standard streams, timers, locks, logs, the listener.
const DESCRIPTORS_OWN: u64 = 32;
/// The fewest files that RocksDB keeps open.
const FILES_MIN: u64 = 20;
/// The most that is of use to it: it bounds the memory of table readers.
const FILES_MAX: u64 = 400;
/// Connections that are kept for other nodes, most.
const SPARE_MAX: u64 = 256;
/// What a request has beside its messages, bytes.
const REQUEST_BYTES: usize = 16 * 1024;

/// What the machine gives to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Memory that it may use, bytes: the machine's, or its container's.
    pub memory_bytes: u64,
    /// Descriptors that it may open.
    pub descriptors: u64,
}

/// What each part of a node may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// All of the node's memory, bytes.
    pub memory_bytes: u64,
    /// The log's memtable, bytes.
    pub log_memtable_bytes: usize,
    /// State written since the last flush at which the next one starts, bytes.
    pub flush_bytes: u64,
    /// Shares that the configuration sets, bytes; 0 = as they come.
    set: Set,
    /// Descriptors, all together.
    pub descriptors: u64,
    /// Files that each database keeps open.
    pub files: i32,
    /// What comes over the network.
    pub network: Limits,
}

/// What remains beside memtables and open shards, and its shares, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// What open shards may take before the others are too small.
    pub shards_bytes: usize,
    /// The network.
    pub network_bytes: usize,
    /// Heads and ids of conversations.
    pub heads_bytes: usize,
    /// Blocks of the state.
    pub cache_bytes: usize,
    /// Blocks of the log.
    pub log_cache_bytes: usize,
    /// Last entries of the logs.
    pub tails_bytes: usize,
    /// Commands that wait for their leader.
    pub queue_bytes: usize,
    /// What waits to be sent to other nodes.
    pub links_bytes: usize,
    /// Which `memory.max_mb` would be right, bytes, where this one is too small for the shards.
    pub wanted: Option<usize>,
}

/// Shares that the configuration sets, bytes; 0 = as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Set {
    network: usize,
    heads: usize,
    cache: usize,
    tails: usize,
    queue: usize,
}

/// The most that blocks and last entries are of use for, bytes.
const CACHED_MAX: u64 = 64 * MIB;
/// Blocks of the log are hardly ever read: this share of the state's, and this many bytes at most.
const LOG_CACHE: (usize, usize) = (8, 8 << 20);
/// Steps in which a budget is recommended, bytes.
const WANTED_STEP: u64 = 64 * MIB;

/// The log's memtable.
fn memtable(memory: u64) -> u64 {
    (memory / 16).clamp(16 * MIB, 128 * MIB)
}

/// State written since the last flush at which the next one starts.
fn flush(memory: u64) -> u64 {
    (memtable(memory) / 4).min(limits::STATE_FLUSH_BYTES)
}

/// What there is for shards, caches and queues.
fn to_share(memory: u64) -> u64 {
    memory.saturating_sub(memory / 16 + 2 * memtable(memory) + 2 * flush(memory))
}

/// What caches and queues need at least.
fn floor(memory: u64) -> u64 {
    memory / 8
}

fn bytes(of: u64) -> usize {
    usize::try_from(of).unwrap_or(usize::MAX)
}

impl Budget {
    /// For this configuration on this machine.
    pub fn of(config: &Config, machine: Machine) -> Budget {
        let memory = match config.memory.max_bytes {
            0 => machine.memory_bytes / 2,
            max => max,
        };
        let memory = memory.max(MEMORY_BYTES_MIN);
        // Three eighths of the descriptors are the databases', a quarter the connections to other
        // nodes and files on their way; the rest is for connections that come in.
        let left = machine.descriptors.saturating_sub(DESCRIPTORS_OWN);
        let files = (left * 3 / 16).clamp(FILES_MIN, FILES_MAX);
        let others = (left / 4).min(1_024);
        let incoming = left.saturating_sub(2 * files + others).max(10);
        let spare = (incoming / 4).min(SPARE_MAX);
        let limits = &config.limits;
        let set = Set {
            network: bytes(limits.network_bytes),
            heads: config.memory.heads_bytes,
            cache: config.storage.cache_bytes,
            tails: config.memory.tails_bytes,
            queue: config.memory.queue_bytes,
        };
        let network = divide(memory, set, 0).network_bytes as u64;
        let affordable = network / 4 / CONNECTION_BYTES as u64;
        let connections = match limits.connections_max {
            0 => (incoming - spare).min(affordable.max(16)),
            set => set.min(incoming - spare),
        };
        Budget {
            memory_bytes: memory,
            log_memtable_bytes: bytes(memtable(memory)),
            flush_bytes: flush(memory),
            set,
            descriptors: machine.descriptors,
            files: i32::try_from(files).unwrap_or(i32::MAX),
            network: Limits {
                connections_max: bytes(connections),
                connections_spare: bytes(spare),
                calls_per_connection_max: limits.calls_per_connection_max,
                bytes_max: bytes(network),
                connection_percent: limits.connection_percent,
                address_percent: limits.address_percent,
                preface_timeout: Duration::from_millis(limits.preface_ms),
                receive_timeout: Duration::from_millis(limits.receive_ms),
                take_timeout: Duration::from_millis(limits.take_ms),
            },
        }
    }

    /// What is left for caches and queues of a node that has so many open shards.
    pub fn divide(&self, shards: usize) -> Shares {
        divide(self.memory_bytes, self.set, shards)
    }

    /// Says in the log what it came to.
    pub fn tell(&self) {
        tracing::info!(
            memory_mb = self.memory_bytes / MIB,
            network_mb = self.network.bytes_max as u64 / MIB,
            descriptors = self.descriptors,
            connections_max = self.network.connections_max,
            calls_max = self.network.calls_max(),
            "resources"
        );
    }

    /// What is bounded, and how much of it is used.
    pub fn resources(&self, guard: &Guard, memory: Vec<v1::Resource>) -> Vec<v1::Resource> {
        let usage = guard.usage();
        let resource = |name: &str, used: usize, max: usize, refused, setting: &str| v1::Resource {
            name: name.to_owned(),
            used: used as u64,
            max: max as u64,
            refused,
            setting: setting.to_owned(),
            ..v1::Resource::default()
        };
        let mut all = vec![
            resource(
                "connections",
                usage.connections,
                usage.connections_max,
                usage.connections_refused + usage.connections_closed,
                "limits.connections_max",
            ),
            resource(
                "calls",
                usage.calls,
                usage.calls_max,
                usage.calls_refused,
                "limits.network_mb",
            ),
            resource(
                "bytes under way",
                usage.bytes,
                usage.bytes_max,
                usage.answers_given_up,
                "limits.network_mb",
            ),
        ];
        all.extend(memory);
        all
    }

    /// How the groups run within it.
    pub fn tune(&self, tuning: &Tuning) -> Tuning {
        let mut tuning = tuning.clone();
        tuning.keep.flush_bytes = tuning.keep.flush_bytes.min(self.flush_bytes);
        tuning
    }

    /// The guard of the node's network.
    pub fn guard(&self, body_bytes_max: usize) -> Guard {
        Guard::new(self.network.clone(), Arc::new(Methods { body_bytes_max }))
    }
}

fn divide(memory: u64, set: Set, shards: usize) -> Shares {
    let open = (shards * limits::OPEN_SHARD_BYTES) as u64;
    let suits = |memory: u64| open + floor(memory) <= to_share(memory);
    let wanted = (!suits(memory)).then(|| {
        let mut wanted = (memory / WANTED_STEP + 1) * WANTED_STEP;
        while !suits(wanted) {
            wanted += WANTED_STEP;
        }
        bytes(wanted)
    });
    let left = to_share(memory).saturating_sub(open).max(floor(memory));
    let or = |set: usize, share: u64| match set {
        0 => bytes(share),
        set => set,
    };
    let cache = or(set.cache, (left * 3 / 16).min(CACHED_MAX));
    let log_cache = (cache / LOG_CACHE.0).min(LOG_CACHE.1);
    Shares {
        shards_bytes: bytes(to_share(memory) - floor(memory)),
        network_bytes: or(set.network, left * 6 / 16),
        heads_bytes: or(set.heads, left * 3 / 16),
        cache_bytes: cache - log_cache,
        log_cache_bytes: log_cache,
        tails_bytes: or(set.tails, (left * 2 / 16).min(CACHED_MAX)),
        queue_bytes: or(set.queue, left / 16),
        links_bytes: bytes(left / 16),
        wanted,
    }
}

/// What each method takes.
struct Methods {
    body_bytes_max: usize,
}

impl Rules for Methods {
    fn say(&self, refused: Refused) -> Status {
        Failure::NoRoom(refused).into()
    }

    fn takes(&self, path: &str) -> Takes {
        let (service, method) = path.rsplit_once('/').unwrap_or(("", path));
        let (bytes_max, many) = match (service, method) {
            ("/firebreak.v1.Messages", "AppendMessage" | "EditMessage") => {
                (self.body_bytes_max + REQUEST_BYTES, false)
            }
            // Each field has a tag and a length, each message too.
            ("/firebreak.v1.Messages", "BatchAppendMessages") => {
                (2 * limits::BATCH_BYTES_MAX, false)
            }
            ("/firebreak.v1.Messages", "AppendStream") => (limits::FRAME_BYTES_MAX, true),
            // It asks for more whenever it likes, and may be silent for days.
            ("/firebreak.v1.Messages", "Follow") => (4 * REQUEST_BYTES, true),
            ("/firebreak.node.v1.Peer", _) => (limits::FRAME_BYTES_MAX, true),
            // A batch may be of a thousand senders.
            ("/firebreak.node.v1.Quotas", _) => (limits::BATCH_BYTES_MAX, false),
            ("/grpc.reflection.v1.ServerReflection", _)
            | ("/grpc.reflection.v1alpha.ServerReflection", _) => (REQUEST_BYTES, true),
            _ => (4 * REQUEST_BYTES, false),
        };
        Takes { bytes_max, many }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name = \"a\"\nlisten = \"127.0.0.1:1\"\ndata_dir = \"/d\"\n\
                        [locality]\nregion = \"r\"\ndc = \"d\"\n";

    fn budget(settings: &str, memory_mb: u64, descriptors: u64) -> Budget {
        let config = Config::parse(&format!("{GOOD}{settings}"), "node.toml").expect("valid");
        let memory_bytes = memory_mb * MIB;
        Budget::of(
            &config,
            Machine {
                memory_bytes,
                descriptors,
            },
        )
    }

    #[test]
    fn the_parts_fit_into_the_whole_on_machines_of_every_size() {
        for memory_mb in [64, 512, 1_024, 4_096, 65_536, 1 << 22] {
            for descriptors in [96, 256, 1_024, 8_192, 1 << 20] {
                let budget = budget("", memory_mb, descriptors);
                let network = &budget.network;
                let memtables = 2 * budget.log_memtable_bytes + 2 * bytes(budget.flush_bytes);
                for shards in [0, 10, 100, 1_000, 5_000, 100_000] {
                    let shares = budget.divide(shards);
                    let open = shards * limits::OPEN_SHARD_BYTES;
                    let memory = memtables + open + all(&shares);
                    let fits = memory as u64 <= budget.memory_bytes;
                    assert_eq!(fits, shares.wanted.is_none(), "{shares:?} of {budget:?}");
                    assert!(
                        all(&shares) as u64 >= budget.memory_bytes / 16,
                        "{shares:?}"
                    );
                }
                let files = 2 * u64::try_from(budget.files).expect("positive");
                let connections = network.connections_max + network.connections_spare;
                let used = files + connections as u64 + DESCRIPTORS_OWN;
                assert!(used < descriptors, "{budget:?}");
                assert!(network.connections_max >= 8, "{budget:?}");
                assert!(budget.log_memtable_bytes as u64 >= 4 * budget.flush_bytes);
            }
        }
    }

    fn all(shares: &Shares) -> usize {
        shares.network_bytes
            + shares.heads_bytes
            + shares.cache_bytes
            + shares.log_cache_bytes
            + shares.tails_bytes
            + shares.queue_bytes
            + shares.links_bytes
    }

    #[test]
    fn a_budget_that_is_too_small_says_which_would_be_right() {
        let shards = 5_000;
        let small = budget("[memory]\nmax_mb = 128\n", 1_024, 1_024).divide(shards);
        let right = small.wanted.expect("too small") as u64 / MIB;
        let settings = |mb: u64| format!("[memory]\nmax_mb = {mb}\n");
        let of = |mb| budget(&settings(mb), 1_024, 1_024).divide(shards);
        assert_eq!(of(right).wanted, None);
        assert_eq!(of(right - 64).wanted.map(|mb| mb as u64 / MIB), Some(right));
    }

    #[test]
    fn each_open_shard_leaves_less_to_all_others() {
        let budget = budget("", 1_024, 1_024);
        let (none, many) = (budget.divide(0), budget.divide(5_000));
        assert!(many.heads_bytes < none.heads_bytes && many.tails_bytes < none.tails_bytes);
        assert!(many.network_bytes < none.network_bytes && many.queue_bytes < none.queue_bytes);
    }

    #[test]
    fn what_is_set_counts_and_never_beyond_the_descriptors() {
        let set = "[limits]\nconnections_max = 100000\nnetwork_mb = 77\n\
                   [memory]\nmax_mb = 700\n[storage]\ncache_mb = 9\n";
        let budget = budget(set, 64, 1_024);
        assert_eq!(budget.memory_bytes, 700 * MIB);
        let shares = budget.divide(0);
        let blocks = shares.cache_bytes + shares.log_cache_bytes;
        assert_eq!(blocks as u64, 9 * MIB);
        assert_eq!(budget.network.bytes_max as u64, 77 * MIB);
        assert!(budget.network.connections_max < 700, "{budget:?}");
    }

    #[test]
    fn the_published_limits_are_those_that_count() {
        let proto = include_str!("../../proto/proto/firebreak/v1/messages.proto");
        let errors = include_str!("../../proto/proto/firebreak/v1/errors.md");
        let thousands = |number: usize| match number {
            0..1_000 => number.to_string(),
            _ => format!("{},{:03}", number / 1_000, number % 1_000),
        };
        let calls = thousands(limits::CALLS_PER_CONNECTION_MAX);
        let kib = |bytes: usize| format!("{} KiB", bytes / 1024);
        let mib = |bytes: usize| format!("{} MiB", bytes / 1024 / 1024);
        let methods = Methods {
            body_bytes_max: limits::BODY_BYTES_MAX,
        };
        let takes = |method: &str| {
            methods
                .takes(&format!("/firebreak.v1.Messages/{method}"))
                .bytes_max
        };
        let budget = budget("", 1_024, 1_024);
        for told in [
            format!("at once: {calls} *"),
            format!(
                "({} *), of BatchAppendMessages",
                kib(takes("AppendMessage"))
            ),
            format!(
                "{}, of one AppendStream frame",
                mib(takes("BatchAppendMessages"))
            ),
            format!(
                "{}, of all others {}.",
                mib(takes("AppendStream")),
                kib(takes("Tail"))
            ),
            format!(
                "whole within {} s *",
                budget.network.receive_timeout.as_secs()
            ),
            format!(
                "be taken each\n//   {} s *",
                budget.network.take_timeout.as_secs()
            ),
            format!("1 to {} characters", limits::NAME_SEGMENT_BYTES_MAX),
            format!(
                "at most {} messages and ends when it has {}",
                thousands(limits::PAGE_SIZE_MAX),
                mib(limits::PAGE_BYTES_MAX)
            ),
            format!("names {} conversations", limits::SESSION_SLOTS_MAX),
            format!("the first {} wrong fields", limits::VIOLATIONS_MAX),
            format!(
                "1–{} bytes; unique per conversation",
                limits::CLIENT_MESSAGE_ID_BYTES_MAX
            ),
            format!(
                "sender = 4;                                 // 1–{} bytes",
                limits::SENDER_BYTES_MAX
            ),
            format!("opaque, at most {} bytes", limits::TYPE_BYTES_MAX),
            format!("at most {}, unless", kib(limits::BODY_BYTES_MAX)),
            format!("up to {} items", thousands(limits::STREAM_FRAME_ITEMS_MAX)),
            format!(
                "fewer than {} items",
                thousands(limits::STREAM_UNANSWERED_MAX)
            ),
            format!(
                "0 = {}; at most {}",
                limits::PAGE_SIZE_DEFAULT,
                thousands(limits::PAGE_SIZE_MAX)
            ),
            format!(
                "1–{}, {} together",
                thousands(limits::BATCH_MESSAGES_MAX),
                mib(limits::BATCH_BYTES_MAX)
            ),
        ] {
            assert!(
                proto.contains(&told),
                "messages.proto does not say {told:?}"
            );
        }
        assert!(errors.contains(&format!("({calls} unless the operator says otherwise)")));
        assert!(errors.contains(&format!(
            "the first {} wrong fields",
            limits::VIOLATIONS_MAX
        )));
    }

    #[test]
    fn each_method_takes_what_it_needs_and_no_more() {
        let methods = Methods {
            body_bytes_max: limits::BODY_BYTES_MAX,
        };
        let takes = |path: &str| methods.takes(path);
        let one = takes("/firebreak.v1.Messages/AppendMessage");
        assert_eq!((one.bytes_max, one.many), (80 * 1024, false));
        let stream = takes("/firebreak.v1.Messages/AppendStream");
        assert_eq!(
            (stream.bytes_max, stream.many),
            (limits::FRAME_BYTES_MAX, true)
        );
        assert!(!takes("/firebreak.v1.Messages/Tail").many);
        let all = <prost_types::FileDescriptorSet as prost::Message>::decode(proto::DESCRIPTORS);
        let mut streams = Vec::new();
        for file in all.unwrap().file {
            for service in &file.service {
                for method in service.method.iter().filter(|m| m.client_streaming()) {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    // Who sends when it likes must not be taken for one that never ends its request.
                    assert!(takes(&path).many, "{path}");
                    streams.push(path);
                }
            }
        }
        assert!(streams.len() >= 5, "{streams:?}");
        assert!(takes("/firebreak.v1.Admin/GetStatus").bytes_max <= 64 * 1024);
    }
}
