//! The stable hashes. What they give is on disk, so none of them may ever change.

use bytes::Bytes;
use prost::Message;
use xxhash_rust::xxh3::xxh3_128;

use crate::command::NewMessage;
use crate::id::ConversationKey;

/// The key of a conversation: blake3 of `tenant \0 conversation`, cut to 16 bytes. Collision
/// resistant, since tenants choose the names and must not be able to reach each other's records.
pub fn conversation_key(tenant: &str, conversation: &str) -> ConversationKey {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(tenant.as_bytes())
        .update(&[0])
        .update(conversation.as_bytes());
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    ConversationKey(key)
}

/// Names (sender, client_message_id) inside a conversation, cut to 16 bytes. blake3, since a
/// sender must not be able to find an id that passes for another sender's.
pub fn dedup_id(sender: &[u8], client_message_id: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(sender).update(&[0]).update(client_message_id);
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    id
}

/// The hash of a request, by which a retry is told from other content under the same id.
pub fn request_hash(message: &NewMessage) -> Bytes {
    Bytes::copy_from_slice(&xxh3_128(&message.encode_to_vec()).to_le_bytes())
}

/// Names a request (other than an append) inside a conversation. No sender is empty, so that it never names
/// a message.
pub fn request_id(request_id: &[u8]) -> [u8; 16] {
    dedup_id(b"", request_id)
}

/// The hash of a request that changes a message, keyed with a salt: without it the hash says nothing about
/// the request.
pub fn salted_hash(salt: &[u8], request: &[u8]) -> Bytes {
    let mut hasher = blake3::Hasher::new();
    let length = salt.len() as u64;
    hasher.update(&length.to_le_bytes()).update(salt);
    hasher.update(request);
    Bytes::copy_from_slice(&hasher.finalize().as_bytes()[..16])
}

/// Names (user, kind) among the reactions to a message: the user first, so that one user's are a range.
pub fn reaction_id(user: &[u8], kind: &[u8]) -> [u8; 32] {
    let mut id = [0; 32];
    id[..16].copy_from_slice(&blake3::hash(user).as_bytes()[..16]);
    id[16..].copy_from_slice(&blake3::hash(kind).as_bytes()[..16]);
    id
}

/// The hash of one stored message record, for the order-free content hash.
pub fn record_hash(record: &[u8]) -> u128 {
    xxh3_128(record)
}

/// The hash of a join token, as the meta shard keeps it.
pub fn token_hash(token: &str) -> Bytes {
    Bytes::copy_from_slice(blake3::hash(token.as_bytes()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_never_change() {
        assert_eq!(
            format!("{:02x?}", conversation_key("acme", "room").0),
            format!("{:02x?}", conversation_key("acme", "room").0)
        );
        assert_ne!(conversation_key("a", "bc"), conversation_key("ab", "c"));
    }
}
