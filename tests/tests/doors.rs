//! The doors of real nodes: who is refused, with which code and reason, what the audit says of it, and that
//! nothing else happens.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the processes it starts and waits for run on the real clock"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use client::{Client, Message, v1};
use ed25519_dalek::{Signer as _, SigningKey};
use firebreak::cluster::{Cluster, ClusterPlan};
use firebreak_tests::{CALL_LIMIT, LIMIT, Place, binary};
use serde_json::{Value, json};
use tokio::time::Instant;

const REQUIRED: &str = "\n[auth]\nmode = \"required\"\n";

/// A cluster that lets in nobody without a credential.
async fn required(nodes_per_dc: usize) -> (Place, Cluster) {
    let place = Place::new();
    let mut plan = ClusterPlan::three_dcs(place.path(), &binary(), nodes_per_dc);
    plan.settings.push_str(REQUIRED);
    let cluster = Cluster::start(plan).await.expect("the cluster comes up");
    (place, cluster)
}

fn run_with(cluster: &Cluster, key: Option<&str>, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(args);
    command.env("FIREBREAK_TARGET", cluster.addresses().join(","));
    command.env_remove("FIREBREAK_API_KEY_FILE");
    match key {
        Some(key) => command.env("FIREBREAK_API_KEY", key),
        None => command.env_remove("FIREBREAK_API_KEY"),
    };
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Runs a verb as the first operator; it must succeed. Its standard output.
#[track_caller]
fn verb(cluster: &Cluster, args: &[&str]) -> String {
    let output = run_with(cluster, cluster.operator_key(), args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn verb_json(cluster: &Cluster, args: &[&str]) -> Value {
    serde_json::from_str(&verb(cluster, args)).unwrap()
}

/// A new key, as `firebreak key create` prints it.
fn new_key(cluster: &Cluster, args: &[&str]) -> String {
    let args = [&["key", "create", "--label", "test"], args].concat();
    verb(cluster, &args).trim().to_owned()
}

/// A client that calls all nodes with this credential.
fn client(cluster: &Cluster, credential: &str) -> Client {
    let builder = Client::builder().endpoints(cluster.addresses());
    let builder = builder.deadline(CALL_LIMIT);
    let builder = match credential {
        "" => builder,
        credential => builder.api_key(credential),
    };
    builder.build().unwrap()
}

/// Tries until it works: what was decided a moment ago is not known everywhere yet.
async fn soon<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(why) => assert!(Instant::now() < until, "{what}: {why}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn appends(client: &Client, room: &str, sender: &str) -> Result<(), client::Error> {
    client
        .append(room, Message::text(sender, "x"))
        .await
        .map(drop)
}

/// Waits until a credential is known everywhere, and may append.
async fn opens(cluster: &Cluster, credential: &str, room: &str) {
    for node in cluster.nodes() {
        let builder = Client::builder()
            .endpoints([node.address.clone()])
            .discover(false);
        let one = builder
            .api_key(credential)
            .deadline(CALL_LIMIT)
            .build()
            .unwrap();
        soon("a credential opens", async || {
            appends(&one, room, "ann")
                .await
                .map_err(|error| error.to_string())
        })
        .await;
    }
}

/// Waits until no node lets a credential in any more, for this reason.
async fn closes(cluster: &Cluster, credential: &str, room: &str, reason: &str) {
    for node in cluster.nodes() {
        let builder = Client::builder()
            .endpoints([node.address.clone()])
            .discover(false);
        let one = builder.api_key(credential).deadline(CALL_LIMIT).build();
        let one = one.unwrap();
        soon(reason, async || match appends(&one, room, "ann").await {
            Err(error) if error.reason() == Some(reason) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, client::Error>, code: client::Code, reason: &str) {
    let error = answer.expect_err("it is refused");
    assert_eq!(
        (error.code(), error.reason()),
        (code, Some(reason)),
        "{error}"
    );
}

/// What the audit has of a reason, once it has it.
async fn audited(cluster: &Cluster, outcome: &str) -> Value {
    soon(outcome, async || {
        let records = verb_json(cluster, &["audit", "--since", "1h", "--json"]);
        let found = records.as_array().unwrap().iter();
        let mut found = found.filter(|record| record["outcome"] == outcome);
        found.next().cloned().ok_or_else(|| format!("{records}"))
    })
    .await
}

/// A token of the issuer that the test has the cluster believe.
fn token(seed: u8, alg: &str, change: Value) -> String {
    let exp = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 3_600;
    let mut claims = json!({
        "iss": "login", "aud": "chat", "sub": "ann", "exp": exp, "roles": ["reader", "writer"],
    });
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let header = B64.encode(json!({ "alg": alg, "kid": "k1" }).to_string());
    let message = format!("{header}.{}", B64.encode(claims.to_string()));
    let signature = SigningKey::from_bytes(&[seed; 32]).sign(message.as_bytes());
    match alg {
        "none" => format!("{message}."),
        _ => format!("{message}.{}", B64.encode(signature.to_bytes())),
    }
}

fn believe(cluster: &Cluster, place: &Place) {
    let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": B64.encode(key.to_bytes()) });
    let file = place.path().join("login.jwk");
    std::fs::write(&file, jwk.to_string()).unwrap();
    let key = format!("k1={}", file.display());
    verb(
        cluster,
        &[
            "issuer",
            "add",
            "login",
            "--audience",
            "chat",
            "--key",
            &key,
            "--tenant",
            "kakao",
            "--enforce-sender",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_not_the_right_credential_is_refused_told_why_and_written_down() {
    let (place, cluster) = required(1).await;
    let key = new_key(&cluster, &["--tenant", "kakao", "--role", "writer"]);
    let reader = new_key(&cluster, &["--tenant", "kakao", "--role", "reader"]);
    let brief = new_key(
        &cluster,
        &["--tenant", "kakao", "--role", "writer", "--valid", "3s"],
    );
    let revoked = new_key(&cluster, &["--tenant", "kakao", "--role", "writer"]);
    believe(&cluster, &place);
    let room = "tenants/kakao/conversations/room";
    opens(&cluster, &key, room).await;
    opens(&cluster, &revoked, room).await;
    opens(&cluster, &token(7, "EdDSA", json!({})), room).await;
    verb(&cluster, &["key", "revoke", &revoked]);
    closes(&cluster, &revoked, room, "CREDENTIALS_REVOKED").await;
    closes(&cluster, &brief, room, "CREDENTIALS_EXPIRED").await;

    let before = client(&cluster, &key)
        .append(room, Message::text("ann", "the last"))
        .await;
    let before = before.unwrap().seq;
    let guessed = format!("{}{}", &key[..key.len() - 4], "0000");
    let unknown = format!("fbk_{}_{}", "0".repeat(12), "0".repeat(64));
    use client::Code::{PermissionDenied, Unauthenticated};
    let cases = [
        (String::new(), Unauthenticated, "CREDENTIALS_MISSING"),
        (
            "nonsense".to_owned(),
            Unauthenticated,
            "CREDENTIALS_INVALID",
        ),
        (guessed, Unauthenticated, "CREDENTIALS_INVALID"),
        (unknown, Unauthenticated, "CREDENTIALS_INVALID"),
        (brief, Unauthenticated, "CREDENTIALS_EXPIRED"),
        (revoked, Unauthenticated, "CREDENTIALS_REVOKED"),
        (reader, PermissionDenied, "ROLE_MISSING"),
        (
            token(8, "EdDSA", json!({})),
            Unauthenticated,
            "CREDENTIALS_INVALID",
        ),
        (
            token(7, "none", json!({})),
            Unauthenticated,
            "CREDENTIALS_INVALID",
        ),
        (
            token(7, "HS256", json!({})),
            Unauthenticated,
            "CREDENTIALS_INVALID",
        ),
        (
            token(7, "EdDSA", json!({ "exp": 1 })),
            Unauthenticated,
            "CREDENTIALS_EXPIRED",
        ),
        (
            token(7, "EdDSA", json!({ "aud": "mail" })),
            Unauthenticated,
            "CREDENTIALS_INVALID",
        ),
        (
            token(7, "EdDSA", json!({ "sub": "bob" })),
            PermissionDenied,
            "SENDER_FORBIDDEN",
        ),
    ];
    for (credential, code, reason) in cases {
        let who = client(&cluster, &credential);
        // A revocation is known everywhere within a moment.
        soon(reason, async || match appends(&who, room, "ann").await {
            Err(error) if error.reason() == Some(reason) && error.code() == code => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        audited(&cluster, reason).await;
    }
    let other = "tenants/line/conversations/room";
    let of_kakao = client(&cluster, &key);
    refused(
        appends(&of_kakao, other, "ann").await,
        PermissionDenied,
        "TENANT_FORBIDDEN",
    );
    let listed = of_kakao.list(other, &client::ListOptions::default()).await;
    refused(listed, PermissionDenied, "TENANT_FORBIDDEN");
    let stream = of_kakao.append_stream(&client::StreamOptions::default());
    let streamed = stream.send(other, Message::text("ann", "x")).await;
    refused(streamed, PermissionDenied, "TENANT_FORBIDDEN");
    refused(of_kakao.policies().await, PermissionDenied, "ROLE_MISSING");
    refused(of_kakao.keys().await, PermissionDenied, "ROLE_MISSING");
    let told = audited(&cluster, "TENANT_FORBIDDEN").await;
    assert_eq!(told["target"], "line");
    assert!(told["who"].as_str().unwrap().contains("(test)"), "{told}");

    // Nothing else has happened.
    let after = of_kakao
        .append(room, Message::text("ann", "next"))
        .await
        .unwrap();
    assert_eq!(after.seq, before + 1, "what was refused was not stored");
    assert!(verb(&cluster, &["audit", "--verify"]).contains("the chain is whole"));
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_have_keys_and_the_local_socket_and_what_they_do_is_written_down() {
    let (place, cluster) = required(1).await;
    // Without a key nothing.
    for args in [
        &["policy", "show"][..],
        &["key", "list"],
        &["token", "list"],
    ] {
        let output = run_with(&cluster, None, args);
        assert!(!output.status.success(), "{args:?}");
        assert!(
            said(&output).contains("credential"),
            "{args:?}: {}",
            said(&output)
        );
    }
    // With one, from the environment or from a file.
    verb(&cluster, &["policy", "show"]);
    let file = place.path().join("operator.key");
    std::fs::write(&file, cluster.operator_key().unwrap()).unwrap();
    let file = file.display().to_string();
    let output = run_with(&cluster, None, &["policy", "show", "--api-key-file", &file]);
    assert!(output.status.success(), "{}", said(&output));
    verb(&cluster, &["token", "list"]);
    verb(&cluster, &["policy", "set", "--prefer", "seoul"]);
    let viewer = new_key(&cluster, &["--role", "viewer"]);
    soon("a viewer sees", async || {
        let output = run_with(&cluster, Some(&viewer), &["policy", "show"]);
        output
            .status
            .success()
            .then_some(())
            .ok_or_else(|| said(&output))
    })
    .await;
    let node = cluster.nodes()[2].name.clone();
    for changes in [
        &["token", "create"][..],
        &["token", "list"],
        &["token", "rotate"],
        &["token", "revoke", "00000000"],
        &["node", "remove", &node],
        &["node", "drain", &node],
        &["key", "list"],
        &["tenant", "create", "acme"],
    ] {
        let output = run_with(&cluster, Some(&viewer), changes);
        assert!(!output.status.success(), "{changes:?}: {}", said(&output));
        let why = said(&output);
        assert!(why.contains("ROLE_MISSING"), "{changes:?}: {why}");
    }
    let output = run_with(
        &cluster,
        Some(&viewer),
        &["policy", "set", "--prefer", "busan"],
    );
    assert!(said(&output).contains("operator"), "{}", said(&output));

    // The first operator's key is gone, and the machine's operator makes another.
    let node = &cluster.nodes()[0];
    let mode = std::fs::metadata(node.data_dir.join("admin.sock"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let own = cluster.operator_key().unwrap();
    verb(&cluster, &["key", "revoke", own]);
    let local = node.data_dir.display().to_string();
    let output = run_with(
        &cluster,
        None,
        &[
            "key", "create", "--label", "second", "--role", "operator", "--local", &local,
        ],
    );
    assert!(output.status.success(), "{}", said(&output));
    let second = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let audit = soon("the audit is read", async || {
        let output = run_with(&cluster, Some(&second), &["audit", "--json"]);
        match output.status.success() {
            true => Ok(serde_json::from_slice::<Value>(&output.stdout).unwrap()),
            false => Err(said(&output)),
        }
    })
    .await;
    let acts: Vec<(&str, &str)> = audit
        .as_array()
        .unwrap()
        .iter()
        .map(|record| {
            (
                record["what"].as_str().unwrap(),
                record["outcome"].as_str().unwrap(),
            )
        })
        .collect();
    for act in [
        ("policy set", "done"),
        ("create key", "done"),
        ("revoke key", "done"),
    ] {
        assert!(acts.contains(&act), "{act:?} in {acts:?}");
    }
    let text = audit.to_string();
    assert!(
        text.contains("the local socket") && text.contains("first operator"),
        "{text}"
    );
    assert!(
        !text.contains(own) && !text.contains(&second),
        "no key is in the audit"
    );
    for dc in [
        &cluster.nodes()[0],
        &cluster.nodes()[1],
        &cluster.nodes()[2],
    ] {
        let log = std::fs::read_to_string(&dc.log).unwrap();
        assert!(
            !log.contains(own) && !log.contains(&second),
            "no key is in a log"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_center_dies_and_who_has_a_key_goes_on() {
    let (_place, mut cluster) = required(1).await;
    let key = new_key(&cluster, &["--tenant", "kakao", "--role", "writer"]);
    let room = "tenants/kakao/conversations/room";
    opens(&cluster, &key, room).await;
    let all = client(&cluster, &key);
    let leader = firebreak_tests::busiest_leader(&cluster).await;
    cluster.kill(&[leader]).unwrap();
    for n in 0..50 {
        let said = all.append(room, Message::text("ann", format!("{n}"))).await;
        said.unwrap_or_else(|error| panic!("append {n}: {error}"));
    }
    let stranger = client(&cluster, "");
    let none = appends(&stranger, room, "ann").await;
    refused(none, client::Code::Unauthenticated, "CREDENTIALS_MISSING");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_the_key_that_opened_it_is_revoked() {
    let (_place, cluster) = required(1).await;
    let key = new_key(&cluster, &["--tenant", "kakao", "--role", "writer"]);
    let room = "tenants/kakao/conversations/room";
    opens(&cluster, &key, room).await;
    let dialer = client::authorized(std::sync::Arc::new(proto::net::Tcp), &key).unwrap();
    let channel = dialer.dial(&cluster.nodes()[0].address).unwrap();
    let mut messages = v1::messages_client::MessagesClient::new(channel);
    let asked = v1::TailRequest {
        parent: room.to_owned(),
        ..v1::TailRequest::default()
    };
    let mut tail = messages.tail(asked).await.unwrap().into_inner();
    verb(&cluster, &["key", "revoke", &key]);
    let ended = tokio::time::timeout(LIMIT, async {
        loop {
            match tail.message().await {
                Ok(Some(_)) => {}
                other => return other,
            }
        }
    });
    let status = ended.await.unwrap().expect_err("it ends with a reason");
    assert_eq!(status.code(), tonic::Code::Unauthenticated, "{status:?}");
}

#[test]
fn an_open_node_does_not_serve_others_unless_it_is_told_to() {
    let place = Place::new();
    let config = place.path().join("node.toml");
    let data = place.path().join("data");
    let text = format!(
        "name = \"here\"\nlisten = \"0.0.0.0:0\"\nadvertise = \"127.0.0.1:7001\"\ndata_dir = {:?}\n\
         [locality]\nregion = \"r\"\ndc = \"d\"\n",
        data.display().to_string()
    );
    std::fs::write(&config, text).unwrap();
    let output = Command::new(binary())
        .args(["serve", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("--insecure"), "{}", said(&output));
}
