//! The hunt for one mutant: where it is tried, by what it shows, and whether it is caught.
//!
//! It is caught when an oracle raises that the catalogue names for it, on a seed that holds without
//! it. What else it breaks is told, and catches nothing: the promise in question would not have been
//! judged.

use std::collections::BTreeMap;
use std::time::Duration;

use firebreak_sim::Outcome;
use firebreak_sim::outcome::Promise;
use firebreak_sim::reports::MutantResult;
use firebreak_sim::shrink::Symptom;
use model::mutants::Mutant;

use crate::cmd::cases::Scenario;

/// What is tried where no scenario that a mutant names is shipped.
pub(super) const ANY: &str = "swarm";

/// A mutant that is being hunted.
pub(super) struct Hunt<'s> {
    pub(super) mutant: &'static Mutant,
    /// Where, in turn.
    pub(super) scenarios: Vec<&'s Scenario>,
    pub(super) tried: u64,
    pub(super) spent: Duration,
    pub(super) caught: Option<Caught>,
    /// By what else it showed, and on how many seeds.
    pub(super) others: BTreeMap<String, u64>,
    /// Seeds on which it showed, but that do not hold without it either.
    pub(super) unsound: u64,
}

/// How one was caught.
pub(super) struct Caught {
    pub(super) seeds: u64,
    pub(super) symptom: Symptom,
    pub(super) evidence: String,
    pub(super) scenario: String,
    pub(super) command: String,
}

/// What a mutant showed by in a run.
pub(super) struct Showing {
    pub(super) symptom: Symptom,
    /// What the oracle said, if it is one that the mutant names.
    pub(super) evidence: Option<String>,
}

/// One attempt to catch one.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'s> {
    pub(super) hunt: usize,
    pub(super) number: u64,
    pub(super) scenario: &'s Scenario,
    pub(super) seed: u64,
}

/// What an attempt came to, where something showed.
pub(super) struct Shown<'s> {
    pub(super) attempt: Attempt<'s>,
    pub(super) showing: Showing,
    pub(super) command: String,
}

impl<'s> Hunt<'s> {
    /// Of a mutant, in those of `scenarios` that it names.
    pub(super) fn new(mutant: &'static Mutant, scenarios: &'s [Scenario]) -> Hunt<'s> {
        let named = |name: &str| scenarios.iter().find(|one| one.file.name == name);
        let mut found: Vec<&Scenario> = mutant
            .scenarios
            .iter()
            .filter_map(|name| named(name))
            .collect();
        if found.is_empty() {
            found.extend(named(ANY));
        }
        Hunt {
            mutant,
            scenarios: found,
            tried: 0,
            spent: Duration::ZERO,
            caught: None,
            others: BTreeMap::new(),
            unsound: 0,
        }
    }

    /// Whether it is to be caught still.
    pub(super) fn is_open(&self) -> bool {
        self.mutant.pending.is_none() && self.caught.is_none()
    }

    /// Something showed, on a seed that is sound without the mutant, or not, or nobody knows.
    pub(super) fn note(&mut self, shown: Shown<'_>, sound: Option<bool>) {
        // It was caught already, or nobody knows.
        let Some(sound) = sound.filter(|_| self.caught.is_none()) else {
            return;
        };
        match shown.showing.evidence {
            _ if !sound => self.unsound += 1,
            Some(evidence) => {
                self.tried = shown.attempt.number;
                self.caught = Some(Caught {
                    seeds: shown.attempt.number,
                    symptom: shown.showing.symptom,
                    evidence,
                    scenario: shown.attempt.scenario.file.name.clone(),
                    command: shown.command,
                });
            }
            None => {
                let name = shown.showing.symptom.oracle;
                *self.others.entry(name).or_default() += 1;
            }
        }
    }

    /// What became of it, for the report.
    pub(super) fn result(&self) -> MutantResult {
        let caught = self.caught.as_ref();
        let first = self.scenarios.first().map(|one| one.file.name.clone());
        MutantResult {
            name: self.mutant.name.to_owned(),
            oracle: match (caught, self.mutant.oracles) {
                (Some(caught), _) => caught.symptom.oracle.clone(),
                (None, [main, ..]) => (*main).to_owned(),
                (None, []) => String::new(),
            },
            oracles: self.mutant.oracles.iter().map(|&o| o.into()).collect(),
            broken_instead: self.others.clone(),
            caught_by: caught.map(|caught| caught.symptom.to_string()),
            seeds_needed: caught.map(|caught| caught.seeds),
            seeds_tried: self.tried,
            scenario: caught.map_or(first.unwrap_or_default(), |c| c.scenario.clone()),
            pending: self.mutant.pending.map(str::to_owned),
            evidence: caught.map(|caught| caught.evidence.clone()),
            command: caught.map_or_else(String::new, |caught| caught.command.clone()),
            wall_ms: u64::try_from(self.spent.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Why it is not caught.
    pub(super) fn escape(&self) -> String {
        if self.tried == 0 {
            return "not tried".to_owned();
        }
        let mut words = format!("not by {}", self.mutant.oracles.join(" or "));
        for (other, seeds) in &self.others {
            words += &format!("; broke {other}, not the one named, on {seeds} seeds");
        }
        if self.unsound > 0 {
            words += &format!("; {} seeds fail without it, too", self.unsound);
        }
        words
    }
}

/// What a mutant showed by: an oracle that it names, in their order; else another safety promise, or
/// that the run came to no end.
pub(super) fn showing(outcome: &Outcome, mutant: &Mutant) -> Option<Showing> {
    let judged = || outcome.promises.values();
    let found = mutant.oracles.iter().find_map(|name| {
        let mut broken = judged().flat_map(|judged| &judged.broken);
        broken.find(|broken| broken.oracle == *name)
    });
    if let Some(broken) = found {
        return Some(Showing {
            symptom: Symptom {
                promise: Some(broken.promise),
                oracle: broken.oracle.clone(),
                detail: String::new(),
            },
            evidence: Some(broken.evidence.clone()),
        });
    }
    // What it says of waits is a goal of its own, which is no broken promise.
    let waits = mutant.oracles.contains(&"no-downtime");
    let mut goals = outcome.goals.iter().filter(|_| waits);
    let missed = goals.find(|goal| goal.name == "gap" && !goal.held && goal.pending.is_none());
    if let Some(goal) = missed {
        return Some(Showing {
            symptom: Symptom {
                promise: Some(Promise::G),
                oracle: "no-downtime".to_owned(),
                detail: String::new(),
            },
            evidence: Some(format!(
                "somebody waited {} where {} was asked",
                goal.measured, goal.limit
            )),
        });
    }
    // A goal of time is missed for many reasons; it tells nothing of a mutant that does not name it.
    let tells = |one: &Symptom| match one.promise {
        Some(promise) => promise.safety(),
        None => matches!(one.oracle.as_str(), "panic" | "stopped"),
    };
    let symptom = Symptom::all(outcome).into_iter().find(tells)?;
    Some(Showing {
        symptom,
        evidence: None,
    })
}

#[cfg(test)]
mod tests;
