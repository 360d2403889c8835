//! A file that holds nothing but room. A disk that was filled to its last byte gets it back when the
//! node starts again: without, its databases could not be opened, and not even reads would be served.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fs2::FileExt as _;

/// A data directory's ballast.
#[derive(Clone, Debug)]
pub struct Ballast {
    path: PathBuf,
    /// How large it should be; 0 is none.
    bytes: u64,
    /// Somebody is about to make it.
    busy: Arc<AtomicBool>,
}

impl Ballast {
    /// Of `bytes`, in the data directory `directory`.
    pub fn new(directory: &Path, bytes: u64) -> Ballast {
        Ballast {
            path: directory.join("ballast"),
            bytes,
            busy: Arc::default(),
        }
    }

    /// How much room it holds now.
    ///
    /// # Errors
    /// As the disk has.
    pub fn held(&self) -> io::Result<u64> {
        match fs::metadata(&self.path) {
            Ok(found) => Ok(found.len()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Gives its room back; how much that is.
    ///
    /// # Errors
    /// As the disk has.
    pub fn give_up(&self) -> io::Result<u64> {
        let held = self.held()?;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(held),
        }
    }

    /// Makes it, as large as it should be, where `free` leaves `reserve` and a little more beside it.
    /// That may take a while on some disks, so it is done on a thread of its own.
    pub fn restock(&self, free: u64, reserve: u64) {
        let room = reserve + self.bytes + self.bytes / 4;
        if self.bytes == 0 || free < room || self.held().is_ok_and(|held| held == self.bytes) {
            return;
        }
        if self.busy.swap(true, Ordering::Relaxed) {
            return;
        }
        let ballast = self.clone();
        let started = std::thread::Builder::new()
            .name("ballast".into())
            .spawn(move || {
                let path = ballast.path.display();
                match ballast.make() {
                    Ok(()) => tracing::debug!(%path, bytes = ballast.bytes, "ballast"),
                    // Not tried again: the disk cannot do it, or has no room after all.
                    Err(error) => {
                        tracing::warn!(%path, %error, "no ballast");
                        return;
                    }
                }
                ballast.busy.store(false, Ordering::Relaxed);
            });
        if let Err(error) = started {
            tracing::warn!(%error, "no thread for the ballast");
        }
    }

    fn make(&self) -> io::Result<()> {
        let file = File::create(&self.path)?;
        // Blocks, not a hole.
        let made = file.allocate(self.bytes).and_then(|()| file.sync_all());
        if made.is_err() {
            // What little there is of it must not stand in anybody's way.
            let _ = fs::remove_file(&self.path);
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ballast_takes_room_and_gives_all_of_it_back() {
        let place = tempfile::tempdir().unwrap();
        let ballast = Ballast::new(place.path(), 1 << 20);
        assert_eq!(ballast.held().unwrap(), 0);
        assert_eq!(ballast.give_up().unwrap(), 0, "there is none yet");
        ballast.make().unwrap();
        assert_eq!(ballast.held().unwrap(), 1 << 20);
        let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&ballast.path).unwrap());
        assert!(blocks * 512 >= 1 << 20, "{blocks}");
        assert_eq!(ballast.give_up().unwrap(), 1 << 20);
        assert_eq!(ballast.held().unwrap(), 0);
    }

    #[test]
    fn no_ballast_is_made_where_it_would_take_of_the_reserve() {
        let place = tempfile::tempdir().unwrap();
        let ballast = Ballast::new(place.path(), 1 << 20);
        ballast.restock((5 << 20) - 1, 4 << 20);
        Ballast::new(place.path(), 0).restock(1 << 30, 0);
        assert!(!ballast.busy.load(Ordering::Relaxed));
        assert_eq!(ballast.held().unwrap(), 0);
    }
}
