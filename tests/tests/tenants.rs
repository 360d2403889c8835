//! Tenants over real processes: who may call, what they may use, how they end, and that all of it holds
//! whoever leads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot go on"
)]

use std::time::Duration;

use client::{
    AppendOptions, Class, Client, Error, Event, From, Level, ListOptions, Message, Rules,
    StreamOptions, Tenant,
};
use firebreak::cluster::{Cluster, ClusterPlan, view};
use firebreak_tests::{LIMIT, Place, assert_identical, binary, client, client_of};
use proto::v1;
use proto::v1::messages_client::MessagesClient;
use tokio::time::{Instant, sleep, timeout};
use tonic_types::StatusExt as _;

const STRICT: &str = "\n[tenants]\nimplicit = false\n";

async fn start(dcs: usize, settings: &str) -> (Place, Cluster) {
    let place = Place::new();
    let mut plan = ClusterPlan::three_dcs(place.path(), &binary(), 1);
    plan.places.truncate(dcs);
    plan.replicas = u32::try_from(dcs).unwrap();
    plan.settings.push_str(settings);
    let cluster = Cluster::start(plan).await.expect("the cluster comes up");
    (place, cluster)
}

fn room(tenant: &str, name: &str) -> String {
    format!("tenants/{tenant}/conversations/{name}")
}

fn said(text: &str) -> Message {
    Message::text("ann", text)
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, reason: &str) -> Error {
    let error = answer.expect_err(reason);
    assert_eq!(error.reason(), Some(reason), "{error}");
    error
}

/// What `firebreak tenant …` prints as JSON.
async fn command(cluster: &Cluster, args: &[&str]) -> serde_json::Value {
    let mut command = tokio::process::Command::new(binary());
    command.arg("tenant").args(args).arg("--json");
    command.env("FIREBREAK_TARGET", cluster.addresses().join(","));
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_created_listed_changed_and_unknown_ones_refused() {
    let (_place, cluster) = start(3, STRICT).await;
    let client = client(&cluster);
    let hello = room("acme", "hello");
    refused(
        client.append(&hello, said("too early")).await,
        "TENANT_UNKNOWN",
    );
    let none = client.list(&hello, &ListOptions::default()).await;
    refused(none, "TENANT_UNKNOWN");
    let none = client.get_conversation(&hello, &Level::Linearizable).await;
    refused(none, "TENANT_UNKNOWN");
    let stream = client.append_stream(&StreamOptions::default());
    refused(
        stream.send(&hello, said("too early")).await,
        "TENANT_UNKNOWN",
    );
    let mut tail = client.tail(&hello, From::Seq(1));
    let first = timeout(LIMIT, tail.next()).await.unwrap().unwrap();
    refused(first, "TENANT_UNKNOWN");
    refused(client.get_tenant("acme").await, "TENANT_UNKNOWN");

    let wanted = Tenant::default()
        .display_name("Acme Chat")
        .id("create-acme");
    let created = client.create_tenant("acme", wanted.clone()).await.unwrap();
    assert!(!created.deduplicated);
    let again = client_of(&cluster, 2)
        .create_tenant("acme", wanted)
        .await
        .unwrap();
    assert!(again.deduplicated);
    assert_eq!(again.tenant, created.tenant, "the first answer");
    let other = Tenant::default().display_name("Another").id("create-acme");
    refused(
        client.create_tenant("acme", other).await,
        "REQUEST_ID_REUSED",
    );
    let other = Tenant::default();
    refused(
        client.create_tenant("acme", other.clone()).await,
        "TENANT_EXISTS",
    );
    refused(
        client.create_tenant("no name", other.clone()).await,
        "INVALID_FIELDS",
    );
    refused(
        client.create_tenant("firebreak-x", other).await,
        "INVALID_FIELDS",
    );
    // Whichever node is asked knows it.
    for node in 0..3 {
        let one = client_of(&cluster, node);
        one.append(&hello, said("hello")).await.unwrap();
        assert_eq!(
            one.get_tenant("acme").await.unwrap().display_name,
            "Acme Chat"
        );
    }
    assert_eq!(stream.send(&hello, said("streamed")).await.unwrap().seq, 4);
    for name in ["beta", "gamma"] {
        client.create_tenant(name, Tenant::default()).await.unwrap();
    }
    let (page, next) = client.list_tenants(2, "").await.unwrap();
    assert_eq!((page.len(), next.is_empty()), (2, false));
    let (rest, next) = client.list_tenants(2, &next).await.unwrap();
    assert_eq!(
        (rest[0].name.as_str(), next.as_str()),
        ("tenants/gamma", "")
    );

    let shown = command(&cluster, &["show", "acme"]).await;
    assert_eq!(shown["display_name"], "Acme Chat");
    let args = ["set", "acme", "--ttl", "90d", "--min-client", "web=1.2"];
    let set = command(&cluster, &args).await;
    assert_eq!(
        (&set["ttl_s"], &set["display_name"]),
        (&7_776_000.into(), &"Acme Chat".into())
    );
    let revision = set["revision"].as_u64().unwrap();
    let late = Tenant::default()
        .ttl(Duration::ZERO)
        .expected_revision(revision - 1);
    refused(
        client.update_tenant("acme", late).await,
        "REVISION_MISMATCH",
    );
    let right = Tenant::default()
        .ttl(Duration::ZERO)
        .expected_revision(revision);
    let set = client
        .update_tenant("acme", right)
        .await
        .unwrap()
        .tenant
        .unwrap();
    assert_eq!(
        (set.ttl, set.min_client_versions["web"].as_str()),
        (None, "1.2")
    );
    let listed = command(&cluster, &["list"]).await;
    assert_eq!(listed["tenants"].as_array().unwrap().len(), 3);
    // The cluster's own canary needs no tenant of its own.
    let health = cluster.run_ok(&["status", "--target", &cluster.addresses().join(",")]);
    health.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tenants_everything_goes_on_as_before() {
    let (_place, cluster) = start(1, "").await;
    let client = client(&cluster);
    client
        .append(&room("anyone", "hello"), said("hi"))
        .await
        .unwrap();
    assert_eq!(
        client.list_tenants(0, "").await.unwrap(),
        (vec![], String::new())
    );
    // What was never created can be deleted with everything in it.
    refused(
        client.delete_tenant("anyone", false, "").await,
        "TENANT_UNKNOWN",
    );
    let gone = command(&cluster, &["delete", "anyone", "--allow-missing"]).await;
    assert_eq!(gone["gone"], true);
    let (page, _) = client
        .list_conversations("anyone", 10, "", &Level::Linearizable)
        .await
        .unwrap();
    assert!(page.is_empty());
    client
        .append(&room("anyone", "hello"), said("again"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tenant_goes_with_everything_in_it_whoever_leads() {
    let (_place, mut cluster) = start(3, STRICT).await;
    let client = client(&cluster);
    for tenant in ["going", "staying"] {
        client
            .create_tenant(tenant, Tenant::default())
            .await
            .unwrap();
        for n in 0..40 {
            let name = room(tenant, &format!("room-{n}"));
            client.append(&name, said("one")).await.unwrap();
            client.append(&name, said("two")).await.unwrap();
        }
    }
    client
        .delete_tenant("going", false, "delete-going")
        .await
        .unwrap();
    let name = room("going", "room-1");
    refused(
        client.append(&name, said("too late")).await,
        "TENANT_DELETING",
    );
    refused(
        client.list(&name, &ListOptions::default()).await,
        "TENANT_DELETING",
    );
    refused(
        client.create_tenant("going", Tenant::default()).await,
        "TENANT_DELETING",
    );
    // The leader of the meta shard dies on the way; so does that of a third of the rooms.
    let statuses = cluster.statuses().await;
    let meta = view::leaders(&statuses)[&0];
    let place = statuses
        .iter()
        .find(|status| status.node_id == meta)
        .unwrap();
    let dead = cluster
        .nodes()
        .iter()
        .position(|node| node.name == place.node_name)
        .unwrap();
    cluster.kill(&[dead]).unwrap();
    let until = Instant::now() + LIMIT;
    loop {
        match client.get_tenant("going").await {
            Ok(tenant) => assert!(tenant.removal.is_some()),
            Err(error) if error.reason() == Some("TENANT_UNKNOWN") => break,
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < until, "it is not gone");
        sleep(Duration::from_millis(50)).await;
    }
    let again = client
        .delete_tenant("going", false, "delete-going")
        .await
        .unwrap();
    assert!(again.deduplicated, "a retry gets the first answer");
    // The name is free, and meets nothing of what was there.
    client
        .create_tenant("going", Tenant::default())
        .await
        .unwrap();
    let (page, _) = client
        .list_conversations("going", 100, "", &Level::Linearizable)
        .await
        .unwrap();
    assert!(page.is_empty(), "{page:?}");
    assert_eq!(client.append(&name, said("new")).await.unwrap().seq, 1);
    let head = client
        .get_conversation(&name, &Level::Linearizable)
        .await
        .unwrap();
    assert_eq!(head.incarnation, 2);
    let kept = room("staying", "room-39");
    assert_eq!(client.append(&kept, said("three")).await.unwrap().seq, 3);
    cluster.start_node(dead).unwrap();
    cluster.wait_ready(LIMIT).await.unwrap();
    assert_identical(&mut cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_shared_by_all_nodes_and_told_with_the_time_to_wait() {
    let (_place, cluster) = start(3, "").await;
    let client = client(&cluster);
    let wanted = Tenant::default().messages_per_second(20);
    client.create_tenant("small", wanted).await.unwrap();
    let begun = Instant::now();
    let (mut given, mut refused) = (0, 0);
    for n in 0..150_usize {
        let channel = cluster.nodes()[n % 3].channel();
        let request = once(&room("small", &format!("room-{}", n % 7)), "ann", n);
        let answer = MessagesClient::new(channel).append_message(request).await;
        let Err(status) = answer else {
            given += 1;
            continue;
        };
        let details = status.get_error_details();
        let info = details.error_info().expect("it says why");
        assert_eq!(info.reason, "QUOTA_EXCEEDED", "{status}");
        assert_eq!(info.metadata["quota"], "messages_per_second");
        let wait = details.retry_info().and_then(|info| info.retry_delay);
        let wait = wait.expect("it says how long to wait");
        assert!(
            !wait.is_zero() && wait <= Duration::from_secs(3),
            "{wait:?}"
        );
        refused += 1;
    }
    let came = begun.elapsed().as_secs_f64() * 20.0;
    assert!(
        f64::from(given) <= 20.0 * 2.0 + came + 5.0,
        "{given}, {came}"
    );
    assert!(given >= 20, "{given}: the burst is given whoever is asked");
    assert!(refused > 0 || came > 110.0, "{given}, {came}");
    // Who waits gets through, on streams too; and others are not touched by it.
    let stream = client.append_stream(&StreamOptions::default());
    stream
        .send(&room("small", "s"), said("patient"))
        .await
        .unwrap();
    for n in 0..100 {
        client
            .append(&room("large", "r"), said(&format!("{n}")))
            .await
            .unwrap();
    }
    let wanted = Tenant::default()
        .messages_per_second(0)
        .user_messages_per_second(1);
    client.update_tenant("small", wanted).await.unwrap();
    let name = room("small", "users");
    let mut service = MessagesClient::new(cluster.nodes()[0].channel());
    let mut quotas = Vec::new();
    for n in 0..20 {
        let answer = service.append_message(once(&name, "bob", 1_000 + n)).await;
        let Err(status) = answer else { continue };
        let details = status.get_error_details();
        quotas.push(details.error_info().unwrap().metadata["quota"].clone());
    }
    assert!(!quotas.is_empty(), "bob has said enough");
    assert!(
        quotas
            .iter()
            .all(|quota| quota == "user_messages_per_second")
    );
    // Others may go on.
    service
        .append_message(once(&name, "eve", 2_000))
        .await
        .unwrap();
}

/// An append that is tried once.
fn once(parent: &str, sender: &str, n: usize) -> v1::AppendMessageRequest {
    v1::AppendMessageRequest {
        parent: parent.to_owned(),
        message: Some(v1::Message {
            sender: sender.to_owned(),
            client_message_id: format!("m{n}"),
            body: bytes::Bytes::from_static(b"hi"),
            ..v1::Message::default()
        }),
        ..v1::AppendMessageRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_no_more_conversations_than_it_may_have() {
    let (_place, cluster) = start(1, "").await;
    let client = client(&cluster);
    client
        .create_tenant("few", Tenant::default().conversations(3))
        .await
        .unwrap();
    for n in 0..3 {
        client
            .append(&room("few", &format!("r{n}")), said("hi"))
            .await
            .unwrap();
    }
    // Leaders count now and then; until then some more get through.
    let until = Instant::now() + LIMIT;
    let mut more = 3;
    let error = loop {
        assert!(Instant::now() < until, "{more} conversations");
        let name = room("few", &format!("r{more}"));
        match client.append(&name, said("one more")).await {
            Ok(_) => more += 1,
            Err(error) => break error,
        }
        sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(error.reason(), Some("QUOTA_EXCEEDED"), "{error}");
    // What is there goes on; and what is deleted makes room.
    client
        .append(&room("few", "r0"), said("goes on"))
        .await
        .unwrap();
    let refused_too = client
        .create_conversation("few", "new", Default::default(), "")
        .await;
    refused(refused_too, "QUOTA_EXCEEDED");
    for n in 0..more {
        client
            .delete_conversation(&room("few", &format!("r{n}")), "")
            .await
            .unwrap();
    }
    let until = Instant::now() + LIMIT;
    while client
        .append(&room("few", "fresh"), said("hi"))
        .await
        .is_err()
    {
        assert!(Instant::now() < until, "there is room again");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_expire_by_their_tenant_unless_something_else_is_said() {
    let (_place, cluster) = start(1, "").await;
    let client = client(&cluster);
    let short = Tenant::default().ttl(Duration::from_secs(1));
    client.create_tenant("brief", short).await.unwrap();
    let (plain, own, held) = (
        room("brief", "plain"),
        room("brief", "own"),
        room("brief", "held"),
    );
    let hour = Duration::from_secs(3_600);
    client.append(&own, said("kept").ttl(hour)).await.unwrap();
    client.append(&held, said("kept")).await.unwrap();
    client
        .set_rules(&held, Rules::default().legal_hold(true))
        .await
        .unwrap();
    let of_room = room("brief", "room");
    client.append(&of_room, said("kept")).await.unwrap();
    client
        .set_rules(&of_room, Rules::default().ttl(hour))
        .await
        .unwrap();
    for n in 0..3 {
        client.append(&plain, said(&format!("{n}"))).await.unwrap();
    }
    let shown = client
        .get_message(&plain, 1, &Level::Linearizable)
        .await
        .unwrap();
    assert!(shown.expire_time.is_some());
    // The prefix is removed on the disk, and reads say from where on there is something.
    let until = Instant::now() + LIMIT;
    loop {
        let head = client
            .get_conversation(&plain, &Level::Linearizable)
            .await
            .unwrap();
        if head.min_seq == 4 {
            break;
        }
        assert!(Instant::now() < until, "min_seq is {}", head.min_seq);
        sleep(Duration::from_millis(100)).await;
    }
    for kept in [&own, &held, &of_room] {
        let one = client
            .get_message(kept, 1, &Level::Linearizable)
            .await
            .unwrap();
        assert!(one.redaction.is_none(), "{kept}");
    }
    let mut tail = client.tail(&plain, From::Seq(4));
    client.append(&plain, said("fresh")).await.unwrap();
    loop {
        let event = timeout(LIMIT, tail.next()).await.unwrap().unwrap().unwrap();
        if let Event::Message(message) = event {
            assert!(message.expire_time.is_some());
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_are_too_old_are_told_where_newer_ones_are() {
    let (_place, cluster) = start(1, "").await;
    let client = client(&cluster);
    let wanted = Tenant::default()
        .min_client_version("rust", "99.0")
        .upgrade_url("https://acme.example/upgrade");
    client.create_tenant("modern", wanted).await.unwrap();
    let name = room("modern", "hello");
    let error = refused(
        client.append(&name, said("hi")).await,
        "CLIENT_VERSION_BLOCKED",
    );
    assert!(
        error.to_string().contains("https://acme.example/upgrade"),
        "{error}"
    );
    refused(
        client.list(&name, &ListOptions::default()).await,
        "CLIENT_VERSION_BLOCKED",
    );
    let stream = client.append_stream(&StreamOptions::default());
    refused(
        stream.send(&name, said("hi")).await,
        "CLIENT_VERSION_BLOCKED",
    );
    // Other tenants take it.
    client
        .append(&room("other", "hello"), said("hi"))
        .await
        .unwrap();
    let wanted = Tenant::default().min_client_version("rust", "0.0.1");
    client.update_tenant("modern", wanted).await.unwrap();
    client.append(&name, said("hi")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stampede_of_reads_does_not_stop_appends() {
    let few = "\n[classes]\nhistory_calls_max = 1\nexport_calls_max = 1\n";
    let (_place, cluster) = start(1, few).await;
    let appender = client(&cluster);
    let name = room("busy", "long");
    for part in 0..4 {
        let batch = (0..250).map(|n| said(&format!("{part} {n} {}", "x".repeat(2_000))));
        let options = AppendOptions::default();
        appender
            .append_batch(&name, batch.collect(), options)
            .await
            .unwrap();
    }
    let readers: Vec<_> = (0..200)
        .map(|n| {
            let mut builder = Client::builder().endpoints(cluster.addresses());
            if u64::is_multiple_of(n, 4) {
                builder = builder.class(Class::Export);
            }
            let reader = builder
                .deadline(Duration::from_millis(400))
                .build()
                .unwrap();
            let name = name.clone();
            tokio::spawn(async move {
                let mut busy = 0;
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_secs(5) {
                    // Each page is another one, so that none is shared.
                    let options = ListOptions {
                        page_size: 1_000,
                        start_seq: n + 1,
                        ..ListOptions::default()
                    };
                    if let Err(error) = reader.list(&name, &options).await {
                        busy += u32::from(error.to_string().contains("of class"));
                    }
                }
                busy
            })
        })
        .collect();
    let mut waits = Vec::new();
    for n in 0..50 {
        let begun = Instant::now();
        appender
            .append(&room("busy", "live"), said(&format!("{n}")))
            .await
            .unwrap();
        waits.push(begun.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    let mut busy = 0;
    for reader in readers {
        busy += reader.await.unwrap();
    }
    assert!(busy > 0, "some reads are refused");
    waits.sort_unstable();
    assert!(waits[25] < Duration::from_secs(2), "{waits:?}");
}
