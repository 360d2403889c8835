//! `firebreak drill certify`: the certificate of a drill, signed by the cluster's key.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use client::v1::SignDrillRequest;
use server::drill::certificate::{Body, Certificate, FILE, FILES, hex};
use server::drill::paper::{FORMAT, KIND, Kept, Paper};

use crate::cmd::target::{Target, verb_failed};
use crate::exit::Usage;

/// How long it is looked for a node that signs.
const DEADLINE: Duration = Duration::from_secs(10);
/// What is read of a file at once, bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// The largest paper that is read, bytes.
const PAPER_BYTES_MAX: u64 = 256 << 20;

const EXAMPLES: &str = "\
Examples:
  firebreak drill certify --paper drills/2026-12-01-dc-silent-seoul-3f2a/paper.json
  firebreak drill certify --paper paper.json --out certificate.json

The certificate has the digests of plan.toml, paper.json, rehearsal.json, ledger.jsonl and night.json, those
of them that are beside the paper, and what the drill came to. The cluster's key signs it.

Exit codes: 0 signed, 1 refused with the reason, or no node answers, 2 wrong arguments or an unusable paper.";

/// Have the cluster sign what a drill came to.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What `firebreak drill run` wrote
    #[arg(long, value_name = "FILE")]
    paper: PathBuf,
    /// Where the certificate goes; beside the paper when not given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print what was signed as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Args {
    /// Signs.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let beside = self.paper.parent().unwrap_or(Path::new(""));
        let out = self.out.unwrap_or_else(|| beside.join(FILE));
        let certificate = certify(&self.target, &self.paper, &out).await?;
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&certificate)?),
            false => {
                println!(
                    "{}: {}",
                    certificate.body.drill,
                    certificate.body.end.word()
                );
                for kept in &certificate.body.files {
                    println!("  {} blake3 {}", kept.file, kept.digest);
                }
                println!("signed by {}", certificate.public_key);
                println!("{}", out.display());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Has the paper at a path, and the files beside it, certified.
///
/// # Errors
/// What is wrong with the paper; the cluster refuses it, or no node answers; the file cannot be written.
pub async fn certify(target: &Target, path: &Path, out: &Path) -> anyhow::Result<Certificate> {
    let paper = read(path)?;
    let beside = path.parent().unwrap_or(Path::new(""));
    let body = Body::of(&paper, kept(path, beside)?);
    let certificate = sign(target, body).await?;
    let text = certificate.text().map_err(|why| anyhow!(why))?;
    std::fs::write(out, text).with_context(|| format!("{} cannot be written", out.display()))?;
    Ok(certificate)
}

/// Has a body signed.
///
/// # Errors
/// The cluster refuses it, or no node answers.
async fn sign(target: &Target, body: Body) -> anyhow::Result<Certificate> {
    let digest = body.digest().map_err(|why| anyhow!(why))?;
    let client = target.client(DEADLINE).await?;
    let request = SignDrillRequest {
        drill: body.drill.clone(),
        digest: digest.to_vec().into(),
    };
    let signed = client.sign_drill(request).await;
    let signed =
        signed.map_err(|error| verb_failed(error, target.asked(), "firebreak drill list"))?;
    let made = Certificate::of(body, &signed.signature, &signed.public_key);
    let made = made.map_err(|why| anyhow!(why))?;
    // What this version would not take is not handed out.
    let text = made.text().map_err(|why| anyhow!(why))?;
    Certificate::read(text.as_bytes(), None)
        .map_err(|fault| anyhow!("the cluster's signature does not fit: {fault}"))
}

/// Reads a paper.
///
/// # Errors
/// What is wrong with the file.
fn read(path: &Path) -> anyhow::Result<Paper> {
    let usage = |why: String| anyhow!(Usage(format!("{}: {why}", path.display())));
    let size = std::fs::metadata(path);
    let size = size
        .map_err(|error| usage(format!("cannot be read: {error}")))?
        .len();
    if size > PAPER_BYTES_MAX {
        return Err(usage(format!(
            "is larger than {PAPER_BYTES_MAX} bytes; no paper is"
        )));
    }
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| usage(format!("cannot be read: {error}")))?;
    let paper: Paper = serde_json::from_str(&text)
        .map_err(|error| usage(format!("is no paper of a drill: {error}")))?;
    match paper.kind == KIND && paper.format == FORMAT {
        true => Ok(paper),
        false => Err(usage(format!("is no paper of a drill of format {FORMAT}"))),
    }
}

/// The digests of the files beside a paper, its own included under the name that it has in a folder.
fn kept(paper: &Path, beside: &Path) -> anyhow::Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for file in FILES {
        let path = match file {
            "paper.json" => paper.to_owned(),
            other => beside.join(other),
        };
        match File::open(&path) {
            Ok(opened) => kept.push(Kept {
                file: file.to_owned(),
                digest: digest(opened)
                    .with_context(|| format!("{} cannot be read", path.display()))?,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(anyhow!(error).context(format!("{} cannot be read", path.display())));
            }
        }
    }
    Ok(kept)
}

/// blake3 of a file, hex.
///
/// # Errors
/// When it cannot be read.
pub fn digest(mut file: impl std::io::Read) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hex(hasher.finalize().as_bytes())),
            Ok(read) => {
                hasher.update(piece.get(..read).unwrap_or_default());
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_that_are_there_are_certified_and_the_paper_under_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| std::fs::write(folder.path().join(name), name).unwrap();
        ["mine.json", "plan.toml", "night.json", "other.txt"]
            .into_iter()
            .for_each(write);
        let kept = kept(&folder.path().join("mine.json"), folder.path()).unwrap();
        let names: Vec<&str> = kept.iter().map(|one| one.file.as_str()).collect();
        assert_eq!(names, ["plan.toml", "paper.json", "night.json"]);
        assert_eq!(kept[1].digest, digest(&b"mine.json"[..]).unwrap());
    }

    #[test]
    fn what_is_no_paper_is_refused_with_exit_code_2() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("paper.json");
        std::fs::write(&path, "{}").unwrap();
        let why = read(&path).unwrap_err();
        assert!(why.is::<Usage>() && why.to_string().contains("no paper of a drill"));
        assert!(read(&folder.path().join("none")).unwrap_err().is::<Usage>());
    }
}
