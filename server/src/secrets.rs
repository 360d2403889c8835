//! What must never leave a node in a file that is sent around: values of secret keys, join tokens, API keys.

use std::ops::Range;

use model::cluster::access::{KEY_PREFIX, KEY_SECRET_BYTES};

/// What stands where a secret was.
pub const REMOVED: &str = "(removed)";

/// Parts of a key's name that make its value a secret.
const SECRET_WORDS: [&str; 6] = [
    "token",
    "secret",
    "password",
    "passphrase",
    "credential",
    "private",
];
/// What a join token begins with; hexadecimal digits follow ([`crate::found`]).
const TOKEN: &[u8] = b"fb-";
/// So many digits make a token; a new one has 40.
const DIGITS_MIN: usize = 16;
/// What an API key begins with; digits, `_` and digits follow ([`model::cluster::access`]).
const API_KEY: &[u8] = KEY_PREFIX.as_bytes();

/// Whether a key of `node.toml` holds a secret, by its name.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| key.contains(word))
}

/// The value of a key as it may be shown.
pub fn shown(key: &str, value: &str) -> String {
    match is_secret(key) {
        true => REMOVED.to_owned(),
        false => String::from_utf8_lossy(&clean(value.as_bytes().to_vec())).into_owned(),
    }
}

/// A text without the join tokens and API keys that are in it.
pub fn clean(text: Vec<u8>) -> Vec<u8> {
    without(without(text, token_in), api_key_in)
}

fn without(text: Vec<u8>, secret_in: fn(&[u8]) -> Option<Range<usize>>) -> Vec<u8> {
    let Some(mut at) = secret_in(&text) else {
        return text;
    };
    let mut cleaned = Vec::with_capacity(text.len());
    let mut rest = &text[..];
    loop {
        cleaned.extend_from_slice(&rest[..at.start]);
        cleaned.extend_from_slice(REMOVED.as_bytes());
        rest = &rest[at.end..];
        match secret_in(rest) {
            Some(next) => at = next,
            None => break,
        }
    }
    cleaned.extend_from_slice(rest);
    cleaned
}

/// Where the first API key is. The id alone is no secret: it stays.
fn api_key_in(text: &[u8]) -> Option<Range<usize>> {
    let begins = text.windows(API_KEY.len()).enumerate();
    let mut begins = begins.filter(|(_, window)| window.eq_ignore_ascii_case(API_KEY));
    begins.find_map(|(start, _)| {
        let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let behind = start + API_KEY.len();
        let id = digits(&text[behind..]);
        let secret = text[behind + id..].strip_prefix(b"_")?;
        // What another key right behind it begins with are digits too.
        let count = digits(secret).min(2 * KEY_SECRET_BYTES);
        (count >= DIGITS_MIN).then(|| start..behind + id + 1 + count)
    })
}

/// Where the first token is.
fn token_in(text: &[u8]) -> Option<Range<usize>> {
    let begins = text.windows(TOKEN.len()).enumerate();
    let mut begins = begins.filter(|(_, window)| window.eq_ignore_ascii_case(TOKEN));
    begins.find_map(|(start, _)| {
        let digits = &text[start + TOKEN.len()..];
        let count = digits.iter().take_while(|byte| byte.is_ascii_hexdigit());
        let mut count = count.count();
        // What another token right behind it begins with are digits too.
        let behind = count.saturating_sub(TOKEN.len() - 1);
        let next = digits.get(behind..behind + TOKEN.len());
        if next.is_some_and(|next| next.eq_ignore_ascii_case(TOKEN)) {
            count = behind;
        }
        (count >= DIGITS_MIN).then(|| start..start + TOKEN.len() + count)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_token_is_taken_out_wherever_it_stands() {
        let token = format!("fb-{}", "0a".repeat(20));
        for (text, left) in [
            (format!("token={token} x"), "token=(removed) x"),
            (format!("{token}{token}"), "(removed)(removed)"),
            (token.to_uppercase(), "(removed)"),
            ("fb-… and fb-12 stay".to_owned(), "fb-… and fb-12 stay"),
            (String::new(), ""),
        ] {
            assert_eq!(clean(text.clone().into_bytes()), left.as_bytes(), "{text}");
        }
    }

    #[test]
    fn an_api_key_is_taken_out_and_its_id_alone_stays() {
        let key = format!("fbk_0a0a0a0a0a0a_{}", "1b".repeat(32));
        for (text, left) in [
            (format!("Bearer {key} x"), "Bearer (removed) x"),
            (format!("{key}{key}"), "(removed)(removed)"),
            (key.to_uppercase(), "(removed)"),
            (
                "key 0a0a0a0a0a0a stays".to_owned(),
                "key 0a0a0a0a0a0a stays",
            ),
            ("fbk_0a0a0a0a0a0a_".to_owned(), "fbk_0a0a0a0a0a0a_"),
            ("fbk_".to_owned(), "fbk_"),
        ] {
            assert_eq!(clean(text.clone().into_bytes()), left.as_bytes(), "{text}");
        }
        struct Zeros;
        impl crate::world::Entropy for Zeros {
            fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
                bytes.fill(7);
                Ok(())
            }
        }
        let (text, id) = crate::found::new_key(&Zeros).unwrap();
        assert_eq!(model::cluster::access::key_id(&text), Some(id.as_str()));
        assert_eq!(clean(text.into_bytes()), REMOVED.as_bytes());
    }

    #[test]
    fn values_of_keys_that_name_a_secret_are_not_shown() {
        assert_eq!(shown("http.password", "\"x\""), REMOVED);
        assert_eq!(shown("auth.Join_Token", "\"x\""), REMOVED);
        assert_eq!(shown("name", "\"seoul-1\""), "\"seoul-1\"");
        let token = format!("\"fb-{}\"", "1".repeat(40));
        assert_eq!(shown("peers", &token), "\"(removed)\"");
    }

    #[test]
    fn every_new_token_is_known_as_one() {
        struct Zeros;
        impl crate::world::Entropy for Zeros {
            fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
                bytes.fill(7);
                Ok(())
            }
        }
        let token = crate::found::new_token(&Zeros).unwrap();
        assert_eq!(clean(token.into_bytes()), REMOVED.as_bytes());
    }
}
