//! What the `firebreak` command and the whole-system tests share: a harness for real
//! `firebreak serve` processes on this machine, the corpus of real chats, and the ledger that judges
//! what a cluster gives back.

#![allow(
    clippy::disallowed_methods,
    reason = "the real world begins here: its clock, its processes and its files, none of them simulated"
)]

pub mod cluster;
pub mod corpus;
pub mod ledger;
