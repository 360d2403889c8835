//! `firebreak-sim`: makes simulated runs. Needs no RocksDB.

use std::process::ExitCode;

use firebreak_sim::{Plan, net, run};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

struct Virtual;

impl FormatTime for Virtual {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{:10.3}", net::now_us() as f64 / 1e6)
    }
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_timer(Virtual)
        .with_writer(std::io::stderr)
        .init();
    let args: Vec<String> = std::env::args().collect();
    let plan: Plan = if args.len() > 2 {
        let tier = if args.len() > 3 { firebreak_sim::plan::Tier::Direct } else { firebreak_sim::plan::Tier::Grpc };
        let file = firebreak_sim::catalogue::load(&args[1]).unwrap_or_else(|e| { eprintln!("{e}"); std::process::exit(2) });
        file.plan(args[2].parse().unwrap(), firebreak_sim::catalogue::Variant::Ours, tier)
    } else {
        serde_json::from_slice(&std::fs::read(&args[1]).unwrap()).unwrap()
    };
    let mut outcome = run(&plan);
    let trace = outcome.trace.len();
    println!("{}", firebreak_sim::reports::text(&outcome, false));
    println!("{} {} {:.1} sim s/wall s", outcome.trace_hash, outcome.trace_events, outcome.sim_seconds / outcome.wall_seconds);
    if std::env::var("JSON").is_err() { return ExitCode::from(outcome.verdict.exit_code()); }
    outcome.trace.clear();
    outcome.seconds.clear();
    outcome.plan.events.clear();
    println!("{}", serde_json::to_string_pretty(&outcome).unwrap());
    println!(
        "{trace} seconds, {:.1} s/s",
        outcome.sim_seconds / outcome.wall_seconds
    );
    ExitCode::from(outcome.verdict.exit_code())
}
