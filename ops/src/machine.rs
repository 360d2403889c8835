//! What the machine gives to this process: memory and descriptors.

use std::fs;
use std::io;

use anyhow::bail;
use server::budget::{DESCRIPTORS_MIN, Machine};

/// Taken where the system does not say how much memory there is.
const MEMORY_BYTES_UNKNOWN: u64 = 2 * 1024 * 1024 * 1024;
/// The most descriptors that are asked for: where there is no limit, some systems count by tables.
const DESCRIPTORS_MAX: u64 = 1 << 20;

/// Raises the limit of descriptors as far as it goes, and looks what there is.
///
/// # Errors
/// When there are too few descriptors to run a node.
pub fn look() -> anyhow::Result<Machine> {
    let descriptors = raise_descriptors()?;
    if descriptors < DESCRIPTORS_MIN {
        bail!(
            "this process may open {descriptors} descriptors; a node needs {DESCRIPTORS_MIN} at least: raise \
             the hard limit (ulimit -Hn, LimitNOFILE)"
        );
    }
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| meminfo(&text));
    let memory_bytes = machine.into_iter().chain(container()).min();
    Ok(Machine {
        memory_bytes: memory_bytes.unwrap_or(MEMORY_BYTES_UNKNOWN),
        descriptors,
    })
}

/// Sets the soft limit of descriptors to the hard one; gives the limit.
fn raise_descriptors() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls take a pointer to a rlimit that lives until they return.
    #[allow(unsafe_code, reason = "the system's call has no safe form in std")]
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        let raised = libc::rlimit {
            rlim_cur: limit.rlim_max.min(DESCRIPTORS_MAX).max(limit.rlim_cur),
            rlim_max: limit.rlim_max,
        };
        // Where it is refused, what there is has to do.
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) == 0 {
            limit = raised;
        }
    }
    Ok(limit.rlim_cur)
}

/// `MemTotal:       24564892 kB`
fn meminfo(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The least that a container of this process, or one around it, allows: control groups of both
/// versions.
fn container() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = own.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (kind, path) = (parts.next().unwrap_or(""), parts.next().unwrap_or("/"));
        let (root, file) = match kind {
            "" => ("/sys/fs/cgroup", "memory.max"),
            kind if kind.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        let paths = std::path::Path::new(path).ancestors();
        paths
            .map(|path| format!("{root}{}/{file}", path.display()).replace("//", "/"))
            .collect()
    });
    let limits = limits.filter_map(|file| fs::read_to_string(file).ok());
    limits.filter_map(|text| text.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_how_much_memory_it_has() {
        let text = "MemTotal:       24564892 kB\nMemFree:  1 kB\n";
        assert_eq!(meminfo(text), Some(24_564_892 * 1024));
        assert_eq!(meminfo("MemTotal: many kB\n"), None);
        assert_eq!(meminfo(""), None);
    }

    #[test]
    fn the_limit_of_descriptors_is_raised_as_far_as_it_goes() {
        let machine = look().expect("enough descriptors for tests");
        assert!(machine.memory_bytes > 0);
        assert_eq!(look().expect("again"), machine);
    }
}
