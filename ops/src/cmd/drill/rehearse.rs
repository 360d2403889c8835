//! `firebreak drill rehearse`: the present cluster, gathered, and the plan on seeds of the simulator.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use server::drill::certificate::hex;

use crate::cmd::outage::{record, when};
use crate::cmd::target::Target;
use crate::cmd::{block_on, sim};

/// How far back the load and the rounds are looked at, ms.
const BACK_MS: u64 = 180_000;
/// How long it is looked for a node that answers.
const DEADLINE: Duration = Duration::from_secs(5);
/// What was gathered of the cluster.
const CLUSTER: &str = "cluster.json";
/// What came out.
const REHEARSAL: &str = "rehearsal.json";

const EXAMPLES: &str = "\
Examples:
  firebreak drill rehearse plan.toml --target 127.0.0.1:7101
  firebreak drill rehearse plan.toml --cluster night.json --seeds 50 --json rehearsal.json
  firebreak drill rehearse plan.toml --tier direct        quicker, and coarser by a few ms

Half of the seeds run the plan as it is. In the other half a further data center burns in the middle, and the
drill is aborted. One more run has all data centers in one building.
Without --cluster the present cluster is gathered first, from the recorders' last three minutes, and kept as
cluster.json beside the plan. The rehearsal goes to rehearsal.json beside the plan.

Exit codes: 0 the goals would be met, 1 a goal would be missed, a run did not end or a file cannot be
written, 2 wrong arguments or an unusable file, 3 a promise of safety broke.";

/// Rehearse a drill on seeds of the simulator, from the present map, policies, rounds and load.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What `firebreak drill plan` wrote
    plan: PathBuf,
    /// The cluster, as `firebreak outage record` writes it; gathered when not given
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,
    /// How many seeds are run in all
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(2..=1_000))]
    seeds: u64,
    /// What carries calls in the simulator
    #[arg(long, default_value = "grpc", value_parser = ["grpc", "direct"])]
    tier: String,
    /// Runs at a time; as many as there are cores when not given
    #[arg(long)]
    jobs: Option<usize>,
    /// Where the rehearsal goes; - is standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

impl Args {
    /// Gathers, and goes on as the simulator.
    ///
    /// # Errors
    /// When no node answers, or the simulator is not there.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let beside = self.plan.parent().unwrap_or(Path::new("")).to_owned();
        let (cluster, digest) = match &self.cluster {
            Some(path) => (path.clone(), None),
            None => {
                let path = beside.join(CLUSTER);
                let digest = block_in(gather(&self.target, &path))?;
                (path, Some(digest))
            }
        };
        let json = self.json.unwrap_or_else(|| beside.join(REHEARSAL));
        sim::go_on(words(&Words {
            plan: self.plan,
            cluster,
            seeds: self.seeds,
            tier: self.tier,
            jobs: self.jobs,
            json,
            digest,
        }))
    }
}

/// What the simulator is told.
pub struct Words {
    /// The plan's file.
    pub plan: PathBuf,
    /// The cluster's.
    pub cluster: PathBuf,
    /// How many seeds are run in all.
    pub seeds: u64,
    /// `grpc` or `direct`.
    pub tier: String,
    /// Runs at a time.
    pub jobs: Option<usize>,
    /// Where the rehearsal goes.
    pub json: PathBuf,
    /// The map's digest, hex.
    pub digest: Option<String>,
}

/// The arguments of the simulator.
pub fn words(words: &Words) -> Vec<OsString> {
    let mut all: Vec<OsString> = ["drill", "rehearse"].map(OsString::from).into();
    let mut add = |name: &str, value: OsString| all.extend([OsString::from(name), value]);
    add("--cluster", words.cluster.clone().into());
    add("--seeds", words.seeds.to_string().into());
    add("--tier", words.tier.clone().into());
    add("--json", words.json.clone().into());
    if let Some(jobs) = words.jobs {
        add("--jobs", jobs.to_string().into());
    }
    if let Some(digest) = &words.digest {
        add("--layout-digest", digest.clone().into());
    }
    all.extend([OsString::from("--"), words.plan.clone().into()]);
    all
}

/// Gathers the present cluster into a file, and gives the digest of its map, hex.
///
/// # Errors
/// When no node answers, or the file cannot be written.
pub async fn gather(target: &Target, path: &Path) -> anyhow::Result<String> {
    let now_ms = when::now_ms();
    let between = (now_ms.saturating_sub(BACK_MS), now_ms);
    let client = target.client(DEADLINE).await?;
    let status = client.status().await.with_context(|| target.asked())?;
    let (nodes, missing) = record::gather(&client, &status, between).await?;
    let night = record::night(nodes, missing, now_ms, between);
    let drills = client.drills().await.with_context(|| target.asked())?;
    let text = serde_json::to_string(&night)?;
    std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(hex(&drills.layout_digest))
}

/// Runs something on a runtime that is gone afterwards.
fn block_in<T>(run: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut made = None;
    block_on(async {
        made = Some(run.await?);
        Ok(ExitCode::SUCCESS)
    })?;
    made.context("nothing was gathered")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simulator_is_told_everything() {
        let told = words(&Words {
            plan: "-plan.toml".into(),
            cluster: "cluster.json".into(),
            seeds: 20,
            tier: "direct".to_owned(),
            jobs: Some(1),
            json: "rehearsal.json".into(),
            digest: Some("c1a5".to_owned()),
        });
        let told: Vec<&str> = told.iter().map(|word| word.to_str().unwrap()).collect();
        let expect = "drill rehearse --cluster cluster.json --seeds 20 --tier direct --json rehearsal.json \
                      --jobs 1 --layout-digest c1a5 -- -plan.toml";
        assert_eq!(told.join(" "), expect);
    }
}
