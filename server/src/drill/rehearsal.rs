//! What the simulator says of a drill: the same plan on many seeds, from the present map.

use serde::{Deserialize, Serialize};

/// A plan's runs in the simulator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rehearsal {
    /// blake3 of the plan's file, hex.
    pub plan_digest: String,
    /// What of the map it was made from: `model::cluster::ClusterState::layout_digest`, hex.
    pub layout_digest: String,
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// Of the program.
    pub version: String,
    /// As the plan is.
    pub calm: Seeds,
    /// The same while a real fault comes in the middle.
    pub beside_a_fire: Seeds,
    /// The same with all replicas in one building.
    pub twin: Option<Twin>,
    /// What the simulator does not know of the cluster, for people.
    pub not_in_it: Vec<String>,
}

/// What several seeds gave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seeds {
    /// Seeds that were run.
    pub ran: u64,
    /// Of them, runs in which a promise broke.
    pub broken: u64,
    /// Of them, runs that were not at rest in time.
    pub unsettled: u64,
    /// The longest gap of each run, milliseconds.
    pub gap_ms: Spread,
    /// Failed calls of each run.
    pub failed: Spread,
    /// Replicas that moved in each run.
    pub moves: Spread,
    /// The worst seeds and what they were, for people.
    pub notes: Vec<String>,
}

/// Of one figure over the seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spread {
    /// Half of the seeds are not above.
    pub p50: f64,
    /// 99 of 100 are not above.
    pub p99: f64,
    /// The worst.
    pub max: f64,
}

/// What one building would have cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Twin {
    /// The longest gap, milliseconds.
    pub gap_ms: u64,
    /// Failed calls.
    pub failed: u64,
    /// Acknowledged messages that were lost.
    pub lost: u64,
    /// In one sentence.
    pub story: String,
}

impl Spread {
    /// Of some values; zeros where there are none.
    pub fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let wanted = share * values.len() as f64;
            let mut ranks = values.iter().zip(1_u32..);
            let found = ranks.find(|(_, rank)| f64::from(*rank) >= wanted);
            found.map_or(0.0, |(value, _)| *value)
        };
        Spread {
            p50: at(0.5),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_names_values_that_were_there() {
        let hundred = (1..=100).map(f64::from).collect();
        let spread = Spread::of(hundred);
        assert_eq!((spread.p50, spread.p99, spread.max), (50.0, 99.0, 100.0));
        let one = Spread::of(vec![7.0]);
        assert_eq!((one.p50, one.p99, one.max), (7.0, 7.0, 7.0));
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }
}
