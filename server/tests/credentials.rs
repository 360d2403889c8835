//! Who is let in by which credential, and who is not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use firebreak_server as server;
use model::cluster::ClusterState;
use model::cluster::access::Role;
use model::cluster::access::{Access, Issuer, IssuerKey, Key, key_hash};
use proto::FORWARDED;
use serde_json::{Value, json};
use server::access::{Asks, Caller, Doors, Parts, Who, actor, check_key, session};
use server::error::{Failure, Unknown};
use tokio::sync::watch;
use tonic::codegen::http::{HeaderMap, header};

const NOW_MS: u64 = 1_700_000_000_000;
const TEXT: &str =
    "fbk_0a0a0a0a0a0a_1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b";
const ED: Secret = Secret::Ed(7);
/// Of nobody whom the cluster knows.
const OTHER: Secret = Secret::Ed(8);

fn ed_public() -> String {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
    let x = B64.encode(key.to_bytes());
    json!({ "kty": "OKP", "crv": "Ed25519", "x": x }).to_string()
}

fn ec_public() -> String {
    let key = p256::ecdsa::SigningKey::from_slice(&[5; 32]).unwrap();
    let point = key.verifying_key().to_sec1_point(false);
    let [x, y] = [&point.as_bytes()[1..33], &point.as_bytes()[33..]].map(|part| B64.encode(part));
    json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y }).to_string()
}

/// Stands for what nodes prove themselves with.
const PROOF: &str = "firebreak-proof";

struct Still;

impl raft::Clock for Still {
    fn unix_ms(&self) -> u64 {
        NOW_MS
    }
}

/// Doors of a node that knows this cluster.
fn doors(required: bool, view: watch::Receiver<Arc<ClusterState>>) -> Arc<Doors> {
    Doors::new(Parts {
        required,
        view,
        clock: Arc::new(Still),
        cluster_id: "c1".into(),
        vouches: Arc::new(|headers| headers.contains_key(PROOF)),
        book: None,
        session_key: [7; 32],
    })
}

fn key() -> Key {
    Key {
        id: "0a0a0a0a0a0a".into(),
        hash: key_hash("c1", TEXT),
        label: "chat".into(),
        tenant: "kakao".into(),
        roles: vec![Role::Writer as i32],
        ..Key::default()
    }
}

fn issuer() -> Issuer {
    let key = |kid: &str, key: &str| IssuerKey {
        kid: kid.into(),
        key: key.into(),
    };
    Issuer {
        name: "login".into(),
        audience: "chat".into(),
        keys: vec![key("ed", &ed_public()), key("ec", &ec_public())],
        tenant: "kakao".into(),
        roles: vec![Role::Reader as i32, Role::Writer as i32],
        enforce_sender: true,
    }
}

fn view(key: Key, issuer: Issuer) -> watch::Sender<Arc<ClusterState>> {
    watch::Sender::new(Arc::new(ClusterState {
        epoch: 5,
        access: Some(Access {
            keys: vec![key],
            issuers: vec![issuer],
        }),
        ..ClusterState::default()
    }))
}

fn headers(credential: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if !credential.is_empty() {
        let value = format!("Bearer {credential}").parse().unwrap();
        headers.insert(header::AUTHORIZATION, value);
    }
    headers
}

fn asks<'r>(path: &'r str, headers: &'r HeaderMap) -> Asks<'r> {
    Asks {
        path,
        headers,
        from: None,
        local: false,
    }
}

const APPEND: &str = "/firebreak.v1.Messages/AppendMessage";
const POLICY: &str = "/firebreak.v1.Admin/SetPolicy";

/// The reason for which a required node refuses; empty when it lets in.
fn reason(doors: &Doors, path: &str, headers: &HeaderMap) -> &'static str {
    doors
        .enter(asks(path, headers))
        .map_or_else(|failure| failure.reason(), |_| "")
}

fn of_key(key: Key, path: &str, credential: &str) -> &'static str {
    let doors = doors(true, view(key, issuer()).subscribe());
    reason(&doors, path, &headers(credential))
}

#[test]
fn a_key_opens_what_its_roles_say_and_whatever_else_is_given_opens_nothing() {
    assert_eq!(of_key(key(), APPEND, TEXT), "");
    assert_eq!(of_key(key(), POLICY, TEXT), "ROLE_MISSING");
    assert_eq!(of_key(key(), APPEND, ""), "CREDENTIALS_MISSING");
    assert_eq!(of_key(key(), POLICY, ""), "CREDENTIALS_MISSING");
    for wrong in [
        "x",
        "fbk_",
        &TEXT.replace("1b", "1c"),
        &TEXT.replace("0a", "0b"),
        &TEXT[..TEXT.len() - 1],
        "a.b.c",
    ] {
        assert_eq!(
            of_key(key(), APPEND, wrong),
            "CREDENTIALS_INVALID",
            "{wrong}"
        );
    }
    let expired = Key {
        expires_ms: NOW_MS,
        ..key()
    };
    assert_eq!(of_key(expired.clone(), APPEND, TEXT), "CREDENTIALS_EXPIRED");
    let revoked = Key {
        revoked_ms: 1,
        ..key()
    };
    assert_eq!(of_key(revoked, APPEND, TEXT), "CREDENTIALS_REVOKED");
    // Who does not have the secret hears nothing about the key.
    let guessed = TEXT.replace("1b", "1c");
    assert_eq!(of_key(expired, APPEND, &guessed), "CREDENTIALS_INVALID");
}

#[test]
fn what_is_no_method_is_refused_to_strangers_and_health_is_not() {
    let doors = doors(true, view(key(), issuer()).subscribe());
    let none = headers("");
    for open in [
        "/livez",
        "/",
        "/grpc.health.v1.Health/Check",
        "/firebreak.v1.Admin/JoinNode",
        "/firebreak.node.v1.Peer/Link",
    ] {
        assert_eq!(reason(&doors, open, &none), "", "{open}");
    }
    for closed in [
        "/firebreak.v1.Messages/Nothing",
        "/firebreak.v2.Messages/AppendMessage",
        "/metrics",
        "/api/now",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/firebreak.v1.Admin/GetStatus",
    ] {
        assert_eq!(
            reason(&doors, closed, &none),
            "CREDENTIALS_MISSING",
            "{closed}"
        );
    }
}

#[test]
fn a_node_is_believed_where_nodes_forward_and_nowhere_else() {
    let doors = doors(true, view(key(), issuer()).subscribe());
    let mut forwarded = HeaderMap::new();
    forwarded.insert(FORWARDED, "1".parse().unwrap());
    assert_eq!(
        reason(&doors, "/firebreak.v1.Messages/ListMessages", &forwarded),
        "CREDENTIALS_MISSING",
        "it only says so"
    );
    forwarded.insert(PROOF, "1".parse().unwrap());
    assert_eq!(
        reason(&doors, "/firebreak.v1.Messages/ListMessages", &forwarded),
        ""
    );
    for path in [APPEND, POLICY, "/firebreak.v1.Access/CreateKey"] {
        assert_eq!(
            reason(&doors, path, &forwarded),
            "CREDENTIALS_MISSING",
            "{path}"
        );
    }
}

#[test]
fn the_local_socket_opens_everything() {
    let doors = doors(true, view(key(), issuer()).subscribe());
    let none = headers("");
    let caller = doors.enter(Asks {
        local: true,
        ..asks(POLICY, &none)
    });
    let caller = caller.unwrap();
    assert_eq!(actor(&caller, Role::Operator).from, "the local socket");
    assert!(caller.has(Role::Operator) && caller.sees("kakao").is_ok());
}

#[test]
fn an_open_node_lets_everybody_in_and_a_credential_only_names_them() {
    let doors = doors(false, view(key(), issuer()).subscribe());
    for (credential, who) in [("", "anyone"), ("nonsense", "anyone"), (TEXT, "chat")] {
        let headers = headers(credential);
        let caller = doors.enter(asks(POLICY, &headers)).unwrap();
        assert!(caller.has(Role::Operator) && caller.sees("other").is_ok());
        assert!(caller.who.name.contains(who), "{}", caller.who.name);
    }
}

#[test]
fn who_came_past_the_doors_may_nothing() {
    let caller = Caller::default();
    assert!(caller.sees("kakao").is_err() && caller.needs(Role::Viewer).is_err());
}

fn claims() -> Value {
    json!({
        "iss": "login", "aud": "chat", "sub": "ann", "exp": NOW_MS / 1_000 + 600,
        "roles": ["reader", "writer", "operator", "king"],
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

/// A key's secret part.
#[derive(Clone, Copy)]
enum Secret {
    Ed(u8),
    Ec,
}

impl Secret {
    fn sign(self, message: &[u8]) -> Vec<u8> {
        use p256::ecdsa::signature::Signer as _;
        match self {
            Secret::Ed(seed) => {
                let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
                key.sign(message).to_bytes().to_vec()
            }
            Secret::Ec => {
                let key = p256::ecdsa::SigningKey::from_slice(&[5; 32]).unwrap();
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_bytes().to_vec()
            }
        }
    }
}

fn signed(alg: &str, kid: &str, secret: Secret, claims: &Value) -> String {
    let header = B64.encode(json!({ "alg": alg, "kid": kid }).to_string());
    let message = format!("{header}.{}", B64.encode(claims.to_string()));
    let signature = B64.encode(secret.sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn ed(claims: &Value) -> String {
    signed("EdDSA", "ed", ED, claims)
}

fn verified(token: &str) -> Result<Arc<Who>, Unknown> {
    let doors = doors(true, view(key(), issuer()).subscribe());
    doors.identify(&headers(token))
}

#[test]
fn a_token_says_who_somebody_is_as_far_as_its_issuer_may() {
    for token in [ed(&claims()), signed("ES256", "ec", Secret::Ec, &claims())] {
        let who = verified(&token).unwrap();
        assert_eq!(who.tenant, "kakao");
        assert_eq!(who.roles.names(), ["reader", "writer"]);
        assert_eq!(who.sender.as_deref(), Some("ann"));
    }
    let listed = verified(&ed(&with("aud", json!(["x", "chat"]))));
    assert!(listed.is_ok());
}

#[test]
fn tokens_that_are_forged_too_old_or_for_somebody_else_are_refused() {
    let token = ed(&claims());
    let parts: Vec<&str> = token.split('.').collect();
    let none = |alg: &str| B64.encode(json!({ "alg": alg, "kid": "ed" }).to_string());
    let other = B64.encode(with("sub", json!("bob")).to_string());
    for (wrong, why) in [
        (signed("EdDSA", "ed", OTHER, &claims()), "another's key"),
        (signed("EdDSA", "nobody", ED, &claims()), "unknown kid"),
        (
            signed("EdDSA", "ec", ED, &claims()),
            "the algorithm of another key",
        ),
        (
            format!("{}.{other}.{}", parts[0], parts[2]),
            "changed claims",
        ),
        (format!("{}.{}.", none("none"), parts[1]), "alg none"),
        (
            format!("{}.{}.{}", none("none"), parts[1], parts[2]),
            "alg none, signed",
        ),
        (
            format!("{}.{}.{}", none("HS256"), parts[1], parts[2]),
            "alg HS256",
        ),
        (
            format!("{}.{}.{}", none("XX"), parts[1], parts[2]),
            "unknown alg",
        ),
        (format!("{}.{}.AAAA", parts[0], parts[1]), "short signature"),
        (ed(&with("iss", json!("other"))), "unknown issuer"),
        (ed(&with("aud", json!("other"))), "another audience"),
        (ed(&with("tenant", json!("line"))), "another tenant"),
        (ed(&with("sub", json!(""))), "no user"),
        (ed(&with("nbf", json!(NOW_MS / 1_000 + 61))), "not yet"),
        (ed(&json!({ "iss": "login" })), "claims missing"),
        ("x".repeat(9_000), "too long"),
        ("...".into(), "nothing"),
    ] {
        assert!(
            matches!(verified(&wrong), Err(Unknown::Invalid(_))),
            "{why}"
        );
    }
    let at = |seconds: i64| {
        let exp = (NOW_MS / 1_000).saturating_add_signed(seconds);
        verified(&ed(&with("exp", json!(exp))))
    };
    assert_eq!(at(-60).map(drop), Err(Unknown::Expired));
    assert!(at(-59).is_ok(), "clocks may differ by a minute");
    assert!(at(i64::MAX).is_ok(), "a time that no clock shows");
}

#[test]
fn an_issuer_without_a_tenant_leaves_it_to_tokens_and_who_names_none_sees_no_data() {
    let any = Issuer {
        tenant: String::new(),
        roles: vec![Role::Reader as i32, Role::Viewer as i32],
        ..issuer()
    };
    let doors = doors(true, view(key(), any).subscribe());
    let who = |claims: &Value| doors.identify(&headers(&ed(claims))).unwrap();
    let all = json!(["reader", "viewer", "operator"]);
    let mut claims = with("roles", all);
    assert_eq!(who(&claims).roles.names(), ["viewer"]);
    claims["tenant"] = json!("line");
    let of_tenant = who(&claims);
    assert_eq!(
        (of_tenant.tenant.as_str(), of_tenant.roles.names()),
        ("line", vec!["reader"])
    );
    claims["tenant"] = json!("a/b");
    assert!(doors.identify(&headers(&ed(&claims))).is_err());
}

#[test]
fn a_token_is_looked_at_anew_once_its_issuer_changes() {
    let views = view(key(), issuer());
    let doors = doors(true, views.subscribe());
    let token = headers(&ed(&claims()));
    let who = doors.identify(&token).unwrap();
    assert_eq!(doors.identify(&token).as_ref(), Ok(&who), "remembered");
    assert_eq!(doors.still(&who), Ok(()));
    views.send_modify(|view| {
        let mut next = ClusterState::clone(view);
        next.epoch += 1;
        next.access.as_mut().unwrap().issuers.clear();
        *view = Arc::new(next);
    });
    assert!(doors.identify(&token).is_err());
    assert_eq!(doors.still(&who), Err(Unknown::Revoked));
}

#[tokio::test]
async fn what_a_key_opened_ends_when_it_is_revoked() {
    let views = view(key(), issuer());
    let doors = doors(true, views.subscribe());
    let who = doors.identify(&headers(TEXT)).unwrap();
    let ended = tokio::spawn(doors.clone().ended(who));
    views.send_modify(|view| {
        let mut next = ClusterState::clone(view);
        next.epoch += 1;
        next.access.as_mut().unwrap().keys[0].revoked_ms = 9;
        *view = Arc::new(next);
    });
    assert_eq!(ended.await.unwrap(), Unknown::Revoked);
}

#[test]
fn a_session_is_as_good_as_its_key_and_no_longer() {
    let views = view(key(), issuer());
    let doors = doors(true, views.subscribe());
    let mut headers = HeaderMap::new();
    let cookie = doors.sessions().seal("0a0a0a0a0a0a", NOW_MS);
    let cookie = format!("{}={cookie}", session::COOKIE);
    headers.insert(header::COOKIE, cookie.parse().unwrap());
    assert_eq!(doors.identify(&headers).unwrap().tenant, "kakao");
    views.send_modify(|view| {
        let mut next = ClusterState::clone(view);
        next.access.as_mut().unwrap().keys[0].revoked_ms = 9;
        *view = Arc::new(next);
    });
    assert_eq!(doors.identify(&headers), Err(Unknown::Revoked));
}

#[test]
fn a_caller_sees_its_tenant_alone_and_sends_as_itself() {
    let who = |sender: Option<&str>| {
        let who = Who {
            sender: sender.map(str::to_owned),
            ..Who::of_key(&key())
        };
        Caller::new(Arc::new(who), None, "", None)
    };
    let reason = |may: Result<(), Failure>| may.map_or_else(|f| f.reason(), |()| "");
    assert_eq!(reason(who(None).sees("kakao")), "");
    assert_eq!(reason(who(None).sees("line")), "TENANT_FORBIDDEN");
    assert_eq!(reason(who(None).sends_as("bob")), "");
    assert_eq!(reason(who(Some("ann")).sends_as("ann")), "");
    assert_eq!(reason(who(Some("ann")).sends_as("bob")), "SENDER_FORBIDDEN");
}

#[test]
fn keys_are_read_as_tools_write_them_and_others_are_told() {
    for key in [
        include_str!("keys/ed.pub"),
        include_str!("keys/ec.pub"),
        &ed_public(),
        &ec_public(),
    ] {
        assert_eq!(check_key(key), Ok(()), "{key}");
    }
    let ed = include_str!("keys/ed.pub");
    for wrong in [
        "",
        "{",
        "{}",
        &ed.replace("PUBLIC", "PRIVATE"),
        &ed.replace("MCow", "MCoW"),
        r#"{"kty":"oct","k":"AAAA"}"#,
        r#"{"kty":"EC","crv":"P-384","x":"AAAA","y":"AAAA"}"#,
        r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#,
    ] {
        assert!(check_key(wrong).is_err(), "{wrong}");
    }
}
