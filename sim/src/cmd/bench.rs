//! `bench`: how fast the simulator is.

use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Table};
use firebreak_sim::Verdict;
use firebreak_sim::outcome::{Lap, Phase};
use firebreak_sim::plan::Tier;
use serde::Serialize;

use super::cases::Scenario;
use super::files::{self, Console};
use super::stop::Stop;
use super::worker::{LIMIT_SECONDS, Workers};
use super::{EXIT_CODES, Ended, Failure};

/// What is run.
const SCENARIO: &str = "bench";
/// Acknowledgements that a second of its load brings at least.
const ACKED_PER_SECOND: u64 = 150;

const EXAMPLES: &str = "\
Examples:
  firebreak sim bench
  firebreak sim bench --tier direct --seconds 120 --json -

";

/// Measures the simulator: 9 nodes, 16 shards, 200 sends a second, on one core
///
/// Simulated seconds per second of wall time and of CPU: of the load alone, and of the whole run, which
/// is founding, load, rest and judging.
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLES}{EXIT_CODES}"))]
pub(crate) struct Args {
    /// What carries calls
    #[arg(long, value_enum, default_value_t = Which::Both)]
    tier: Which,
    /// How long the load lasts, simulated seconds
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Where all chance comes from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Writes the report for machines there; - is stdout
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = files::STDOUT)]
    json: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// One after the other.
    Both,
    /// The whole gRPC stack.
    Grpc,
    /// The same calls without HTTP/2.
    Direct,
}

/// What was measured of a tier.
#[derive(Serialize)]
struct Measured {
    tier: Tier,
    verdict: Verdict,
    sim_seconds: f64,
    wall_seconds: f64,
    cpu_seconds: f64,
    sim_seconds_per_wall_second: f64,
    sim_seconds_per_cpu_second: f64,
    trace_events: u64,
    events_per_wall_second: f64,
    acked: u64,
    /// Of the load alone; none when the run did not come so far.
    load: Option<Rate>,
    /// What each part of the run took.
    phases: Vec<Lap>,
}

/// How fast a part of a run was.
#[derive(Clone, Copy, Serialize)]
struct Rate {
    sim_seconds_per_wall_second: f64,
    sim_seconds_per_cpu_second: f64,
}

impl Rate {
    fn of(lap: &Lap) -> Rate {
        Rate {
            sim_seconds_per_wall_second: lap.sim_seconds / lap.wall_seconds,
            sim_seconds_per_cpu_second: lap.sim_seconds / lap.cpu_seconds,
        }
    }
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Ended {
        files::ready(self.json.as_deref())?;
        let console = Console::beside(&[self.json.as_deref()]);
        let scenario = Scenario::load(SCENARIO, &[], None)?;
        let workers = Workers::new(LIMIT_SECONDS, Stop::after(None))?;
        let tiers: &[Tier] = match self.tier {
            Which::Both => &[Tier::Grpc, Tier::Direct],
            Which::Grpc => &[Tier::Grpc],
            Which::Direct => &[Tier::Direct],
        };
        let mut measured = Vec::new();
        for tier in tiers {
            let mut plan = scenario.plan(self.seed, *tier);
            plan.workload.duration_ms = self.seconds * 1_000;
            plan.expect.acked_min = self.seconds * ACKED_PER_SECOND;
            let done = workers.run(&plan, None)?;
            let done = done.ok_or_else(|| Failure::Failed("interrupted".to_owned()))?;
            if done.lost {
                let why = done.outcome.stopped.unwrap_or_default();
                return Err(Failure::Failed(format!("the run did not end: {why}")));
            }
            let (outcome, cpu) = (done.outcome, done.cpu_seconds);
            let (sim, wall) = (outcome.sim_seconds, outcome.wall_seconds);
            let load = outcome.laps.iter().find(|lap| lap.phase == Phase::Load);
            measured.push(Measured {
                tier: *tier,
                verdict: outcome.verdict,
                sim_seconds: sim,
                wall_seconds: wall,
                cpu_seconds: cpu,
                sim_seconds_per_wall_second: sim / wall,
                sim_seconds_per_cpu_second: sim / cpu,
                trace_events: outcome.trace_events,
                events_per_wall_second: outcome.trace_events as f64 / wall,
                acked: outcome.acked,
                load: load.map(Rate::of),
                phases: outcome.laps,
            });
        }
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&measured);
            let text = text.map_err(|error| Failure::Failed(format!("as JSON: {error}")))?;
            files::write(Path::new(path), &text)?;
        }
        console.say(&table(&measured, console.colour()));
        let worst = measured.iter().map(|one| one.verdict).max();
        Ok(ExitCode::from(worst.map_or(0, Verdict::exit_code)))
    }
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))
}

fn table(measured: &[Measured], colour: bool) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).force_no_tty();
    if colour {
        table.enforce_styling();
    }
    let header = [
        "tier",
        "load × wall",
        "load × CPU",
        "simulated",
        "wall",
        "CPU",
        "× wall",
        "× CPU",
        "events/s",
        "acked",
        "verdict",
    ];
    table.set_header(header.map(|name| Cell::new(name).add_attribute(Attribute::Dim)));
    for one in measured {
        let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let tier = match one.tier {
            Tier::Grpc => "gRPC",
            Tier::Direct => "direct",
        };
        let verdict = match one.verdict {
            Verdict::Held => "held",
            Verdict::GoalMissed => "goal missed",
            Verdict::Broken => "broken",
        };
        table.add_row([
            Cell::new(tier),
            number(rate(one.load.map(|load| load.sim_seconds_per_wall_second)))
                .add_attribute(Attribute::Bold),
            number(rate(one.load.map(|load| load.sim_seconds_per_cpu_second))),
            number(format!("{:.1} s", one.sim_seconds)),
            number(format!("{:.2} s", one.wall_seconds)),
            number(format!("{:.2} s", one.cpu_seconds)),
            number(format!("{:.1}", one.sim_seconds_per_wall_second)),
            number(format!("{:.1}", one.sim_seconds_per_cpu_second)),
            number(format!("{:.0}", one.events_per_wall_second)),
            number(one.acked.to_string()),
            Cell::new(verdict),
        ]);
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}
