//! The drills as the meta shard knows them, asked and changed.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use client::v1::change_drill_request::Change;
use client::v1::{ApproveDrill, Drill, Drills, GetDrillsResponse, StoreDrill};
use client::{Client, v1};
use server::drill::check;
use server::drill::plan::DrillPlan;

use crate::cmd::outage::when;
use crate::cmd::target::verb_failed;
use crate::exit::Usage;

/// How long a node may take to hear of a change.
const HEARD: std::time::Duration = std::time::Duration::from_secs(5);
/// Between two looks.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(50);
/// The largest plan that is read, bytes.
const BYTES_MAX: u64 = 64 * 1024;

/// A plan, and its file as it is: approvals are given for its bytes.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The file.
    pub text: String,
    /// What it says.
    pub plan: DrillPlan,
}

impl Planned {
    /// Of a file's text.
    ///
    /// # Errors
    /// [`Usage`]: what is wrong with it.
    pub fn of(text: String, whose: &str) -> anyhow::Result<Planned> {
        let plan = check::read(&text).map_err(|why| anyhow!(Usage(format!("{whose}: {why}"))))?;
        Ok(Planned { text, plan })
    }

    /// blake3 of the file.
    pub fn digest(&self) -> Vec<u8> {
        digest(&self.text)
    }

    /// What stores it.
    pub fn store(&self, who: &str) -> StoreDrill {
        StoreDrill {
            id: self.plan.id.clone(),
            plan: self.text.clone(),
            scenario: self.plan.scenario.clone(),
            target: self.plan.target.clone(),
            who: who.to_owned(),
            ..StoreDrill::default()
        }
    }
}

/// blake3 of a file.
pub fn digest(text: &str) -> Vec<u8> {
    blake3::hash(text.as_bytes()).as_bytes().to_vec()
}

/// What the cluster knows.
///
/// # Errors
/// When no node answers.
pub async fn look(client: &Client) -> anyhow::Result<GetDrillsResponse> {
    client.drills().await.context("no node tells of drills")
}

/// What a node knows that has heard of a change.
///
/// # Errors
/// As [`look`].
pub async fn look_since(client: &Client, epoch: u64) -> anyhow::Result<GetDrillsResponse> {
    let began = std::time::Instant::now();
    loop {
        let told = look(client).await?;
        // One that has not heard in time tells what it knows.
        if told.epoch >= epoch || began.elapsed() > HEARD {
            return Ok(told);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The drills of an answer.
pub fn drills(told: &GetDrillsResponse) -> Drills {
    told.drills.clone().unwrap_or_default()
}

/// One of them.
///
/// # Errors
/// [`Usage`], when there is none of that name.
pub fn find<'a>(drills: &'a Drills, id: &str) -> anyhow::Result<&'a Drill> {
    let found = drills.drills.iter().find(|one| one.id == id);
    found.ok_or_else(|| {
        anyhow!(Usage(format!(
            "there is no drill {id:?}; `firebreak drill list` names them"
        )))
    })
}

/// A plan by its file, or by the name of a drill that the cluster has.
///
/// # Errors
/// [`Usage`], when there is neither.
pub async fn plan(client: &Client, named: &str) -> anyhow::Result<Planned> {
    let path = Path::new(named);
    if path.is_file() {
        return read(path);
    }
    let told = look(client).await?;
    let all = drills(&told);
    let Some(held) = all.drills.iter().find(|one| one.id == named) else {
        return Err(anyhow!(Usage(format!(
            "{named} is neither a file nor a drill; `firebreak drill list` names those there are"
        ))));
    };
    if held.plan.is_empty() {
        return Err(anyhow!(Usage(format!(
            "the drill {named} has ended: {}; its plan is in its folder",
            held.why
        ))));
    }
    Planned::of(held.plan.clone(), named)
}

/// Reads a plan's file.
///
/// # Errors
/// [`Usage`]: what is wrong with it.
pub fn read(path: &Path) -> anyhow::Result<Planned> {
    let usage = |why: String| anyhow!(Usage(format!("{}: {why}", path.display())));
    let size = std::fs::metadata(path).map_err(|e| usage(e.to_string()))?;
    if size.len() > BYTES_MAX {
        return Err(usage(format!("a plan has at most {BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| usage(e.to_string()))?;
    Planned::of(text, &path.display().to_string())
}

/// Stores a plan, unless the cluster has it.
///
/// # Errors
/// As [`change`].
pub async fn store(client: &Client, planned: &Planned, who: &str) -> anyhow::Result<()> {
    let store = Change::Store(planned.store(who));
    change(client, store, "the plan is not stored")
        .await
        .map(drop)
}

/// Whether an operator has approved since a time, and what time the cluster has now, Unix milliseconds.
async fn approved_since(
    client: &Client,
    (id, who): (&str, &str),
    since_ms: u64,
) -> anyhow::Result<(bool, u64)> {
    let told = look(client).await?;
    let now_ms = match told.now_ms {
        0 => when::now_ms(),
        now => now,
    };
    let drills = drills(&told);
    let planned = drills.drills.iter().filter(|one| one.id == id);
    let standing = drills.standing.iter().filter(|one| one.name == id);
    let mut by = planned
        .flat_map(|one| &one.approvals)
        .chain(standing.flat_map(|one| &one.approvals));
    let has = by.any(|one| one.who == who && one.at_ms >= since_ms);
    Ok((has, now_ms))
}

/// An operator's approval, given once: a call whose answer was lost is made again, and the second one finds
/// the first.
///
/// # Errors
/// As [`change`].
pub async fn approve_once(
    client: &Client,
    approve: ApproveDrill,
    of: fn(ApproveDrill) -> Change,
    what: &str,
) -> anyhow::Result<u64> {
    let (id, who) = (approve.id.clone(), approve.who.clone());
    let (_, since_ms) = approved_since(client, (&id, &who), 0).await?;
    match change(client, of(approve), what).await {
        Ok(made) => Ok(made.epoch),
        Err(why) => match approved_since(client, (&id, &who), since_ms).await? {
            (true, _) => Ok(0),
            (false, _) => Err(why),
        },
    }
}

/// An operator allows a drill; the epoch since which that holds.
///
/// # Errors
/// As [`change`].
pub async fn approve(client: &Client, id: &str, who: &str, digest: Vec<u8>) -> anyhow::Result<u64> {
    let approve = ApproveDrill {
        id: id.to_owned(),
        who: who.to_owned(),
        digest: digest.into(),
    };
    let what = format!("{id} is not approved");
    approve_once(client, approve, Change::Approve, &what).await
}

/// Changes the drills. What the cluster refuses is wrong input, of which nothing was done.
///
/// # Errors
/// [`Usage`] with the reason of a refusal; another error when it is not known what became of it.
pub async fn change(
    client: &Client,
    change: Change,
    what: &str,
) -> anyhow::Result<v1::ChangeDrillResponse> {
    let made = client.change_drill(change).await;
    made.map_err(|error| match error.reason() {
        Some("DRILL_REFUSED" | "INVALID_FIELDS") => {
            anyhow!(Usage(format!("{what}: {}", said(&error))))
        }
        _ => verb_failed(error, what.to_owned(), "firebreak drill list"),
    })
}

/// What the cluster said, without what names the call.
pub fn said(error: &client::Error) -> String {
    match error {
        client::Error::Refused(refusal) => refusal.message.clone(),
        other => other.to_string(),
    }
}

/// Operators that must approve.
pub fn needed(drills: &Drills) -> u32 {
    match drills.operators_needed {
        0 => model::cluster::drills::OPERATORS_NEEDED,
        set => set,
    }
}
