//! What a run showed, and what follows from it.

use std::fmt;
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;

use crate::judge::Broken;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything held.
    Held,
    /// A goal was missed: a gap too long, a failed call, a cluster that did not come back.
    Missed,
    /// A safety promise was broken.
    Broken,
}

impl Verdict {
    /// The exit code that says it; 2 is for unusable input.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Held => 0,
            Verdict::Missed => 1,
            Verdict::Broken => 3,
        }
    }
}

/// What a run showed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The command that makes the run again.
    pub command: String,
    /// Nodes in all.
    pub nodes: u32,
    /// What was done to the cluster and when, counted from the begin of the load.
    pub events: Vec<(Duration, String)>,
    /// Messages acknowledged.
    pub acked: usize,
    /// Messages sent again under the same id.
    pub retries: u64,
    /// Calls that failed, for people.
    pub failed: Vec<String>,
    /// The longest time between two acknowledgements of any conversation.
    pub longest_gap: Duration,
    /// The longest time between two acknowledgements of one conversation, of the worst one.
    pub worst_gap: Duration,
    /// The most that this may be.
    pub gap_max: Duration,
    /// From the load's end until all replicas were equal.
    pub settled: Duration,
    /// Replicas that were compared.
    pub replicas: usize,
    /// Conversations that were read back, over all nodes and levels.
    pub reads: usize,
    /// Every safety promise that was seen broken.
    pub broken: Vec<Broken>,
    /// Why the run did not come to its end, if it did not.
    pub stopped: Option<String>,
    /// Virtual time of the whole run.
    pub simulated: Duration,
}

impl Report {
    /// What follows.
    pub fn verdict(&self) -> Verdict {
        if !self.broken.is_empty() {
            Verdict::Broken
        } else if self.missed().is_empty() {
            Verdict::Held
        } else {
            Verdict::Missed
        }
    }

    /// Every goal that was missed, for people.
    pub fn missed(&self) -> Vec<String> {
        let mut missed: Vec<String> = self.stopped.iter().cloned().collect();
        if self.stopped.is_none() && self.acked == 0 {
            missed.push("nothing was acknowledged".to_owned());
        }
        if self.worst_gap > self.gap_max {
            missed.push(format!(
                "G: {} ms between two acknowledgements of a conversation, at most {} ms is right",
                self.worst_gap.as_millis(),
                self.gap_max.as_millis()
            ));
        }
        missed.extend(self.failed.iter().map(|call| format!("G: failed: {call}")));
        missed
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        let ms = |time: Duration| format!("{} ms", time.as_millis());
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        for (at, event) in &self.events {
            row(&format!("at {}", ms(*at)), event.clone());
        }
        row("nodes", self.nodes.to_string());
        row("messages acked", self.acked.to_string());
        row("sent again", self.retries.to_string());
        row("calls failed", self.failed.len().to_string());
        row("longest gap between acks", ms(self.longest_gap));
        row("  of the worst conversation", ms(self.worst_gap));
        row("replicas equal after", ms(self.settled));
        row("replicas compared", self.replicas.to_string());
        row("conversations read back", self.reads.to_string());
        row("virtual time", ms(self.simulated));
        row("promises broken", self.broken.len().to_string());
        writeln!(f, "{table}")?;
        for broken in &self.broken {
            writeln!(f, "broken  {broken}")?;
        }
        for missed in self.missed() {
            writeln!(f, "missed  {missed}")?;
        }
        let verdict = match self.verdict() {
            Verdict::Held => "every promise judged here held (D O E H G)",
            Verdict::Missed => "a goal was missed",
            Verdict::Broken => "a safety promise was broken",
        };
        write!(f, "{verdict}\nagain: {}", self.command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Promise;

    fn good() -> Report {
        Report {
            acked: 1,
            gap_max: Duration::from_secs(1),
            ..Report::default()
        }
    }

    #[test]
    fn a_missed_goal_is_said_and_a_broken_promise_outweighs_it() {
        assert_eq!(good().verdict(), Verdict::Held);
        let mut report = good();
        report.worst_gap = Duration::from_millis(1_001);
        assert_eq!(report.verdict(), Verdict::Missed);
        assert!(report.to_string().contains("1001 ms between"));
        report.broken.push(Broken {
            promise: Promise::Durable,
            evidence: "room-1: gone".to_owned(),
        });
        assert_eq!(report.verdict(), Verdict::Broken);
        assert!(report.to_string().contains("D: room-1: gone"));
    }

    #[test]
    fn scripts_can_tell_the_verdicts_apart() {
        let codes = [Verdict::Held, Verdict::Missed, Verdict::Broken].map(Verdict::exit_code);
        assert_eq!(codes, [0, 1, 3]);
    }

    #[test]
    fn failed_calls_a_run_that_stopped_and_one_without_messages_miss_goals() {
        for spoil in [
            |report: &mut Report| report.failed.push("a call".to_owned()),
            |report: &mut Report| report.stopped = Some("a node stopped".to_owned()),
            |report: &mut Report| report.acked = 0,
        ] {
            let mut report = good();
            spoil(&mut report);
            assert_eq!(report.verdict(), Verdict::Missed);
        }
    }
}
