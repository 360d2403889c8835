//! Where the recorder's files are: in the data directory, or in a simulated machine's memory.

use std::collections::BTreeMap;
use std::io;

use parking_lot::Mutex;

/// Numbered files that grow at their ends. Called from where long work on the disk runs, never from two
/// places at once.
pub trait Tape: Send + Sync + 'static {
    /// The files that there are, with their bytes.
    ///
    /// # Errors
    /// As the disk has.
    fn segments(&self) -> io::Result<BTreeMap<u64, u64>>;

    /// Writes behind what the file has, which begins with its first bytes. Nothing is synced.
    ///
    /// # Errors
    /// As the disk has; a part may have been written.
    fn append(&self, segment: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads from the file's begin, `bytes_max` at most.
    ///
    /// # Errors
    /// As the disk has, and when there is no such file.
    fn read(&self, segment: u64, bytes_max: usize) -> io::Result<Vec<u8>>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the disk has.
    fn remove(&self, segment: u64) -> io::Result<()>;
}

/// Files in memory.
#[derive(Debug, Default)]
pub struct Memory {
    files: Mutex<BTreeMap<u64, Vec<u8>>>,
}

impl Memory {
    /// Loses everything, as a disk that burned.
    pub fn wipe(&self) {
        self.files.lock().clear();
    }

    /// Cuts a file short, as a power cut does.
    pub fn cut(&self, segment: u64, bytes: usize) {
        if let Some(file) = self.files.lock().get_mut(&segment) {
            file.truncate(bytes);
        }
    }
}

impl Tape for Memory {
    fn segments(&self) -> io::Result<BTreeMap<u64, u64>> {
        let files = self.files.lock();
        let sizes = files.iter();
        Ok(sizes
            .map(|(number, bytes)| (*number, bytes.len() as u64))
            .collect())
    }

    fn append(&self, segment: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.files.lock();
        files.entry(segment).or_default().extend_from_slice(bytes);
        Ok(())
    }

    fn read(&self, segment: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
        let files = self.files.lock();
        let file = files.get(&segment).ok_or(io::ErrorKind::NotFound)?;
        Ok(file[..file.len().min(bytes_max)].to_vec())
    }

    fn remove(&self, segment: u64) -> io::Result<()> {
        self.files.lock().remove(&segment);
        Ok(())
    }
}
