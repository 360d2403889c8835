//! What a fault does, checked.

use std::collections::BTreeSet;
use std::time::Duration;

use proto::net::faulty::{Harm, Slow};
use proto::v1;

use super::Refused;

/// Faults of one drill on one node at once.
pub const FAULTS_MAX: usize = 64;
/// Letters of a drill's name and of a fault's id.
pub const NAME_MAX: usize = 128;
/// The longest delay and jitter, and the longest sync, milliseconds.
pub const LATE_MS_MAX: u64 = 10_000;
/// Of a million pieces so many may be lost: above that TCP gets nothing through.
pub const LOSS_PPM_MAX: u32 = 500_000;
/// The longest that a fault may be asked to last, milliseconds.
pub const LASTS_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something on the network, with the fault's peers or with everyone.
    Network(Harm),
    /// Syncs take so much longer; none: they stall.
    SlowSync(Option<Duration>),
    /// The disk counts as full.
    FullDisk,
    /// The process stands still.
    StandStill,
}

impl Kind {
    /// What is asked for.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn of(fault: &v1::Fault) -> Result<Kind, Refused> {
        let v1::Fault { id, kind, .. } = fault;
        let wrong = |what: &str| Err(Refused::Bad(format!("fault {id:?}: {what}")));
        if id.is_empty() || id.len() > NAME_MAX {
            return Err(Refused::Bad(format!(
                "a fault's id has 1 to {NAME_MAX} letters; one has {}",
                id.len()
            )));
        }
        if fault.lasts_ms > LASTS_MS_MAX {
            return wrong(&format!("lasts_ms is at most {LASTS_MS_MAX}"));
        }
        let ways = (fault.sends, fault.hears);
        let kind = match kind.as_str() {
            "silence" => Kind::Network(Harm::Cut {
                sends: true,
                hears: true,
            }),
            "cut" if ways == (false, false) => return wrong("a cut needs sends, hears or both"),
            "cut" => Kind::Network(Harm::Cut {
                sends: fault.sends,
                hears: fault.hears,
            }),
            "slow" => Kind::slow(fault)?,
            "refuse" => Kind::Network(Harm::Refuse),
            "reset" => Kind::Network(Harm::Reset),
            "slow-sync" => match fault.sync_ms {
                Some(ms) if !(1..=LATE_MS_MAX).contains(&ms) => {
                    return wrong(&format!(
                        "sync_ms is 1 to {LATE_MS_MAX}; without it syncs stall"
                    ));
                }
                ms => Kind::SlowSync(ms.map(Duration::from_millis)),
            },
            "full-disk" => Kind::FullDisk,
            "stand-still" => Kind::StandStill,
            other => {
                return wrong(&format!(
                    "{other:?} is no kind; known: silence, cut, slow, refuse, reset, slow-sync, full-disk, \
                     stand-still"
                ));
            }
        };
        match kind {
            Kind::Network(_) => Ok(kind),
            _ if fault.peers.is_empty() => Ok(kind),
            _ => wrong("has no peers: it is about this node alone"),
        }
    }

    fn slow(fault: &v1::Fault) -> Result<Kind, Refused> {
        let wrong = |what: &str| Err(Refused::Bad(format!("fault {:?}: {what}", fault.id)));
        let (delay, jitter) = (fault.delay_ms, fault.jitter_ms);
        if delay > LATE_MS_MAX || jitter > LATE_MS_MAX {
            return wrong(&format!("delay_ms and jitter_ms are at most {LATE_MS_MAX}"));
        }
        if fault.loss_ppm > LOSS_PPM_MAX {
            return wrong(&format!("loss_ppm is at most {LOSS_PPM_MAX}"));
        }
        if delay == 0 && jitter == 0 && fault.loss_ppm == 0 {
            return wrong("slow needs delay_ms, jitter_ms or loss_ppm");
        }
        Ok(Kind::Network(Harm::Slow {
            sends: fault.sends,
            // Who names no way means what comes.
            hears: fault.hears || !fault.sends,
            by: Slow {
                delay: Duration::from_millis(delay),
                jitter: Duration::from_millis(jitter),
                loss_ppm: fault.loss_ppm,
            },
        }))
    }
}

/// A fault in words, for people and for the recorder.
pub fn words(fault: &v1::Fault) -> String {
    let with = match fault.peers.is_empty() {
        true => String::new(),
        false => format!(" with {}", fault.peers.join(", ")),
    };
    let ways = match (fault.sends, fault.hears) {
        (true, false) => " of what it sends",
        (false, true) => " of what it gets",
        (true, true) | (false, false) => "",
    };
    match fault.kind.as_str() {
        "cut" => format!("cut{ways}{with}"),
        "slow" => format!(
            "slow{ways}{with}: {} ms and up to {} ms more, {} of a million pieces lost",
            fault.delay_ms, fault.jitter_ms, fault.loss_ppm
        ),
        "slow-sync" => match fault.sync_ms {
            Some(ms) => format!("slow-sync: {ms} ms more"),
            None => "slow-sync: syncs stall".to_owned(),
        },
        kind => format!("{kind}{with}"),
    }
}

/// That no id is there twice.
///
/// # Errors
/// Names one that is.
pub fn distinct(faults: &[v1::Fault]) -> Result<(), Refused> {
    let mut ids = BTreeSet::new();
    match faults.iter().find(|fault| !ids.insert(&fault.id)) {
        Some(twice) => Err(Refused::Bad(format!("fault {:?} is there twice", twice.id))),
        None => Ok(()),
    }
}
