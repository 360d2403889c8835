//! `alarms`: which of the shipped alerts would ring, and how soon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use firebreak_sim::Plan;
use firebreak_sim::alarms::{self, Recording, Rung, promtool};
use serde_json::{Value, json};
use server::sight::alerts::{ALERTS, Alert};

use super::cases::{Scenario, TierName, check_disk, parameter};
use super::{Ended, Failure, files, here};

const EXAMPLES: &str = "\
Examples:
  firebreak sim alarms dc-silent --lasting
  firebreak sim alarms drain-dc --seconds 120 --json
  firebreak sim alarms dc-crash --promtool rules && promtool test rules rules/alarms_test.yml

Prometheus stands with most of the nodes and scrapes each second. Alerts that wait for longer than the run lasts
cannot ring in it.
Exit codes: 0 the run was made, whatever rang, 1 it came to no end, 2 unusable input.";

/// Says which of the shipped alerts ring in a scenario, and how soon after its first fault
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A name that `list` shows, or the path of a file that ends in .toml
    scenario: String,
    /// Where all chance of the run comes from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long the load lasts, if not as long as the scenario says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// No fault ends
    #[arg(long)]
    lasting: bool,
    /// What carries calls
    #[arg(long, value_enum, default_value_t = TierName::Direct)]
    tier: TierName,
    /// Another value for one of the scenario's parameters
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
    set: Vec<(String, String)>,
    /// Prints as JSON
    #[arg(long)]
    json: bool,
    /// Writes the rules and what rang there, as a test for promtool
    #[arg(long, value_name = "DIR")]
    promtool: Option<PathBuf>,
}

/// An alert that rang, and when.
struct RungAlert {
    alert: &'static Alert,
    /// Seconds after the first fault; after the load's begin when there is none.
    after_s: i64,
    rung: Vec<Rung>,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Ended {
        let scenario = Scenario::load(&self.scenario, &self.set, None)?;
        let mut plan = scenario.plan(self.seed, self.tier.into());
        if let Some(seconds) = self.seconds {
            plan.workload.duration_ms = seconds * 1_000;
        }
        if self.lasting {
            plan.events.retain(|event| !event.fault.ends());
        }
        check_disk(&plan)?;
        here::log()?;
        let recording = here::on_a_thread(|| firebreak_sim::record(&plan))?;
        let recording = recording.map_err(Failure::Failed)?;
        let told = told(&plan, &recording)?;
        if let Some(folder) = &self.promtool {
            write(folder, &recording)?;
        }
        match self.json {
            true => println!("{}", as_json(&plan, &recording, &told)),
            false => println!("{}", table(&plan, &recording, &told)),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn told(plan: &Plan, recording: &Recording) -> Result<Vec<RungAlert>, Failure> {
    let first = plan.events.iter().map(|event| event.at_ms).min();
    let first_s = i64::try_from(first.unwrap_or(0) / 1_000).unwrap_or(0);
    let mut told = Vec::new();
    for alert in ALERTS {
        let rung = alarms::ring(alert, recording).map_err(Failure::Failed)?;
        let from = rung.iter().map(|one| one.from_s).min();
        if let Some(from) = from {
            told.push(RungAlert {
                alert,
                after_s: i64::try_from(from).unwrap_or(i64::MAX) - first_s,
                rung,
            });
        }
    }
    told.sort_by_key(|one| one.after_s);
    Ok(told)
}

fn write(folder: &Path, recording: &Recording) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::Failed(format!(
            "cannot make the folder {}: {error}",
            folder.display()
        ))
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    files::write(&folder.join(promtool::RULES), &promtool::rules())?;
    let test = promtool::test(recording).map_err(Failure::Failed)?;
    files::write(&folder.join("alarms_test.yml"), &test)
}

fn as_json(plan: &Plan, recording: &Recording, told: &[RungAlert]) -> Value {
    let rung = told.iter().map(|one| {
        let times = one.rung.iter().map(
            |rung| json!({ "labels": rung.labels, "from_s": rung.from_s, "until_s": rung.until_s }),
        );
        json!({
            "alert": one.alert.name,
            "severity": one.alert.severity.name(),
            "runbook": one.alert.runbook,
            "after_s": one.after_s,
            "rung": times.collect::<Vec<_>>(),
        })
    });
    json!({
        "scenario": plan.scenario,
        "seed": plan.seed,
        "seconds": recording.seconds,
        "alarms": rung.collect::<Vec<_>>(),
    })
}

fn table(plan: &Plan, recording: &Recording, told: &[RungAlert]) -> String {
    let (name, seed, seconds) = (&plan.scenario, plan.seed, recording.seconds);
    if told.is_empty() {
        return format!("{name}, seed {seed}: no alert rings in {seconds} s");
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["alert", "severity", "rings after", "how many", "runbook"]);
    for one in told {
        table.add_row([
            one.alert.name.to_owned(),
            one.alert.severity.name().to_owned(),
            format!("{} s", one.after_s),
            one.rung.len().to_string(),
            one.alert.runbook.to_owned(),
        ]);
    }
    for column in [2, 3] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    format!("{name}, seed {seed}, {seconds} s\n{}", lines.join("\n"))
}
