//! `firebreak-sim`: makes simulated runs. Needs no RocksDB.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use firebreak_sim::{Scenario, net, run, scenario};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

const EXIT_CODES: &str = "\
Exit codes: 0 everything held, 1 a goal was missed, 2 wrong arguments, 3 a safety promise was \
broken or the product panicked.
RUST_LOG=info shows what the nodes log, in virtual time.";

/// Burns data centers in virtual time.
#[derive(Parser)]
#[command(name = "firebreak-sim", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes one run and judges it.
    Run {
        /// What happens.
        #[arg(value_parser = scenario::NAMES)]
        scenario: String,
        /// Where all chance of the run comes from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// Log lines carry virtual time: seconds since the run began.
struct Virtual;

impl FormatTime for Virtual {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{:10.3}", net::now_us() as f64 / 1e6)
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "how long a run takes is wall time, and no part of it"
)]
fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_timer(Virtual)
        .with_writer(std::io::stderr)
        .init();
    let Command::Run { scenario, seed } = Cli::parse().command;
    firebreak_sim::interpose::enter(seed);
    let Some(scenario) = Scenario::named(&scenario, seed) else {
        // clap lets only known names through.
        return ExitCode::from(2);
    };
    println!("{}", scenario.command());
    let began = firebreak_sim::interpose::real_elapsed();
    let Ok(report) = std::panic::catch_unwind(|| run(&scenario)) else {
        println!("the product panicked\nagain: {}", scenario.command());
        return ExitCode::from(3);
    };
    println!("{report}");
    let (wall, simulated) = (firebreak_sim::interpose::real_elapsed() - began, report.simulated);
    println!(
        "{:.1} s of virtual time in {:.1} s",
        simulated.as_secs_f64(),
        wall.as_secs_f64()
    );
    ExitCode::from(report.verdict().exit_code())
}
