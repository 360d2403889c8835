//! The flight recorder's files: `recorder/000001.frec` and so on in the data directory.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use server::world::Tape;

/// How their names end.
const EXTENSION: &str = "frec";

/// A folder of numbered files.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// Of a data directory. The folder is made with its first file.
    pub fn of(data_dir: &Path) -> Files {
        Files {
            folder: data_dir.join("recorder"),
        }
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.folder.join(format!("{segment:06}.{EXTENSION}"))
    }
}

/// The number of a file; others are left alone.
fn number(path: &Path) -> Option<u64> {
    let ours = path.extension().is_some_and(|ext| ext == EXTENSION);
    path.file_stem()?.to_str()?.parse().ok().filter(|_| ours)
}

impl Tape for Files {
    fn segments(&self) -> io::Result<BTreeMap<u64, u64>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            entries => entries?,
        };
        let mut sizes = BTreeMap::new();
        for entry in entries {
            let entry = entry?;
            if let Some(number) = number(&entry.path()) {
                sizes.insert(number, entry.metadata()?.len());
            }
        }
        Ok(sizes)
    }

    fn append(&self, segment: u64, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).open(self.path(segment));
        let mut file = match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&self.folder)?;
                options.open(self.path(segment))?
            }
            file => file?,
        };
        file.write_all(bytes)
    }

    fn read(&self, segment: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
        let file = File::open(self.path(segment))?;
        let mut bytes = Vec::new();
        file.take(bytes_max as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn remove(&self, segment: u64) -> io::Result<()> {
        fs::remove_file(self.path(segment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_grow_are_counted_and_go_and_others_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::of(folder.path());
        assert!(files.segments().unwrap().is_empty());
        files.append(7, b"one").unwrap();
        files.append(7, b"two").unwrap();
        files.append(8, b"x").unwrap();
        fs::write(files.folder.join("notes.txt"), "mine").unwrap();
        assert_eq!(files.segments().unwrap(), BTreeMap::from([(7, 6), (8, 1)]));
        assert_eq!(files.read(7, 4).unwrap(), b"onet");
        files.remove(7).unwrap();
        assert_eq!(files.segments().unwrap(), BTreeMap::from([(8, 1)]));
        assert!(files.read(7, 4).is_err());
        // A folder that was removed is made again, but not its data directory.
        fs::remove_dir_all(&files.folder).unwrap();
        files.append(9, b"y").unwrap();
        let gone = Files::of(&folder.path().join("gone"));
        assert!(gone.append(1, b"z").is_err());
    }
}
