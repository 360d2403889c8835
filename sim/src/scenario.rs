//! What happens in a run: where the nodes stand, who sends what, and what burns when. Times of the
//! timeline count from the moment when the cluster serves and the load begins.

use std::time::Duration;

use rand::Rng as _;

use crate::dice::dice;

/// The names that [`Scenario::named`] knows.
pub const NAMES: [&str; 2] = ["calm", "burn"];

/// A run to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// What people call it.
    pub name: &'static str,
    /// Where all of its chance comes from.
    pub seed: u64,
    /// Data centers and the number of nodes in each.
    pub dcs: Vec<(&'static str, u32)>,
    /// One way between data centers.
    pub latency: Duration,
    /// Conversations that are written to.
    pub conversations: u32,
    /// Senders to each of them; every second one sends on a stream, the others one call a message.
    pub senders: u32,
    /// How long they send.
    pub load: Duration,
    /// In the order of time.
    pub timeline: Vec<(Duration, Action)>,
    /// The longest time that may pass between two acknowledgements of a conversation.
    pub gap_max: Duration,
}

/// Something that is done to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A data center burns, silently.
    Burn(&'static str),
    /// A burned data center comes back with its disks, as after a power cut.
    Return(&'static str),
}

impl Scenario {
    /// The scenario of a name in [`NAMES`].
    pub fn named(name: &str, seed: u64) -> Option<Scenario> {
        match name {
            "calm" => Some(Scenario::calm(seed)),
            "burn" => Some(Scenario::burn(seed)),
            _ => None,
        }
    }

    /// Nothing happens. Three data centers with one or two nodes each, 15 ms apart.
    pub fn calm(seed: u64) -> Scenario {
        let nodes = dice(seed, "topology").random_range(1..=2);
        Scenario {
            name: "calm",
            seed,
            dcs: vec![("seoul", nodes), ("busan", nodes), ("tokyo", nodes)],
            latency: Duration::from_millis(15),
            conversations: 24,
            senders: 2,
            load: Duration::from_secs(12),
            timeline: Vec::new(),
            gap_max: Duration::from_secs(1),
        }
    }

    /// One data center burns in the middle and comes back with its disks while the senders go on.
    pub fn burn(seed: u64) -> Scenario {
        let calm = Scenario::calm(seed);
        let mut dice = dice(seed, "fire");
        let dc = calm.dcs[dice.random_range(0..calm.dcs.len())].0;
        let mut ms = |range| Duration::from_millis(dice.random_range(range));
        let fire = ms(3_000..6_000);
        let back = fire + ms(7_000..12_000);
        Scenario {
            name: "burn",
            load: back + Duration::from_secs(6),
            timeline: vec![(fire, Action::Burn(dc)), (back, Action::Return(dc))],
            gap_max: Duration::from_secs(6),
            ..calm
        }
    }

    /// The command that makes this run again.
    pub fn command(&self) -> String {
        format!("firebreak-sim run {} --seed {}", self.name, self.seed)
    }

    /// Nodes in all.
    pub fn nodes(&self) -> u32 {
        self.dcs.iter().map(|(_, nodes)| nodes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_and_a_seed_makes_the_same_scenario_again() {
        for name in NAMES {
            let scenario = Scenario::named(name, 7).unwrap();
            assert_eq!(scenario.name, name);
            assert_eq!(Some(&scenario), Scenario::named(name, 7).as_ref());
            assert_eq!(
                scenario.command(),
                format!("firebreak-sim run {name} --seed 7")
            );
        }
        assert_eq!(Scenario::named("flood", 7), None);
    }

    #[test]
    fn seeds_burn_different_data_centers_at_different_times_and_all_come_back() {
        let runs: Vec<Scenario> = (0..50).map(Scenario::burn).collect();
        for run in &runs {
            let [
                (fire, Action::Burn(burned)),
                (back, Action::Return(returned)),
            ] = &run.timeline[..]
            else {
                panic!("{:?}", run.timeline);
            };
            assert_eq!(burned, returned);
            assert!(fire < back && *back < run.load);
        }
        for (dc, _) in &runs[0].dcs {
            let burns = |run: &&Scenario| run.timeline[0].1 == Action::Burn(dc);
            assert!(runs.iter().find(burns).is_some(), "{dc} never burns");
        }
    }
}
