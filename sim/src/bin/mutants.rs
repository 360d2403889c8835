//! `firebreak-sim-mutants`: the same commands as `firebreak-sim`, in a build that has known bugs to
//! switch on.

#![allow(
    clippy::disallowed_methods,
    reason = "the real world begins here: processes, threads and files around simulated runs"
)]

#[path = "../cmd/mod.rs"]
mod cmd;

use std::process::ExitCode;

fn main() -> ExitCode {
    cmd::main()
}
