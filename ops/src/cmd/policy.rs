//! `firebreak policy show|set`: where leaders and replicas are to be.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use client::{Client, v1};
use serde::Serialize;

use super::map::Map;
use super::target::{Target, printable, verb_failed};
use crate::exit::Usage;

const EXAMPLES: &str = "\
Examples:
  firebreak policy show
  firebreak policy set --prefer seoul,busan
  firebreak policy set --prefer tokyo --shard 3
  firebreak policy set --shard 3 --clear

Leaders follow within minutes: a shard moves once a minute at most.

The count of replicas is that of the founding (`firebreak init --replicas`); another one is refused.

Exit codes: 0 done, 1 refused with the reason, or no node answers, 2 wrong arguments or an unknown name.";

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Show or set where leaders and replicas are to be.
#[derive(clap::Subcommand, Debug)]
pub enum Policy {
    /// Show the default policy and those of single shards.
    Show(Show),
    /// Set the default policy, or that of one shard.
    Set(Set),
}

/// Show the default policy and those of single shards.
#[derive(clap::Args, Debug)]
pub struct Show {
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Set the default policy, or that of one shard.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Set {
    /// Data centers that should lead, best first, comma-separated
    #[arg(long, value_name = "DC,…", value_delimiter = ',')]
    prefer: Vec<String>,
    /// Replicas of a shard, 3 or 5: as many as the cluster was founded with, others are refused
    /// [default: as laid out]
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 0,
        hide_default_value = true
    )]
    replicas: u32,
    /// What must be survived, the loss of any one: dc or region
    #[arg(long, value_name = "WHAT", default_value = "dc", value_parser = ["dc", "region"])]
    survive: String,
    /// Of this shard alone; 0 is the meta shard [default: of all that have none of their own]
    #[arg(long, value_name = "SHARD")]
    shard: Option<u32>,
    /// Take the policy away instead
    #[arg(long, conflicts_with_all = ["prefer", "replicas"])]
    clear: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, PartialEq, Serialize)]
struct View {
    map_epoch: u64,
    default: One,
    shards: Vec<Own>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct One {
    prefer: Vec<String>,
    /// 0 = as laid out.
    replicas: u32,
    survive: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Own {
    shard: u32,
    #[serde(flatten)]
    policy: One,
}

impl Policy {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// The cluster refuses it, or no node answers.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Policy::Show(args) => {
                show(&args.target.client(DEADLINE)?, &args.target, args.json, 0).await
            }
            Policy::Set(args) => args.run().await,
        }
    }
}

impl Set {
    async fn run(self) -> anyhow::Result<ExitCode> {
        if !self.clear && self.prefer.is_empty() && self.replicas == 0 {
            return Err(anyhow!(Usage(
                "nothing to set: give --prefer, or --replicas (with --survive, if need be), or \
                 --clear to take a policy away"
                    .into()
            )));
        }
        if !matches!(self.replicas, 0 | 3 | 5) {
            return Err(anyhow!(Usage(format!(
                "--replicas {}: say 3 or 5",
                self.replicas
            ))));
        }
        let client = self.target.client(DEADLINE)?;
        let map = Map::ask(&client, &self.target).await?;
        for dc in &self.prefer {
            map.dc(dc.trim())?;
        }
        self.shard.map(|shard| map.shard(shard)).transpose()?;
        let policy = (!self.clear).then(|| v1::Policy {
            prefer: self.prefer.iter().map(|dc| dc.trim().to_owned()).collect(),
            replicas: self.replicas,
            survive: self.survive.clone(),
        });
        let epoch = client
            .set_policy(self.shard, policy)
            .await
            .map_err(|error| verb_failed(error, self.target.asked(), "firebreak policy show"))?;
        show(&client, &self.target, self.json, epoch).await
    }
}

/// Prints the policies, from a node that knows the map of `epoch`.
async fn show(
    client: &Client,
    target: &Target,
    json: bool,
    epoch: u64,
) -> anyhow::Result<ExitCode> {
    let asked = async {
        loop {
            let policies = client.policies().await?;
            if policies.map_epoch >= epoch {
                return Ok::<_, client::Error>(policies);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let policies = tokio::time::timeout(DEADLINE, asked)
        .await
        .context("the node that was asked has not heard of it yet")?
        .with_context(|| target.asked())?;
    let view = view(policies);
    if json {
        println!("{}", serde_json::to_string_pretty(&view)?);
    } else {
        println!("default   {}", text(&view.default));
        for own in &view.shards {
            let whose = match own.shard {
                0 => "meta".to_owned(),
                shard => format!("shard {shard}"),
            };
            println!("{whose:<9} {}", text(&own.policy));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn view(policies: v1::GetPoliciesResponse) -> View {
    let one = |policy: Option<v1::Policy>| {
        let policy = policy.unwrap_or_default();
        One {
            prefer: policy.prefer.iter().map(|dc| printable(dc)).collect(),
            replicas: policy.replicas,
            survive: match policy.survive.as_str() {
                "" => "dc".to_owned(),
                named => printable(named),
            },
        }
    };
    let shards = policies.shards.into_iter().map(|own| Own {
        shard: own.shard,
        policy: one(own.policy),
    });
    View {
        map_epoch: policies.map_epoch,
        shards: shards.collect(),
        default: one(policies.default),
    }
}

fn text(policy: &One) -> String {
    let prefer = match policy.prefer.as_slice() {
        [] => "leaders as laid out".to_owned(),
        dcs => format!("leaders in {}", dcs.join(", then ")),
    };
    match (policy.replicas, policy.survive.as_str()) {
        // Nothing was asked of them, so nothing was looked at.
        (0, "dc") => format!("{prefer}; replicas as laid out"),
        (0, survive) => format!("{prefer}; replicas as laid out; survives any one {survive}"),
        (count, survive) => format!("{prefer}; {count} replicas; survives any one {survive}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_told_in_words() {
        let policy = v1::Policy {
            prefer: vec!["seoul".into(), "busan".into()],
            replicas: 5,
            survive: "region".into(),
        };
        let view = view(v1::GetPoliciesResponse {
            default: None,
            shards: vec![v1::ShardPolicy {
                shard: 3,
                policy: Some(policy),
            }],
            map_epoch: 7,
        });
        let default = "leaders as laid out; replicas as laid out";
        assert_eq!(text(&view.default), default);
        let own = "leaders in seoul, then busan; 5 replicas; survives any one region";
        assert_eq!(text(&view.shards[0].policy), own);
    }
}
