//! How large the databases let things grow, fitted to the disk that they are on, and how much room
//! they may need at once for work that must not fail.
//!
//! A flush or a compaction that finds no room stops the node, and the next start may find none
//! either. So appends are refused while there is still room for all of it, and on a small disk all of
//! it is small: everything below is a multiple of one unit, a 64th of the disk and 128 MiB at most.
//!
//! | | units |
//! |---|---|
//! | a memtable of the log, and so the file that its flush writes | 1 |
//! | the log's next write-ahead file, which is reserved when it is begun | 1.1 |
//! | a compaction of the log: four such files, and the level below | 6 |
//! | a flush of the state, three times what begins one | 3/8 |
//! | a compaction of the state: sixteen flushes, and the level below | 4 |

/// What everything is a multiple of, on disks that are large enough.
pub const UNIT_BYTES_MAX: u64 = 128 * MIB;
/// The least that it is.
const UNIT_BYTES_MIN: u64 = 4 * MIB;
/// Units to a disk.
const UNITS_OF_DISK: u64 = 64;
const MIB: u64 = 1024 * 1024;

/// How large things grow on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    unit: u64,
}

impl Default for Sizes {
    /// Of a large disk.
    fn default() -> Sizes {
        Sizes {
            unit: UNIT_BYTES_MAX,
        }
    }
}

impl Sizes {
    /// For a disk of so many bytes in all.
    pub fn of_disk(total_bytes: u64) -> Sizes {
        let unit = (total_bytes / UNITS_OF_DISK).clamp(UNIT_BYTES_MIN, UNIT_BYTES_MAX);
        Sizes::of_unit(unit / MIB * MIB)
    }

    /// With this unit, whatever the disk.
    pub fn of_unit(unit: u64) -> Sizes {
        Sizes { unit }
    }

    /// At which a memtable of the log is flushed.
    pub fn log_memtable_bytes(self) -> u64 {
        self.unit
    }

    /// State written since the last flush at which the next one begins.
    pub fn state_flush_bytes(self) -> u64 {
        self.unit / 8
    }

    /// Of the first sorted level of either database.
    pub fn level_bytes(self) -> u64 {
        self.unit * 2
    }

    /// Of a file in the levels.
    pub fn file_bytes(self) -> u64 {
        self.unit / 2
    }

    /// Of what one compaction takes.
    pub fn compaction_bytes_max(self) -> u64 {
        self.unit * 6
    }

    /// Log that is kept for replicas that are absent.
    pub fn log_kept_bytes(self) -> u64 {
        self.unit * 4
    }

    /// What flushes, the log's next file and compactions may need at once, all of them together.
    pub fn needs_bytes(self) -> u64 {
        self.flush_bytes() + self.compaction_bytes()
    }

    /// Of that, flushes and the log's next file.
    pub fn flush_bytes(self) -> u64 {
        self.unit * 21 / 10 + self.state_flush_bytes() * 3
    }

    /// Of that, compactions.
    pub fn compaction_bytes(self) -> u64 {
        self.unit * 10
    }

    /// What an opening may need: it replays the log's write-ahead files, flushes what was in them,
    /// and begins the next.
    pub fn opening_bytes(self) -> u64 {
        self.unit * 3 + 4 * MIB
    }
}

const _: () = assert!(UNIT_BYTES_MAX / 8 == model::limits::STATE_FLUSH_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_disk_needs_the_same_as_any_other_and_a_small_one_a_fifth_of_it() {
        let large = Sizes::of_disk(1 << 40);
        assert_eq!(large, Sizes::default());
        assert_eq!(large, Sizes::of_disk(8 << 30));
        assert_eq!(large.needs_bytes() / MIB, 1_596);
        assert_eq!(large.state_flush_bytes(), model::limits::STATE_FLUSH_BYTES);
        for mib in [400, 1_024, 2_048, 4_096] {
            let sizes = Sizes::of_disk(mib * MIB);
            assert!(sizes.needs_bytes() * 5 <= mib * MIB, "{mib} MiB");
            let kept = sizes.needs_bytes() + sizes.opening_bytes();
            assert!(kept * 4 <= mib * MIB, "{mib} MiB with its ballast");
        }
        assert_eq!(Sizes::of_disk(0), Sizes::of_unit(UNIT_BYTES_MIN));
    }
}
