//! Makes a run of a plan: builds the cluster, lets the load and the faults go on, waits until all is
//! at rest, and judges what was seen.
//!
//! ```text
//!  Plan ─► cluster: machines of nodes, client sites, the operator
//!            │ founding ─► load + faults ─► rest: replicas equal, probe, whole conversations
//!            ▼
//!  History + Observed ─► oracles ─► verdict ─► Outcome
//! ```

mod cluster;
mod driller;
mod faults;
mod forger;
mod laps;
mod operator;
mod remembered;
mod trained;
mod verdict;

use std::panic::{AssertUnwindSafe, catch_unwind};

use server::night::NodeNight;

use crate::alarms::Recording;
use crate::interpose;
use crate::outcome::{Outcome, Phase};
use crate::plan::{Event, Plan};
use cluster::Cluster;
pub use trained::train;

/// How long the cluster may take until all shards are led, ms.
const FOUNDING_MAX_MS: u64 = 60_000;
/// How much longer, where leaders move to the data centers that should lead.
const PREFERRED_MAX_MS: u64 = 200_000;
/// How long the last calls may take to be answered behind the end of the load, ms, beside their
/// deadline.
const TAIL_MAX_MS: u64 = 30_000;
/// How long the rest may take, ms: settling, probing, reading everything back.
const REST_MAX_MS: u64 = 240_000;

/// Makes a run, on this thread, which draws and tells time for the simulation meanwhile. The same
/// plan makes the same run in a process that has made no other, or the same others.
pub fn run(plan: &Plan) -> Outcome {
    run_and_record(plan).0
}

/// As [`run`], with what the nodes' flight recorders had written by its end.
pub fn run_and_record(plan: &Plan) -> (Outcome, Vec<NodeNight>) {
    let began = interpose::real_elapsed();
    let mut seen = verdict::RunEvidence::default();
    let (stopped, panicked) = inside(plan, || drive(plan, &mut seen));
    (seen.stopped, seen.panicked) = (stopped, panicked);
    let recorded = std::mem::take(&mut seen.recorded);
    (verdict::outcome(plan, seen, began), recorded)
}

/// What a Prometheus would have of a plan's load: each node's series that the shipped alerts name, for
/// each second. The nodes sing their canaries, so that it is not quite the run of [`run`]; it ends with the
/// load, and nothing is judged.
///
/// # Errors
/// What kept the run from its end.
pub fn record(plan: &Plan) -> Result<Recording, String> {
    let mut recording = Recording::default();
    let (stopped, _) = inside(plan, || {
        let mut cluster = Cluster::build(plan, true)?;
        let mut seen = verdict::RunEvidence::default();
        found(plan, &mut cluster)?;
        load(plan, &mut cluster, &mut seen, |_| true, &mut |_| {})?;
        recording = cluster.recording.take().unwrap_or_default();
        Ok(())
    });
    stopped.map_or(Ok(recording), Err)
}

/// Does something in the world of a plan's run. Gives what stopped it, and whether that was a panic.
fn inside(plan: &Plan, act: impl FnOnce() -> Result<(), String>) -> (Option<String>, bool) {
    interpose::enter(plan.seed);
    raft::interleave(Some(interpose::yields));
    let made = catch_unwind(AssertUnwindSafe(act));
    raft::interleave(None);
    interpose::leave();
    match made {
        Ok(Ok(())) => (None, false),
        Ok(Err(why)) => (Some(why), false),
        Err(panic) => (Some(format!("panic: {}", panic_text(&*panic))), true),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    match panic.downcast_ref::<String>() {
        Some(text) => text.clone(),
        None => "no text".to_owned(),
    }
}

fn drive(plan: &Plan, seen: &mut verdict::RunEvidence) -> Result<(), String> {
    let mut cluster = Cluster::build(plan, false)?;
    let driven = phases(plan, &mut cluster, seen, &mut |_| {});
    // What was seen until something went wrong is worth knowing, too.
    cluster.tell(seen);
    driven
}

/// What is told of a run on its way.
enum Stage {
    /// The load goes on, for so long already, microseconds; at first 0.
    Load(u64),
    /// Nothing is sent any more.
    Rest,
}

fn phases(
    plan: &Plan,
    cluster: &mut Cluster,
    seen: &mut verdict::RunEvidence,
    pace: &mut dyn FnMut(Stage),
) -> Result<(), String> {
    found(plan, cluster)?;
    seen.laps.end(Phase::Founding, cluster.field.now_us());
    load(plan, cluster, seen, Cluster::loaded, pace)?;
    seen.laps.end(Phase::Load, cluster.field.now_us());
    pace(Stage::Rest);
    cluster.rest();
    let began_us = cluster.field.now_us();
    while !cluster.rested()? {
        if cluster.field.now_us() - began_us > REST_MAX_MS * 1_000 {
            return Err("the cluster does not come to rest".to_owned());
        }
        cluster.step()?;
    }
    seen.laps.end(Phase::Rest, cluster.field.now_us());
    Ok(())
}

/// Until the cluster serves.
fn found(plan: &Plan, cluster: &mut Cluster) -> Result<(), String> {
    while !cluster.has_begun()? {
        let more_ms = match plan.topology.prefer.is_empty() {
            true => 0,
            false => PREFERRED_MAX_MS,
        };
        if cluster.field.now_us() > (FOUNDING_MAX_MS + more_ms) * 1_000 {
            return Err("the cluster did not come to life".to_owned());
        }
        cluster.step()?;
    }
    Ok(())
}

/// Load and faults, until their time is over and they are `done`; `pace` may take its time between two steps.
fn load(
    plan: &Plan,
    cluster: &mut Cluster,
    seen: &mut verdict::RunEvidence,
    done: impl Fn(&Cluster) -> bool,
    pace: &mut dyn FnMut(Stage),
) -> Result<(), String> {
    let last = plan.events.iter().map(|event| event.at_ms).max();
    let load_ms = plan.workload.duration_ms.max(last.unwrap_or(0));
    let limit_ms = load_ms + plan.workload.deadline_ms + TAIL_MAX_MS;
    let last_end = plan.events.iter().rposition(|event| event.fault.ends());
    let mut events = plan.events.iter().enumerate().peekable();
    while cluster.load_ms() < load_ms || !done(cluster) {
        if cluster.load_ms() > limit_ms {
            return Err(format!("calls hang: {}", cluster.hanging()));
        }
        let now_ms = cluster.load_ms();
        let due = |next: &(usize, &Event)| next.1.at_ms <= now_ms;
        while let Some((at, event)) = events.next_if(due) {
            cluster.act(event, last_end == Some(at), seen)?;
        }
        let began_us = cluster.began_us().unwrap_or_default();
        pace(Stage::Load(cluster.field.now_us() - began_us));
        cluster.step()?;
    }
    Ok(())
}
