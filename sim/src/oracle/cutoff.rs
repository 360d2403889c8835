//! What a data center that is cut off tells those inside (DESIGN.md, section 6), as witnesses saw
//! it: from 1.5 s on whatever needs a quorum is refused shortly, with a reason; BOUNDED reads go on
//! within their bound, and LOCAL ones for good. Numbers that scenarios ask for, not promises.

use crate::history::{History, Level, Witnessed};
use crate::plan::{Fault, Plan, Site};

/// Within this of the cut, ms, calls are still tried again.
const TRIED_MS: u64 = model::limits::QUORUM_LACK_MS_MAX;
/// What a node needs to find out that it is cut off, on top, ms: the time between two looks.
const FOUND_OUT_MS: u64 = 100;
/// How old a replica may be when the cut begins, ms.
const AGE_MS_MAX: u64 = 1_000;

/// What witnesses saw inside of data centers that were cut off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CutOff {
    /// Refusals.
    pub refused: u64,
    /// The longest that one took, ms.
    pub longest_ms: u64,
    /// Reads at BOUNDED and LOCAL that were answered.
    pub answered: u64,
    /// What should not be, for people.
    pub wrong: Vec<String>,
}

/// Judges what witnesses saw.
pub fn cut_off(plan: &Plan, history: &History) -> CutOff {
    let mut seen = CutOff::default();
    for site in plan.workload.sites.iter().filter(|site| site.inside) {
        let cuts = cuts(plan, site);
        for one in history.witnessed.iter().filter(|one| one.site == site.name) {
            let since = |us: u64| us.saturating_sub(history.began_us) / 1_000;
            let (invoked, returned) = (since(one.invoked_us), since(one.returned_us));
            let within = cuts
                .iter()
                .find(|(from, to)| invoked >= from + TRIED_MS + FOUND_OUT_MS && returned < *to);
            if let Some((from, _)) = within {
                seen.judge(one, invoked, invoked - from);
            }
        }
    }
    seen
}

impl CutOff {
    /// `into_ms` after the cut began.
    fn judge(&mut self, one: &Witnessed, at_ms: u64, into_ms: u64) {
        let took_ms = (one.returned_us - one.invoked_us).div_ceil(1_000);
        let fresh = |bound_ms: u64| into_ms + AGE_MS_MAX < bound_ms;
        match (&one.end, one.level) {
            (Ok(Some(_)), Some(Level::Local)) => self.answered += 1,
            (Ok(Some(age)), Some(Level::Bounded { bound_ms })) if *age <= bound_ms => {
                self.answered += 1;
            }
            (Err(why), Some(Level::Bounded { bound_ms }))
                if why.starts_with("STALENESS_BOUND_UNMET with RetryInfo") && !fresh(bound_ms) =>
            {
                self.refused(took_ms);
            }
            (Err(why), None | Some(Level::Linearizable | Level::Session))
                if why.starts_with("NO_QUORUM with RetryInfo") =>
            {
                self.refused(took_ms);
            }
            (end, level) => {
                let what = level.map_or_else(|| "append".to_owned(), super::evidence::level);
                let site = &one.site;
                self.wrong.push(format!(
                    "{what} at {site}, {at_ms} ms, {into_ms} ms into the cut, took {took_ms} ms: \
                     {end:?}"
                ));
            }
        }
    }

    fn refused(&mut self, took_ms: u64) {
        self.refused += 1;
        self.longest_ms = self.longest_ms.max(took_ms);
    }
}

/// When the data center of a site was cut off from all others, whole, ms.
fn cuts(plan: &Plan, site: &Site) -> Vec<(u64, u64)> {
    let nodes = || plan.topology.nodes();
    let own: Vec<&str> = nodes()
        .filter(|(dc, _)| dc.name == site.dc)
        .map(|(_, node)| node.name.as_str())
        .collect();
    let others: Vec<&str> = nodes()
        .filter(|(dc, _)| dc.name != site.dc)
        .map(|(_, node)| node.name.as_str())
        .collect();
    let holds = |all: &[String], some: &[&str]| some.iter().all(|one| all.iter().any(|h| h == one));
    let parts = |from: &[String], to: &[String]| {
        (holds(from, &own) && holds(to, &others)) || (holds(from, &others) && holds(to, &own))
    };
    let mut cuts = Vec::new();
    for event in &plan.events {
        let Fault::Cut { from, to, .. } = &event.fault else {
            continue;
        };
        if !parts(from, to) {
            continue;
        }
        let heals = plan
            .events
            .iter()
            .filter(|other| other.at_ms > event.at_ms && matches!(other.fault, Fault::Heal { .. }));
        let until = heals.map(|heal| heal.at_ms).min().unwrap_or(u64::MAX);
        cuts.push((event.at_ms, until));
    }
    cuts
}
