//! `drill rehearse-verb`: what an operator is about to do, on seeds of the simulator. `firebreak dc drain
//! --rehearse` and its like run this.

use std::path::PathBuf;
use std::process::ExitCode;

use firebreak_sim::Outcome;
use firebreak_sim::drill::{Stage, rehearse};
use server::drill::rehearsal::Rehearsal;
use server::drill::verb::Verb;

use super::super::cases::TierName;
use super::super::files::{self, Console};
use super::super::outage;
use super::super::{Ended, Failure};
use super::rehearse::{Kind, Seeded, lines, now_ms};

/// The largest file of a verb that is read, bytes.
const BYTES_MAX: u64 = 1 << 20;

/// Rehearses a verb on seeds of the simulator
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The verb, as JSON
    verb: PathBuf,
    /// The present cluster
    #[arg(long, value_name = "FILE")]
    cluster: PathBuf,
    /// How many seeds are run in all
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(2..=1_000))]
    seeds: u64,
    /// What carries calls
    #[arg(long, value_enum, default_value_t = TierName::Direct)]
    tier: TierName,
    /// Runs at a time; as many as there are cores when not given
    #[arg(long)]
    jobs: Option<usize>,
    /// Where plans of runs go in which a promise broke
    #[arg(long, value_name = "DIR", default_value = files::OUT)]
    out: PathBuf,
}

impl Args {
    /// Rehearses.
    pub(crate) fn run(self) -> Ended {
        let text = super::text_of(&self.verb, BYTES_MAX, "verb")?;
        let refused = |why: String| Failure::Usage(format!("{}: {why}", self.verb.display()));
        let verb: Verb =
            serde_json::from_str(&text).map_err(|error| refused(format!("is no verb: {error}")))?;
        let night = outage::read(&self.cluster)?;
        let stage = Stage::verb(&verb, &night, self.tier.into()).map_err(refused)?;
        let seeds = Seeded {
            seeds: self.seeds,
            jobs: self.jobs,
            out: self.out.clone(),
        };
        let made = seeds.make(&stage, false)?;
        let of = |wanted: Kind| -> Vec<&Outcome> {
            let those = made.iter().filter(|(kind, _)| *kind == wanted);
            those.map(|(_, outcome)| outcome).collect()
        };
        let rehearsal = Rehearsal {
            at_ms: now_ms(),
            calm: rehearse::seeds(&of(Kind::Calm)),
            beside_a_fire: rehearse::seeds(&of(Kind::Fire)),
            not_in_it: stage.not_in_it.clone(),
            ..Rehearsal::default()
        };
        let console = Console::beside(&[]);
        for line in lines(&rehearsal) {
            console.say(&line);
        }
        seeds.keep(&made, console)?;
        let broken = made.iter().any(|(_, outcome)| rehearse::broken(outcome));
        let unsettled = made.iter().any(|(_, outcome)| rehearse::unsettled(outcome));
        Ok(ExitCode::from(match (broken, unsettled) {
            (true, _) => 3,
            (false, true) => 1,
            (false, false) => 0,
        }))
    }
}
