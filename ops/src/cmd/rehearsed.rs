//! `--rehearse` of dangerous verbs: what would happen, by the simulator, from the present map.
//!
//! ```text
//!  gather ─► map's digest ─► seeds ─┬─ a promise breaks, or a run does not end ─► nothing is done
//!                                   ├─ no --yes ─► nothing is done
//!                                   └─ --yes, and the digest is the same ─► the verb goes on
//! ```

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use server::drill::certificate::hex;
use server::drill::verb::Verb;

use super::drill::rehearse::gather;
use super::sim;
use super::target::{ProgressOutput, Target};

/// How long it is looked for a node that answers.
const DEADLINE: Duration = Duration::from_secs(5);

/// Whether a verb is rehearsed first.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Rehearsed {
    /// First say what would happen: seeds of the simulator from the present map, half beside a real fire
    #[arg(long)]
    rehearse: bool,
    /// With --rehearse: do it then, unless a promise broke or the map has changed meanwhile
    #[arg(long, requires = "rehearse")]
    yes: bool,
    /// With --rehearse: how many seeds are run
    #[arg(long, value_name = "COUNT", default_value_t = 50, requires = "rehearse",
          value_parser = clap::value_parser!(u64).range(2..=1_000))]
    seeds: u64,
}

/// Whether the verb goes on.
#[derive(Debug, PartialEq)]
pub enum Go {
    /// It does.
    On,
    /// It does not, and ends so.
    Stop(ExitCode),
}

impl Rehearsed {
    /// Rehearses, where that is asked for.
    ///
    /// # Errors
    /// When no node answers, a promise broke, or the map has changed meanwhile.
    pub async fn first(
        &self,
        verb: impl FnOnce() -> Verb,
        target: &Target,
        json: bool,
    ) -> anyhow::Result<Go> {
        if !self.rehearse {
            return Ok(Go::On);
        }
        let (verb, told) = (verb(), ProgressOutput::new(json));
        let folder = tempfile::tempdir().context("no folder for the rehearsal")?;
        let (cluster, asked) = (
            folder.path().join("cluster.json"),
            folder.path().join("verb.json"),
        );
        let before = gather(target, &cluster).await?;
        std::fs::write(&asked, serde_json::to_vec(&verb)?)
            .with_context(|| format!("{} cannot be written", asked.display()))?;
        told.say(&format!("Rehearsing: {}", verb.words()));
        let code = run(self.words(&asked, &cluster), json).await?;
        decide(code, self.yes)?;
        if !self.yes {
            told.say("Nothing was changed. With --yes it is done after the rehearsal.");
            return Ok(Go::Stop(ExitCode::SUCCESS));
        }
        let client = target.client(DEADLINE).await?;
        let now = client.drills().await.with_context(|| target.asked())?;
        same(&before, &hex(&now.layout_digest))?;
        Ok(Go::On)
    }

    fn words(&self, asked: &Path, cluster: &Path) -> Vec<OsString> {
        let mut words: Vec<OsString> = ["drill", "rehearse-verb"].map(OsString::from).into();
        words.extend([asked.into(), "--cluster".into(), cluster.into()]);
        words.extend(["--seeds".into(), self.seeds.to_string().into()]);
        words
    }
}

/// Runs the simulator beside this process.
async fn run(words: Vec<OsString>, json: bool) -> anyhow::Result<Option<i32>> {
    let (program, missing) = sim::program();
    let mut command = tokio::process::Command::new(&program);
    command.args(words).kill_on_drop(true);
    if json {
        command.stdout(Stdio::from(std::io::stderr()));
    }
    let ended = command.status().await;
    let ended = ended.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => anyhow!(crate::exit::Usage(missing)),
        _ => anyhow!(error).context(format!("cannot start {}", program.display())),
    })?;
    Ok(ended.code())
}

/// Whether what the rehearsal ended with lets the verb be done.
fn decide(code: Option<i32>, yes: bool) -> anyhow::Result<()> {
    match (code, yes) {
        (Some(0), _) => Ok(()),
        (Some(3), _) => Err(anyhow!(
            "a promise broke in the rehearsal: nothing was changed"
        )),
        (Some(1), true) => Err(anyhow!(
            "a run of the rehearsal did not serve again in time: nothing was changed"
        )),
        (Some(1), false) => Ok(()),
        (Some(2), _) => Err(anyhow!("it cannot be rehearsed: nothing was changed")),
        (_, _) => Err(anyhow!("the rehearsal was ended: nothing was changed")),
    }
}

/// Whether the map is the one that was rehearsed.
fn same(before: &str, now: &str) -> anyhow::Result<()> {
    match before == now {
        true => Ok(()),
        false => Err(anyhow!(
            "the map has changed since the rehearsal (it was {before}, it is {now}): nothing was changed; \
             rehearse again"
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        rehearsed: Rehearsed,
    }

    #[test]
    fn yes_and_seeds_need_the_rehearsal() {
        let check = |args: &[&str], good: bool| {
            let args = ["verb"].iter().chain(args);
            assert_eq!(Cli::try_parse_from(args).is_ok(), good);
        };
        check(&[], true);
        check(&["--rehearse"], true);
        check(&["--rehearse", "--yes", "--seeds", "20"], true);
        check(&["--yes"], false);
        check(&["--seeds", "20"], false);
        check(&["--rehearse", "--seeds", "1"], false);
    }

    #[test]
    fn what_breaks_in_the_rehearsal_is_not_done() {
        assert!(decide(Some(0), true).is_ok());
        assert!(decide(Some(1), false).is_ok());
        for code in [Some(1), Some(2), Some(3), None] {
            let why = decide(code, true).unwrap_err().to_string();
            assert!(why.contains("nothing was changed"), "{why}");
        }
    }

    #[test]
    fn a_map_that_has_changed_meanwhile_is_refused_with_both() {
        assert!(same("c1a5", "c1a5").is_ok());
        let why = same("c1a5", "0ff0").unwrap_err().to_string();
        assert!(why.contains("was c1a5, it is 0ff0"), "{why}");
    }

    #[tokio::test]
    async fn without_it_the_verb_goes_on_and_nobody_is_asked() {
        let rehearsed = Cli::parse_from(["verb"]).rehearsed;
        let nowhere = Target {
            credentials: crate::cmd::target::Credentials::default(),
            target: vec!["127.0.0.1:1".to_owned()],
        };
        let verb = || unreachable!("nothing is rehearsed");
        assert_eq!(
            rehearsed.first(verb, &nowhere, false).await.unwrap(),
            Go::On
        );
    }
}
