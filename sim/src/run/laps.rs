//! What the parts of a run take.

use std::time::Duration;

use crate::interpose::{cpu_elapsed, real_elapsed};
use crate::outcome::{Lap, Phase};

/// A stopwatch that is pressed at the end of each part.
pub(super) struct Laps {
    sim_us: u64,
    wall: Duration,
    cpu: Duration,
    done: Vec<Lap>,
}

impl Default for Laps {
    fn default() -> Laps {
        Laps {
            sim_us: 0,
            wall: real_elapsed(),
            cpu: cpu_elapsed(),
            done: Vec::new(),
        }
    }
}

impl Laps {
    /// A part has ended, `sim_us` after the run began.
    pub(super) fn end(&mut self, phase: Phase, sim_us: u64) {
        let (wall, cpu) = (real_elapsed(), cpu_elapsed());
        self.done.push(Lap {
            phase,
            sim_seconds: sim_us.saturating_sub(self.sim_us) as f64 / 1e6,
            wall_seconds: wall.saturating_sub(self.wall).as_secs_f64(),
            cpu_seconds: cpu.saturating_sub(self.cpu).as_secs_f64(),
        });
        (self.sim_us, self.wall, self.cpu) = (sim_us, wall, cpu);
    }

    /// All parts that have ended.
    pub(super) fn all(self) -> Vec<Lap> {
        self.done
    }
}
