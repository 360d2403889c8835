//! The text of tokens and cursors: `base64url( what it says | check 4 )`.
//!
//! The check is the low 32 bits of xxh3-128 over all before it. It finds damage, it does not keep anyone from
//! making one: a token grants nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::hash::record_hash;

/// Bytes of the check.
pub const CHECK_BYTES: usize = 4;

/// What it says, as text.
pub fn seal(said: Vec<u8>) -> String {
    let mut bytes = said;
    let check = record_hash(&bytes).to_le_bytes();
    bytes.extend(&check[..CHECK_BYTES]);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What a text says that was made of at most so many bytes; none when it is damaged, or was never made here.
pub fn open(text: &str, said_max: usize) -> Option<Vec<u8>> {
    // Longer than any; not worth decoding.
    if text.len() > 2 * (said_max + CHECK_BYTES) {
        return None;
    }
    let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let length = bytes.len().checked_sub(CHECK_BYTES)?;
    let (said, check) = bytes.split_at(length);
    let whole = record_hash(said).to_le_bytes()[..CHECK_BYTES] == *check;
    bytes.truncate(length);
    (whole && length <= said_max).then_some(bytes)
}

/// What names a tenant in a token.
pub fn tenant_hash(tenant: &str) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&record_hash(tenant.as_bytes()).to_le_bytes()[..8]);
    first
}
