//! `firebreak drill plan` and `scenarios`: what a drill is to do, from the simulator's own scenarios.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use server::drill::check;
use server::drill::plan::{Caps, DrillPlan, FORMAT, Goals};

use crate::cmd::map::Map;
use crate::cmd::outage::when;
use crate::cmd::target::{Credentials, Target, new_table};
use crate::drill::live::{Cast, Live, Member, Scenario};
use crate::drill::{fit, quorum};
use crate::exit::Usage;

const EXAMPLES: &str = "\
Examples:
  firebreak drill plan dc-silent --target dc=seoul --cap failed=0 --cap gap=1.5s > plan.toml
  firebreak drill plan dc-crash --target dc=busan --real -o plan.toml     by SIGKILL, on the nodes' machine
  firebreak drill plan fsync-stall --target dc=tokyo --before 30s --after 30s -o plan.toml

Caps end the drill at once; goals are what it is held against in the end, the scenario's own unless given. A plan
is a file that may be edited; approvals are given for its bytes.

Exit codes: 0 planned, 1 no node answers, 2 an unknown scenario, one that cannot be done live, or a target that
would leave no quorum.";

/// How long it is looked for a node that answers.
pub const DEADLINE: Duration = Duration::from_secs(4);

/// Make a plan from a scenario of the simulator, for the cluster as it is.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The scenario; `firebreak drill scenarios` lists them
    scenario: String,
    /// The data center that it befalls, as dc=NAME, or several; and host:port of nodes to ask
    #[arg(long, value_name = "dc=NAME|HOST:PORT", value_delimiter = ',')]
    target: Vec<String>,
    #[command(flatten)]
    credentials: Credentials,
    /// What ends the drill at once: failed=N, gap=TIME, margin=N
    #[arg(long, value_name = "KEY=VALUE")]
    cap: Vec<String>,
    /// What it is held against in the end: failed=N, gap=TIME
    #[arg(long, value_name = "KEY=VALUE")]
    goal: Vec<String>,
    /// By real signals (SIGSTOP, SIGKILL, SIGTERM), where the controller runs on the nodes' machine
    #[arg(long)]
    real: bool,
    /// How long the canaries run before the first step
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time_ms)]
    before: u64,
    /// How long they run after the last step
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time_ms)]
    after: u64,
    /// Let each fault last so long, instead of what the scenario says
    #[arg(long = "for", value_name = "TIME", value_parser = time_ms)]
    lasts: Option<u64>,
    /// Write it there; standard output when not given
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print what was planned as JSON; needs --out, since the plan itself goes to standard output
    #[arg(long, requires = "out")]
    json: bool,
}

fn time_ms(text: &str) -> Result<u64, String> {
    crate::drill::live::time_ms(text).ok_or_else(|| "say a time, as 10s or 1.5s".to_owned())
}

fn usage(why: impl Into<String>) -> anyhow::Error {
    anyhow!(Usage(why.into()))
}

impl Args {
    /// Plans.
    ///
    /// # Errors
    /// As exit codes tell.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let scenario = Scenario::named(&self.scenario).ok_or_else(|| {
            usage(format!(
                "there is no scenario {:?}; `firebreak drill scenarios` lists them",
                self.scenario
            ))
        })?;
        let not_live = |why: String| usage(format!("{}: {why}", scenario.name));
        if let Some(why) = scenario.not_live() {
            return Err(not_live(why));
        }
        let (dcs, target) = self.targets();
        let client = target.client(DEADLINE).await?;
        let map = Map::ask(&client, &target).await?;
        for dc in &dcs {
            map.dc(dc)?;
        }
        let members = members(&map);
        let cast = Cast {
            members: &members,
            targets: &dcs,
            real: self.real,
        };
        let live = scenario.live(&cast).map_err(not_live)?;
        let dc = dcs.join(",");
        let dc = Some(dc.as_str()).filter(|dc| !dc.is_empty());
        let (plan, differs) = self.plan(&scenario, live, dc, &map)?;
        check::check(&plan).map_err(usage)?;
        if let Some(weakest) = quorum::weakest(&plan, &fit::shards(&map))
            && weakest.margin() < 0
        {
            return Err(usage(format!(
                "{} would leave no quorum: {} of {} replicas of shard {} at {} ms",
                dc.unwrap_or("it"),
                weakest.left,
                weakest.of,
                weakest.shard,
                weakest.at_ms
            )));
        }
        self.write(&plan, &differs)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The data centers, and whom to ask.
    fn targets(&self) -> (Vec<String>, Target) {
        let (dcs, nodes): (Vec<&String>, Vec<&String>) =
            self.target.iter().partition(|one| one.starts_with("dc="));
        let nodes: Vec<String> = nodes.into_iter().cloned().collect();
        let asked = match nodes.is_empty() {
            true => Target::usual(),
            false => nodes,
        };
        let mut named: Vec<String> = Vec::new();
        for dc in dcs {
            let dc = dc.trim_start_matches("dc=").to_owned();
            if !named.contains(&dc) {
                named.push(dc);
            }
        }
        let target = Target {
            target: asked,
            credentials: self.credentials.clone(),
        };
        (named, target)
    }

    fn plan(
        &self,
        scenario: &Scenario,
        mut live: Live,
        dc: Option<&str>,
        map: &Map,
    ) -> anyhow::Result<(DrillPlan, Vec<String>)> {
        let mut caps = Caps::default();
        for cap in &self.cap {
            let (key, value) = cap.split_once('=').unwrap_or((cap, ""));
            match key {
                "failed" => caps.failed = Some(number(cap, value)?),
                "gap" => {
                    caps.gap_ms =
                        Some(time_ms(value).map_err(|why| usage(format!("--cap {cap}: {why}")))?)
                }
                "margin" => {
                    caps.margin = Some(
                        value
                            .parse()
                            .map_err(|_| usage(format!("--cap {cap}: say a number")))?,
                    );
                }
                _ => {
                    return Err(usage(format!(
                        "--cap {cap}: there are failed=N, gap=TIME, margin=N"
                    )));
                }
            }
        }
        let mut goals: Goals = live.goals;
        for goal in &self.goal {
            let (key, value) = goal.split_once('=').unwrap_or((goal, ""));
            match key {
                "failed" => goals.failed = number(goal, value)?,
                "gap" => {
                    goals.gap_ms =
                        Some(time_ms(value).map_err(|why| usage(format!("--goal {goal}: {why}")))?)
                }
                _ => {
                    return Err(usage(format!(
                        "--goal {goal}: there are failed=N and gap=TIME"
                    )));
                }
            }
        }
        for step in &mut live.steps {
            if let Some(lasts) = self.lasts {
                step.for_ms = Some(lasts);
            }
        }
        let made_ms = when::now_ms();
        let newest = map.newest();
        let mut plan = DrillPlan {
            format: FORMAT,
            id: String::new(),
            scenario: scenario.name.clone(),
            about: scenario.about.clone(),
            hypothesis: hypothesis(&goals, dc),
            target: dc.unwrap_or_default().to_owned(),
            cluster_id: newest.cluster_id.clone(),
            map_epoch: newest.map_epoch,
            made_ms,
            before_ms: self.before,
            after_ms: self.after,
            caps,
            goals,
            steps: live.steps,
        };
        plan.id = id(&plan);
        Ok((plan, live.differs))
    }

    fn write(&self, plan: &DrillPlan, differs: &[String]) -> anyhow::Result<()> {
        let mut text = toml::to_string(plan)?;
        for line in differs {
            text = format!("# Other than in the simulator: {line}\n{text}");
        }
        match &self.out {
            Some(path) => std::fs::write(path, &text)
                .with_context(|| format!("{} cannot be written", path.display()))?,
            None => write!(std::io::stdout(), "{text}")?,
        }
        if self.json {
            let document = serde_json::json!({"file": self.out, "plan": plan, "differs": differs});
            println!("{}", serde_json::to_string_pretty(&document)?);
        } else {
            let takes = humantime::format_duration(Duration::from_millis(check::total_ms(plan)));
            eprintln!("{}: {} steps, takes {takes}", plan.id, plan.steps.len());
            differs
                .iter()
                .for_each(|line| eprintln!("  other than in the simulator: {line}"));
        }
        Ok(())
    }
}

fn number(whole: &str, value: &str) -> anyhow::Result<u64> {
    value
        .parse()
        .map_err(|_| usage(format!("{whole}: say a number")))
}

fn hypothesis(goals: &Goals, dc: Option<&str>) -> String {
    let who = dc.map_or_else(|| "While it lasts".to_owned(), |dc| format!("Without {dc}"));
    let gap = goals.gap_ms.map_or_else(String::new, |ms| {
        format!(", none waits longer than {ms} ms")
    });
    format!(
        "{who} at most {} calls fail{gap}, and nothing acknowledged is lost.",
        goals.failed
    )
}

/// A name that no other plan has: its day, what and whom it befalls, and a part of its digest.
pub fn id(plan: &DrillPlan) -> String {
    let day = when::rfc3339(plan.made_ms);
    let day = day.split('T').next().unwrap_or_default();
    let target = match plan.target.as_str() {
        "" => "all",
        target => target,
    };
    let text = format!("{plan:?}{}", std::process::id());
    let digest = blake3::hash(text.as_bytes()).to_hex();
    format!("{day}-{}-{target}-{}", plan.scenario, &digest[..4])
}

fn members(map: &Map) -> Vec<Member> {
    let nodes = map.newest().nodes.iter();
    let mut all: Vec<Member> = nodes
        .map(|node| Member {
            name: node.name.clone(),
            dc: node.dc.clone(),
            rack: node.rack.clone(),
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

const SCENARIOS: &str = "\
Examples:
  firebreak drill scenarios
  firebreak drill scenarios --json | jq '.[] | select(.live) | .scenario'

Exit codes: 0 listed, 2 wrong arguments.";

/// List the simulator's scenarios: which can be done live, and why the others cannot.
#[derive(clap::Args, Debug)]
#[command(after_help = SCENARIOS)]
pub struct Scenarios {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Scenarios {
    /// Lists them.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let all = Scenario::all();
        if self.json {
            let rows: Vec<serde_json::Value> = all
                .iter()
                .map(|one| {
                    let why = one.not_live();
                    serde_json::json!({
                        "scenario": one.name, "about": one.about, "live": why.is_none(), "why_not": why,
                    })
                })
                .collect();
            println!("{}", serde_json::to_string_pretty(&rows)?);
            return Ok(ExitCode::SUCCESS);
        }
        let mut live = new_table(&["live", "about"]);
        let mut others = new_table(&["simulator only", "why"]);
        for one in &all {
            match one.not_live() {
                None => live.add_row([&one.name, &one.about]),
                Some(why) => others.add_row([&one.name, &why]),
            };
        }
        println!("{live}\n{others}");
        Ok(ExitCode::SUCCESS)
    }
}
