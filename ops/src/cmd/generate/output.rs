//! Where files go that were made: to standard output, or below a folder.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;

use crate::exit::Usage;

/// A file that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// Its name below the folder.
    pub name: String,
    /// What is in it.
    pub text: String,
}

impl File {
    /// A file.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> File {
        File {
            name: name.into(),
            text: text.into(),
        }
    }
}

/// Where they go.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Output {
    /// Write below this folder instead of to standard output
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace files that are there with another content
    #[arg(long, requires = "out")]
    pub force: bool,
    /// Print as JSON: what was written, or the files themselves
    #[arg(long)]
    pub json: bool,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is new.
    Written,
    /// It had another content.
    Replaced,
    /// It was there already, the same.
    Unchanged,
}

/// A file below the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutputFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: usize,
    /// What became of it.
    pub fate: Fate,
}

impl Output {
    /// Gives the files to whom they are for.
    ///
    /// # Errors
    /// Usage, when a file is there with another content, or several would go to standard output; or that
    /// one cannot be written.
    pub fn give(&self, files: &[File]) -> anyhow::Result<ExitCode> {
        let Some(folder) = &self.out else {
            return self.print(files);
        };
        let told = write(folder, files, self.force)?;
        match self.json {
            true => println!("{}", serde_json::json!({ "files": told })),
            false => {
                for one in &told {
                    let fate = match one.fate {
                        Fate::Written => "written",
                        Fate::Replaced => "replaced",
                        Fate::Unchanged => "unchanged",
                    };
                    println!("{fate} {}", one.path.display());
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn print(&self, files: &[File]) -> anyhow::Result<ExitCode> {
        match files {
            _ if self.json => println!("{}", serde_json::json!({ "files": files })),
            [file] => print!("{}", file.text),
            files => {
                let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
                let names = names.join(", ");
                let why = format!("these are several files: say where with --out DIR ({names})");
                return Err(Usage(why).into());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes all of them, or none when one is there with another content.
fn write(folder: &Path, files: &[File], force: bool) -> anyhow::Result<Vec<OutputFile>> {
    let mut told = Vec::new();
    let mut others = Vec::new();
    for file in files {
        let path = folder.join(&file.name);
        let fate = fate(&path, &file.text)?;
        if fate == Fate::Replaced {
            others.push(path.display().to_string());
        }
        told.push(OutputFile {
            bytes: file.text.len(),
            path,
            fate,
        });
    }
    if !others.is_empty() && !force {
        let others = others.join(", ");
        let why = format!(
            "there already with another content: {others}; --force replaces, nothing was written"
        );
        return Err(Usage(why).into());
    }
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for (file, told) in files.iter().zip(&told) {
        if told.fate != Fate::Unchanged {
            put(&told.path, &file.text)
                .with_context(|| format!("cannot write {}", told.path.display()))?;
        }
    }
    Ok(told)
}

fn fate(path: &Path, text: &str) -> anyhow::Result<Fate> {
    match fs::read(path) {
        Ok(old) if old == text.as_bytes() => Ok(Fate::Unchanged),
        Ok(_) => Ok(Fate::Replaced),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Fate::Written),
        Err(error) => {
            let what = format!("cannot see what is at {}", path.display());
            Err(anyhow::Error::new(error).context(what))
        }
    }
}

/// A reader never meets half a file.
fn put(path: &Path, text: &str) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = fs::write(&part, text).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // What is left is of no use; the error that matters is the first.
        let _ = fs::remove_file(&part);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_once_and_nothing_else_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        let files = [File::new("one", "1"), File::new("two", "2")];
        let fates = |told: Vec<OutputFile>| told.iter().map(|one| one.fate).collect::<Vec<_>>();
        let first = write(&folder, &files, false).unwrap();
        assert_eq!(fates(first), [Fate::Written, Fate::Written]);
        let again = write(&folder, &files, false).unwrap();
        assert_eq!(fates(again), [Fate::Unchanged, Fate::Unchanged]);

        fs::write(folder.join("two"), "mine").unwrap();
        let changed = [File::new("new", "n"), File::new("two", "2")];
        let refused = write(&folder, &changed, false).unwrap_err();
        assert!(refused.is::<Usage>(), "{refused}");
        assert!(refused.to_string().contains("b/two"), "{refused}");
        assert_eq!(fs::read_to_string(folder.join("two")).unwrap(), "mine");
        assert!(!folder.join("new").exists());

        let forced = write(&folder, &changed, true).unwrap();
        assert_eq!(fates(forced), [Fate::Written, Fate::Replaced]);
        assert_eq!(fs::read_to_string(folder.join("two")).unwrap(), "2");
        let left = fs::read_dir(&folder).unwrap().count();
        assert_eq!(left, 3, "no part of a file is left behind");
    }

    #[test]
    fn a_folder_that_cannot_be_is_told_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = write(&file, &[File::new("one", "1")], true).unwrap_err();
        assert!(format!("{refused:#}").contains("file"), "{refused:#}");
    }
}
