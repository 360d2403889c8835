//! What the `firebreak` command and the whole-system tests share: a harness for real
//! `firebreak serve` processes on this machine, and the corpus of real chats.

pub mod cluster;
pub mod corpus;
