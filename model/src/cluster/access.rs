//! Who may call: API keys, and issuers whose tokens are believed. Of a key only a hash is kept.
//! Disk and wire formats: tags are permanent.

use bytes::Bytes;
use prost::Message;

use super::ClusterState;
use super::decide::refused;
use crate::command::{Reason, Refusal};
use crate::id;
use crate::limits::{
    API_KEYS_MAX, AUDIENCE_BYTES_MAX, ISSUER_KEY_BYTES_MAX, ISSUER_KEYS_MAX, ISSUERS_MAX,
    NAME_SEGMENT_BYTES_MAX,
};
use crate::rules;

/// What every API key begins with; `<id>_<64 hexadecimal digits>` follows.
pub const KEY_PREFIX: &str = "fbk_";
/// Digits of a key's id.
pub const KEY_ID_DIGITS: usize = 12;
/// Random bytes of a key.
pub const KEY_SECRET_BYTES: usize = 32;
/// Bytes of the hash of a key.
pub const KEY_HASH_BYTES: usize = 32;
/// Apart from other uses of BLAKE3's key derivation.
const HASH_CONTEXT: &str = "firebreak 2026-12-01 hash of an API key";

/// Who may call.
#[derive(Clone, PartialEq, Message)]
pub struct Access {
    /// Sorted by id. Revoked ones stay, so that who uses one is told so, until room is needed.
    #[prost(message, repeated, tag = "1")]
    pub keys: Vec<Key>,
    /// Sorted by name.
    #[prost(message, repeated, tag = "2")]
    pub issuers: Vec<Issuer>,
}

/// An API key.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Key {
    /// [`KEY_ID_DIGITS`] hexadecimal digits: a part of the key that is no secret.
    #[prost(string, tag = "1")]
    pub id: String,
    /// [`key_hash`] of the whole text, [`KEY_HASH_BYTES`].
    #[prost(bytes = "bytes", tag = "2")]
    pub hash: Bytes,
    /// Whose it is, for people.
    #[prost(string, tag = "3")]
    pub label: String,
    /// The one tenant whose data it opens; empty = a key of the cluster's operators.
    #[prost(string, tag = "4")]
    pub tenant: String,
    /// [`Role`]s, sorted.
    #[prost(enumeration = "Role", repeated, tag = "5")]
    pub roles: Vec<i32>,
    /// Command time, Unix milliseconds, as are all times here.
    #[prost(uint64, tag = "6")]
    pub created_ms: u64,
    /// From when on it opens nothing; 0 = never.
    #[prost(uint64, tag = "7")]
    pub expires_ms: u64,
    /// When it was revoked; 0 = it was not.
    #[prost(uint64, tag = "8")]
    pub revoked_ms: u64,
}

/// Somebody whose tokens are believed.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Issuer {
    /// What its tokens have in `iss`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What its tokens must have in `aud`.
    #[prost(string, tag = "2")]
    pub audience: String,
    /// Those that sign its tokens.
    #[prost(message, repeated, tag = "3")]
    pub keys: Vec<IssuerKey>,
    /// The one tenant that its tokens are for; empty = each token names its own.
    #[prost(string, tag = "4")]
    pub tenant: String,
    /// The [`Role`]s that its tokens may have, sorted.
    #[prost(enumeration = "Role", repeated, tag = "5")]
    pub roles: Vec<i32>,
    /// Whether the sender of a message, and the user of a reaction, must be the token's `sub`.
    #[prost(bool, tag = "6")]
    pub enforce_sender: bool,
}

/// A public key.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct IssuerKey {
    /// What tokens name it by in `kid`; empty = tokens without one.
    #[prost(string, tag = "1")]
    pub kid: String,
    /// As PEM (`BEGIN PUBLIC KEY`) or JWK: Ed25519 or P-256.
    #[prost(string, tag = "2")]
    pub key: String,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Role {
    /// Never written.
    Unspecified = 0,
    /// Reads conversations.
    Reader = 1,
    /// Reads and appends, edits, reacts.
    Writer = 2,
    /// All that a writer may, and deletes conversations and sets their rules.
    TenantAdmin = 3,
    /// Sees the cluster: status, metrics, drills.
    Viewer = 4,
    /// Sees and changes the cluster.
    Operator = 5,
    /// Sees the cluster, and approves drills.
    DrillApprover = 6,
}

impl Role {
    /// All there are.
    pub const ALL: [Role; 6] = [
        Role::Reader,
        Role::Writer,
        Role::TenantAdmin,
        Role::Viewer,
        Role::Operator,
        Role::DrillApprover,
    ];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Unspecified => "none",
            Role::Reader => "reader",
            Role::Writer => "writer",
            Role::TenantAdmin => "tenant-admin",
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::DrillApprover => "drill-approver",
        }
    }

    /// What people wrote.
    pub fn parse(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether it is about the data of a tenant, rather than about the cluster.
    pub fn is_of_tenants(self) -> bool {
        matches!(self, Role::Reader | Role::Writer | Role::TenantAdmin)
    }

    /// Whether who has this role may do what `needed` may.
    pub fn includes(self, needed: Role) -> bool {
        self == needed
            || match self {
                Role::TenantAdmin => matches!(needed, Role::Reader | Role::Writer),
                Role::Writer => needed == Role::Reader,
                Role::Operator | Role::DrillApprover => needed == Role::Viewer,
                Role::Unspecified | Role::Reader | Role::Viewer => false,
            }
    }
}

/// The hash of an API key in one cluster: the same key is another hash elsewhere.
pub fn key_hash(cluster_id: &str, text: &str) -> Bytes {
    let key = blake3::derive_key(HASH_CONTEXT, cluster_id.as_bytes());
    Bytes::copy_from_slice(blake3::keyed_hash(&key, text.as_bytes()).as_bytes())
}

/// Whether two hashes are the same, in a time that does not tell where they differ.
pub fn same_hash(a: &[u8], b: &[u8]) -> bool {
    match (<[u8; 32]>::try_from(a), <[u8; 32]>::try_from(b)) {
        // Compared in constant time.
        (Ok(a), Ok(b)) => blake3::Hash::from(a) == blake3::Hash::from(b),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// The id in the text of an API key; `None` when it is none.
pub fn key_id(text: &str) -> Option<&str> {
    let (id, secret) = text.strip_prefix(KEY_PREFIX)?.split_once('_')?;
    let digits = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let right = id.len() == KEY_ID_DIGITS && secret.len() == 2 * KEY_SECRET_BYTES;
    (right && digits(id) && digits(secret)).then_some(id)
}

impl Access {
    /// The key with this id.
    pub fn key(&self, id: &str) -> Option<&Key> {
        let place = self.keys.binary_search_by(|key| key.id.as_str().cmp(id));
        self.keys.get(place.ok()?)
    }

    /// The issuer of this name.
    pub fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.issuers.iter().find(|issuer| issuer.name == name)
    }
}

impl Key {
    /// Whether it opens nothing any more at this time, though nobody revoked it.
    pub fn has_expired(&self, now_ms: u64) -> bool {
        self.expires_ms > 0 && now_ms >= self.expires_ms
    }
}

/// Takes a new key in. The same one again changes nothing.
pub(super) fn create(state: &mut ClusterState, key: &Key, now_ms: u64) -> Result<u64, Refusal> {
    check(key, now_ms)?;
    let access = state.access.get_or_insert_default();
    let place = access.keys.binary_search_by(|held| held.id.cmp(&key.id));
    let place = match place {
        Ok(place) => {
            let same = access
                .keys
                .get(place)
                .is_some_and(|held| held.hash == key.hash);
            return match same {
                true => Ok(0),
                false => Err(Refusal::new(
                    Reason::AlreadyExists,
                    format!("there is a key {} already", key.id),
                )),
            };
        }
        Err(place) => place,
    };
    let mut new = key.clone();
    new.created_ms = now_ms;
    new.revoked_ms = 0;
    access.keys.insert(place, new);
    if access.keys.len() > API_KEYS_MAX {
        let dead = |held: &&Key| held.revoked_ms > 0 || held.has_expired(now_ms);
        let oldest = access
            .keys
            .iter()
            .filter(dead)
            .min_by_key(|held| held.created_ms);
        let Some(oldest) = oldest.map(|held| held.id.clone()) else {
            access.keys.remove(place);
            return Err(refused(format!(
                "the cluster has its {API_KEYS_MAX} keys: revoke some"
            )));
        };
        access.keys.retain(|held| held.id != oldest);
    }
    state.epoch += 1;
    Ok(0)
}

fn check(key: &Key, now_ms: u64) -> Result<(), Refusal> {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if key.id.len() != KEY_ID_DIGITS || !key.id.bytes().all(digit) {
        return Err(refused(format!(
            "a key's id has {KEY_ID_DIGITS} hexadecimal digits"
        )));
    }
    if key.hash.len() != KEY_HASH_BYTES {
        return Err(refused(format!("a key's hash has {KEY_HASH_BYTES} bytes")));
    }
    if let Some(why) = rules::text(&key.label, 1, NAME_SEGMENT_BYTES_MAX) {
        return Err(refused(format!("the key's label {why}")));
    }
    if key.has_expired(now_ms) {
        return Err(refused("the key would have expired already"));
    }
    roles_of(&key.tenant, &key.roles)
}

/// Whether these roles may be given for a tenant, or for none.
fn roles_of(tenant: &str, roles: &[i32]) -> Result<(), Refusal> {
    if !tenant.is_empty() {
        id::segment("tenant", tenant).map_err(|error| refused(error.to_string()))?;
    }
    if roles.is_empty() {
        return Err(refused("at least one role must be given"));
    }
    if roles.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(refused("the roles are sorted, each named once"));
    }
    for role in roles {
        let known = Role::try_from(*role)
            .ok()
            .filter(|role| *role != Role::Unspecified);
        let Some(role) = known else {
            return Err(refused(format!("{role} is no role")));
        };
        if !tenant.is_empty() && !role.is_of_tenants() {
            return Err(refused(format!(
                "the role {} is for keys without a tenant",
                role.name()
            )));
        }
    }
    Ok(())
}

/// Has a key open nothing from now on.
pub(super) fn revoke(state: &mut ClusterState, id: &str, now_ms: u64) -> Result<u64, Refusal> {
    let keys = state.access.as_mut().map(|access| &mut access.keys);
    let held = keys.and_then(|keys| keys.iter_mut().find(|key| key.id == id));
    let Some(held) = held else {
        return Err(refused(format!("there is no key {id:?}")));
    };
    if held.revoked_ms == 0 {
        held.revoked_ms = now_ms.max(1);
        state.epoch += 1;
    }
    Ok(0)
}

/// Believes an issuer, in place of the one of this name.
pub(super) fn believe(state: &mut ClusterState, wanted: &Issuer) -> Result<u64, Refusal> {
    for (what, text) in [("name", &wanted.name), ("audience", &wanted.audience)] {
        if let Some(why) = rules::text(text, 1, AUDIENCE_BYTES_MAX) {
            return Err(refused(format!("the issuer's {what} {why}")));
        }
    }
    if wanted.keys.is_empty() || wanted.keys.len() > ISSUER_KEYS_MAX {
        return Err(refused(format!(
            "an issuer has 1 to {ISSUER_KEYS_MAX} keys"
        )));
    }
    for (at, key) in wanted.keys.iter().enumerate() {
        if key.key.is_empty() || key.key.len() > ISSUER_KEY_BYTES_MAX {
            return Err(refused(format!(
                "an issuer's key has 1 to {ISSUER_KEY_BYTES_MAX} bytes"
            )));
        }
        if let Some(why) = rules::text(&key.kid, 0, NAME_SEGMENT_BYTES_MAX) {
            return Err(refused(format!("the key's kid {why}")));
        }
        if wanted
            .keys
            .iter()
            .take(at)
            .any(|other| other.kid == key.kid)
        {
            return Err(refused(format!("two keys have the kid {:?}", key.kid)));
        }
    }
    roles_of(&wanted.tenant, &wanted.roles)?;
    let access = state.access.get_or_insert_default();
    let place = access
        .issuers
        .binary_search_by(|held| held.name.cmp(&wanted.name));
    match place {
        Ok(place) if access.issuers.get(place) == Some(wanted) => return Ok(0),
        Ok(place) => access.issuers[place] = wanted.clone(),
        Err(_) if access.issuers.len() >= ISSUERS_MAX => {
            return Err(refused(format!(
                "the cluster has its {ISSUERS_MAX} issuers"
            )));
        }
        Err(place) => access.issuers.insert(place, wanted.clone()),
    }
    state.epoch += 1;
    Ok(0)
}

/// Believes an issuer no more. One that is not there is none already.
pub(super) fn disbelieve(state: &mut ClusterState, name: &str) -> Result<u64, Refusal> {
    if let Some(access) = state.access.as_mut() {
        let before = access.issuers.len();
        access.issuers.retain(|issuer| issuer.name != name);
        state.epoch += u64::from(access.issuers.len() < before);
    }
    Ok(0)
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
