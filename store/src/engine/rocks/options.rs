//! Every RocksDB option that is not at its default, and why.

use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel, Options,
    statistics::StatsLevel,
};

use super::{Memory, Role};
use crate::Sizes;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The state's memtable is never full: only a sync may flush it, since a flush makes an applied
/// position durable and the log must be durable first. Memory is taken as it fills, in arena
/// blocks of 1 MiB, so the number costs nothing; the state layer flushes at 16 MiB, or less on a
/// small disk.
const STATE_MEMTABLE_BYTES: usize = 4 * 1024 * MIB;

/// Bits of the state memtable's bloom filter: 1 MiB, 10 bits for each of 800,000 keys. RocksDB
/// takes it as a share of the memtable.
const STATE_MEMTABLE_BLOOM_BYTES: usize = MIB;

/// The options of a database.
pub(super) fn of(
    role: Role,
    memory: Memory,
    sizes: Sizes,
) -> Result<(Options, Cache), rocksdb::Error> {
    // Two that have no setter:
    // - closing must not flush what was not synced (it would break the order of the two databases);
    // - RocksDB must not resume by itself after a background error: its resume has gaps
    //   (facebook/rocksdb#11447), and the node stops at the first.
    let mut options = Options::default()
        .get_options_from_string("avoid_flush_during_shutdown=true;max_bgerror_resume_count=0")?;
    options.create_if_missing(true);

    // One flush and one compaction at a time: the machine may have two cores.
    options.set_max_background_jobs(2);
    // Files are written back as they grow, so that an fsync of the log never waits behind the
    // dirty pages of a whole file.
    options.set_bytes_per_sync(MIB as u64);
    // Bounds the memory of table readers, and leaves descriptors to others.
    options.set_max_open_files(memory.files_max);
    // Opening need not read every file's properties.
    options.set_skip_stats_update_on_db_open(true);
    options.set_max_manifest_file_size(64 * MIB);
    // Few and small diagnostic files; no statistics written now and then, which would wake an
    // idle node.
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(3);
    options.set_max_log_file_size(4 * MIB);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    // Spinning for a place in the write queue costs more CPU than it saves on few cores.
    options.set_enable_write_thread_adaptive_yield(false);
    // Tickers only (bytes written), no histograms or timers.
    options.enable_statistics();
    options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
    // Writes are held back above (queues are bounded, disk reserve), never by RocksDB: a stalled
    // write or flush would block a thread of the runtime.
    options.set_level_zero_slowdown_writes_trigger(64);
    options.set_level_zero_stop_writes_trigger(128);
    options.set_soft_pending_compaction_bytes_limit(0);
    options.set_hard_pending_compaction_bytes_limit(0);

    options.set_max_bytes_for_level_base(sizes.level_bytes());
    options.set_target_file_size_base(sizes.file_bytes());
    // What one compaction rewrites must fit into the room that is kept for it: a file and the ten
    // below it do.
    options.set_max_compaction_bytes(sizes.compaction_bytes_max());

    let mut table = BlockBasedOptions::default();
    // Two shards of 32 MiB, without a lock. An LRU cache of this size has 64 shards of 1 MiB, which
    // two filters of half a MiB push each other out of: lookups then read whole filters.
    let cache = Cache::new_hyper_clock_cache(memory.cache_bytes, 0);
    table.set_block_cache(&cache);
    // Index and filters live in the bounded cache too, and last in it.
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);

    match role {
        Role::Log => {
            // State is flushed, and the log cut after it, at an eighth of this: most entries are
            // covered by a DeleteRange before their memtable is flushed, and never reach a file.
            let memtable = bytes(sizes.log_memtable_bytes()).min(memory.memtable_bytes);
            options.set_write_buffer_size(memtable);
            // Room to go on writing while a full one is flushed.
            options.set_max_write_buffer_number(4);
            // A torn tail is what a power cut leaves and is cut off; anything else corrupt is an
            // error. Point-in-time recovery could silently cut acknowledged entries, and a
            // recycled file makes an old record look like a torn one.
            options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
            options.set_recycle_log_file_num(0);
            // A write only fills the buffer; the sync thread makes the system calls.
            options.set_manual_wal_flush(true);
            // There is one writer, so the cheaper insertion will do.
            options.set_allow_concurrent_memtable_write(false);
            // What reaches a file is short-lived.
            options.set_compression_type(DBCompressionType::None);
        }
        Role::State => {
            options.set_write_buffer_size(STATE_MEMTABLE_BYTES);
            options.set_arena_block_size(MIB);
            options.set_max_write_buffer_number(8);
            // The other causes of a flush, all off: sizes over several databases and WAL sizes.
            options.set_db_write_buffer_size(0);
            options.set_max_total_wal_size(u64::MAX);
            // Most lookups are of client message ids that were never seen: filters answer them in
            // the memtable and in every level.
            options.set_memtable_whole_key_filtering(true);
            #[allow(clippy::cast_precision_loss, reason = "a ratio; any rounding will do")]
            options.set_memtable_prefix_bloom_ratio(
                STATE_MEMTABLE_BLOOM_BYTES as f64 / STATE_MEMTABLE_BYTES as f64,
            );
            table.set_bloom_filter(10.0, false);
            table.set_optimize_filters_for_memory(true);
            // 16 KiB blocks compress text better than 4 KiB and hold a page of messages.
            table.set_block_size(16 * KIB);
            // Not at all where data is rewritten soon, fast where it rests. zstd at the bottom cost
            // more CPU for each message than everything else in the store.
            let fast = DBCompressionType::Lz4;
            let none = DBCompressionType::None;
            options.set_compression_per_level(&[none, none, fast, fast, fast, fast, fast]);
            // A flush is 16 MiB: small, so that the memtable stays near the processor's caches.
            // Compacting 16 of them at once rewrites the levels below less often.
            options.set_level_zero_file_num_compaction_trigger(16);
            // Batches of all shards come from one task after another: the cheaper insertion will
            // do, and keys come sorted.
            options.set_allow_concurrent_memtable_write(false);
        }
    }
    options.set_block_based_table_factory(&table);
    Ok((options, cache))
}

fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
