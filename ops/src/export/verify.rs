//! Looking whether an export is as it was written.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use indicatif::ProgressBar;

use super::manifest::{self, Manifest};
use crate::exit::Usage;

const BUFFER_BYTES: usize = 1 << 20;

/// What was found.
pub struct Verdict {
    /// The manifest.
    pub manifest: Manifest,
    /// What is not as it was written; empty when all is.
    pub wrong: Vec<String>,
}

/// Reads all of an export and compares it with its hashes. `bar` counts bytes.
///
/// # Errors
/// Usage, when the directory holds no whole export; when it cannot be read.
pub fn verify(dir: &Path, bar: &ProgressBar) -> anyhow::Result<Verdict> {
    let Some(manifest) = Manifest::load(dir)? else {
        let told = match dir.join(super::position::FILE).exists() {
            true => "holds an export that is not finished; the same export command goes on with it",
            false => "holds no export: there is no manifest.json in it",
        };
        return Err(anyhow!(Usage(format!("{} {told}", dir.display()))));
    };
    bar.set_length(manifest.parts.iter().map(|part| part.bytes).sum());
    let mut wrong = Vec::new();
    for part in &manifest.parts {
        let path = dir.join(&part.file);
        match hash(&path, bar) {
            Ok((bytes, _, _)) if bytes != part.bytes => wrong.push(format!(
                "{} has {bytes} bytes, {} were written",
                part.file, part.bytes
            )),
            Ok((_, lines, found)) if found != part.blake3 || lines != part.lines => {
                wrong.push(format!(
                    "{} is not as it was written: its BLAKE3 is {found}, not {}",
                    part.file, part.blake3
                ));
            }
            Ok(_) => {}
            Err(error) => wrong.push(format!("{} cannot be read: {error}", part.file)),
        }
    }
    compare_sums(dir, &manifest, &mut wrong)?;
    look_for_others(dir, &manifest, &mut wrong)?;
    Ok(Verdict { manifest, wrong })
}

/// The length, the lines and the hash of a file.
fn hash(path: &Path, bar: &ProgressBar) -> io::Result<(u64, u64, String)> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let (mut bytes, mut lines) = (0, 0);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = match file.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            return Ok((bytes, lines, hasher.finalize().to_hex().to_string()));
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
        lines += buffer[..read].iter().filter(|byte| **byte == b'\n').count() as u64;
        bar.inc(read as u64);
    }
}

/// The hashes beside the manifest, which hold its own.
fn compare_sums(dir: &Path, manifest: &Manifest, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let of_manifest = hash(&dir.join(manifest::FILE), &ProgressBar::hidden())
        .with_context(|| format!("{} cannot be read", manifest::FILE))?;
    let mut expect = String::new();
    for part in &manifest.parts {
        expect += &format!("{}  {}\n", part.blake3, part.file);
    }
    expect += &format!("{}  {}\n", of_manifest.2, manifest::FILE);
    match fs::read(dir.join(manifest::SUMS)) {
        Ok(found) if found == expect.as_bytes() => {}
        Ok(_) => wrong.push(format!(
            "{} and {} do not belong together: one of them was changed",
            manifest::FILE,
            manifest::SUMS
        )),
        Err(error) => wrong.push(format!("{} cannot be read: {error}", manifest::SUMS)),
    }
    Ok(())
}

/// Parts that the manifest does not name.
fn look_for_others(dir: &Path, manifest: &Manifest, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let named: BTreeSet<&str> = manifest
        .parts
        .iter()
        .map(|part| part.file.as_str())
        .collect();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_part = name.starts_with("part-") && name.ends_with(".jsonl");
        if is_part && !named.contains(name.as_str()) {
            wrong.push(format!("{name} is no part of this export"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::part::Part;
    use super::super::position::{Position, Selection};
    use super::*;

    fn export(dir: &Path) {
        let mut position = Position::new("acme".into(), Selection::Tenant);
        for (number, lines) in [(1, &b"one\ntwo\n"[..]), (2, b"three\n")] {
            let mut part = Part::open(dir, number, 0).unwrap();
            part.write(lines).unwrap();
            position.parts.push(part.end().unwrap());
        }
        Manifest::of(&position).save(dir).unwrap();
    }

    fn wrong(dir: &Path) -> Vec<String> {
        verify(dir, &ProgressBar::hidden())
            .map_or_else(|error| vec![error.to_string()], |v| v.wrong)
    }

    #[test]
    fn every_changed_byte_of_every_file_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        export(dir);
        assert!(wrong(dir).is_empty());
        for file in [
            "part-000001.jsonl",
            "part-000002.jsonl",
            manifest::FILE,
            manifest::SUMS,
        ] {
            let path = dir.join(file);
            let before = fs::read(&path).unwrap();
            for at in 0..before.len() {
                let mut changed = before.clone();
                changed[at] ^= 1;
                fs::write(&path, changed).unwrap();
                assert!(!wrong(dir).is_empty(), "byte {at} of {file}");
            }
            fs::write(&path, &before[1..]).unwrap();
            assert!(!wrong(dir).is_empty(), "{file} is shorter");
            fs::remove_file(&path).unwrap();
            assert!(!wrong(dir).is_empty(), "{file} is missing");
            fs::write(&path, before).unwrap();
        }
        fs::write(dir.join("part-000003.jsonl"), "").unwrap();
        assert_eq!(wrong(dir), ["part-000003.jsonl is no part of this export"]);
    }

    #[test]
    fn a_directory_without_a_whole_export_is_said_to_be_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(wrong(dir.path())[0].contains("holds no export"));
        let position = Position::new("acme".into(), Selection::Tenant);
        position.save(dir.path()).unwrap();
        assert!(wrong(dir.path())[0].contains("not finished"));
    }
}
