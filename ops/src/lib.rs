//! What the `firebreak` command and the whole-system tests share: a harness for real
//! `firebreak serve` processes on this machine.

pub mod cluster;
