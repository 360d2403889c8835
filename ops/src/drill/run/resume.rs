//! Begins a drill, or goes on where another controller was.

use std::fs;

use client::Client;
use client::v1::change_drill_request::Change;
use client::v1::{BeginDrill, ClaimDrill};
use server::drill::paper::Moment;

use super::{Run, STEPS_BEGIN, book, now_ms};
use crate::drill::book::Planned;

/// Begins the drill, or takes it over; the controller's number.
pub async fn claim(client: &Client, planned: &Planned, resume: bool) -> anyhow::Result<u64> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let who = format!("{}/{}", host.trim(), std::process::id());
    let id = planned.plan.id.clone();
    let (wanted, what) = match resume {
        true => (
            Change::Claim(ClaimDrill { id, who }),
            "the drill cannot be taken over",
        ),
        false => {
            let begin = BeginDrill {
                id,
                who,
                plan_digest: planned.digest().into(),
            };
            (Change::Begin(begin), "the drill does not begin")
        }
    };
    Ok(book::change(client, wanted, what).await?.number)
}

impl Run<'_> {
    /// Goes on where another controller was.
    pub async fn take_over(&mut self, done: &mut [bool]) -> Result<(), String> {
        let told = book::look(&self.client)
            .await
            .map_err(|error| error.to_string())?;
        let drills = book::drills(&told);
        let held = drills.drills.iter().find(|one| one.id == self.plan.id);
        let notes = held.map(|one| &one.notes[..]).unwrap_or_default();
        let begun = notes
            .iter()
            .find_map(|note| note.text.strip_prefix(STEPS_BEGIN)?.parse().ok());
        self.deviations
            .push("another controller took over: what came meanwhile nobody watched".into());
        let Some(begun) = begun else {
            self.steps_at_ms = now_ms() + self.plan.before_ms;
            self.happened(Moment::Begin, format!("{STEPS_BEGIN}{}", self.steps_at_ms));
            return Ok(());
        };
        self.steps_at_ms = begun;
        let now = now_ms();
        for (at, step) in self.plan.steps.iter().enumerate() {
            let from = begun + step.at_ms;
            if now < from {
                continue;
            }
            done[at] = true;
            if now < from + step.for_ms.unwrap_or(0) || step.action.needs_their_machine() {
                let taken = self.hands.takes_over(at, step);
                taken.map_err(|why| format!("step {}: {why:#}", at + 1))?;
            }
        }
        let gone = self.hands.renew().await;
        match gone.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "the faults on {} had ended by themselves",
                gone.join(", ")
            )),
        }
    }
}
