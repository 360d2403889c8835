//! `firebreak-sim`: makes simulated runs, judges them and reports. Needs no RocksDB.

#![allow(
    clippy::disallowed_methods,
    reason = "the real world begins here: processes, threads and files around simulated runs"
)]

mod cmd;

use std::process::ExitCode;

fn main() -> ExitCode {
    cmd::main()
}
