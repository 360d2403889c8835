//! The archive: tar, gzip, one folder. It appears under its name once it is whole, and never in place of
//! another file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::when;
use crate::exit::Usage;

/// A file in the archive.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where, in the archive's folder.
    pub path: String,
    /// What it holds.
    pub data: Vec<u8>,
    /// Bytes of its beginning that are left out.
    pub left_out_bytes: u64,
}

impl Entry {
    /// A whole file.
    pub fn of(path: &str, data: Vec<u8>) -> Entry {
        Entry {
            path: path.to_owned(),
            data,
            left_out_bytes: 0,
        }
    }
}

/// A name as a part of a path: what comes from elsewhere must not leave the archive's folder.
pub fn part(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let text: String = name
        .chars()
        .take(100)
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    match text.trim_start_matches('.') {
        "" => "_".to_owned(),
        text => text.to_owned(),
    }
}

/// Refuses a file that is there already.
///
/// # Errors
/// Usage, when it is there or its folder is not.
pub fn is_free(out: &Path) -> anyhow::Result<()> {
    if out.symlink_metadata().is_ok() {
        return Err(Usage(format!(
            "{} is there already, and is not overwritten: give another name with --out",
            out.display()
        ))
        .into());
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(Usage(format!("--out: there is no folder {}", folder.display())).into());
    }
    Ok(())
}

/// An archive that is being written.
pub struct Archive {
    out: PathBuf,
    unfinished: Unfinished,
    tar: tar::Builder<GzEncoder<BufWriter<File>>>,
    folder: String,
    made_s: u64,
}

/// The file until it is whole; removed when it is dropped.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is gone once it has its name.
        let _ = fs::remove_file(&self.0);
    }
}

impl Archive {
    /// Begins one beside where it is to be.
    ///
    /// # Errors
    /// As the disk has.
    pub fn begin(out: &Path, now: SystemTime) -> anyhow::Result<Archive> {
        let mut name = out.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let path = out.with_file_name(name);
        let mut options = OpenOptions::new();
        // For its owner alone: it tells much of a cluster.
        let opened = options.write(true).create_new(true).mode(0o600).open(&path);
        let file = opened.with_context(|| format!("cannot write {}", path.display()))?;
        let gzip = GzEncoder::new(BufWriter::new(file), Compression::default());
        Ok(Archive {
            out: out.to_owned(),
            unfinished: Unfinished(path),
            tar: tar::Builder::new(gzip),
            folder: format!("firebreak-debug-{}", when::compact(now)),
            made_s: when::unix_ms(now) / 1_000,
        })
    }

    /// Adds files.
    ///
    /// # Errors
    /// As the disk has.
    pub fn add(&mut self, entries: Vec<Entry>) -> anyhow::Result<()> {
        for entry in entries {
            let path = format!("{}/{}", self.folder, entry.path);
            let mut header = tar::Header::new_gnu();
            header.set_size(entry.data.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(self.made_s);
            let added = self.tar.append_data(&mut header, &path, &entry.data[..]);
            added.with_context(|| self.cannot())?;
        }
        Ok(())
    }

    /// Writes the rest and gives it its name; its bytes.
    ///
    /// # Errors
    /// As the disk has, and when a file of that name has come meanwhile.
    pub fn finish(self) -> anyhow::Result<u64> {
        let cannot = self.cannot();
        let written = || -> io::Result<u64> {
            let mut buffered = self.tar.into_inner()?.finish()?;
            buffered.flush()?;
            let file = buffered.into_inner().map_err(io::Error::from)?;
            file.sync_all()?;
            // Unlike a rename, a link never takes another file's place.
            fs::hard_link(&self.unfinished.0, &self.out)?;
            Ok(file.metadata()?.len())
        };
        written().context(cannot)
    }

    fn cannot(&self) -> String {
        format!("cannot write {}", self.out.display())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn names(archive: &Path) -> Vec<String> {
        let gzip = flate2::read::GzDecoder::new(File::open(archive).unwrap());
        let mut tar = tar::Archive::new(gzip);
        let entries = tar.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            format!("{}={text}", entry.path().unwrap().display())
        });
        entries.collect()
    }

    #[test]
    fn an_archive_appears_whole_and_never_in_place_of_another_file() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("x.tar.gz");
        is_free(&out).unwrap();
        let now = SystemTime::UNIX_EPOCH;
        let mut archive = Archive::begin(&out, now).unwrap();
        archive
            .add(vec![Entry::of("a/b.txt", b"hi".to_vec())])
            .unwrap();
        assert!(!out.exists());
        assert!(archive.finish().unwrap() > 0);
        assert_eq!(names(&out), ["firebreak-debug-19700101T000000Z/a/b.txt=hi"]);
        let left = |folder: &Path| fs::read_dir(folder).unwrap().count();
        assert_eq!(left(place.path()), 1);

        assert!(is_free(&out).unwrap_err().is::<Usage>());
        let again = Archive::begin(&out, now).unwrap();
        assert!(again.finish().is_err());
        assert_eq!(names(&out).len(), 1);
        drop(Archive::begin(&place.path().join("y"), now).unwrap());
        assert_eq!(left(place.path()), 1);
        assert!(is_free(&place.path().join("none/x")).is_err());
    }

    #[test]
    fn names_from_elsewhere_stay_in_the_folder() {
        for (name, safe) in [
            ("seoul-1", "seoul-1"),
            ("../../etc/passwd", "_.._etc_passwd"),
            ("..", "_"),
            ("a/b\u{1b}[", "a_b__"),
            ("", "_"),
        ] {
            assert_eq!(part(name), safe);
        }
    }
}
