//! What nodes join with. Of a token only a hash is kept, as of an API key; versions before kept the text
//! of the one token there was. Disk and wire formats: tags are permanent.

use bytes::Bytes;
use prost::Message;

use super::ClusterState;
use super::access::same_hash;
use super::decide::{TOKEN_HASH_BYTES, refused};
use crate::command::{Reason, Refusal};
use crate::limits::{JOIN_TOKENS_MAX, NAME_SEGMENT_BYTES_MAX};
use crate::{id, rules};

/// Bytes of a host's name.
const HOST_BYTES_MAX: usize = 253;
/// Bytes of its hash that name a token: 8 digits.
const ID_BYTES: usize = 4;

/// What nodes join with.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Token {
    /// [`token_hash`](crate::hash::token_hash) of the text.
    #[prost(bytes = "bytes", tag = "1")]
    pub hash: Bytes,
    /// What it is for, for people.
    #[prost(string, tag = "2")]
    pub label: String,
    /// Command time, Unix milliseconds.
    #[prost(uint64, tag = "3")]
    pub created_ms: u64,
    /// Command time from which it lets nobody in, Unix milliseconds; 0 = never.
    #[prost(uint64, tag = "4")]
    pub expires_ms: u64,
    /// The one node that it lets in, and gives a certificate to; empty = any node, and no certificate.
    #[prost(string, tag = "5")]
    pub node: String,
    /// Of that certificate: where clients reach the node.
    #[prost(string, tag = "6")]
    pub host: String,
}

/// Takes a token in.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NewToken {
    /// The token.
    #[prost(message, optional, tag = "1")]
    pub token: Option<Token>,
    /// Every other one lets nobody in any more.
    #[prost(bool, tag = "2")]
    pub alone: bool,
}

impl Token {
    /// What people name it by: it is no secret.
    pub fn id(&self) -> String {
        id_of(&self.hash)
    }

    /// Whether it lets nobody in at this time.
    pub fn has_expired(&self, now_ms: u64) -> bool {
        self.expires_ms > 0 && now_ms >= self.expires_ms
    }
}

/// What a token is named by, from its text.
pub fn token_id(text: &str) -> String {
    id_of(&crate::hash::token_hash(text))
}

/// Whether a text may name a token.
pub fn is_token_id(text: &str) -> bool {
    text.len() == 2 * ID_BYTES && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn id_of(hash: &[u8]) -> String {
    let first = hash.iter().take(ID_BYTES);
    first.map(|byte| format!("{byte:02x}")).collect()
}

impl ClusterState {
    /// The tokens there are, the cluster's first one before the others, those that have expired among them.
    pub fn tokens(&self) -> Vec<Token> {
        let first = (!self.token_hash.is_empty()).then(|| Token {
            hash: self.token_hash.clone(),
            expires_ms: self.join_token.as_ref().map_or(0, |told| told.expires_ms),
            ..Token::default()
        });
        first.into_iter().chain(self.tokens.clone()).collect()
    }

    /// The token with this hash.
    pub fn token(&self, hash: &[u8]) -> Option<Token> {
        let mut all = self.tokens().into_iter();
        all.find(|token| same_hash(&token.hash, hash))
    }
}

/// Takes a new token in. The same one again changes nothing.
pub(super) fn create(
    state: &mut ClusterState,
    new: &NewToken,
    now_ms: u64,
) -> Result<u64, Refusal> {
    let wanted = new
        .token
        .as_ref()
        .ok_or_else(|| refused("a new token without a token"))?;
    if wanted.hash.len() != TOKEN_HASH_BYTES {
        return Err(refused(format!(
            "a token's hash has {TOKEN_HASH_BYTES} bytes"
        )));
    }
    if let Some(why) = rules::text(&wanted.label, 0, NAME_SEGMENT_BYTES_MAX) {
        return Err(refused(format!("the token's label {why}")));
    }
    if wanted.node.is_empty() != wanted.host.is_empty() {
        return Err(refused("a token for one node says its name and its host"));
    }
    if !wanted.node.is_empty() {
        id::segment("node", &wanted.node).map_err(|error| refused(error.to_string()))?;
        if let Some(why) = rules::text(&wanted.host, 1, HOST_BYTES_MAX) {
            return Err(refused(format!("the token's host {why}")));
        }
    }
    let held = state.tokens().into_iter();
    if let Some(held) = held.into_iter().find(|held| held.id() == wanted.id()) {
        if held.hash == wanted.hash {
            return Ok(0);
        }
        let text = format!("there is a token {} already: make another", held.id());
        return Err(Refusal::new(Reason::AlreadyExists, text));
    }
    if new.alone {
        state.tokens.clear();
        forget_first(state);
    }
    state.tokens.retain(|held| !held.has_expired(now_ms));
    if state.tokens.len() >= JOIN_TOKENS_MAX {
        return Err(refused(format!(
            "the cluster has its {JOIN_TOKENS_MAX} tokens: revoke some"
        )));
    }
    state.tokens.push(Token {
        created_ms: now_ms,
        ..wanted.clone()
    });
    state.epoch += 1;
    Ok(0)
}

/// Has a token let nobody in any more.
pub(super) fn revoke(state: &mut ClusterState, wanted: &str) -> Result<u64, Refusal> {
    let before = state.tokens().len();
    state.tokens.retain(|held| held.id() != wanted);
    if id_of(&state.token_hash) == wanted {
        forget_first(state);
    }
    if state.tokens().len() == before {
        return Err(refused(format!(
            "there is no token {wanted}: `firebreak token list` names them"
        )));
    }
    state.epoch += 1;
    Ok(0)
}

fn forget_first(state: &mut ClusterState) {
    state.token_hash = Bytes::new();
    state.join_token = None;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::token_hash;

    fn new(text: &str, expires_ms: u64) -> NewToken {
        NewToken {
            token: Some(Token {
                hash: token_hash(text),
                label: "rack 7".to_owned(),
                expires_ms,
                ..Token::default()
            }),
            alone: false,
        }
    }

    fn founded() -> ClusterState {
        ClusterState {
            epoch: 1,
            token_hash: token_hash("first"),
            ..ClusterState::default()
        }
    }

    fn takes(state: &ClusterState, text: &str) -> bool {
        state.takes_token(&token_hash(text))
    }

    #[test]
    fn tokens_stand_beside_each_other_and_each_is_revoked_by_itself() {
        let mut state = founded();
        create(&mut state, &new("one", 0), 5).unwrap();
        create(&mut state, &new("two", 9), 5).unwrap();
        create(&mut state, &new("two", 9), 6).unwrap();
        assert_eq!(state.epoch, 3);
        assert!(takes(&state, "first") && takes(&state, "one") && takes(&state, "two"));
        assert!(!takes(&state, "three"));
        let listed = state.tokens();
        assert_eq!(listed.len(), 3);
        assert_eq!((listed[1].created_ms, listed[2].expires_ms), (5, 9));
        revoke(&mut state, &listed[1].id()).unwrap();
        assert!(takes(&state, "first") && !takes(&state, "one") && takes(&state, "two"));
        revoke(&mut state, &listed[0].id()).unwrap();
        assert!(!takes(&state, "first") && takes(&state, "two"));
        revoke(&mut state, &listed[0].id()).unwrap_err();
    }

    #[test]
    fn one_that_is_to_be_alone_takes_the_place_of_all() {
        let mut state = founded();
        create(&mut state, &new("one", 0), 5).unwrap();
        let alone = NewToken {
            alone: true,
            ..new("two", 0)
        };
        create(&mut state, &alone, 5).unwrap();
        assert!(!takes(&state, "first") && !takes(&state, "one") && takes(&state, "two"));
    }

    #[test]
    fn there_is_a_bound_and_those_that_expired_make_room() {
        let mut state = founded();
        for turn in 0..JOIN_TOKENS_MAX {
            let expires_ms = if turn == 0 { 7 } else { 0 };
            create(&mut state, &new(&format!("t{turn}"), expires_ms), 5).unwrap();
        }
        assert!(create(&mut state, &new("more", 0), 6).is_err());
        create(&mut state, &new("more", 0), 7).unwrap();
        assert!(!takes(&state, "t0") && takes(&state, "more"));
        let of = |node: &str, host: &str| {
            let mut new = new("for one", 0);
            let token = new.token.as_mut().unwrap();
            (token.node, token.host) = (node.to_owned(), host.to_owned());
            create(&mut state, &new, 7).is_err()
        };
        let mut of = of;
        assert!(of("n", "") && of("", "h") && of("a/b", "h"));
        let short = NewToken {
            token: Some(Token::default()),
            alone: false,
        };
        assert!(create(&mut state, &short, 5).is_err());
    }
}
