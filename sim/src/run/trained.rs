//! A run that somebody outside takes part in: its load goes as fast as `pace` lets it.

use super::{Stage, inside, phases, verdict};
use crate::interpose;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::run::cluster::Cluster;
use crate::train::{Moment, Training};

/// As [`super::run`], on this thread. `pace` is called when the cluster serves, again before each step of the
/// load, and at the load's end; virtual time stands still meanwhile. Such a run does not repeat.
pub fn train(plan: &Plan, training: Training, pace: &mut dyn FnMut(Moment)) -> Outcome {
    let began = interpose::real_elapsed();
    let mut seen = verdict::RunEvidence::default();
    let notes = training.notes.clone();
    let mut told = |stage| {
        pace(match stage {
            Stage::Load(us) => {
                notes.began_at(crate::net::now_us() - us);
                Moment::Load(us)
            }
            Stage::Rest => {
                notes.end();
                Moment::Rest
            }
        });
    };
    let (stopped, panicked) = inside(plan, || {
        let mut cluster = Cluster::build_for(plan, false, Some(training))?;
        let driven = phases(plan, &mut cluster, &mut seen, &mut told);
        cluster.tell(&mut seen);
        driven
    });
    (seen.stopped, seen.panicked) = (stopped, panicked);
    verdict::outcome(plan, seen, began)
}
