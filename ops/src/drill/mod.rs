//! Drills: what the verbs share.
//!
//! ```text
//!  live    a scenario of the simulator as steps that can be done to a live cluster
//!  fit     whether a cluster is fit for a plan
//!  book    the drills as the meta shard knows them
//!  run     the controller: canaries, faults, caps, what is made of it
//!  course  all that real processes are held to, one drill after the other
//! ```

pub mod book;
pub mod course;
pub mod fit;
pub mod live;
pub mod quorum;
pub mod run;
