//! The scenarios that come with the binary.

/// A scenario that comes with the binary.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// What [`super::load`] knows it by.
    pub name: &'static str,
    /// Its file.
    pub text: &'static str,
}

macro_rules! shipped {
    ($($name:literal)*) => {
        &[$(Shipped {
            name: $name,
            text: include_str!(concat!("../../scenarios/", $name, ".toml")),
        }),*]
    };
}

/// All of them, in the order of their names.
pub fn all() -> &'static [Shipped] {
    shipped! {
        "all-power-cut"
        "asymmetric-recv"
        "asymmetric-send"
        "bench"
        "bitflip"
        "bridge"
        "calm"
        "clock-drift"
        "clock-jump-1h"
        "clock-jump-30d"
        "dc-all-disks-slow"
        "dc-back-after-5d"
        "dc-crash"
        "dc-dies-twice"
        "dc-lost-for-good"
        "dc-power-unsynced"
        "dc-replaced-and-back"
        "dc-silent"
        "dc-stands-still"
        "disk-full"
        "drain-dc"
        "drill-controller-dies"
        "drill-while-fire"
        "far-apart"
        "flap-3s"
        "forged-term"
        "fsync-stall"
        "handover-storm"
        "hot-room"
        "idle-reads"
        "idle-shards"
        "kakao-2022"
        "leader-dc-isolated"
        "living-messages"
        "machine-stopped-unseen"
        "machine-suspended"
        "mass-election"
        "membership-change-dc-loss"
        "mixed-read-windows"
        "moved-all-at-once"
        "moved-one-by-one"
        "moved-swapped"
        "off-for-days"
        "old-disk"
        "outcast"
        "outcast-forgotten"
        "process-pause-30s"
        "rebuilt-beside-a-fire"
        "reconnect-storm"
        "removed-while-it-runs"
        "replica-taken-back"
        "retry-ambiguity"
        "rolling-fire"
        "rolling-restart"
        "rot"
        "second-dc-after-30s"
        "slow-clock-lease"
        "small-disks"
        "small-disks-of-most"
        "stale-image"
        "starved-dc-crash"
        "starved-dc-silent"
        "swarm"
        "thin-line"
        "thin-line-cuts"
        "two-dc-return"
        "wan-loss-5pct"
        "wan-rtt-30-to-300"
    }
}
