//! How far a sweep has come: a bar on a terminal, a line now and then elsewhere.

use std::cell::Cell;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use firebreak_sim::Verdict;
use firebreak_sim::interpose::real_elapsed;
use firebreak_sim::reports::SweptRun;
use indicatif::{ProgressBar, ProgressStyle};

/// How often there is a line where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// How far a sweep has come.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    to_do: Option<u64>,
    began: Duration,
    last_line: Cell<Duration>,
    made: Cell<u64>,
    failed: Cell<u64>,
}

impl Progress {
    /// Of so many runs, or of as many as there is time for.
    pub(super) fn new(to_do: Option<u64>) -> Progress {
        let began = real_elapsed();
        Progress {
            bar: io::stderr().is_terminal().then(|| bar(to_do)),
            to_do,
            began,
            last_line: Cell::new(began),
            made: Cell::new(0),
            failed: Cell::new(0),
        }
    }

    /// Another run was made.
    pub(super) fn add(&self, run: &SweptRun) {
        self.made.set(self.made.get() + 1);
        if run.verdict != Verdict::Held {
            self.failed.set(self.failed.get() + 1);
            self.say(&failure(run));
        }
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} failed · {}", self.failed.get(), run.scenario));
            bar.inc(1);
            return;
        }
        let now = real_elapsed();
        let all = self.to_do == Some(self.made.get());
        if all || now.saturating_sub(self.last_line.get()) >= LINE_EVERY {
            self.last_line.set(now);
            let of = self.to_do.map_or(String::new(), |all| format!(" of {all}"));
            let seconds = now.saturating_sub(self.began).as_secs();
            self.say(&format!(
                "{}{of} runs, {} failed, {seconds} s",
                self.made.get(),
                self.failed.get()
            ));
        }
    }

    /// Says something beside it.
    pub(super) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A failing run in a line.
pub(super) fn failure(run: &SweptRun) -> String {
    let (sign, what) = match run.verdict {
        Verdict::Broken => ('✗', "broken"),
        Verdict::GoalMissed | Verdict::Held => ('!', "missed"),
    };
    let why = run.failures.first().map(|failure| {
        let letter = failure.promise.map(|promise| promise.letter());
        let letter = letter.map_or(String::new(), |letter| format!("{letter} "));
        format!(": {letter}{}: {}", failure.oracle, failure.evidence)
    });
    format!(
        "{sign} {what}  {} seed {}{}",
        run.scenario,
        run.seed,
        why.unwrap_or_default()
    )
}

fn bar(to_do: Option<u64>) -> ProgressBar {
    let (bar, template) = match to_do {
        Some(all) => (
            ProgressBar::new(all),
            "{bar:30} {pos}/{len} runs · {msg} · {elapsed}, {eta} to go",
        ),
        None => (
            ProgressBar::no_length(),
            "{spinner} {pos} runs · {msg} · {elapsed}",
        ),
    };
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
