//! `list`: the scenarios that ship.

use std::process::ExitCode;

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, ContentArrangement, Table};
use firebreak_sim::Plan;
use firebreak_sim::catalogue;
use firebreak_sim::plan::Tier;
use serde_json::json;

use super::cases::Scenario;
use super::files::Console;
use super::{Ended, Failure};

/// Lists the scenarios that ship: what each is about, what must hold, what waits for work to come
#[derive(clap::Args)]
pub(crate) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Ended {
        let mut plans = Vec::new();
        for shipped in catalogue::all() {
            // What is expected is the same for every seed, but for swarms.
            let scenario = Scenario::load(shipped.name, &[], None)?;
            plans.push((scenario.plan(0, Tier::Direct), scenario.file.has_control()));
        }
        match self.json {
            true => println!("{}", as_json(&plans)?),
            false => println!("{}", table(&plans)),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn pending(plan: &Plan) -> String {
    let pending = plan.expect.pending.iter();
    let names: Vec<&str> = pending.map(|pending| pending.what.as_str()).collect();
    names.join(" ")
}

fn table(plans: &[(Plan, bool)]) -> String {
    let console = Console::beside(&[]);
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    // As wide as the terminal, if there is one; whether to colour is not its to say.
    let columns = table.width();
    table.force_no_tty();
    if let Some(columns) = columns {
        table.set_width(columns);
    }
    if console.colour() {
        table.enforce_styling();
    }
    let header = ["scenario", "promises", "pending", "about"];
    table.set_header(header.map(|name| Cell::new(name).add_attribute(Attribute::Dim)));
    for (plan, _) in plans {
        table.add_row([
            Cell::new(&plan.scenario).add_attribute(Attribute::Bold),
            Cell::new(&plan.expect.promises),
            Cell::new(pending(plan)),
            Cell::new(&plan.about),
        ]);
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

fn as_json(plans: &[(Plan, bool)]) -> Result<String, Failure> {
    let list: Vec<_> = plans
        .iter()
        .map(|(plan, has_control)| {
            json!({
                "name": plan.scenario,
                "about": plan.about,
                "promises": plan.expect.promises,
                "gap_max_ms": plan.expect.gap_max_ms,
                "read_max_ms": plan.expect.read_max_ms,
                "tail_max_ms": plan.expect.tail_max_ms,
                "failed_calls_max": plan.expect.failed_calls_max,
                "recovery_max_ms": plan.expect.recovery_max_ms,
                "refusal_max_ms": plan.expect.refusal_max_ms,
                "age_p99_max_ms": plan.expect.age_p99_max_ms,
                "leaderless_max_ms": plan.expect.leaderless_max_ms,
                "rest_max_ms": plan.expect.rest_max_ms,
                "snapshots_max": plan.expect.snapshots_max,
                "pending": plan.expect.pending,
                "control": has_control,
                "load_ms": plan.workload.duration_ms,
            })
        })
        .collect();
    serde_json::to_string_pretty(&list)
        .map_err(|error| Failure::Failed(format!("as JSON: {error}")))
}
