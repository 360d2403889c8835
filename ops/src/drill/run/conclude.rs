//! What the meta shard keeps of a drill: its end, a summary, and the proofs of promises.

use std::collections::BTreeMap;

use anyhow::Context as _;
use client::Client;
use client::v1::change_drill_request::Change;
use client::v1::{BeatDrill, ConcludeDrill, ProvePromise};
use server::drill::paper::{End, Paper};

use super::{Run, wire_end};

/// Bytes of a summary that the meta shard keeps.
const SUMMARY_BYTES_MAX: usize = 4 * 1024;

/// Stores the end, the summary and the proofs in the meta shard.
pub async fn conclude(run: &Run<'_>, paper: &Paper) -> anyhow::Result<()> {
    for note in &run.notes {
        let beat = BeatDrill {
            id: run.plan.id.clone(),
            number: run.number,
            note: note.clone(),
        };
        // Of one that was ended by others nothing more is noted.
        if run.client.change_drill(Change::Beat(beat)).await.is_err() {
            break;
        }
    }
    let conclude = ConcludeDrill {
        id: run.plan.id.clone(),
        number: run.number,
        end: wire_end(paper.end).into(),
        why: short(&paper.why, 900),
        summary: summary(paper),
    };
    let told = run.client.change_drill(Change::Conclude(conclude)).await;
    told.context("the cluster does not note how the drill ended; the paper is in its folder")?;
    prove(&run.client, paper).await
}

/// What the meta shard keeps of a paper.
fn summary(paper: &Paper) -> String {
    let measured = &paper.measured;
    let mut oracles = BTreeMap::new();
    for one in &paper.oracles {
        oracles.insert(&one.promise, one.held);
    }
    let told = serde_json::json!({
        "began_ms": paper.began_ms, "ended_ms": paper.ended_ms, "calls": measured.calls,
        "failed": measured.failed, "gap_ms": measured.gap_ms, "gap_whose": measured.gap_whose,
        "lost": measured.lost, "duplicated": measured.duplicated, "reordered": measured.reordered,
        "stale": measured.stale, "moves": measured.moves, "p99_us": measured.p99_us,
        "predicted_gap_ms": paper.predicted.gap_ms, "oracles": oracles,
        "deviations": paper.deviations.len(),
        "rehearsed_gap_p99_ms": paper.rehearsal.as_ref().map(|one| one.calm.gap_ms.p99),
    });
    let text = told.to_string();
    match text.len() <= SUMMARY_BYTES_MAX {
        true => text,
        false => "{}".to_owned(),
    }
}

/// Notes each promise that was held against the ledger, when the drill went to its end.
async fn prove(client: &Client, paper: &Paper) -> anyhow::Result<()> {
    let whole = matches!(paper.end, End::Passed | End::Missed | End::Broken);
    for one in paper
        .oracles
        .iter()
        .filter(|one| whole && one.held.is_some())
    {
        let prove = ProvePromise {
            promise: one.promise.clone(),
            held: one.held,
            by: paper.plan.id.clone(),
            evidence: short(&format!("{} looked at: {}", one.checked, one.text), 900),
            limit_ms: None,
        };
        let told = client.change_drill(Change::Prove(prove)).await;
        told.with_context(|| format!("the proof of {} is not noted", one.promise))?;
    }
    Ok(())
}

/// What fits of a text.
fn short(text: &str, bytes: usize) -> String {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let kept = text[..end].chars().map(|one| {
        if model::text::is_forbidden(one) {
            ' '
        } else {
            one
        }
    });
    kept.collect()
}
