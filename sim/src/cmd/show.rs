//! `show`: what a seed makes of a scenario, before it is run.

use std::fmt::Write as _;
use std::process::ExitCode;

use firebreak_sim::Plan;
use firebreak_sim::plan::{Dc, Event};

use super::cases::{Scenario, TierName, parameter};
use super::files;
use super::{EXIT_CODES, Ended};

const EXAMPLES: &str = "\
Examples:
  firebreak sim show rolling-fire --seed 3
  firebreak sim show swarm --seed 12 --json > plan.json

";

/// Shows the run that a seed makes of a scenario: topology, load, timeline and what must hold
#[derive(clap::Args)]
#[command(after_help = format!("{EXAMPLES}{EXIT_CODES}"))]
pub(crate) struct Args {
    /// A name that `list` shows, or the path of a file that ends in .toml
    scenario: String,
    /// Where all chance of the run comes from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What carries calls
    #[arg(long, value_enum, default_value_t = TierName::Grpc)]
    tier: TierName,
    /// Another value for one of the scenario's parameters
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
    set: Vec<(String, String)>,
    /// The layout that must visibly fail, where the scenario has one
    #[arg(long)]
    control: bool,
    /// As a plan that `replay` reads
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Ended {
        let scenario = Scenario::load(&self.scenario, &self.set, None)?;
        let control = self.control.then(|| {
            let control = scenario.control(self.seed, self.tier.into());
            control.ok_or_else(|| {
                super::Failure::Usage(format!("{} has no control layout", self.scenario))
            })
        });
        let plan = match control {
            Some(plan) => plan?,
            None => scenario.plan(self.seed, self.tier.into()),
        };
        match self.json {
            true => print!("{}", files::plan_text(&plan)?),
            false => print!("{}", text(&plan)),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A plan as people read it.
pub(crate) fn text(plan: &Plan) -> String {
    let mut out = format!("{} · seed {}\n{}\n", plan.scenario, plan.seed, plan.about);
    topology(&mut out, plan);
    load(&mut out, plan);
    timeline(&mut out, plan);
    expect(&mut out, plan);
    out
}

// Writing to a String cannot fail, so what `writeln!` gives is let go below.

fn topology(out: &mut String, plan: &Plan) {
    let topology = &plan.topology;
    let _ = writeln!(
        out,
        "\ntopology  {} shards, {} replicas each",
        topology.shards, topology.replicas
    );
    for dc in &topology.dcs {
        let building = match dc.building == dc.name {
            true => String::new(),
            false => format!(", in the building {}", dc.building),
        };
        let _ = writeln!(
            out,
            "  {} ({}{building}): {}",
            dc.name,
            dc.region,
            nodes(dc)
        );
    }
    let _ = writeln!(out, "  within a data center  {}", topology.local);
    let _ = writeln!(out, "  between them          {}", topology.wan);
    for one in &topology.links {
        let _ = writeln!(out, "  {} → {}  {}", one.from, one.to, one.link);
    }
}

fn nodes(dc: &Dc) -> String {
    let nodes = dc.nodes.iter().map(|node| match node.joins_at_ms {
        None => format!("{} in {}", node.name, node.rack),
        Some(at) => format!("{} in {}, joins at {}", node.name, node.rack, seconds(at)),
    });
    nodes.collect::<Vec<_>>().join("; ")
}

fn load(out: &mut String, plan: &Plan) {
    let load = &plan.workload;
    let readers = &load.readers;
    let (least, most) = load.pause_ms;
    let bursts = match load.burst {
        (1, 1) => String::new(),
        (few, many) => format!(", {few} to {many} at once"),
    };
    let own = if load.own_rooms { ", each its own" } else { "" };
    let _ = writeln!(
        out,
        "\nload      {} · {} rooms{own} · {} senders, {least} to {most} ms between messages, {} % on \
         streams{bursts} · {} % sent again",
        seconds(load.duration_ms),
        load.rooms,
        load.senders,
        load.stream_percent,
        load.resend_percent
    );
    let _ = writeln!(
        out,
        "  readers: {} LINEARIZABLE, {} SESSION, {} BOUNDED, {} LOCAL; {} tails, {} movers",
        readers.linearizable,
        readers.session,
        readers.bounded,
        readers.local,
        load.tails,
        load.movers
    );
    let sites = load.sites.iter().map(|site| match site.inside {
        true => format!("{} inside of {}", site.name, site.dc),
        false => format!("{} near {}", site.name, site.dc),
    });
    let _ = writeln!(out, "  from {}", sites.collect::<Vec<_>>().join(", "));
}

fn timeline(out: &mut String, plan: &Plan) {
    let _ = writeln!(out, "\ntimeline");
    if plan.events.is_empty() {
        let _ = writeln!(out, "  nothing happens");
    }
    for event in &plan.events {
        let _ = writeln!(out, "{:>9}  {}", seconds(event.at_ms), what(event));
    }
}

fn expect(out: &mut String, plan: &Plan) {
    let expect = &plan.expect;
    let _ = writeln!(out, "\nexpected  promises {}", expect.promises);
    let mut goal = |name: &str, limit: Option<String>| {
        if let Some(limit) = limit {
            let _ = writeln!(out, "  {name} {limit}");
        }
    };
    let at_most = |ms: u64| format!("at most {}", seconds(ms));
    goal("longest gap", expect.gap_max_ms.map(at_most));
    goal("LINEARIZABLE reads", expect.read_max_ms.map(at_most));
    goal("tails behind", expect.tail_max_ms.map(at_most));
    let calls = expect.failed_calls_max;
    goal(
        "failed calls",
        calls.map(|calls| format!("at most {calls}")),
    );
    goal("recovery", expect.recovery_max_ms.map(at_most));
    goal("refusals when cut off", expect.refusal_max_ms.map(at_most));
    goal(
        "age of LOCAL reads, p99",
        expect.age_p99_max_ms.map(at_most),
    );
    goal(
        "a shard without a leader",
        expect.leaderless_max_ms.map(at_most),
    );
    goal("replicas equal", expect.rest_max_ms.map(at_most));
    goal(
        "files of snapshots",
        expect.snapshots_max.map(|most| format!("at most {most}")),
    );
    goal(
        "acknowledged",
        Some(format!("at least {}", expect.acked_min)),
    );
    for pending in &expect.pending {
        let _ = writeln!(out, "  pending {}: {}", pending.what, pending.why);
    }
}

fn seconds(ms: u64) -> String {
    format!("{:.3} s", ms as f64 / 1e3)
}

/// What an event does, in a line.
fn what(event: &Event) -> String {
    let mut text = format!("{:<11}  {:#}", event.fault.kind(), event.fault);
    if let Some(label) = &event.label {
        let _ = write!(text, "  ({label})");
    }
    text
}
