//! What an export holds: counts, and a hash of each part.
//!
//! `manifest.json` is written last, so that a directory with one is whole. `BLAKE3SUMS` has the hashes of
//! the parts and of the manifest as `b3sum -c` reads them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};

use super::position::{self, Position, Selection};
use super::{Counts, FORMAT};
use crate::exit::Usage;

/// Its file.
pub const FILE: &str = "manifest.json";
/// The file of the hashes.
pub const SUMS: &str = "BLAKE3SUMS";

/// The manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Whose conversations.
    pub tenant: String,
    /// Which of them.
    pub selection: Selection,
    /// What is in it.
    pub counts: Counts,
    /// Its parts, in order.
    pub parts: Vec<Part>,
}

/// A part that is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its file.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Its lines.
    pub lines: u64,
    /// BLAKE3 of its bytes, in hex.
    pub blake3: String,
}

impl Manifest {
    /// Of an export that is whole.
    pub fn of(position: &Position) -> Manifest {
        Manifest {
            format: FORMAT,
            tenant: position.tenant.clone(),
            selection: position.selection.clone(),
            counts: position.counts,
            parts: position.parts.clone(),
        }
    }

    /// Writes it and the hashes; from then on the export is whole.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, dir: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        let mut sums = String::new();
        for part in &self.parts {
            writeln!(sums, "{}  {}", part.blake3, part.file)?;
        }
        writeln!(sums, "{}  {FILE}", blake3::hash(&text).to_hex())?;
        position::replace(dir, SUMS, sums.as_bytes())?;
        position::replace(dir, FILE, &text)
    }

    /// Reads the manifest of a directory; `None` when there is none.
    ///
    /// # Errors
    /// Usage, when it is none, or of a later version.
    pub fn load(dir: &Path) -> anyhow::Result<Option<Manifest>> {
        let path = dir.join(FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| path.display().to_string())?,
        };
        let usage = |why: String| anyhow!(Usage(format!("{}: {why}", path.display())));
        let found: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| usage(format!("is no manifest of an export: {error}")))?;
        if found.format != FORMAT {
            let format = found.format;
            return Err(usage(format!(
                "has format {format}, this version reads format {FORMAT}"
            )));
        }
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden: the format is for ever.
    #[test]
    fn a_manifest_is_written_as_ever() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!(Manifest::load(dir).unwrap(), None);
        let manifest = Manifest {
            format: 1,
            tenant: "acme".into(),
            selection: Selection::User("ann".into()),
            counts: Counts {
                conversations: 1,
                messages: 2,
                ..Counts::default()
            },
            parts: vec![Part {
                file: "part-000001.jsonl".into(),
                bytes: 3,
                lines: 1,
                blake3: "00".repeat(32),
            }],
        };
        manifest.save(dir).unwrap();
        assert_eq!(Manifest::load(dir).unwrap(), Some(manifest));
        let text = fs::read_to_string(dir.join(FILE)).unwrap();
        assert_eq!(text, include_str!("golden/manifest-1.json"));
        let sums = fs::read_to_string(dir.join(SUMS)).unwrap();
        let of_text = blake3::hash(text.as_bytes()).to_hex();
        let zeros = "00".repeat(32);
        let expect = format!("{zeros}  part-000001.jsonl\n{of_text}  manifest.json\n");
        assert_eq!(sums, expect);
        fs::write(
            dir.join(FILE),
            text.replace("\"format\": 1", "\"format\": 2"),
        )
        .unwrap();
        assert!(Manifest::load(dir).unwrap_err().is::<Usage>());
    }
}
