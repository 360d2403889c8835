//! What a process has used so far, as /proc tells.

use std::time::Duration;
use std::{fs, io};

/// Totals of one process since it started; `resident_bytes` is of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all its threads, user and system, in steps of the kernel's tick (10 ms).
    pub cpu: Duration,
    /// Bytes that it caused to be written to a disk (`write_bytes` of /proc/PID/io).
    pub write_bytes: u64,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
}

impl Usage {
    /// Reads the usage of the process `pid`.
    ///
    /// # Errors
    /// When there is no such process, or it is another user's.
    pub fn of(pid: u32) -> io::Result<Usage> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let io_text = fs::read_to_string(format!("/proc/{pid}/io"))?;
        let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
        let ticks = stat_field(&stat, 14)? + stat_field(&stat, 15)?;
        let pages: u64 = number(statm.split_whitespace().nth(1), "statm")?;
        Ok(Usage {
            cpu: Duration::from_secs_f64(ticks as f64 / system(libc::_SC_CLK_TCK)? as f64),
            write_bytes: number(
                io_text
                    .lines()
                    .find_map(|line| line.strip_prefix("write_bytes: ")),
                "io",
            )?,
            resident_bytes: pages * system(libc::_SC_PAGESIZE)?,
        })
    }

    /// Sums over several processes.
    ///
    /// # Errors
    /// As [`Usage::of`].
    pub fn of_all(pids: impl IntoIterator<Item = u32>) -> io::Result<Usage> {
        let mut sum = Usage::default();
        for pid in pids {
            let one = Usage::of(pid)?;
            sum.cpu += one.cpu;
            sum.write_bytes += one.write_bytes;
            sum.resident_bytes += one.resident_bytes;
        }
        Ok(sum)
    }
}

/// When a process started, in kernel ticks since boot: with the pid, this names it for good.
///
/// # Errors
/// When there is no such process.
pub fn started_at(pid: u32) -> io::Result<u64> {
    stat_field(&fs::read_to_string(format!("/proc/{pid}/stat"))?, 22)
}

/// Field `n` (from 1, as in proc(5)) of /proc/PID/stat. The second field may hold anything,
/// blanks and parentheses too, so counting starts behind its end.
fn stat_field(stat: &str, n: usize) -> io::Result<u64> {
    let behind = stat.rfind(')').map_or("", |end| &stat[end + 1..]);
    number(behind.split_whitespace().nth(n - 3), "stat")
}

fn number(text: Option<&str>, what: &str) -> io::Result<u64> {
    text.and_then(|t| t.trim().parse().ok()).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("/proc/PID/{what} has another form"),
        )
    })
}

#[allow(
    unsafe_code,
    reason = "sysconf takes a constant and touches no memory of ours"
)]
fn system(name: libc::c_int) -> io::Result<u64> {
    let value = unsafe { libc::sysconf(name) };
    u64::try_from(value).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 9 0 4242 1 2";
        assert_eq!(stat_field(stat, 14).unwrap(), 150);
        assert_eq!(stat_field(stat, 15).unwrap(), 25);
        assert_eq!(stat_field(stat, 22).unwrap(), 4242);
    }

    #[test]
    fn this_process_is_resident_and_has_started() {
        let pid = std::process::id();
        assert!(Usage::of(pid).unwrap().resident_bytes > 100_000);
        assert_eq!(started_at(pid).unwrap(), started_at(pid).unwrap());
        assert!(Usage::of(u32::MAX - 1).is_err());
    }
}
