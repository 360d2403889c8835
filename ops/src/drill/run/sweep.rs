//! Ends the faults of a drill from any survivor, for `abort` and `stop-all`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use client::v1::GetStatusResponse;
use client::{Client, v1};
use server::drill::plan::DrillPlan;

use super::book;
use crate::cmd::target::Credentials;

/// What a note says of where the faults of nodes are controlled, with `NODE=HOST:PORT` behind it.
const DOORS: &str = "faults are controlled at ";
/// Nodes of one such note: it has at most 1,000 bytes.
const DOORS_OF_NOTE: usize = 4;

/// Notes of where the plan's nodes are controlled: once they are cut off, nobody can ask them.
pub fn doors(plan: &DrillPlan, statuses: &[&GetStatusResponse]) -> Vec<String> {
    let of_plan = |name: &String| plan.steps.iter().any(|step| step.nodes.contains(name));
    let concerned = statuses
        .iter()
        .filter(|one| of_plan(&one.node_name) && !one.drill_address.is_empty());
    let pairs: Vec<String> = concerned
        .map(|one| format!("{}={}", one.node_name, one.drill_address))
        .collect();
    let notes = pairs.chunks(DOORS_OF_NOTE);
    notes
        .map(|pairs| format!("{DOORS}{}", pairs.join(" ")))
        .collect()
}

/// Where the nodes of a drill are controlled, as its notes have it; of all drills where none is named.
///
/// # Errors
/// When no node answers.
pub async fn noted_doors(client: &Client, id: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut doors = BTreeMap::new();
    let drills = book::drills(&book::look(client).await?);
    let meant = |one: &&v1::Drill| one.id == id || id.is_empty();
    let notes = drills
        .drills
        .iter()
        .filter(meant)
        .flat_map(|one| &one.notes);
    for note in notes {
        let told = note.text.strip_prefix(DOORS).unwrap_or_default();
        let pairs = told
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='));
        doors.extend(pairs.map(|(node, door)| (node.to_owned(), door.to_owned())));
    }
    Ok(doors)
}

/// Ends all faults of a drill wherever they may be, from any survivor: for `abort` and `stop-all`. A node
/// that is cut off tells nobody where it is controlled; the drill's notes do.
///
/// # Errors
/// When no node answers.
pub async fn sweep(client: &Client, id: &str) -> anyhow::Result<Vec<String>> {
    let reports = client.status_all(Duration::from_millis(1_500)).await;
    let reports = reports.context("no node answers")?;
    let mut doors = noted_doors(client, id).await?;
    for status in reports
        .iter()
        .filter_map(|report| report.status.as_ref().ok())
    {
        if !status.drill_address.is_empty() {
            doors.insert(status.node_name.clone(), status.drill_address.clone());
        }
    }
    let ends = doors
        .into_iter()
        .map(|(name, door)| end_all(door, id.to_owned(), name));
    let ended = futures::future::join_all(ends).await;
    Ok(ended.into_iter().flatten().collect())
}

async fn end_all(address: String, drill: String, name: String) -> Option<String> {
    let channel = Credentials::default().channel(&address).ok()?;
    let mut door = v1::faults_client::FaultsClient::new(channel);
    let request = v1::EndFaultsRequest {
        drill,
        ids: Vec::new(),
    };
    match tokio::time::timeout(Duration::from_secs(2), door.end_faults(request)).await {
        Ok(Ok(_)) => None,
        Ok(Err(status)) => Some(format!("{name}: {}", status.message())),
        Err(_) => Some(format!(
            "{name} does not answer; its faults end by themselves"
        )),
    }
}
