//! Which runs are to be made: scenarios, tiers, disks and parameters from the command line, as
//! plans.

use std::collections::BTreeSet;

use clap::ValueEnum;
use firebreak_sim::Plan;
use firebreak_sim::catalogue::{self, ScenarioFile, Variant};
use firebreak_sim::host;
use firebreak_sim::plan::{DiskKind, Tier};

use super::Failure;
use super::files::quoted;

/// Shipped scenarios that run when they are named: one measures the simulator and tells nothing of
/// the product, the other takes minutes and 4 GB.
const ONLY_NAMED: [&str; 2] = ["bench", "mass-election"];
/// Of the tier `auto`, one seed in so many goes through the whole gRPC stack.
const GRPC_EVERY: u64 = 20;

/// What carries calls, as the command line has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TierName {
    /// The whole gRPC stack.
    Grpc,
    /// The same calls without HTTP/2: faster.
    Direct,
}

impl From<TierName> for Tier {
    fn from(name: TierName) -> Tier {
        match name {
            TierName::Grpc => Tier::Grpc,
            TierName::Direct => Tier::Direct,
        }
    }
}

/// What carries calls in many runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tiers {
    /// Direct, and every twentieth seed gRPC.
    Auto,
    /// The whole gRPC stack.
    Grpc,
    /// The same calls without HTTP/2: faster.
    Direct,
}

impl Tiers {
    /// For a seed.
    pub(crate) fn of(self, seed: u64) -> Tier {
        match self {
            Tiers::Grpc => Tier::Grpc,
            Tiers::Direct => Tier::Direct,
            Tiers::Auto if seed.is_multiple_of(GRPC_EVERY) => Tier::Grpc,
            Tiers::Auto => Tier::Direct,
        }
    }
}

/// What is under the nodes, as the command line has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiskName {
    /// The simulated disk.
    Memory,
    /// RocksDB in a temporary folder; only in a build with it.
    Rocksdb,
}

impl From<DiskName> for DiskKind {
    fn from(name: DiskName) -> DiskKind {
        match name {
            DiskName::Memory => DiskKind::Memory,
            DiskName::Rocksdb => DiskKind::Rocksdb,
        }
    }
}

/// A scenario that was asked for.
pub(crate) struct Scenario {
    /// What it was called.
    pub named: String,
    /// It.
    pub file: ScenarioFile,
    parameters: Vec<(String, String)>,
    disk: Option<DiskKind>,
}

impl Scenario {
    /// A shipped one, or one from a path, with other values for its parameters.
    pub(crate) fn load(
        named: &str,
        parameters: &[(String, String)],
        disk: Option<DiskName>,
    ) -> Result<Scenario, Failure> {
        Ok(Scenario {
            named: named.to_owned(),
            file: catalogue::load_with(named, parameters)?,
            parameters: parameters.to_vec(),
            disk: disk.map(DiskKind::from),
        })
    }

    /// The run of a seed.
    pub(crate) fn plan(&self, seed: u64, tier: Tier) -> Plan {
        self.drawn(seed, tier, Variant::Ours)
    }

    /// The run of a seed in the layout that must visibly fail, where the scenario has one.
    pub(crate) fn control(&self, seed: u64, tier: Tier) -> Option<Plan> {
        let has = self.file.has_control();
        has.then(|| self.drawn(seed, tier, Variant::Control))
    }

    fn drawn(&self, seed: u64, tier: Tier, variant: Variant) -> Plan {
        let mut plan = self.file.plan(seed, variant, tier);
        plan.control = variant == Variant::Control;
        if let Some(disk) = self.disk {
            plan.disk = disk;
        }
        plan
    }

    /// The command that makes a run again, where scenario, seed and tier do not say all of it.
    pub(crate) fn repeat(&self, seed: u64, tier: Tier) -> Option<String> {
        if self.named == self.file.name && self.parameters.is_empty() {
            return None;
        }
        let mut command = format!("firebreak sim run {} --seed {seed}", quoted(&self.named));
        if tier == Tier::Direct {
            command.push_str(" --tier direct");
        }
        if self.disk == Some(DiskKind::Rocksdb) {
            command.push_str(" --disk rocksdb");
        }
        for (name, value) in &self.parameters {
            command.push_str(&format!(" --set {}", quoted(&format!("{name}={value}"))));
        }
        Some(command)
    }
}

/// Refuses a plan that its disks cannot play, or that this build does not have the disks for.
pub(crate) fn check_disk(plan: &Plan) -> Result<(), Failure> {
    host::refuse(plan).map_or(Ok(()), |why| Err(Failure::Usage(why)))
}

/// The scenarios of these names or paths, each once; all but a few when there are none.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<Scenario>, Failure> {
    let all = catalogue::all().iter().map(|shipped| shipped.name);
    let names: Vec<&str> = match names.is_empty() {
        true => all.filter(|name| !ONLY_NAMED.contains(name)).collect(),
        false => names.iter().map(String::as_str).collect(),
    };
    let mut seen = BTreeSet::new();
    let mut chosen = Vec::new();
    for named in names {
        let scenario = Scenario::load(named, &[], None)?;
        // Reports and folders know scenarios by this name.
        if seen.insert(scenario.file.name.clone()) {
            chosen.push(scenario);
        }
    }
    for scenario in &chosen {
        check_disk(&scenario.plan(0, Tier::Direct))?;
    }
    Ok(chosen)
}

/// A parameter as the command line has it.
pub(crate) fn parameter(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=');
    let parts = parts.ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((parts.0.to_owned(), parts.1.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_in_twenty_goes_through_grpc() {
        let grpc = (0..200).filter(|seed| Tiers::Auto.of(*seed) == Tier::Grpc);
        assert_eq!(grpc.count(), 10);
    }

    #[test]
    fn what_is_not_chosen_is_every_story() {
        let all = chosen(&[]).unwrap();
        assert!(all.iter().any(|scenario| scenario.named == "calm"));
        assert!(all.iter().all(|scenario| scenario.named != "bench"));
        let twice = ["calm".to_owned(), "calm".to_owned()];
        assert_eq!(chosen(&twice).unwrap().len(), 1);
    }
}
