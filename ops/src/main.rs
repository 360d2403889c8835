//! The `firebreak` command: one binary for a node, for its clients and for its operators.
//!
//! Each subcommand has a file under `cmd/` (or a folder of its own) with its arguments and a
//! function that runs it and gives `anyhow::Result<ExitCode>`; here is only the list of them.
//! Exit codes are in [`exit`].

#![allow(
    clippy::disallowed_methods,
    reason = "the real world begins here: its clock, its processes and its files, none of them simulated"
)]

mod authority;
mod ballast;
mod bench;
mod bundle;
mod canary;
mod cmd;
mod data_dir;
mod demo;
#[cfg(test)]
mod docs_tests;
mod drill;
mod evidence;
mod exit;
mod export;
mod import;
mod itself;
mod local;
mod logging;
mod machine;
mod real;
mod stage;
mod stop;
mod tape;
mod tls;
mod top;
mod traces;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A node makes a few small allocations for each message on one thread and frees them on another:
/// with the system's allocator that was an eighth of a server's CPU under load; this one halves it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXAMPLES: &str = "\
Examples:
  firebreak init --config node.toml --nodes 3     found a cluster; prints the token that others join with
  firebreak serve --config node.toml              run a node
  firebreak status --target 127.0.0.1:7101        what the cluster looks like
  firebreak sim run dc-silent --seed 7            burn a data center in virtual time

Exit codes: 0 done, 1 failed, 2 wrong arguments or configuration, 70 the node had to stop while running,
77 the cluster does not want the node any more.
Colour is off when NO_COLOR is set or the output is not a terminal.";

/// A message store for chat services that keeps serving when a data center burns.
#[derive(Parser)]
#[command(name = "firebreak", version, after_help = EXAMPLES, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(cmd::init::Args),
    Serve(cmd::serve::Args),
    #[command(subcommand)]
    Node(cmd::join::Node),
    #[command(subcommand)]
    Token(cmd::token::Token),
    #[command(subcommand)]
    Cert(cmd::cert::Cert),
    #[command(subcommand)]
    Key(cmd::key::Key),
    #[command(subcommand)]
    Issuer(cmd::issuer::Issuer),
    Audit(cmd::audit::Args),
    #[command(subcommand)]
    Dc(cmd::drain::Dc),
    #[command(subcommand)]
    Policy(cmd::policy::Policy),
    #[command(subcommand)]
    Shard(cmd::shard::Shard),
    Whatif(cmd::whatif::Args),
    #[command(subcommand)]
    Erase(cmd::erase::Erase),
    #[command(subcommand)]
    Retention(cmd::retention::Retention),
    #[command(subcommand)]
    Tenant(cmd::tenant::Tenant),
    // --- client commands, demo and bench: one line each ---
    Export(Box<cmd::export::Args>),
    Import(cmd::import::Args),
    Read(cmd::read::Args),
    Tail(cmd::tail::Args),
    Changes(cmd::changes::Args),
    Status(cmd::status::Args),
    Top(top::Args),
    #[command(subcommand)]
    Debug(bundle::Debug),
    Bench(Box<bench::Args>),
    Demo(Box<demo::Args>),
    #[command(subcommand)]
    Drill(cmd::drill::Drill),
    Promises(cmd::promises::Args),
    Verify(cmd::verify::Args),
    #[command(subcommand)]
    Outage(cmd::outage::Outage),
    Outages(cmd::outages::Args),
    Sim(cmd::sim::Args),
    Train(cmd::train::Args),
    #[command(subcommand)]
    Generate(cmd::generate::Generate),
}

/// Exit code when whoever read the output has gone away, as of a command that SIGPIPE ended.
const OUTPUT_CLOSED: i32 = 128 + 13;

/// `firebreak status | head` ends quietly, and a command whose output cannot be written otherwise, as on a
/// full disk, with one line and exit code 1. The macros that print panic in both cases.
fn end_when_output_fails() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or_default();
        let Some(what) = text.strip_prefix("failed printing to ") else {
            return default(info);
        };
        if what.contains("Broken pipe") {
            std::process::exit(OUTPUT_CLOSED);
        }
        let (stream, why) = what.split_once(": ").unwrap_or((what, "no reason given"));
        exit::tell(format_args!("error: {stream} cannot be written: {why}"));
        std::process::exit(1);
    }));
}

fn main() -> ExitCode {
    end_when_output_fails();
    let outcome: anyhow::Result<ExitCode> = match Cli::parse().command {
        Command::Init(args) => cmd::block_on(args.run()),
        Command::Serve(args) => exit::end_with(cmd::block_on(args.run())),
        Command::Node(command) => cmd::block_on(command.run()),
        Command::Cert(command) => command.run(),
        Command::Token(command) => cmd::block_on(command.run()),
        Command::Key(command) => cmd::block_on(command.run()),
        Command::Issuer(command) => cmd::block_on(command.run()),
        Command::Audit(args) => cmd::block_on(args.run()),
        Command::Dc(command) => cmd::block_on(command.run()),
        Command::Policy(command) => cmd::block_on(command.run()),
        Command::Shard(command) => cmd::block_on(command.run()),
        Command::Whatif(args) => cmd::block_on(args.run()),
        Command::Erase(command) => cmd::block_on(command.run()),
        Command::Retention(command) => cmd::block_on(command.run()),
        Command::Tenant(command) => cmd::block_on(command.run()),
        // --- client commands, demo and bench: one line each, for instance ---
        Command::Export(args) => cmd::block_on(args.run()),
        Command::Import(args) => cmd::block_on(args.run()),
        Command::Read(args) => cmd::block_on(args.run()),
        Command::Tail(args) => cmd::block_on(args.run()),
        Command::Changes(args) => cmd::block_on(args.run()),
        Command::Status(args) => cmd::block_on(args.run()),
        Command::Top(args) => cmd::block_on(args.run()),
        Command::Debug(command) => cmd::block_on(command.run()),
        Command::Bench(args) => cmd::block_on(args.run()),
        Command::Demo(args) => cmd::block_on(args.run()),
        Command::Outages(args) => cmd::block_on(args.run()),
        Command::Drill(command) => command.run(),
        Command::Outage(command) => command.run(),
        Command::Promises(args) => cmd::block_on(args.run()),
        Command::Verify(args) => cmd::block_on(args.run()),
        Command::Sim(args) => args.run(),
        Command::Train(args) => args.run(),
        Command::Generate(command) => command.run(),
    };
    exit::report(outcome)
}
