//! Sessions of the console: a cookie that says whose key it was made with and when it ends, under a MAC that
//! only this start of this node can make.
//!
//! ```text
//!   base64url( key's id, 12 | ends at, Unix ms, u64 | MAC, 32 )
//! ```

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::cluster::access::KEY_ID_DIGITS;

use crate::error::Unknown;

/// The cookie's name.
pub const COOKIE: &str = "firebreak_session";
/// How long a session lasts.
pub const SESSION_MS: u64 = 8 * 60 * 60 * 1_000;
/// What requests that change something must carry besides the cookie: another site cannot make a browser
/// send it.
pub const CSRF_HEADER: &str = "x-firebreak-csrf";

const SAID_BYTES: usize = KEY_ID_DIGITS + 8;

/// Makes and opens sessions.
pub struct Sessions {
    key: [u8; 32],
}

/// The session cookie among the headers of a request.
pub fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).into_iter();
    let mut cookies = cookies.filter_map(|cookies| cookies.to_str().ok());
    cookies.find_map(|cookies| {
        let mut pairs = cookies
            .split(';')
            .filter_map(|pair| pair.trim().split_once('='));
        pairs.find_map(|(name, value)| (name == COOKIE).then_some(value))
    })
}

impl Sessions {
    /// Sealed with this key.
    pub fn new(key: [u8; 32]) -> Sessions {
        Sessions { key }
    }

    fn mac(&self, said: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.key, said)
    }

    /// A session of who has this key.
    pub fn seal(&self, key_id: &str, now_ms: u64) -> String {
        let mut said = key_id.as_bytes().to_vec();
        said.extend(now_ms.saturating_add(SESSION_MS).to_be_bytes());
        let mac = self.mac(&said);
        said.extend(mac.as_bytes());
        URL_SAFE_NO_PAD.encode(said)
    }

    /// The id of the key that a session was made with.
    ///
    /// # Errors
    /// When it was not made here, or has ended.
    pub fn open(&self, cookie: &str, now_ms: u64) -> Result<String, Unknown> {
        let wrong = Unknown::Invalid("the session is not one of this node: log in again");
        if cookie.len() > 4 * (SAID_BYTES + 32) {
            return Err(wrong);
        }
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(cookie) else {
            return Err(wrong);
        };
        let Some((said, mac)) = bytes.split_at_checked(SAID_BYTES) else {
            return Err(wrong);
        };
        let Ok(mac) = <[u8; 32]>::try_from(mac) else {
            return Err(wrong);
        };
        // Compared in constant time.
        if self.mac(said) != blake3::Hash::from(mac) {
            return Err(wrong);
        }
        let (id, ends) = said.split_at(KEY_ID_DIGITS);
        let ends = <[u8; 8]>::try_from(ends).map_or(0, u64::from_be_bytes);
        if now_ms >= ends {
            return Err(Unknown::Expired);
        }
        String::from_utf8(id.to_vec()).map_err(|_| wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_opens_where_it_was_made_until_it_ends() {
        let sessions = Sessions::new([7; 32]);
        let cookie = sessions.seal("0a0a0a0a0a0a", 1_000);
        assert_eq!(sessions.open(&cookie, 1_001).as_deref(), Ok("0a0a0a0a0a0a"));
        assert_eq!(
            sessions.open(&cookie, 1_000 + SESSION_MS),
            Err(Unknown::Expired)
        );
        let elsewhere = Sessions::new([8; 32]).open(&cookie, 1_001);
        assert!(matches!(elsewhere, Err(Unknown::Invalid(_))));
    }

    #[test]
    fn whatever_is_changed_in_a_session_it_opens_no_more() {
        let sessions = Sessions::new([7; 32]);
        let cookie = sessions.seal("0a0a0a0a0a0a", 1_000);
        for at in 0..cookie.len() {
            let mut forged = cookie.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert!(sessions.open(&forged, 1_001).is_err(), "{at}");
        }
        for wrong in ["", "x", "AAAA", &"A".repeat(10_000)] {
            assert!(sessions.open(wrong, 1_001).is_err());
        }
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        assert_eq!(cookie(&headers), None);
        let given = "a=b; firebreak_session=xyz; c=d".parse().unwrap();
        headers.insert(header::COOKIE, given);
        assert_eq!(cookie(&headers), Some("xyz"));
    }
}
