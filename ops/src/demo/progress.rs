//! What is to be seen while the demo works: a line for each thing that happened, and a bar for the
//! phase that goes on.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const BAR: &str =
    "{spinner:.cyan} {prefix:12} [{bar:32.cyan/blue}] {pos}/{len} {per_sec:>12} {msg}";
const SPINNER: &str = "{spinner:.cyan} {prefix:12} {msg}";

/// The terminal.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Nothing to be seen yet.
    pub fn new() -> Progress {
        Progress {
            bar: ProgressBar::hidden(),
        }
    }

    /// Begins a phase of `steps` steps; 0 when they cannot be counted.
    pub fn phase(&mut self, name: &str, steps: usize) -> ProgressBar {
        self.bar.finish_and_clear();
        let bar = if steps == 0 {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::new(steps as u64)
        };
        if let Ok(style) = ProgressStyle::with_template(if steps == 0 { SPINNER } else { BAR }) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        self.bar = bar.clone();
        bar
    }

    /// Says that something happened, above the bar.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// Ends the last phase.
    pub fn done(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
