//! The proof ledger: when each promise was last shown, by what, and whether that is too long ago.

use model::cluster::drills::{Drills, PROMISES, limit_ms};
use serde::Serialize;

use super::{Api, Look, SeenBy};

/// All promises.
#[derive(Serialize)]
pub struct Promises {
    /// Who says it.
    pub seen_by: SeenBy,
    /// Agreed time, Unix milliseconds.
    pub now_ms: u64,
    /// In their order.
    pub promises: Vec<Promise>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Promise {
    /// Its letter.
    pub promise: &'static str,
    /// One word for it.
    pub word: &'static str,
    /// How it stands.
    pub standing: Standing,
    /// When it was last shown, Unix milliseconds; none = never.
    pub shown_ms: Option<u64>,
    /// How long ago.
    pub age_ms: Option<u64>,
    /// By what: a drill's id, `verify`.
    pub by: String,
    /// What was looked at.
    pub evidence: String,
    /// How old a proof may become, ms.
    pub limit_ms: u64,
    /// When it was last seen broken, Unix milliseconds; none = never.
    pub broken_ms: Option<u64>,
    /// By what.
    pub broken_by: String,
    /// What would show it.
    pub shown_with: &'static str,
}

/// How a promise stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Shown, not too long ago.
    Shown,
    /// Shown, too long ago.
    Old,
    /// Never shown.
    Never,
    /// Seen broken since it was last shown.
    Broken,
}

impl Promises {
    /// Of what this node saw.
    pub(super) fn of(api: &Api, look: &Look) -> Promises {
        let (view, now_ms) = (api.local().gateway.view(), api.local().now_ms());
        Promises {
            seen_by: api.seen_by(look),
            now_ms,
            promises: told(view.drills.as_ref(), now_ms),
        }
    }
}

/// One word for a promise.
pub fn word(promise: &str) -> &'static str {
    match promise {
        "D" => "durable",
        "O" => "ordered",
        "E" => "exactly once",
        "L" => "linearizable",
        "S" => "honest staleness",
        "U" => "one leader",
        "H" => "identical",
        "G" => "no downtime",
        "P" => "progress",
        "A" => "admin lives",
        _ => "unknown",
    }
}

/// All promises, as the meta shard has their proofs.
pub fn told(drills: Option<&Drills>, now_ms: u64) -> Vec<Promise> {
    let proofs = drills.map_or(&[][..], |drills| &drills.proofs);
    let all = PROMISES.into_iter().map(|promise| {
        let proof = proofs.iter().find(|proof| proof.promise == promise);
        let proof = proof.cloned().unwrap_or_default();
        let limit_ms = match proof.limit_ms {
            0 => limit_ms(promise),
            set => set,
        };
        let age_ms = (proof.shown_ms > 0).then(|| now_ms.saturating_sub(proof.shown_ms));
        Promise {
            promise,
            word: word(promise),
            standing: match age_ms {
                _ if proof.broken_ms > proof.shown_ms => Standing::Broken,
                None => Standing::Never,
                Some(age) if age > limit_ms => Standing::Old,
                Some(_) => Standing::Shown,
            },
            shown_ms: (proof.shown_ms > 0).then_some(proof.shown_ms),
            age_ms,
            by: proof.by,
            evidence: proof.evidence,
            limit_ms,
            broken_ms: (proof.broken_ms > 0).then_some(proof.broken_ms),
            broken_by: proof.broken_by,
            shown_with: match promise {
                "H" => "firebreak verify",
                _ => "firebreak drill plan dc-silent",
            },
        }
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use model::cluster::drills::Proof;

    use super::*;

    const DAY: u64 = 24 * 3_600_000;

    #[test]
    fn a_promise_is_shown_old_never_shown_or_broken() {
        let now_ms = 1_000 * DAY;
        let check = |promise: &str, shown: u64, broken: u64, limit_ms: u64, expect: Standing| {
            let drills = Drills {
                proofs: vec![Proof {
                    promise: promise.to_owned(),
                    shown_ms: shown * DAY,
                    broken_ms: broken * DAY,
                    limit_ms,
                    ..Proof::default()
                }],
                ..Drills::default()
            };
            let told = told(Some(&drills), now_ms);
            let one = told.iter().find(|one| one.promise == promise).unwrap();
            assert_eq!(one.standing, expect, "{promise} {shown} {broken}");
        };
        check("D", 820, 0, 0, Standing::Shown);
        check("D", 819, 0, 0, Standing::Old);
        check("H", 993, 0, 0, Standing::Shown);
        check("H", 992, 0, 0, Standing::Old);
        check("H", 992, 0, 30 * DAY, Standing::Shown);
        check("G", 990, 991, 0, Standing::Broken);
        check("G", 991, 990, 0, Standing::Shown);
        check("G", 0, 5, 0, Standing::Broken);
    }

    #[test]
    fn what_was_never_shown_is_told_for_every_promise() {
        let told = told(None, 5);
        assert_eq!(told.len(), PROMISES.len());
        assert!(told.iter().all(|one| one.standing == Standing::Never));
        assert!(told.iter().all(|one| one.word != "unknown"));
    }
}
