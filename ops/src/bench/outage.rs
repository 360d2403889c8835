//! What clients see when a node dies by SIGKILL whose shards, nearly all of them, nobody uses: how
//! long until all are led again, and how long those wait who use some.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use client::{Client, Message};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use firebreak::cluster::{Cluster, view};
use proto::v1::GetStatusResponse;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::demo::proof::read_all;
use crate::demo::report::ms;

/// Clients that write, one message after the other, and each one's conversations.
const SENDERS: usize = 8;
const ROOMS: usize = 4;
/// Between an answer and a client's next message.
const PAUSE: Duration = Duration::from_millis(20);
/// How long they write before the node dies, and on after all shards are led.
const WARM: Duration = Duration::from_secs(2);
/// How long a call has to live.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// How long shards may take to be led again before the measurement is given up.
const LED_MAX: Duration = Duration::from_secs(60);

/// A node's death, as it was seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outage {
    /// Who died.
    pub node: String,
    /// Data shards of the cluster.
    pub shards: usize,
    /// Those that it led.
    pub shards_led: usize,
    /// Its replicas that slept.
    pub replicas_asleep: usize,
    /// From its death until each of them was led by another, ms.
    pub led_again_ms: u64,
    /// The longest that a client waited from one acknowledgement to the next, ms.
    pub longest_gap_ms: u64,
    /// Messages acknowledged.
    pub acked: usize,
    /// Calls that failed.
    pub failed_calls: usize,
    /// Acknowledged messages that are not there afterwards.
    pub lost: usize,
}

impl Outage {
    /// 1 when a call failed or a message was lost.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(u8::from(self.failed_calls + self.lost > 0))
    }
}

/// What one client was told.
#[derive(Default)]
struct ClientOutcome {
    acked: Vec<(String, String)>,
    failed: Vec<String>,
    longest_gap: Duration,
}

/// Kills the node that leads most, under a light load.
///
/// # Errors
/// When a client cannot be made, or shards are not led again in time.
pub async fn kill_one(cluster: &mut Cluster) -> anyhow::Result<Outage> {
    let bar = super::spinner("a node dies");
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for n in 0..SENDERS {
        let endpoints = cluster.addresses();
        let client = Client::builder().endpoints(endpoints).deadline(CALL_LIMIT);
        clients.spawn(send(client.build()?, n, over.clone()));
    }
    tokio::time::sleep(WARM).await;

    let statuses = cluster.statuses().await;
    let leaders = view::leaders(&statuses);
    let mut led: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    for (shard, node) in leaders.iter().filter(|(shard, _)| **shard != 0) {
        led.entry(*node).or_default().insert(*shard);
    }
    let most = led.into_iter().max_by_key(|(_, shards)| shards.len());
    let (victim, led) = most.context("no shard is led")?;
    let victim = statuses.iter().find(|status| status.node_id == victim);
    let victim = victim.context("the leader does not answer")?;
    let nodes = cluster.nodes();
    let at = nodes.iter().position(|node| node.name == victim.node_name);
    let at = at.context("the leader is no node of this cluster")?;
    cluster.kill(&[at])?;
    let led_elsewhere = |statuses: &[GetStatusResponse]| {
        let now = view::leaders(statuses);
        let missing = led.iter().filter(|shard| !now.contains_key(shard)).count();
        match missing {
            0 => Ok(()),
            _ => Err(format!("{missing} of {} are not", led.len())),
        }
    };
    let what = "the dead node's shards to be led again";
    let led_again = cluster.wait_for(LED_MAX, what, led_elsewhere).await?;
    tokio::time::sleep(WARM).await;
    over.store(true, Ordering::Relaxed);
    let told = clients.join_all().await;
    bar.finish_and_clear();
    let failed: Vec<&String> = told.iter().flat_map(|told| &told.failed).collect();
    if let Some(first) = failed.first() {
        eprintln!("the first of the calls that failed: {first}");
    }
    let longest_gap = told.iter().map(|told| told.longest_gap).max();
    Ok(Outage {
        node: victim.node_name.clone(),
        shards: leaders.keys().filter(|shard| **shard != 0).count(),
        shards_led: led.len(),
        replicas_asleep: victim.replicas.iter().filter(|one| one.asleep).count(),
        led_again_ms: ms(led_again),
        longest_gap_ms: ms(longest_gap.unwrap_or_default()),
        acked: told.iter().map(|told| told.acked.len()).sum(),
        failed_calls: failed.len(),
        lost: lost(cluster, &told).await?,
    })
}

async fn send(client: Client, sender: usize, over: Arc<AtomicBool>) -> ClientOutcome {
    let mut told = ClientOutcome::default();
    let mut last = None;
    for count in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let room = format!(
            "tenants/bench/conversations/outage-{sender}-{}",
            count % ROOMS
        );
        let id = format!("{sender}-{count}");
        let message = Message::text(format!("sender-{sender}"), &id).id(&id);
        match client.append(&room, message).await {
            Ok(_) => {
                let now = Instant::now();
                let gap = last.replace(now).map(|last| now - last);
                // Without the pause that the client made itself.
                let gap = gap.unwrap_or_default().saturating_sub(PAUSE);
                told.longest_gap = told.longest_gap.max(gap);
                told.acked.push((room, id));
            }
            Err(error) => told.failed.push(error.to_string()),
        }
        tokio::time::sleep(PAUSE).await;
    }
    told
}

/// Acknowledged messages that their conversations do not have.
async fn lost(cluster: &Cluster, told: &[ClientOutcome]) -> anyhow::Result<usize> {
    let client = Client::builder().endpoints(cluster.addresses()).build()?;
    let mut rooms: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (room, id) in told.iter().flat_map(|told| &told.acked) {
        rooms.entry(room).or_default().insert(id);
    }
    let mut lost = 0;
    for (room, mut ids) in rooms {
        for message in read_all(&client, room).await? {
            ids.remove(message.client_message_id.as_str());
        }
        lost += ids.len();
    }
    Ok(lost)
}

/// The table for people.
pub fn table(outage: &Outage) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let died = format!("{} died by SIGKILL", outage.node);
    table.set_header([died.as_str(), "measured", "goal"]);
    let asleep = format!(
        "{} of {}, {} replicas asleep",
        outage.shards_led, outage.shards, outage.replicas_asleep
    );
    for (what, measured, goal) in [
        ("shards that it led", asleep, ""),
        (
            "all led again",
            format!("{} ms", outage.led_again_ms),
            "≤ 3000 ms",
        ),
        (
            "longest gap of a client",
            format!("{} ms", outage.longest_gap_ms),
            "≤ 500 ms",
        ),
        ("messages acknowledged", outage.acked.to_string(), ""),
        ("calls that failed", outage.failed_calls.to_string(), "0"),
        ("acknowledged and lost", outage.lost.to_string(), "0"),
    ] {
        table.add_row([what, &measured, goal]);
    }
    table.to_string()
}
