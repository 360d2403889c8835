//! Exit codes of a drill, by their names.

use server::drill::paper::End;

/// A goal was missed.
pub const MISSED: u8 = End::Missed.code();
/// A promise broke.
pub const BROKEN: u8 = End::Broken.code();
/// It was ended early.
pub const ABORTED: u8 = End::Aborted.code();
/// It cannot be told.
pub const INCONCLUSIVE: u8 = End::Inconclusive.code();
/// All that a drill that was carried out can end with.
pub const RUN: [u8; 5] = [End::Passed.code(), MISSED, BROKEN, ABORTED, INCONCLUSIVE];
