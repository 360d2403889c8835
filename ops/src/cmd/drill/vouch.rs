//! `firebreak drill verify certificate.json`: whether a certificate and its files are what was signed.
//! Needs no cluster.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use server::drill::certificate::{BYTES_MAX, Certificate};
use server::drill::paper::Kept;

use super::certify::digest;
use crate::cmd::target::printable;
use crate::exit::Usage;

const EXAMPLES: &str = "\
Examples:
  firebreak drill verify certificate.json                    files beside it are looked at, those that are there
  firebreak drill verify certificate.json --dir drills/2026-12-01-dc-silent-seoul-3f2a
  firebreak drill verify certificate.json --key 0f3a…        and whether that key signed it

No cluster is asked. Without --key anybody's signature will do: compare the key that is shown with the one
that your cluster has (`firebreak drill key`).

Exit codes: 0 whole, 2 something was changed, or is not there, or is no certificate.";

/// Check a certificate and its files, without a cluster.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What `firebreak drill certify` wrote
    certificate: PathBuf,
    /// Where its files are; all of them must be there then
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The public key that must have signed it, hex
    #[arg(long, value_name = "HEX")]
    key: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// What was found of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Found {
    Same,
    Changed,
    Missing,
}

impl Args {
    /// Checks.
    ///
    /// # Errors
    /// [`Usage`]: what was changed.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let certificate = self.read()?;
        let beside = self.certificate.parent().unwrap_or(Path::new(""));
        let folder = self.dir.as_deref().unwrap_or(beside);
        let mut found = Vec::new();
        for kept in &certificate.body.files {
            found.push((kept, look(folder, kept)?));
        }
        let body = &certificate.body;
        if self.json {
            let files: Vec<_> = found
                .iter()
                .map(|(kept, found)| serde_json::json!({"file": kept.file, "found": found}))
                .collect();
            let document = serde_json::json!({
                "certificate": certificate, "files": files, "key_was_given": self.key.is_some(),
            });
            println!("{document:#}");
        } else {
            println!(
                "{} ({}): {}: {}",
                printable(&body.drill),
                printable(&body.scenario),
                body.end.word(),
                printable(&body.why)
            );
            for (kept, found) in &found {
                println!("  {} {}", printable(&kept.file), told(*found));
            }
            let known = match self.key.is_some() {
                true => "",
                false => "; compare it with the cluster's: firebreak drill key",
            };
            println!("signed by {}{known}", certificate.public_key);
        }
        let bad = |found: Found| match found {
            Found::Same => false,
            Found::Changed => true,
            Found::Missing => self.dir.is_some(),
        };
        let bad = found.iter().filter(|(_, found)| bad(*found));
        let bad: Vec<String> = bad
            .map(|(kept, found)| format!("{} {}", printable(&kept.file), told(*found)))
            .collect();
        match bad.is_empty() {
            true => Ok(ExitCode::SUCCESS),
            false => Err(anyhow!(Usage(bad.join("; ")))),
        }
    }

    fn read(&self) -> anyhow::Result<Certificate> {
        let path = self.certificate.display();
        let usage = |why: String| anyhow!(Usage(format!("{path}: {why}")));
        let unread = |error: std::io::Error| usage(format!("cannot be read: {error}"));
        let size = std::fs::metadata(&self.certificate).map_err(unread)?.len();
        if size > BYTES_MAX {
            return Err(usage(format!(
                "is larger than {BYTES_MAX} bytes; no certificate is"
            )));
        }
        let bytes = std::fs::read(&self.certificate).map_err(unread)?;
        let key = self.key.as_ref().map(|key| key.trim().to_ascii_lowercase());
        Certificate::read(&bytes, key.as_deref()).map_err(|fault| usage(fault.to_string()))
    }
}

fn told(found: Found) -> &'static str {
    match found {
        Found::Same => "is what was signed",
        Found::Changed => "was changed: it has another digest",
        Found::Missing => "is not there",
    }
}

/// Looks at a file of a certificate, which names one of a folder and no other.
fn look(folder: &Path, kept: &Kept) -> anyhow::Result<Found> {
    let name = Path::new(&kept.file);
    if name.file_name() != Some(name.as_os_str()) {
        let name = printable(&kept.file);
        return Err(anyhow!(Usage(format!("{name} is no plain name of a file"))));
    }
    let path = folder.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) => {
            return Err(anyhow!(error).context(format!("{} cannot be read", path.display())));
        }
    };
    let found = digest(file);
    let found = found
        .map_err(|error| anyhow!(error).context(format!("{} cannot be read", path.display())))?;
    Ok(match found == kept.digest {
        true => Found::Same,
        false => Found::Changed,
    })
}

#[cfg(test)]
mod tests {
    use server::drill::certificate::{Body, hex};
    use server::drill::paper::End;
    use server::drill::sign::Key;

    use super::*;

    const FILES: [(&str, &str); 2] = [("paper.json", "{}"), ("plan.toml", "format = 1\n")];

    fn key() -> Key {
        Key::of(&[5; 32]).unwrap()
    }

    /// A folder with a certificate and its files.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let files = FILES.map(|(file, text)| {
            std::fs::write(folder.path().join(file), text).unwrap();
            Kept {
                file: file.to_owned(),
                digest: digest(text.as_bytes()).unwrap(),
            }
        });
        let body = Body {
            drill: "d".to_owned(),
            cluster_id: "c".to_owned(),
            scenario: "dc-silent".to_owned(),
            target: "seoul".to_owned(),
            hypothesis: "it holds".to_owned(),
            end: End::Passed,
            why: "every goal was met".to_owned(),
            began_ms: 1,
            ended_ms: 2,
            layout_digest: String::new(),
            approvals: Vec::new(),
            gap_ms: 3,
            calls: 4,
            failed: 0,
            lost: 0,
            duplicated: 0,
            held: Vec::new(),
            broken: Vec::new(),
            files: files.to_vec(),
        };
        let signature = key().sign(&body.digest().unwrap());
        let made = Certificate::of(body, &signature, &key().public()).unwrap();
        std::fs::write(folder.path().join("certificate.json"), made.text().unwrap()).unwrap();
        folder
    }

    fn verify(folder: &Path, with_dir: bool, key: Option<String>) -> Result<(), String> {
        let args = Args {
            certificate: folder.join("certificate.json"),
            dir: with_dir.then(|| folder.to_owned()),
            key,
            json: false,
        };
        let ended = args.run().map_err(|error| {
            assert!(error.is::<Usage>(), "exit code 2");
            error.to_string()
        });
        ended.map(|_| ())
    }

    #[test]
    fn a_whole_certificate_is_one_with_and_without_its_key() {
        let folder = folder();
        assert_eq!(verify(folder.path(), true, None), Ok(()));
        let known = hex(&key().public());
        assert_eq!(
            verify(folder.path(), true, Some(known.to_uppercase())),
            Ok(())
        );
        let why = verify(folder.path(), true, Some("00".repeat(32))).unwrap_err();
        assert!(why.contains("another key"), "{why}");
    }

    #[test]
    fn a_changed_byte_is_found_and_the_file_is_named() {
        let folder = folder();
        let change = |name: &str| {
            let path = folder.path().join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        };
        change("plan.toml");
        let why = verify(folder.path(), false, None).unwrap_err();
        assert_eq!(why, "plan.toml was changed: it has another digest");
        change("plan.toml");
        change("certificate.json");
        let why = verify(folder.path(), false, None).unwrap_err();
        assert!(why.contains("certificate.json: the certificate"), "{why}");
    }

    #[test]
    fn a_missing_file_is_wrong_only_where_all_were_to_be_there() {
        let folder = folder();
        std::fs::remove_file(folder.path().join("paper.json")).unwrap();
        assert_eq!(verify(folder.path(), false, None), Ok(()));
        let why = verify(folder.path(), true, None).unwrap_err();
        assert_eq!(why, "paper.json is not there");
    }

    #[test]
    fn a_file_of_another_folder_is_not_looked_at() {
        let kept = Kept {
            file: "../etc/passwd".to_owned(),
            digest: String::new(),
        };
        let why = look(Path::new("."), &kept).unwrap_err().to_string();
        assert!(why.contains("no plain name"), "{why}");
    }
}
