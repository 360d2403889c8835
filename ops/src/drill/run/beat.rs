//! What the meta shard is told while a drill runs, and what it says of it.

use client::v1::change_drill_request::Change;
use client::v1::{BeatDrill, drill};
use server::drill::live::{Figures, Live};
use server::drill::rehearsal::{Seeds, Spread};

use super::{Run, book};

impl Run<'_> {
    /// The figures as they are now, for the console and `firebreak drill status`.
    pub fn live(&self) -> Live {
        let predicted = &self.fit.predicted;
        let seeds = |pick: fn(&Spread) -> f64| {
            let calm = self.rehearsed.as_ref().map(|one| &one.calm);
            // Whole numbers, below 2^53.
            let figure = |spread: fn(&Seeds) -> Spread| {
                let value = pick(&spread(calm?)).round();
                format!("{value:.0}").parse().ok()
            };
            Figures {
                gap_ms: figure(|seeds| seeds.gap_ms),
                failed: figure(|seeds| seeds.failed),
                moves: figure(|seeds| seeds.moves),
            }
        };
        Live {
            predicted: Figures {
                gap_ms: predicted.gap_ms,
                failed: Some(predicted.failed),
                moves: Some(predicted.moves),
            },
            simulated_p50: seeds(|spread| spread.p50),
            simulated_p99: seeds(|spread| spread.p99),
            measured: Figures {
                gap_ms: Some(self.gauge.gap_ms),
                failed: Some(self.gauge.failed),
                moves: u64::try_from(self.moves.len()).ok(),
            },
            calls: self.gauge.calls,
        }
    }

    /// Tells the meta shard that the controller is there. That takes a while when its leader is gone,
    /// and nothing else waits for it.
    pub async fn beat(&mut self) -> Result<(), String> {
        if let Some(beating) = &self.beating
            && !beating.is_finished()
        {
            return Ok(());
        }
        if let Some(beating) = self.beating.take() {
            match beating.await {
                Ok((_, Ok(_))) | Err(_) => {}
                Ok((_, Err(error))) if error.reason() == Some("DRILL_REFUSED") => {
                    return Err(book::said(&error));
                }
                // Until the drill is taken for lost there is time.
                Ok((note, Err(_))) if !note.is_empty() => self.notes.insert(0, note),
                Ok((_, Err(_))) => {}
            }
        }
        let note = match self.notes.is_empty() {
            true => self.live().note(),
            false => self.notes.remove(0),
        };
        let beat = BeatDrill {
            id: self.plan.id.clone(),
            number: self.number,
            note: note.clone(),
        };
        let client = self.client.clone();
        self.beating = Some(tokio::spawn(async move {
            let told = client.change_drill(Change::Beat(beat)).await;
            (note, told.map(drop))
        }));
        Ok(())
    }

    /// Why others ended it, if they did: what was seen of that first may be its faults' end.
    pub async fn ended_by_others(&self) -> Option<String> {
        let told = book::look(&self.client).await.ok()?;
        let drills = book::drills(&told);
        let held = drills.drills.iter().find(|one| one.id == self.plan.id)?;
        (held.state() == drill::State::Ended).then(|| held.why.clone())
    }
}
