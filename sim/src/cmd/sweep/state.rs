//! What a sweep has done, a line of JSON for each run, so that it can go on where it was stopped.
//!
//! The first line says which program made the runs: those of another one say nothing of this one.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use firebreak_sim::plan::Tier;
use firebreak_sim::reports::SweptRun;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::cmd::Failure;

/// Format of the file.
const FORMAT: u32 = 1;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    format: u32,
    program: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    tier: Tier,
    run: SweptRun,
}

/// A run of a sweep: scenario, seed and tier.
pub(super) type Key = (String, u64, Tier);

/// What a sweep has done.
pub(super) struct State {
    file: Option<(PathBuf, File)>,
    lines: Vec<Line>,
    done: BTreeSet<Key>,
}

impl State {
    /// From a file, which is made if it is not there; without one nothing is kept.
    pub(super) fn open(path: Option<&Path>) -> Result<State, Failure> {
        let Some(path) = path else {
            return Ok(State {
                file: None,
                lines: Vec::new(),
                done: BTreeSet::new(),
            });
        };
        let refused = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
        let unread = |error: io::Error| refused(format!("cannot be used: {error}"));
        let head = Head {
            format: FORMAT,
            program: program()?,
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(unread)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(unread)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(unread)?;
        let (lines, whole) = read(&text, &head).map_err(refused)?;
        // A line that was being written when the power went is written again.
        file.set_len(whole).map_err(unread)?;
        file.seek(SeekFrom::Start(whole)).map_err(unread)?;
        let done = lines
            .iter()
            .map(|line| (line.run.scenario.clone(), line.run.seed, line.tier))
            .collect();
        let mut state = State {
            file: Some((path.to_owned(), file)),
            lines,
            done,
        };
        if whole == 0 {
            state.write(&head)?;
        }
        Ok(state)
    }

    /// Which runs are done.
    pub(super) fn done(&self) -> &BTreeSet<Key> {
        &self.done
    }

    /// Those that are done and that `asked` wants.
    pub(super) fn runs(&self, asked: impl Fn(&str, u64, Tier) -> bool) -> Vec<SweptRun> {
        let lines = self.lines.iter();
        lines
            .filter(|line| asked(&line.run.scenario, line.run.seed, line.tier))
            .map(|line| line.run.clone())
            .collect()
    }

    /// Notes another.
    pub(super) fn add(&mut self, run: &SweptRun, tier: Tier) -> Result<(), Failure> {
        let run = run.clone();
        self.write(&Line { tier, run })
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        let Some((path, file)) = &mut self.file else {
            return Ok(());
        };
        let text = serde_json::to_string(line).map_err(io::Error::from);
        text.and_then(|text| file.write_all(format!("{text}\n").as_bytes()))
            .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
    }
}

/// The lines of a file, and how many bytes of it are whole.
fn read(text: &[u8], expected: &Head) -> Result<(Vec<Line>, u64), String> {
    let mut lines = Vec::new();
    let mut whole = 0;
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if !line.ends_with(b"\n") {
            break;
        }
        let wrong = |error| format!("line {}: {error}", number + 1);
        if number == 0 {
            let head: Head = serde_json::from_slice(line)
                .map_err(|error| format!("is not what a sweep left: {error}"))?;
            if head != *expected {
                let why = "was left by another build, whose runs say nothing of this one; give \
                           another file, or remove it";
                return Err(why.to_owned());
            }
        } else {
            lines.push(serde_json::from_slice(line).map_err(wrong)?);
        }
        whole += line.len() as u64;
    }
    // Something else's file without a line end would be overwritten.
    if whole == 0 && !text.is_empty() && !text.starts_with(b"{\"format\"") {
        return Err("is not what a sweep left".to_owned());
    }
    Ok((lines, whole))
}

/// A hash of this program.
fn program() -> Result<String, Failure> {
    let exe = std::env::current_exe().and_then(std::fs::read);
    let bytes = exe.map_err(|error| Failure::Failed(format!("this program: {error}")))?;
    Ok(format!("{:032x}", xxh3_128(&bytes)))
}
