//! After the load: waits until the replicas are equal, and reads everything back through every
//! node.

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Client, Level, ListOptions, ReplicaHash};
use futures::{StreamExt as _, TryStreamExt as _};
use model::id::ShardId;

use crate::judge::{Broken, Found, Promise, judge};
use crate::load::Ledger;
use crate::net::{self, Net};
use crate::{dice, view};
use proto::net::Network as _;

/// How long replicas may take to become equal once nothing is sent any more.
pub const SETTLE_MAX: Duration = Duration::from_secs(30);
/// Between two looks at the replicas.
const LOOK: Duration = Duration::from_millis(250);
/// Conversations read at once.
const READERS: usize = 8;
/// The most evidence that is kept.
const EVIDENCE_MAX: usize = 20;

/// What was found at the end.
#[derive(Clone, Debug, Default)]
pub struct Readback {
    /// Every promise that was seen broken.
    pub broken: Vec<Broken>,
    /// How long the replicas took to become equal.
    pub settled: Duration,
    /// Replicas of data shards that were compared.
    pub replicas: usize,
    /// Conversations that were read, over all nodes and levels.
    pub reads: usize,
}

/// Judges the cluster at rest by the ledger.
///
/// # Errors
/// When something cannot be read.
pub async fn run(
    net: &Net,
    client: &Client,
    nodes: u32,
    ledger: &Ledger,
) -> Result<Readback, String> {
    let mut result = Readback::default();
    let began = net::now();
    let statuses = loop {
        match equal(client, nodes).await {
            Ok((statuses, replicas)) => {
                result.replicas = replicas;
                break statuses;
            }
            Err(evidence) if net::now() - began > SETTLE_MAX => {
                let promise = Promise::Identical;
                result.broken.push(Broken { promise, evidence });
                // What can be read is judged all the same.
                break view::statuses(client, nodes).await?;
            }
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    };
    result.settled = net::now() - began;
    for (node, address) in view::addresses(&statuses) {
        let only = Client::builder()
            .endpoints([address.clone()])
            .dialer(net.dialer())
            .discover(false)
            .seed(dice::derive(node, "readback"))
            .build()
            .map_err(|error| error.to_string())?;
        for level in [Level::Linearizable, Level::Local] {
            let broken = read_all(&only, &address, &level, ledger).await?;
            result.broken.extend(broken);
            result.reads += ledger.sent.len();
        }
    }
    result.broken.truncate(EVIDENCE_MAX);
    Ok(result)
}

/// Whether all replicas of each data shard hold the same; gives the number of replicas.
async fn equal(
    client: &Client,
    nodes: u32,
) -> Result<(Vec<client::v1::GetStatusResponse>, usize), String> {
    let statuses = view::statuses(client, nodes).await?;
    view::all_led(&statuses)?;
    let addresses = view::addresses(&statuses);
    let mut compared = 0;
    for (shard, nodes) in view::replicas(&statuses) {
        if shard == ShardId::META.0 {
            continue;
        }
        let mut first: Option<(u64, ReplicaHash)> = None;
        for node in nodes {
            let address = addresses.get(&node).ok_or(format!("n{node} is unknown"))?;
            let hash = client.hash_replica(address, shard).await;
            let hash = hash.map_err(|error| format!("s{shard} on n{node}: {error}"))?;
            whole(&hash).map_err(|why| format!("s{shard} on n{node}: {why}"))?;
            compared += 1;
            match &first {
                None => first = Some((node, hash)),
                Some((_, other))
                    if other.revision == hash.revision
                        && other.conversations == hash.conversations => {}
                Some((other, _)) => {
                    return Err(format!("s{shard} differs on n{other} and n{node}"));
                }
            }
        }
    }
    Ok((statuses, compared))
}

/// Whether a replica holds all the messages that it counts.
fn whole(hash: &ReplicaHash) -> Result<(), String> {
    match hash.conversations.iter().find(|c| c.messages != c.last_seq) {
        Some(c) => Err(format!(
            "{} has {} messages of {}",
            c.name, c.messages, c.last_seq
        )),
        None => Ok(()),
    }
}

async fn read_all(
    client: &Client,
    address: &str,
    level: &Level,
    ledger: &Ledger,
) -> Result<Vec<Broken>, String> {
    let found: BTreeMap<&str, Vec<Found>> = futures::stream::iter(ledger.sent.keys())
        .map(|name| async move {
            let found = read(client, name, level).await;
            let found =
                found.map_err(|error| format!("{name} at {address}, {level:?}: {error}"))?;
            Ok::<_, String>((name.as_str(), found))
        })
        .buffered(READERS)
        .try_collect()
        .await?;
    let judged = ledger.sent.iter().flat_map(|(name, sent)| {
        let found = found.get(name.as_str()).map(Vec::as_slice);
        let place = format!("{name} at {address}, {level:?}");
        judge(&place, sent, found.unwrap_or_default())
    });
    Ok(judged.collect())
}

async fn read(client: &Client, name: &str, level: &Level) -> Result<Vec<Found>, client::Error> {
    let options = ListOptions {
        page_size: 200,
        level: level.clone(),
        ..ListOptions::default()
    };
    match client.pages(name, options).collect().await {
        Ok(messages) => Ok(messages
            .into_iter()
            .map(|message| Found {
                seq: message.seq,
                sender: message.sender,
                id: message.client_message_id,
                body: message.body.to_vec(),
            })
            .collect()),
        // Then everything acknowledged in it is lost, which is the judge's to say.
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
