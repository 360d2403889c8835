//! The oracles: what each accepts and rejects, and with which evidence ([`table`]); that none cries
//! wolf over thousands of correct histories ([`world`]); that each notices when such a history is
//! spoiled in its field ([`spoil`]); and that time is judged as a search over all orders would
//! judge it ([`search`]).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

mod cutoff;
mod liveness;
mod search;
mod spoil;
mod support;
mod table;
mod world;
