//! The parts of an export: files that are appended to, hashed as they grow, and ended between units.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::manifest;

/// A part ends behind the unit with which it reaches so many bytes.
const PART_BYTES: u64 = 64 << 20;
const BUFFER_BYTES: usize = 1 << 20;

/// The part that is being written.
pub struct Part {
    dir: PathBuf,
    number: usize,
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    bytes: u64,
    lines: u64,
}

/// The file of the part with this number, from 1.
fn name(number: usize) -> String {
    format!("part-{number:06}.jsonl")
}

impl Part {
    /// Opens the part with this number, of which the first `kept` bytes are written; what is behind them is
    /// cut off.
    ///
    /// # Errors
    /// When the disk refuses, or the file is shorter.
    pub fn open(dir: &Path, number: usize, kept: u64) -> anyhow::Result<Part> {
        let path = dir.join(name(number));
        let mut part = Part::open_file(dir, number, kept)
            .with_context(|| format!("{} cannot be opened", path.display()))?;
        part.reread(kept)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        if part.bytes < kept {
            bail!(
                "{} has {} bytes and had {kept} when this export was interrupted; remove the directory to begin \
                 anew",
                path.display(),
                part.bytes
            );
        }
        Ok(part)
    }

    fn open_file(dir: &Path, number: usize, kept: u64) -> std::io::Result<Part> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(dir.join(name(number)))?;
        if file.metadata()?.len() > kept {
            file.set_len(kept)?;
        }
        Ok(Part {
            dir: dir.to_owned(),
            number,
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            hasher: blake3::Hasher::new(),
            bytes: 0,
            lines: 0,
        })
    }

    /// Takes in what the file holds already.
    fn reread(&mut self, kept: u64) -> std::io::Result<()> {
        let file = self.file.get_mut();
        file.seek(SeekFrom::Start(0))?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut left = kept;
        while left > 0 {
            let room = usize::try_from(left).map_or(BUFFER_BYTES, |left| left.min(BUFFER_BYTES));
            let read = self.file.get_mut().read(&mut buffer[..room])?;
            if read == 0 {
                break;
            }
            self.count(&buffer[..read]);
            left -= read as u64;
        }
        Ok(())
    }

    fn count(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    }

    /// Appends whole lines.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&mut self, lines: &[u8]) -> anyhow::Result<()> {
        let written = self.file.write_all(lines);
        written.with_context(|| self.refused())?;
        self.count(lines);
        Ok(())
    }

    /// Its bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it should end here.
    pub fn is_full(&self) -> bool {
        self.bytes >= PART_BYTES
    }

    /// Makes all that was written durable.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&mut self) -> anyhow::Result<()> {
        let mut synced = self.file.flush();
        if synced.is_ok() {
            synced = self.file.get_ref().sync_data();
        }
        synced.with_context(|| self.refused())
    }

    /// Ends it, durably.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn end(mut self) -> anyhow::Result<manifest::Part> {
        self.sync()?;
        Ok(manifest::Part {
            file: name(self.number),
            bytes: self.bytes,
            lines: self.lines,
            blake3: self.hasher.finalize().to_hex().to_string(),
        })
    }

    fn refused(&self) -> String {
        let path = self.dir.join(name(self.number));
        format!("{} cannot be written", path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_goes_on_behind_a_cut_is_hashed_as_one_that_was_never_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let mut whole = Part::open(dir.path(), 1, 0).unwrap();
        whole.write(b"one\ntwo\n").unwrap();
        whole.write(b"three\n").unwrap();
        let whole = whole.end().unwrap();
        let expect = blake3::hash(b"one\ntwo\nthree\n").to_hex().to_string();
        assert_eq!((whole.lines, &whole.blake3), (3, &expect));

        let mut cut = Part::open(dir.path(), 1, 8).unwrap();
        cut.write(b"three\n").unwrap();
        assert_eq!(cut.end().unwrap(), whole);
        let error = Part::open(dir.path(), 1, 99).err().unwrap();
        assert!(error.to_string().contains("has 14 bytes"), "{error}");
    }
}
