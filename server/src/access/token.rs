//! Tokens (JWT): verified offline, by the public keys that the cluster keeps of their issuers.
//!
//! A key says which algorithm its signatures have, never a token: `none` and all others are refused.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek as ed25519;
use model::cluster::access::{Issuer, Role};
use model::{id, limits};
use p256::ecdsa;
use p256::ecdsa::signature::Verifier as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::caller::{Roles, Way, Who};
use crate::error::Unknown;

/// By how much the clocks of an issuer and of this node may differ.
const SKEW_MS: u64 = 60_000;
/// Bytes of a token.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What a token says.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    sub: String,
    exp: u64,
    #[serde(default)]
    nbf: u64,
    #[serde(default)]
    tenant: String,
    #[serde(default)]
    roles: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Some(Vec<String>),
}

impl Audience {
    fn has(&self, wanted: &str) -> bool {
        match self {
            Audience::One(one) => one == wanted,
            Audience::Some(some) => some.iter().any(|one| one == wanted),
        }
    }
}

/// What its header says; a key that is named there by value or by address is not looked at.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    /// Extensions that whoever verifies must understand: here is none that does.
    crit: Option<serde::de::IgnoredAny>,
}

/// A public key, which says by itself which algorithm its signatures have.
enum Key {
    EdDsa(ed25519::VerifyingKey),
    Es256(ecdsa::VerifyingKey),
}

impl Key {
    fn algorithm(&self) -> &'static str {
        match self {
            Key::EdDsa(_) => "EdDSA",
            Key::Es256(_) => "ES256",
        }
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Key::EdDsa(key) => ed25519::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            Key::Es256(key) => ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }
}

/// Verifies tokens.
#[derive(Default)]
pub(super) struct Tokens {
    issuers: BTreeMap<String, (Issuer, BTreeMap<String, Key>)>,
}

/// Whether a text is a public key that can verify tokens.
///
/// # Errors
/// Why it is not.
pub fn check_key(text: &str) -> Result<(), String> {
    match read_key(text.trim()) {
        Some(_) => Ok(()),
        None => Err("must be an Ed25519 or P-256 public key, as PEM or JWK".to_owned()),
    }
}

/// What stands before the 32 bytes of an Ed25519 key (RFC 8410), in DER.
const ED25519_DER: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// What stands before the 65 bytes of a P-256 key (RFC 5480), in DER.
const P256_DER: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A public key as JWK (RFC 7517).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
    #[serde(default)]
    y: String,
}

fn read_key(text: &str) -> Option<Key> {
    if text.starts_with('{') {
        let jwk: Jwk = serde_json::from_str(text).ok()?;
        let x = URL_SAFE_NO_PAD.decode(&jwk.x).ok()?;
        return match (jwk.kty.as_str(), jwk.crv.as_str()) {
            ("OKP", "Ed25519") => ed25519_key(&x),
            ("EC", "P-256") => {
                let y = URL_SAFE_NO_PAD.decode(&jwk.y).ok()?;
                p256_key(&[&[4], &x[..], &y[..]].concat())
            }
            (_, _) => None,
        };
    }
    let armoured = text.strip_prefix("-----BEGIN PUBLIC KEY-----")?;
    let armoured = armoured.strip_suffix("-----END PUBLIC KEY-----")?;
    let plain: String = armoured.split_ascii_whitespace().collect();
    let der = STANDARD.decode(plain).ok()?;
    match (der.strip_prefix(&ED25519_DER), der.strip_prefix(&P256_DER)) {
        (Some(key), _) => ed25519_key(key),
        (None, Some(key)) => p256_key(key),
        (None, None) => None,
    }
}

fn ed25519_key(bytes: &[u8]) -> Option<Key> {
    let bytes = <[u8; 32]>::try_from(bytes).ok()?;
    ed25519::VerifyingKey::from_bytes(&bytes)
        .ok()
        .map(Key::EdDsa)
}

fn p256_key(point: &[u8]) -> Option<Key> {
    ecdsa::VerifyingKey::from_sec1_bytes(point)
        .ok()
        .map(Key::Es256)
}

fn part<T: DeserializeOwned>(encoded: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

impl Tokens {
    /// Of these issuers. A key that cannot be read verifies nothing.
    pub(super) fn of(issuers: &[Issuer]) -> Tokens {
        let issuers = issuers.iter().map(|issuer| {
            let keys = issuer.keys.iter().filter_map(|one| {
                let key = read_key(one.key.trim())?;
                Some((one.kid.clone(), key))
            });
            let keys: BTreeMap<String, Key> = keys.collect();
            (issuer.name.clone(), (issuer.clone(), keys))
        });
        Tokens {
            issuers: issuers.collect(),
        }
    }

    /// Who brings this token.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn verify(&self, text: &str, now_ms: u64) -> Result<Who, Unknown> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(Unknown::Invalid("the token is too long"));
        }
        let not_one = || Unknown::Invalid("it is neither an API key nor a signed token");
        let (message, signature) = text.rsplit_once('.').ok_or_else(not_one)?;
        let (header, said) = message.split_once('.').ok_or_else(not_one)?;
        let header: Header = part(header).ok_or_else(not_one)?;
        let claims: Claims = part(said).ok_or(Unknown::Invalid(
            "the token lacks claims, or they are wrong",
        ))?;
        let Some((issuer, keys)) = self.issuers.get(&claims.iss) else {
            return Err(Unknown::Invalid("the token is of an unknown issuer"));
        };
        let Some(key) = keys.get(&header.kid) else {
            return Err(Unknown::Invalid("the token is signed by an unknown key"));
        };
        if header.alg != key.algorithm() || header.crit.is_some() {
            return Err(Unknown::Invalid(
                "the token's algorithm is not that of its key",
            ));
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| not_one())?;
        // Nothing that it says counts before this.
        if !key.has_signed(message.as_bytes(), &signature) {
            return Err(Unknown::Invalid("the token's signature is wrong"));
        }
        judged(issuer, claims, now_ms)
    }
}

fn judged(issuer: &Issuer, claims: Claims, now_ms: u64) -> Result<Who, Unknown> {
    if claims.iss != issuer.name || !claims.aud.has(&issuer.audience) {
        return Err(Unknown::Invalid("the token is for another audience"));
    }
    if claims.sub.is_empty() || claims.sub.len() > limits::SENDER_BYTES_MAX {
        return Err(Unknown::Invalid("the token's sub is empty or too long"));
    }
    let ms = |seconds: u64| seconds.saturating_mul(1_000);
    if ms(claims.nbf) > now_ms.saturating_add(SKEW_MS) {
        return Err(Unknown::Invalid("the token is not valid yet"));
    }
    let expires_ms = ms(claims.exp).saturating_add(SKEW_MS);
    if now_ms >= expires_ms {
        return Err(Unknown::Expired);
    }
    let tenant = match (issuer.tenant.as_str(), claims.tenant.as_str()) {
        ("", own) => own,
        (fixed, "") => fixed,
        (fixed, own) if fixed == own => fixed,
        (_, _) => {
            return Err(Unknown::Invalid(
                "the token names another tenant than its issuer's",
            ));
        }
    };
    if !tenant.is_empty() && id::segment("tenant", tenant).is_err() {
        return Err(Unknown::Invalid("the token's tenant is no name"));
    }
    // Who names no tenant may see no tenant's data; who names one, nothing of the cluster.
    let roles = claims.roles.iter().filter_map(|name| Role::parse(name));
    let roles = roles.filter(|role| {
        issuer.roles.contains(&(*role as i32)) && role.is_of_tenants() != tenant.is_empty()
    });
    Ok(Who {
        roles: Roles::of(roles),
        tenant: tenant.to_owned(),
        sender: issuer.enforce_sender.then(|| claims.sub.clone()),
        name: format!("{} of {}", claims.sub, issuer.name),
        expires_ms,
        way: Way::Token(issuer.name.clone()),
    })
}
