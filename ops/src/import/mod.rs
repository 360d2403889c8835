//! Imports of what other programs exported: `firebreak export`, Slack, KakaoTalk.
//!
//! ```text
//!   source ──► records, in the order of the files ──► one room each conversation, some at once
//!   (a thread)                                          │ appends on a stream, then edits, erasures, reactions
//!                                                       ▼
//!                                                    report: what was not imported, by file, line and reason
//! ```
//!
//! Every record has an id of its own that is remembered for ever, so that an import which is run again, or
//! goes on after an interruption, imports nothing twice.

mod export;
pub mod kakao;
mod lines;
mod record;
mod report;
mod room;
mod run;
mod seqs;
mod slack;

pub use record::Kind;
pub use report::Report;
pub use run::{Given, run};
