//! The hunt for one mutant: where it is tried, by what it shows, and whether it is caught.

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
    pub(super) symptom: Symptom,
    pub(super) evidence: String,
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
            unsound: 0,
        }
    }

    /// Whether it is to be caught still.
    pub(super) fn is_open(&self) -> bool {
        self.mutant.pending.is_none() && self.caught.is_none()
    }

    /// Something showed, on a seed that is sound without the mutant, or not, or nobody knows.
    pub(super) fn note(&mut self, shown: Shown<'_>, sound: Option<bool>) {
        match sound {
            Some(true) if self.caught.is_none() => {
                self.tried = shown.attempt.number;
                self.caught = Some(Caught {
                    seeds: shown.attempt.number,
                    symptom: shown.symptom,
                    evidence: shown.evidence,
                    scenario: shown.attempt.scenario.file.name.clone(),
                    command: shown.command,
                });
            }
            Some(false) => self.unsound += 1,
            // It was caught already, or nobody knows.
            Some(true) | None => {}
        }
    }

    /// What became of it, for the report.
    pub(super) fn result(&self) -> MutantResult {
        let caught = self.caught.as_ref();
        let first = self.scenarios.first().map(|one| one.file.name.clone());
        MutantResult {
            name: self.mutant.name.to_owned(),
            oracle: self.mutant.oracle.to_owned(),
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
        match (self.unsound, self.tried) {
            (0, 0) => "not tried".to_owned(),
            (0, _) => "nobody".to_owned(),
            (unsound, _) => format!("nobody; {unsound} seeds fail without it, too"),
        }
    }
}

/// By what a mutant showed in a run, and the evidence: its own promise if that is broken, another
/// safety promise or a panic otherwise.
pub(super) fn showing(outcome: &Outcome, mutant: &Mutant) -> Option<(Symptom, String)> {
    let own = Promise::of(mutant.promise);
    let mut promises: Vec<Promise> = Promise::ALL.into_iter().collect();
    promises.sort_by_key(|promise| Some(*promise) != own);
    let broken = promises.into_iter().find_map(|promise| {
        // A goal of time is missed for many reasons; it tells of a mutant only where that is what
        // the mutant breaks.
        let tells = promise.safety() || Some(promise) == own;
        let judged = outcome.promises.get(&promise).filter(|_| tells)?;
        judged.broken.first()
    });
    if let Some(broken) = broken {
        let symptom = Symptom {
            promise: Some(broken.promise),
            oracle: broken.oracle.clone(),
            detail: String::new(),
        };
        return Some((symptom, broken.evidence.clone()));
    }
    let symptoms = Symptom::all(outcome);
    let panic = symptoms.into_iter().find(|one| one.oracle == "panic")?;
    Some((panic, outcome.stopped.clone().unwrap_or_default()))
}
