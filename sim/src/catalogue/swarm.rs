//! Swarm testing: each seed switches a random subset of fault kinds on, leaves out some of the
//! scenario's own faults, and draws when and whom the others befall; what would break a promise
//! for good is drawn again.

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::Variant;
use super::atlas;
use super::draw::{ATTEMPTS, Chance, plan as drawn, within};
use super::file::{Action, Kind, Line, LinkChange, Pick, Repeat, ScenarioFile, Target};
use crate::plan::{Expect, Part, Pending, Plan, Standstill, Starved};

/// How often a fault is drawn again before it is left out.
const TRIES: u32 = 16;
/// Why goals of time wait, where gray failures are drawn.
const WHY: &str = "gray failures are not handed over yet: joins with the failover work";

/// A plan of `base` with faults added and left out.
pub(super) fn plan(base: &ScenarioFile, seed: u64) -> Plan {
    let mut dice = crate::dice::dice(seed, "swarm");
    let spec = &base.swarm;
    let mut lines: Vec<(usize, Line)> = base.lines.iter().cloned().enumerate().collect();
    // A line that others count from stays.
    let anchors: Vec<usize> = base.lines.iter().filter_map(|line| line.after).collect();
    lines.retain(|(number, _)| {
        let stays = dice.random_bool(0.5);
        stays || !spec.leave_out || anchors.contains(number)
    });
    let kinds: Vec<Kind> = spec
        .kinds
        .iter()
        .copied()
        .filter(|_| dice.random_bool(0.5))
        .collect();
    let count = dice.random_range(spec.faults.0..=spec.faults.1);
    let chance = |attempt| Chance { seed, attempt };
    let survives = |lines: &[(usize, Line)], attempt| {
        let plan = drawn(base, lines, chance(attempt), Variant::Ours);
        Some(plan).filter(|plan| atlas::check(plan).is_ok())
    };
    // The base by itself; with less of it where no drawing of it leaves what is promised.
    let (attempt, mut plan) = loop {
        let found = (0..ATTEMPTS).find_map(|at| Some((at, survives(&lines, at)?)));
        match found {
            Some(found) => break found,
            None if lines.pop().is_some() => {}
            None => break (0, drawn(base, &[], chance(0), Variant::Ours)),
        }
    };
    let mut gray = false;
    for number in (base.lines.len()..).take(count as usize) {
        let Some(kind) = kinds.choose(&mut dice).copied() else {
            break;
        };
        for _ in 0..TRIES {
            lines.push((number, line(kind, base, &mut dice)));
            if let Some(survives) = survives(&lines, attempt) {
                plan = survives;
                gray |= kind.is_gray();
                break;
            }
            lines.pop();
        }
    }
    if gray {
        wait(&mut plan.expect);
    }
    plan
}

/// Marks goals of time as pending.
fn wait(expect: &mut Expect) {
    let goals = [
        ("G", expect.promises.contains('G')),
        ("gap", expect.gap_max_ms.is_some()),
        ("failed-calls", expect.failed_calls_max.is_some()),
    ];
    for (what, expected) in goals {
        if expected && !expect.pending.iter().any(|pending| pending.what == what) {
            expect.pending.push(Pending {
                what: what.to_owned(),
                why: WHY.to_owned(),
            });
        }
    }
}

impl Kind {
    /// Whether nodes stay up and answer late, or are in doubt for long.
    fn is_gray(self) -> bool {
        match self {
            Kind::Flap
            | Kind::AsymmetricCut
            | Kind::Bridge
            | Kind::Loss
            | Kind::Latency
            | Kind::Pause
            | Kind::Starve
            | Kind::SlowSync
            | Kind::HangSync
            | Kind::DiskRoom
            | Kind::BitFlip => true,
            Kind::Burn
            | Kind::Crash
            | Kind::PowerCut
            | Kind::Kill
            | Kind::Stop
            | Kind::Silence
            | Kind::Reset
            | Kind::FailSync
            | Kind::ClockJump
            | Kind::ClockDrift
            | Kind::Drain
            | Kind::Stampede => false,
        }
    }

    fn action(self, dice: &mut StdRng) -> Action {
        match self {
            Kind::Burn => Action::Burn,
            Kind::Crash => {
                let disks_lost = dice.random_bool(0.5);
                Action::Crash { disks_lost }
            }
            Kind::PowerCut => Action::PowerCut,
            Kind::Kill => Action::Kill,
            Kind::Stop => Action::Stop,
            Kind::Silence | Kind::Flap => Action::Silence { reset: false },
            Kind::AsymmetricCut | Kind::Bridge => Action::Cut { reset: false },
            Kind::Reset => Action::Reset,
            Kind::Loss => Action::Link(LinkChange {
                loss_ppm: Some((1_000, 50_000)),
                ..LinkChange::default()
            }),
            Kind::Latency => {
                let us = dice.random_range(30_000..=150_000);
                Action::Link(LinkChange {
                    latency_us: Some((us, us)),
                    ..LinkChange::default()
                })
            }
            Kind::Pause => {
                let clocks = [Standstill::GoOn, Standstill::GoOn, Standstill::Suspended];
                let clocks = clocks.choose(dice).copied().unwrap_or_default();
                Action::Pause { clocks }
            }
            Kind::Starve => {
                let most = dice.random_range(20..=400);
                Action::Starve(Starved {
                    share_percent: dice.random_range(10..=60),
                    wait_ms: (most / 10, most),
                })
            }
            Kind::SlowSync => {
                let most = dice.random_range(20..=800);
                Action::SlowSync {
                    sync_ms: (most / 10, most),
                }
            }
            Kind::HangSync => Action::HangSync,
            Kind::FailSync => Action::FailSync,
            Kind::DiskRoom => Action::DiskRoom {
                free_percent: (0, 5),
            },
            Kind::BitFlip => Action::BitFlip {
                parts: vec![Part::Log, Part::Vote, Part::State],
            },
            Kind::ClockJump => {
                let most = [3_000, 3_600_000, 30 * 86_400_000];
                let most = most.choose(dice).copied().unwrap_or_default();
                Action::ClockJump {
                    by_ms: vec![(-most, most)],
                }
            }
            Kind::ClockDrift => Action::ClockDrift {
                ppm: vec![(-500, 500)],
            },
            Kind::Drain => Action::Drain,
            Kind::Stampede => Action::Stampede,
        }
    }

    /// Whom it befalls: a data center as a whole, or a few nodes.
    fn target(self, dice: &mut StdRng) -> Target {
        let any = || Some(Pick::Any(1));
        let word = |word: &str| vec![word.to_owned()];
        match self {
            Kind::AsymmetricCut => {
                let both = Target {
                    both: false,
                    ..Target::default()
                };
                if dice.random_bool(0.5) {
                    return Target {
                        from: word("any"),
                        to: word("others"),
                        ..both
                    };
                }
                Target {
                    from: word("others"),
                    to: word("any"),
                    ..both
                }
            }
            Kind::Bridge => Target {
                from: word("any"),
                to: word("any"),
                both: true,
                ..Target::default()
            },
            Kind::Reset => Target {
                from: word("any"),
                to: word("others"),
                both: true,
                ..Target::default()
            },
            Kind::Loss | Kind::Latency => {
                let from = word(if dice.random_bool(0.5) { "any" } else { "all" });
                Target {
                    from,
                    to: word("all"),
                    both: true,
                    ..Target::default()
                }
            }
            Kind::Stampede => Target {
                site: Some(Pick::All),
                ..Target::default()
            },
            Kind::ClockJump if dice.random_bool(0.3) => Target {
                dc: Some(if dice.random_bool(0.5) {
                    Pick::All
                } else {
                    Pick::Any(1)
                }),
                ..Target::default()
            },
            Kind::ClockJump | Kind::ClockDrift => Target {
                node: Some(Pick::Any(dice.random_range(1..=3))),
                ..Target::default()
            },
            Kind::Kill | Kind::Stop | Kind::FailSync | Kind::HangSync | Kind::BitFlip => Target {
                node: any(),
                ..Target::default()
            },
            Kind::Starve if dice.random_bool(0.3) => Target {
                dc: Some(Pick::All),
                ..Target::default()
            },
            _ if dice.random_bool(0.5) => Target {
                dc: any(),
                ..Target::default()
            },
            _ => Target {
                node: any(),
                ..Target::default()
            },
        }
    }

    /// How long it lasts at most, ms; none when it cannot end, or is over at once.
    fn lasts_ms(self, action: &Action) -> Option<(u64, u64)> {
        match self {
            Kind::Burn | Kind::Reset | Kind::BitFlip | Kind::Stampede => None,
            // For good, so that clocks of several nodes are off at a time.
            Kind::ClockJump => None,
            Kind::Crash if matches!(action, Action::Crash { disks_lost: true }) => None,
            Kind::Flap => Some((500, 3_000)),
            _ => Some((500, 15_000)),
        }
    }
}

/// A line of a kind, somewhere in the swarm's window.
fn line(kind: Kind, base: &ScenarioFile, dice: &mut StdRng) -> Line {
    let spec = &base.swarm;
    let at_ms = within(dice, spec.window_ms);
    let action = kind.action(dice);
    let target = kind.target(dice);
    let left = base.workload.duration_ms.saturating_sub(at_ms);
    let flaps = kind == Kind::Flap;
    let times = if flaps { dice.random_range(2..=4) } else { 1 };
    // What ends does so before the load does.
    let lasts = kind.lasts_ms(&action).map(|(least, most)| {
        let most = most.min(left / u64::from(times) / 2).max(1);
        let ms = within(dice, (least.min(most), most));
        (ms, ms)
    });
    let every = lasts.map_or(0, |(ms, _)| ms * 2);
    Line {
        at_ms: (at_ms, at_ms),
        after: None,
        lasts_ms: lasts,
        chance: 1_000_000,
        ends: 1_000_000,
        repeat: Repeat {
            every_ms: (every, every),
            times,
            each: None,
            shuffle: false,
        },
        target,
        action,
        story: None,
    }
}
