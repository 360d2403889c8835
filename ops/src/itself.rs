//! What this process takes of the machine, for its metrics.

use std::fs;

use proto::net::secure::Keys;
use server::world::{Process, ProcessFigures};

use crate::logging::Lost;
use crate::tls;

/// Clock ticks in a second, as `/proc` counts them on every Linux there is.
const TICKS_PER_S: f64 = 100.0;
/// A page of memory, where the kernel does not say otherwise.
const PAGE_BYTES: u64 = 4_096;

/// This process, as `/proc` and the async runtime tell it.
#[derive(Default)]
pub struct Itself {
    lost: Option<Lost>,
    keys: Option<Keys>,
}

impl Itself {
    /// With the count of log lines that were lost, and the certificates that TLS has.
    pub fn new(lost: Lost, keys: Option<Keys>) -> Itself {
        Itself {
            lost: Some(lost),
            keys,
        }
    }
}

impl Process for Itself {
    fn figures(&self) -> Option<ProcessFigures> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let limits = fs::read_to_string("/proc/self/limits").ok();
        let mut figures = ProcessFigures {
            descriptors: count(fs::read_dir("/proc/self/fd").ok()?.count()),
            descriptors_max: limits.as_deref().and_then(open_files).unwrap_or(0),
            certificate_s: self.keys.as_ref().map_or(0, tls::remaining_s),
            log_lines_lost: self.lost.as_ref().map_or(0, Lost::lines),
            ..of_stat(&stat)?
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let metrics = runtime.metrics();
            let workers = metrics.num_workers();
            figures.runtime_workers = count(workers);
            figures.runtime_tasks = count(metrics.num_alive_tasks());
            figures.runtime_queued = count(metrics.global_queue_depth());
            let busy = (0..workers).map(|worker| metrics.worker_total_busy_duration(worker));
            figures.runtime_busy_seconds = busy.map(|busy| busy.as_secs_f64()).sum();
        }
        Some(figures)
    }
}

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}

/// What `/proc/self/stat` says. The second field is a name in brackets, which may have anything in it.
fn of_stat(stat: &str) -> Option<ProcessFigures> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // Fields are counted from 1 in proc(5); the first here is the third there.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    #[allow(clippy::cast_precision_loss, reason = "a time in seconds")]
    let cpu_seconds = (field(14)? + field(15)?) as f64 / TICKS_PER_S;
    Some(ProcessFigures {
        cpu_seconds,
        threads: field(20)?,
        resident_bytes: field(24)?.saturating_mul(PAGE_BYTES),
        ..ProcessFigures::default()
    })
}

/// The soft limit of open files in `/proc/self/limits`.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_read_whatever_the_process_is_called() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 12 0 99 1000 25 184";
        let figures = of_stat(stat).unwrap();
        assert_eq!(figures.cpu_seconds, 2.0);
        assert_eq!((figures.threads, figures.resident_bytes), (12, 25 * 4_096));
        assert_eq!(of_stat("nonsense"), None);
        let limits =
            "Limit Soft Hard Units\nMax open files            1024       4096       files\n";
        assert_eq!(open_files(limits), Some(1_024));
    }

    #[tokio::test]
    async fn this_process_can_be_seen() {
        let figures = Itself::default().figures().unwrap();
        assert!(
            figures.resident_bytes > 0 && figures.descriptors > 2,
            "{figures:?}"
        );
        assert!(
            figures.descriptors_max >= figures.descriptors,
            "{figures:?}"
        );
        assert!(
            figures.runtime_workers > 0 && figures.threads > 0,
            "{figures:?}"
        );
    }
}
