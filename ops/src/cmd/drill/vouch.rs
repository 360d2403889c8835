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
