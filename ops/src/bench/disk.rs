//! Refuses to measure durability where there is none: on a file system that lives in memory an
//! fsync costs nothing and keeps nothing.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// `f_type` of tmpfs (linux/magic.h).
const TMPFS: u64 = 0x0102_1994;
/// `f_type` of ramfs.
const RAMFS: u64 = 0x8584_58f6;

/// The name of the in-memory file system that holds `path`, if one does. `path` must exist.
///
/// # Errors
/// When the file system cannot be asked.
pub fn in_memory(path: &Path) -> io::Result<Option<&'static str>> {
    Ok(memory_name(f_type(path)?))
}

fn memory_name(f_type: u64) -> Option<&'static str> {
    match f_type {
        TMPFS => Some("tmpfs"),
        RAMFS => Some("ramfs"),
        _ => None,
    }
}

#[allow(
    unsafe_code,
    reason = "statfs fills a struct of ours and reads a string that outlives it"
)]
fn f_type(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut found = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    if unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let found = unsafe { found.assume_init() };
    // 32 bits wide and signed on some machines; the magic numbers are all of 32 bits.
    Ok(found.f_type as u64 & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_file_systems_in_memory_have_a_name_here() {
        assert_eq!(memory_name(TMPFS), Some("tmpfs"));
        assert_eq!(memory_name(RAMFS), Some("ramfs"));
        assert_eq!(memory_name(0xef53), None);
    }

    #[test]
    fn proc_is_asked_and_is_neither() {
        assert_eq!(in_memory(Path::new("/proc")).unwrap(), None);
        assert!(in_memory(Path::new("/no/such/place")).is_err());
    }

    #[test]
    fn what_the_kernel_mounted_as_tmpfs_is_recognized() {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        // Of several things mounted at one place the last is to be seen.
        let kinds: std::collections::BTreeMap<&str, &str> = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .map(|fields| (fields[1], fields[2]))
            .collect();
        for (path, kind) in kinds
            .into_iter()
            .filter(|(path, _)| Path::new(path).is_dir())
        {
            if let ("tmpfs" | "ext4" | "xfs" | "btrfs", Ok(found)) =
                (kind, in_memory(Path::new(path)))
            {
                assert_eq!(
                    found,
                    (kind == "tmpfs").then_some("tmpfs"),
                    "{path} is {kind}"
                );
            }
        }
    }
}
