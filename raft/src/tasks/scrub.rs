//! Reading everything back now and then, and comparing the replicas of a shard: for what has rotted where
//! nobody reads, and for what differs without a trace.
//!
//! ```text
//!   the leader, once in `every_ms`            each replica, itself included
//!   an entry to come ────────────────────────► has applied exactly up to it: a read point
//!   asks until all have read everything ─────► reads its state and its log, slowly
//!   ◄─────────────────────────── a digest ─────┤ what is corrupt breaks the replica at once
//!   most are alike? ─────────────────────────► who differs from them breaks, and is rebuilt
//! ```
//!
//! Nothing is decided by it in the shard, so that a scrub that never ends costs nothing but the reads. When
//! no majority is alike nobody can say who is right: then it is told, and nothing is done. One
//! shard at a time is compared for each leader, and one is read at a time on each node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::id::{NodeId, ShardId};
use model::mutant;
use parking_lot::Mutex;
use proto::node as wire;
use proto::node::ask_scrub::Verdict;
use proto::node::frame::Body;
use proto::node::scrubbed::State;
use store::Error;
use store::state::{Digest, Scrub};
use tokio::time::{Instant, sleep, timeout};

use crate::replica::group::Group;
use crate::shared::Shared;
use crate::shared::scrubs::{Job, Read};

/// Local records: when each shard's replica was last compared, Unix milliseconds.
const SCRUBBED: &str = "scrub/";
/// Read at a time.
const SLICE_BYTES: u64 = 256 * 1024;
/// Between two questions whether a replica has read everything.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// For an answer to one.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// For the entry to come, and to be applied.
const POINT_MAX: Duration = Duration::from_secs(5);
/// How far ahead of the log's end that entry is: a shard that nobody writes to has none to come, and in
/// one that is in use more are applied everywhere before the question is.
const AHEAD: [u64; 4] = [0, 4, 16, 64];
/// Replicas may take so long for each of the bytes that they read, and this.
const READ_MAX: Duration = Duration::from_secs(600);
/// Bounds of the time between two looks for what is due.
const LOOK_MIN: Duration = Duration::from_secs(1);
const LOOK_MAX: Duration = Duration::from_secs(60);
/// Looks that a shard waits that could not be compared.
const AGAIN_LOOKS: u32 = 10;

/// When the replica of a shard here was last compared with the others, Unix milliseconds.
pub(crate) fn last_ms(node: &Shared, shard: ShardId) -> Option<u64> {
    let record = node.log().local_get(&key(shard)).ok().flatten()?;
    let bytes = <[u8; 8]>::try_from(&record[..]).ok()?;
    Some(u64::from_be_bytes(bytes))
}

fn key(shard: ShardId) -> String {
    format!("{SCRUBBED}{}", shard.0)
}

/// Compares the shards that this node leads, each when it is due.
pub(crate) async fn keep(node: Arc<Shared>) {
    let every_ms = node.tuning().scrub.every_ms;
    if every_ms == 0 {
        return;
    }
    let look = Duration::from_millis(every_ms / 20).clamp(LOOK_MIN, LOOK_MAX);
    let started_ms = node.peers().vitals().time().wall_ms();
    let mut again: BTreeMap<ShardId, Instant> = BTreeMap::new();
    loop {
        sleep(look).await;
        let now_ms = node.peers().vitals().time().wall_ms();
        again.retain(|_, at| *at > Instant::now());
        let led = node.groups().into_iter().filter(|group| group.leads());
        let due = led.filter(|group| {
            let shard = group.shard;
            let due_ms = match last_ms(&node, shard) {
                // A clock that went back makes it due, once.
                Some(last) if last > now_ms => 0,
                Some(last) => last.saturating_add(every_ms),
                // Not all at once in a cluster that never had any.
                None => started_ms + every_ms / 64 * u64::from(shard.0 % 64),
            };
            due_ms <= now_ms && !again.contains_key(&shard)
        });
        let Some(group) = due.min_by_key(|group| last_ms(&node, group.shard)) else {
            continue;
        };
        if let Err(why) = compare(&node, &group).await {
            tracing::info!(shard = %group.shard, %why, "replicas are compared later");
            again.insert(group.shard, Instant::now() + look * AGAIN_LOOKS);
        }
    }
}

/// Has all replicas read everything as of one entry, and compares them.
async fn compare(node: &Arc<Shared>, group: &Group) -> Result<(), String> {
    let voters: Vec<NodeId> = group.voters().into_iter().map(NodeId).collect();
    if let Some(gone) = voters.iter().find(|id| !node.peers().reachable(**id)) {
        return Err(format!("{gone} cannot be reached"));
    }
    for ahead in AHEAD {
        let index = group.last_index() + ahead;
        let Some(digests) = read_all(node, group, &voters, index).await? else {
            continue;
        };
        return judge(node, group, index, &digests).await;
    }
    Err("they have no entry in common for long enough".into())
}

/// The digest of each, once all have read everything; `None` when one had passed the entry, or it did
/// not come.
async fn read_all(
    node: &Arc<Shared>,
    group: &Group,
    voters: &[NodeId],
    index: u64,
) -> Result<Option<BTreeMap<NodeId, Digest>>, String> {
    let began = Instant::now();
    let mut digests = BTreeMap::new();
    while digests.len() < voters.len() {
        if !group.leads() {
            return Err("this node does not lead it any more".into());
        }
        if began.elapsed() > READ_MAX {
            return Err("a replica takes too long".into());
        }
        let left = voters.iter().filter(|id| !digests.contains_key(*id));
        let asked = left.map(|id| async {
            let said = ask(node, group.shard, *id, index, Verdict::None).await?;
            Ok::<_, String>((*id, said))
        });
        for (id, said) in futures::future::try_join_all(asked).await? {
            match said.state() {
                State::Absent => return Err(format!("{id} has no replica that works")),
                State::Passed => return Ok(None),
                State::Reading => {}
                State::Done => drop(digests.insert(id, digest(&said)?)),
            }
        }
        sleep(ASK_EVERY).await;
    }
    Ok(Some(digests))
}

fn digest(said: &wire::Scrubbed) -> Result<Digest, String> {
    let sum = <[u8; 16]>::try_from(&said.sum[..]).map_err(|_| "a sum has 16 bytes")?;
    Ok(Digest {
        records: said.records,
        bytes: said.bytes,
        sum: u128::from_le_bytes(sum),
    })
}

/// Tells each how it compares.
async fn judge(
    node: &Arc<Shared>,
    group: &Group,
    index: u64,
    digests: &BTreeMap<NodeId, Digest>,
) -> Result<(), String> {
    let (shard, all) = (group.shard, digests.len());
    let alike = |digest: &Digest| digests.values().filter(|one| *one == digest).count();
    let most = digests.values().find(|digest| 2 * alike(digest) > all);
    let Some(most) = most.copied() else {
        tracing::error!(
            %shard,
            ?digests,
            "the replicas of a shard differ, and no majority is alike: nobody can say which is right"
        );
        return Err("no majority is alike".into());
    };
    // The others first: what this node is told may end its lead.
    let mut told: Vec<_> = digests.iter().collect();
    told.sort_by_key(|(id, _)| **id == node.id());
    for (id, digest) in told {
        let verdict = match *digest == most || mutant!("scrub-that-does-not-compare") {
            true => Verdict::Alike,
            false => Verdict::Differs,
        };
        if verdict == Verdict::Differs {
            tracing::error!(%shard, node = %id, index, "a replica differs from most others");
        }
        ask(node, shard, *id, index, verdict).await?;
    }
    tracing::info!(%shard, records = most.records, bytes = most.bytes, "replicas were compared");
    Ok(())
}

async fn ask(
    node: &Arc<Shared>,
    shard: ShardId,
    id: NodeId,
    index: u64,
    verdict: Verdict,
) -> Result<wire::Scrubbed, String> {
    let ask = wire::AskScrub {
        index,
        verdict: verdict as i32,
    };
    if id == node.id() {
        return Ok(tell(node, id, shard, &ask));
    }
    let link = node.peers().link(id);
    let link = link.ok_or_else(|| format!("{id} cannot be reached"))?;
    let limit = ANSWER_MAX.max(link.round() * 2);
    match link.call(shard.0, Body::AskScrub(ask), limit).await {
        Ok(Body::Scrubbed(said)) => Ok(said),
        Ok(_) => Err(format!("{id} answers something else")),
        Err(error) => Err(format!("{id}: {error}")),
    }
}

/// What this node says to a leader that asks it to read a shard back, or tells it how that compares.
pub(crate) fn tell(
    node: &Arc<Shared>,
    from: NodeId,
    shard: ShardId,
    ask: &wire::AskScrub,
) -> wire::Scrubbed {
    let said = |state: State| wire::Scrubbed {
        state: state as i32,
        ..wire::Scrubbed::default()
    };
    let group = node
        .group(shard)
        .filter(|group| group.leader() == Some(from));
    let Some(group) = group else {
        return said(State::Absent);
    };
    let mut jobs = node.scrubs.jobs.lock();
    let job = jobs.get(&shard).filter(|job| job.index == ask.index);
    let read = job.map(|job| *job.read.lock());
    match (ask.verdict(), read) {
        (Verdict::None, None) => {
            let read = Arc::new(Mutex::new(Read::Reading));
            let job = Job {
                index: ask.index,
                read: read.clone(),
            };
            jobs.insert(shard, job);
            let reading = read_back(node.clone(), group, ask.index, read);
            let stop = node.stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled(reading).await });
            said(State::Reading)
        }
        (Verdict::None, Some(Read::Reading)) => said(State::Reading),
        (Verdict::None, Some(Read::Passed)) => said(State::Passed),
        (Verdict::None, Some(Read::Done(digest))) => wire::Scrubbed {
            records: digest.records,
            bytes: digest.bytes,
            sum: Bytes::copy_from_slice(&digest.sum.to_le_bytes()),
            ..said(State::Done)
        },
        (Verdict::Alike, Some(Read::Done(_))) => {
            let now = node.peers().vitals().time().wall_ms().to_be_bytes();
            let record = Some(Bytes::copy_from_slice(&now));
            // Durable some time: at worst it is compared again a little early.
            drop(node.log().local_put(&key(shard), record));
            said(State::Done)
        }
        (Verdict::Differs, Some(Read::Done(_))) => {
            let differs = Error::Corrupt {
                file: "msgdb".into(),
                key: format!("{shard}"),
                reason: format!(
                    "as of entry {} its records are not those that most replicas have",
                    ask.index
                ),
            };
            // Noted as what it is: this replica is broken.
            let _ = group.fault.note::<()>(Err(differs));
            said(State::Absent)
        }
        // It is asked of another read than this node has done.
        (Verdict::Alike | Verdict::Differs, _) => said(State::Passed),
    }
}

/// Reads a replica back as of an entry.
async fn read_back(node: Arc<Shared>, group: Arc<Group>, index: u64, read: Arc<Mutex<Read>>) {
    let done = match read_slowly(&node, &group, index).await {
        Ok(Some(digest)) => Read::Done(digest),
        Ok(None) => Read::Passed,
        Err(error) => {
            tracing::error!(shard = %group.shard, %error, "reading everything back has met this");
            let _ = group.fault.note::<()>(Err(error));
            Read::Passed
        }
    };
    *read.lock() = done;
}

async fn read_slowly(node: &Shared, group: &Group, index: u64) -> Result<Option<Digest>, Error> {
    let point = timeout(POINT_MAX, group.state.read_point_at(index)).await;
    let point = match point {
        Ok(Ok(Some(point))) => point,
        // An install is no error of the disk.
        Ok(Ok(None) | Err(_)) | Err(_) => return Ok(None),
    };
    let Ok(_turn) = node.scrubs.turn.acquire().await else {
        return Ok(None);
    };
    let bytes_per_s = node.tuning().scrub.bytes_per_s.max(1);
    let pace = |bytes: u64| {
        sleep(Duration::from_micros(
            bytes.saturating_mul(1_000_000) / bytes_per_s,
        ))
    };
    let mut scrub = Scrub::new(point)?;
    let digest = loop {
        let (bytes, digest) = scrub.slice(SLICE_BYTES)?;
        pace(bytes).await;
        if let Some(digest) = digest {
            break digest;
        }
    };
    drop(scrub);
    let mut next = Some(0);
    while let Some(from) = next {
        let slice = usize::try_from(SLICE_BYTES).unwrap_or(usize::MAX);
        next = group.verify_log(from, slice)?;
        pace(SLICE_BYTES).await;
    }
    Ok(Some(digest))
}
