//! The actions of faults: their names, the keys that each has of its own, and whether it ends.

use super::file::{Action, LinkChange};
use super::links::{JITTER_US_MAX, LATENCY_US_MAX, LINK_KEYS, LOSS_PPM_MAX};
use super::reader::{Reader, Section};
use super::{target, units, values};
use crate::plan::{Part, Standstill, Starved};

/// The longest jump of a clock, ms: a year, far beyond any time that anything is kept for.
const JUMP_MS_MAX: i64 = 365 * 86_400_000;
/// The most that is left on a small disk, bytes.
const LEFT_BYTES_MAX: u64 = 1 << 31;
/// The fastest drift of a clock, parts per million.
const DRIFT_PPM_MAX: i64 = 100_000;

/// An action's name in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Burn,
    PowerCut,
    Crash,
    Kill,
    Stop,
    Start,
    Pause,
    Resume,
    Starve,
    Silence,
    Cut,
    Block,
    Heal,
    Reset,
    Link,
    SlowSync,
    HangSync,
    FailSync,
    DiskRoom,
    SmallDisk,
    BitFlip,
    LoseRecord,
    Compact,
    WipeDisk,
    ImageDisk,
    OldDisk,
    Move,
    Remove,
    Forge,
    ClockJump,
    ClockDrift,
    Drain,
    Undrain,
    MoveTo,
    Drill,
    Stampede,
}

pub(super) const VERBS: &[(&str, Verb)] = &[
    ("burn", Verb::Burn),
    ("power-cut", Verb::PowerCut),
    ("crash", Verb::Crash),
    ("kill", Verb::Kill),
    ("stop", Verb::Stop),
    ("start", Verb::Start),
    ("pause", Verb::Pause),
    ("resume", Verb::Resume),
    ("starve", Verb::Starve),
    ("silence", Verb::Silence),
    ("cut", Verb::Cut),
    ("block", Verb::Block),
    ("heal", Verb::Heal),
    ("reset", Verb::Reset),
    ("link", Verb::Link),
    ("slow-sync", Verb::SlowSync),
    ("hang-sync", Verb::HangSync),
    ("fail-sync", Verb::FailSync),
    ("disk-room", Verb::DiskRoom),
    ("small-disk", Verb::SmallDisk),
    ("bit-flip", Verb::BitFlip),
    ("lose-record", Verb::LoseRecord),
    ("compact", Verb::Compact),
    ("wipe-disk", Verb::WipeDisk),
    ("image-disk", Verb::ImageDisk),
    ("old-disk", Verb::OldDisk),
    ("move", Verb::Move),
    ("remove", Verb::Remove),
    ("forge", Verb::Forge),
    ("clock-jump", Verb::ClockJump),
    ("clock-drift", Verb::ClockDrift),
    ("drain", Verb::Drain),
    ("undrain", Verb::Undrain),
    ("move-to", Verb::MoveTo),
    ("drill", Verb::Drill),
    ("stampede", Verb::Stampede),
];

impl Verb {
    /// The keys of its own.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Verb::Crash => &["disks"],
            Verb::Silence | Verb::Cut => &["reset"],
            Verb::Link => &LINK_KEYS,
            Verb::Starve => &["share", "wait"],
            Verb::SlowSync => &["sync"],
            Verb::DiskRoom => &["free"],
            Verb::SmallDisk => &["left"],
            Verb::BitFlip => &["part"],
            Verb::Move => &["to"],
            Verb::Pause => &["clocks"],
            Verb::Drill => &["ttl", "renews"],
            Verb::ClockJump => &["by"],
            Verb::ClockDrift => &["drift"],
            Verb::Burn
            | Verb::PowerCut
            | Verb::Kill
            | Verb::Stop
            | Verb::Start
            | Verb::Resume
            | Verb::Block
            | Verb::Heal
            | Verb::Reset
            | Verb::HangSync
            | Verb::FailSync
            | Verb::LoseRecord
            | Verb::Compact
            | Verb::WipeDisk
            | Verb::ImageDisk
            | Verb::OldDisk
            | Verb::Remove
            | Verb::Forge
            | Verb::Drain
            | Verb::Undrain
            | Verb::MoveTo
            | Verb::Stampede => &[],
        }
    }

    /// The keys that name whom it befalls.
    pub fn target_keys(self) -> &'static [&'static str] {
        match self {
            Verb::Cut | Verb::Block | Verb::Heal | Verb::Reset | Verb::Link => target::WAY_KEYS,
            Verb::Stampede => target::SITE_KEYS,
            _ => target::HOST_KEYS,
        }
    }

    /// Whether it can last for a time; otherwise why not.
    pub fn lasts(self) -> Result<(), &'static str> {
        match self {
            Verb::Burn => Err("what burned does not come back"),
            Verb::Start | Verb::Resume | Verb::Heal | Verb::Undrain => {
                Err("it ends a fault itself")
            }
            Verb::Reset | Verb::Forge | Verb::Stampede | Verb::Compact => Err("it is over at once"),
            Verb::BitFlip
            | Verb::LoseRecord
            | Verb::WipeDisk
            | Verb::ImageDisk
            | Verb::OldDisk
            | Verb::Move
            | Verb::Remove => Err("it stays as it is"),
            _ => Ok(()),
        }
    }
}

const DISKS: &[(&str, bool)] = &[("kept", false), ("lost", true)];
const PLACES: &[(&str, bool)] = &[("new", false), ("swapped", true)];
const STANDSTILLS: &[(&str, Standstill)] = &[
    ("go-on", Standstill::GoOn),
    ("suspended", Standstill::Suspended),
    ("unknown", Standstill::Unknown),
];
const PARTS: &[(&str, Option<Part>)] = &[
    ("log", Some(Part::Log)),
    ("vote", Some(Part::Vote)),
    ("state", Some(Part::State)),
    ("snapshot", Some(Part::Snapshot)),
    ("any", None),
];

/// The action with its own keys; none when one of them is wrong.
pub(super) fn read(reader: &mut Reader<'_>, table: &Section<'_>, verb: Verb) -> Option<Action> {
    let reset = |reader: &mut Reader<'_>| {
        let reset = reader.get(table, "reset", values::yes);
        reset.unwrap_or(false)
    };
    Some(match verb {
        Verb::Burn => Action::Burn,
        Verb::PowerCut => Action::PowerCut,
        Verb::Crash => {
            let disks = reader.need(
                table,
                "disks",
                values::word("what becomes of the disks", DISKS),
            );
            Action::Crash { disks_lost: disks? }
        }
        Verb::Kill => Action::Kill,
        Verb::Stop => Action::Stop,
        Verb::Start => Action::Start,
        Verb::Pause => {
            let clocks = values::word("what clocks do meanwhile", STANDSTILLS);
            let clocks = reader.get(table, "clocks", clocks).unwrap_or_default();
            Action::Pause { clocks }
        }
        Verb::Resume => Action::Resume,
        Verb::Starve => {
            let share = reader.need(table, "share", values::percent(1..=99));
            let wait_ms = reader.need(table, "wait", values::window_ms(1..=10_000));
            Action::Starve(Starved {
                share_percent: share?,
                wait_ms: wait_ms?,
            })
        }
        Verb::Silence => Action::Silence {
            reset: reset(reader),
        },
        Verb::Cut => Action::Cut {
            reset: reset(reader),
        },
        Verb::Block => Action::Block,
        Verb::Heal => Action::Heal,
        Verb::Reset => Action::Reset,
        Verb::Link => Action::Link(link_change(reader, table)),
        Verb::SlowSync => {
            let sync_ms = reader.need(table, "sync", values::window_ms(1..=60_000));
            Action::SlowSync { sync_ms: sync_ms? }
        }
        Verb::HangSync => Action::HangSync,
        Verb::FailSync => Action::FailSync,
        Verb::DiskRoom => {
            let free = reader.need(table, "free", values::window_parts(0..=1_000_000))?;
            if free.0 % 10_000 != 0 || free.1 % 10_000 != 0 {
                reader.add(table, "free", "must be whole percent, as \"3%\"");
            }
            let free_percent = (free.0 / 10_000, free.1 / 10_000);
            Action::DiskRoom { free_percent }
        }
        Verb::SmallDisk => {
            let left = reader.need(table, "left", values::window_bytes(1..=LEFT_BYTES_MAX));
            Action::SmallDisk { left_bytes: left? }
        }
        Verb::BitFlip => {
            let part = reader.get(table, "part", values::word("a part of a disk", PARTS));
            let parts = match part.flatten() {
                Some(part) => vec![part],
                None => vec![Part::Log, Part::Vote, Part::State],
            };
            Action::BitFlip { parts }
        }
        Verb::LoseRecord => Action::LoseRecord,
        Verb::Compact => Action::Compact,
        Verb::WipeDisk => Action::WipeDisk,
        Verb::ImageDisk => Action::ImageDisk,
        Verb::OldDisk => Action::OldDisk,
        Verb::Move => {
            let to = reader.get(table, "to", values::word("where nodes move", PLACES));
            Action::Move {
                swap: to.unwrap_or(false),
            }
        }
        Verb::Remove => Action::Remove,
        Verb::Forge => Action::Forge,
        Verb::ClockJump => {
            let example = "a jump of at most 365d, as \"1h\", \"-1h..1h\" or [\"-1h\", \"1h\"]";
            let by = values::signed(example, units::time_us, 1_000, JUMP_MS_MAX);
            let by_ms = reader.need(table, "by", by)?;
            Action::ClockJump { by_ms }
        }
        Verb::ClockDrift => {
            let example = "a drift of at most 10%, as \"200ppm\" or \"-500ppm..500ppm\"";
            let drift = values::signed(example, units::parts, 1, DRIFT_PPM_MAX);
            let ppm = reader.need(table, "drift", drift)?;
            Action::ClockDrift { ppm }
        }
        Verb::Drain => Action::Drain,
        Verb::Undrain => Action::Undrain,
        Verb::MoveTo => Action::MoveTo,
        Verb::Drill => {
            let ttl = values::window_ms(1..=server::drill::plan::TTL_MS_MAX);
            let ttl_ms = reader.need(table, "ttl", ttl)?;
            let renews_ms = reader.get(table, "renews", values::window_ms(0..=3_600_000));
            Action::Drill { ttl_ms, renews_ms }
        }
        Verb::Stampede => Action::Stampede,
    })
}

fn link_change(reader: &mut Reader<'_>, table: &Section<'_>) -> LinkChange {
    let change = LinkChange {
        latency_us: reader.get(table, "latency", values::window_us(0..=LATENCY_US_MAX)),
        jitter_us: reader.get(table, "jitter", values::us(0..=JITTER_US_MAX)),
        loss_ppm: reader.get(table, "loss", values::window_parts(0..=LOSS_PPM_MAX)),
        bandwidth_bytes: reader.get(table, "bandwidth", values::rate),
    };
    if !LINK_KEYS.into_iter().any(|key| table.has(key)) {
        let message = "changes nothing: say latency, jitter, loss or bandwidth";
        reader.add(table, "action", message);
    }
    change
}
