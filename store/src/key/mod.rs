//! The keys of every kind of record; one file for each database. A key's layout is shown where it
//! is defined, big-endian throughout, so that keys sort as what they name.

pub mod log;
pub mod lost;
pub mod state;

use std::fmt::Write;

/// The key for people: its bytes in hex.
pub fn readable(key: &[u8]) -> String {
    key.iter()
        .fold(String::with_capacity(2 * key.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
