//! Drills in the simulator: the present cluster and a plan of a drill as runs, and what they say.
//!
//! ```text
//!  drill plan + Night of the present cluster ─► Stage ─┬─ calm           as planned
//!                                                      ├─ beside a fire  a further data center burns
//!                                                      └─ twin           all of it in one building
//!  their Outcomes ─► rehearse ─► server::drill::rehearsal::Rehearsal
//! ```

pub mod rehearse;
pub mod report;
mod stage;
mod steps;
#[cfg(test)]
mod tests;

pub use stage::{FIRE_LINE, Stage};
