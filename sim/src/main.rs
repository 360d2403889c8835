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
    let file = std::env::args().nth(1).unwrap_or_default();
    let plan: Plan = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut outcome = run(&plan);
    let trace = outcome.trace.len();
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
