//! `firebreak policy show|set`: where leaders and replicas are to be.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use client::{Client, v1};
use serde::Serialize;
use server::drill::verb::Verb;

use super::map::Map;
use super::rehearsed::{Go, Rehearsed};
use super::target::{Show, printable, verb_failed};
use crate::exit::Usage;

const EXAMPLES: &str = "\
Examples:
  firebreak policy show
  firebreak policy set --prefer seoul,busan
  firebreak policy set --survive region
  firebreak policy set --prefer tokyo --shard 3
  firebreak policy set --shard 3 --clear
  firebreak policy set --prefer seoul --rehearse   what would happen, by the simulator; --yes does it then

What is not given stays as it is; a shard without a policy of its own begins with the default.
Leaders follow within minutes: a shard moves once a minute at most.

The count of replicas is that of the founding (`firebreak init --replicas`); another one is refused.

Exit codes: 0 done, 1 refused with the reason, or no node answers, 2 wrong arguments or an unknown name.";

/// Show or set where leaders and replicas are to be.
#[derive(clap::Subcommand, Debug)]
pub enum Policy {
    /// Show the default policy and those of single shards.
    Show(Show),
    /// Set the default policy, or that of one shard.
    Set(Set),
}

/// Set the default policy, or that of one shard.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Set {
    /// Data centers that should lead, best first, comma-separated
    #[arg(long, value_name = "DC,…", value_delimiter = ',')]
    prefer: Vec<String>,
    /// Replicas of a shard, 3 or 5: as many as the cluster was founded with, others are refused
    #[arg(long, value_name = "COUNT")]
    replicas: Option<u32>,
    /// What must be survived, the loss of any one: dc or region
    #[arg(long, value_name = "WHAT", value_parser = ["dc", "region"])]
    survive: Option<String>,
    /// Of this shard alone; 0 is the meta shard [default: of all that have none of their own]
    #[arg(long, value_name = "SHARD")]
    shard: Option<u32>,
    /// Take the policy away instead
    #[arg(long, conflicts_with_all = ["prefer", "replicas", "survive"])]
    clear: bool,
    #[command(flatten)]
    rehearsed: Rehearsed,
    #[command(flatten)]
    show: Show,
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
            Policy::Show(shown) => show(&shown.client().await?, &shown, 0).await,
            Policy::Set(args) => args.run().await,
        }
    }
}

impl Set {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let given = !self.prefer.is_empty() || self.replicas.is_some() || self.survive.is_some();
        if !self.clear && !given {
            return Err(anyhow!(Usage(
                "nothing to set: give --prefer, --replicas or --survive, or --clear to take a policy \
                 away"
                    .into()
            )));
        }
        if let Some(wrong) = self.replicas.filter(|count| !matches!(count, 3 | 5)) {
            return Err(anyhow!(Usage(format!("--replicas {wrong}: say 3 or 5"))));
        }
        let client = self.show.client().await?;
        let map = Map::ask(&client, &self.show.target).await?;
        for dc in &self.prefer {
            map.dc(dc.trim())?;
        }
        self.shard.map(|shard| map.shard(shard)).transpose()?;
        let policy = match self.clear {
            true => None,
            false => {
                let now = client.policies().await;
                Some(self.over(now.with_context(|| self.show.target.asked())?))
            }
        };
        let verb = || Verb::Prefer {
            dcs: policy
                .as_ref()
                .map_or_else(Vec::new, |one| one.prefer.clone()),
        };
        let rehearsed = self.rehearsed;
        if let Go::Stop(code) = rehearsed
            .first(verb, &self.show.target, self.show.json)
            .await?
        {
            return Ok(code);
        }
        let epoch = client
            .set_policy(self.shard, policy)
            .await
            .map_err(|error| {
                verb_failed(error, self.show.target.asked(), "firebreak policy show")
            })?;
        show(&client, &self.show, epoch).await
    }
}

impl Set {
    /// What is given, over what there is.
    fn over(&self, now: v1::GetPoliciesResponse) -> v1::Policy {
        let own = self.shard.and_then(|shard| {
            let mut shards = now.shards.iter();
            shards.find(|one| one.shard == shard)?.policy.clone()
        });
        let mut policy = own.or(now.default).unwrap_or_default();
        if !self.prefer.is_empty() {
            policy.prefer = self.prefer.iter().map(|dc| dc.trim().to_owned()).collect();
        }
        policy.replicas = self.replicas.unwrap_or(policy.replicas);
        if let Some(survive) = &self.survive {
            policy.survive.clone_from(survive);
        }
        policy
    }
}

/// Prints the policies, from a node that knows the map of `epoch`.
async fn show(client: &Client, how: &Show, epoch: u64) -> anyhow::Result<ExitCode> {
    let asked = async {
        loop {
            let policies = client.policies().await?;
            if policies.map_epoch >= epoch {
                return Ok::<_, client::Error>(policies);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let policies = tokio::time::timeout(Show::DEADLINE, asked)
        .await
        .context("the node that was asked has not heard of it yet")?
        .with_context(|| how.target.asked())?;
    let view = view(policies);
    if how.json {
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
    fn what_is_not_given_stays_as_it_is_and_a_shard_begins_with_the_default() {
        let policy = |dc: &str, survive: &str| v1::Policy {
            prefer: vec![dc.to_owned()],
            replicas: 0,
            survive: survive.to_owned(),
        };
        let now = || v1::GetPoliciesResponse {
            default: Some(policy("seoul", "dc")),
            shards: vec![v1::ShardPolicy {
                shard: 3,
                policy: Some(policy("tokyo", "dc")),
            }],
            map_epoch: 7,
        };
        let check = |args: &[&str], expect: v1::Policy| {
            let args = ["policy", "set"].iter().chain(args).copied();
            let command =
                <Policy as clap::Subcommand>::augment_subcommands(clap::Command::new("policy"));
            let matches = command.get_matches_from(args);
            let Ok(Policy::Set(set)) = <Policy as clap::FromArgMatches>::from_arg_matches(&matches)
            else {
                unreachable!("it is set that was given")
            };
            assert_eq!(set.over(now()), expect);
        };
        check(&["--survive", "region"], policy("seoul", "region"));
        check(&["--prefer", "busan"], policy("busan", "dc"));
        check(
            &["--survive", "region", "--shard", "3"],
            policy("tokyo", "region"),
        );
        check(
            &["--survive", "region", "--shard", "4"],
            policy("seoul", "region"),
        );
    }

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
