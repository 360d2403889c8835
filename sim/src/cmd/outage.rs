//! `outage show` and `outage replay`: a recorded night as a page, and run again. `firebreak outage` goes on
//! as this.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use firebreak_sim::night::compare::{Run, compare};
use firebreak_sim::night::{Counterfactual, Translated, Window, page, plan, recorded};
use firebreak_sim::{Outcome, Plan};
use server::night::Night;
use server::night::account::Account;

use super::files::{self, Console};
use super::stop::Stop;
use super::worker::{LIMIT_SECONDS, Workers};
use super::{Ended, Failure, pool};

/// The largest file that is read, bytes.
const NIGHT_BYTES_MAX: u64 = 1 << 30;
/// Seeds at most.
const SEEDS_MAX: u64 = 1_000;

const REPLAY_EXAMPLES: &str = "\
Examples:
  firebreak outage replay night.json
  firebreak outage replay night.json --seeds 20 --html replay.html
  firebreak outage replay night.json --policy prefer=busan     and if Busan had led
  firebreak outage replay night.json --replicas 5              and if there had been five replicas
  firebreak outage replay night.json --plan night.plan.json    for firebreak sim replay and shrink

The part around what was felt is replayed, three minutes at most. The load is thinned to what the simulator
bears, and goes on evenly.

Exit codes: 0 the seeds were run, 1 a run failed or a file could not be written, 2 wrong arguments or an
unusable file.";

/// A recorded night: as a page, and run again
#[derive(clap::Subcommand)]
pub(crate) enum Outage {
    /// Draws a recorded night
    Show(ShowArgs),
    /// Replays a recorded night: recorded and simulated side by side
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(Box<ReplayArgs>),
}

#[derive(clap::Args)]
pub(crate) struct ShowArgs {
    /// What `firebreak outage record` wrote
    file: PathBuf,
    /// Where the page goes
    #[arg(long, value_name = "FILE")]
    html: String,
}

#[derive(clap::Args)]
pub(crate) struct ReplayArgs {
    /// What `firebreak outage record` wrote
    file: PathBuf,
    /// How many seeds are run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=SEEDS_MAX))]
    seeds: u64,
    /// What should have led: prefer=DC[,DC…]
    #[arg(long, value_name = "prefer=DC", value_parser = prefer)]
    policy: Option<Prefer>,
    /// How many replicas each shard should have had: 3 or 5
    #[arg(long, value_parser = clap::value_parser!(u32).range(3..=5))]
    replicas: Option<u32>,
    /// Runs at a time; as many as there are cores when not given
    #[arg(long)]
    jobs: Option<usize>,
    /// Writes the page there
    #[arg(long, value_name = "FILE")]
    html: Option<String>,
    /// Writes the comparison there; - is stdout
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = files::STDOUT)]
    json: Option<String>,
    /// Writes the plan there, for `firebreak sim replay`
    #[arg(long, value_name = "FILE")]
    plan: Option<String>,
}

/// Data centers that should lead, best first.
#[derive(Clone, Debug)]
struct Prefer(Vec<String>);

fn prefer(text: &str) -> Result<Prefer, String> {
    let named = text.strip_prefix("prefer=").map(|dcs| dcs.split(','));
    let dcs: Vec<String> = named.into_iter().flatten().map(str::to_owned).collect();
    match dcs.is_empty() || dcs.iter().any(String::is_empty) {
        true => Err("write prefer=DC, or several with commas, the best first".to_owned()),
        false => Ok(Prefer(dcs)),
    }
}

impl Outage {
    /// Runs the verb.
    pub(crate) fn run(self) -> Ended {
        match self {
            Outage::Show(args) => args.run(),
            Outage::Replay(args) => args.run(),
        }
    }
}

/// Reads a recorded night.
pub(crate) fn read(path: &Path) -> Result<Night, Failure> {
    let refused = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
    let unread = |error: std::io::Error| refused(format!("cannot be read: {error}"));
    let size = std::fs::metadata(path).map_err(unread)?.len();
    if size > NIGHT_BYTES_MAX {
        return Err(refused(
            "is larger than a GiB; no recorded night is".to_owned(),
        ));
    }
    let text = std::fs::read_to_string(path).map_err(unread)?;
    Night::parse(&text).map_err(refused)
}

/// A part of a night as the plan of it.
fn translate(
    path: &Path,
    (night, account): (&Night, &Account),
    window: Window,
    other: &Counterfactual,
    short: bool,
) -> Result<Translated, Failure> {
    let made = plan(night, account, window, other, short);
    made.map_err(|why| Failure::Usage(format!("{}: {why}", path.display())))
}

impl ShowArgs {
    fn run(self) -> Ended {
        let night = read(&self.file)?;
        let account = Account::of(&night);
        let window = Window::whole(&night);
        let as_it_was = Counterfactual::default();
        let told = translate(&self.file, (&night, &account), window, &as_it_was, false)?;
        let outcome = recorded(&night, &account, window, &told.plan);
        let facts = facts(&night, &account, &told.plan);
        let page = page::show(&title(&night), &outcome, &facts);
        files::write(Path::new(&self.html), &page)?;
        Console::beside(&[Some(&self.html)]).say(&format!("page: {}", self.html));
        Ok(ExitCode::SUCCESS)
    }
}

/// What was felt and how that is known, and what is missing.
fn facts(night: &Night, account: &Account, plan: &Plan) -> Vec<String> {
    let felt = plan.events.iter().filter(|event| !event.fault.ends());
    let felt = felt.filter_map(|event| {
        let line = usize::try_from(event.line).ok()?;
        let evidence = &account.felt.get(line)?.evidence;
        Some(format!("{}: {evidence}", event.fault))
    });
    let missing = night.missing.iter();
    let missing = missing.map(|one| format!("missing: {}: {}", one.name, one.why));
    felt.chain(missing).collect()
}

/// The time of day, UTC.
fn title(night: &Night) -> String {
    let clock = |ms: u64| {
        let s = ms / 1_000 % 86_400;
        format!("{:02}:{:02}:{:02}", s / 3_600, s / 60 % 60, s % 60)
    };
    format!("{} to {} UTC", clock(night.from_ms), clock(night.to_ms))
}

impl ReplayArgs {
    fn run(self) -> Ended {
        for document in [&self.html, &self.json, &self.plan] {
            files::ready(document.as_deref())?;
        }
        let console = Console::beside(&[self.json.as_deref(), self.html.as_deref()]);
        let night = read(&self.file)?;
        let account = Account::of(&night);
        let other = self.other(&night)?;
        let window = Window::around(&night, &account);
        let told = translate(&self.file, (&night, &account), window, &other, true)?;
        if account.felt.is_empty() {
            console.say(
                "Nothing was done to the cluster that the nodes felt; only its load is replayed.",
            );
        }
        if let Some(path) = &self.plan {
            files::write(Path::new(path), &files::plan_text(&told.plan)?)?;
        }
        let made = self.make(&told.plan)?;
        let outcome = recorded(&night, &account, window, &told.plan);
        let runs: Vec<Run> = made.iter().map(Run::of).collect();
        let failed = runs.iter().any(|run| !run.is_whole());
        let same = other == Counterfactual::default();
        let compared = compare(&account, &outcome, runs, told.not_in_it, same);
        console.say(&compared.text());
        if let Some(stopped) = compared.runs.iter().find_map(|run| run.stopped.clone()) {
            console.say(&format!("a seed stopped: {stopped}"));
        }
        if let Some(path) = &self.json {
            let document = serde_json::json!({
                "night": self.file, "seeds": self.seeds, "policy": other.prefer,
                "replicas": other.replicas, "compared": compared, "felt": account.felt,
            });
            let text = serde_json::to_string_pretty(&document);
            let text = text.map_err(|error| Failure::Failed(format!("as JSON: {error}")))?;
            files::write(Path::new(path), &text)?;
        }
        if let (Some(path), Some(run)) = (&self.html, typical(&made)) {
            let page = page::replay(&title(&night), &outcome, run, &compared);
            files::write(Path::new(path), &page)?;
            console.say(&format!("page: {path}"));
        }
        Ok(match failed {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        })
    }

    /// What is to be other than it was.
    fn other(&self, night: &Night) -> Result<Counterfactual, Failure> {
        if self.replicas == Some(4) {
            return Err(Failure::Usage("--replicas is 3 or 5".to_owned()));
        }
        if let Some(replicas) = self.replicas {
            room_for(night, replicas).map_err(Failure::Usage)?;
        }
        let prefer = self.policy.clone().map(|Prefer(dcs)| dcs);
        for dc in prefer.iter().flatten() {
            let known: Vec<&str> = night.cluster.nodes.iter().map(|n| n.dc.as_str()).collect();
            if !known.contains(&dc.as_str()) {
                let mut known = known;
                known.dedup();
                return Err(Failure::Usage(format!(
                    "--policy: there is no data center {dc:?}; there are {}",
                    known.join(", ")
                )));
            }
        }
        Ok(Counterfactual {
            prefer,
            replicas: self.replicas,
        })
    }

    /// Makes the runs, one for each seed.
    fn make(&self, plan: &Plan) -> Result<Vec<Outcome>, Failure> {
        let workers = Workers::new(LIMIT_SECONDS, Stop::after(None))?;
        let plans = (1..=self.seeds).map(|seed| Plan {
            seed,
            ..plan.clone()
        });
        let mut made = Vec::new();
        let jobs = self.jobs.unwrap_or_else(pool::cores);
        let run = |plan: Plan| workers.run(&plan, None);
        pool::each(jobs, plans, run, |done| {
            let Some(done) = done else {
                return Err(Failure::Failed("interrupted".to_owned()));
            };
            made.push(done.outcome);
            Ok(())
        })?;
        made.sort_by_key(|outcome| outcome.plan.seed);
        Ok(made)
    }
}

/// Whether the night's nodes could hold so many replicas, a minority of them in each data center.
fn room_for(night: &Night, replicas: u32) -> Result<(), String> {
    let minority = replicas / 2;
    let mut dcs: BTreeMap<&str, u32> = BTreeMap::new();
    for node in &night.cluster.nodes {
        *dcs.entry(&node.dc).or_default() += 1;
    }
    let room: u32 = dcs.values().map(|nodes| minority.min(*nodes)).sum();
    if room >= replicas {
        return Ok(());
    }
    let nodes = night.cluster.nodes.len();
    Err(format!(
        "--replicas {replicas}: the night has {nodes} nodes in {} data centers, and {replicas} replicas \
         need {replicas} nodes with at most {minority} of a shard in one data center",
        dcs.len()
    ))
}

/// The run in the middle.
fn typical(made: &[Outcome]) -> Option<&Outcome> {
    let mut order: Vec<&Outcome> = made.iter().filter(|one| one.stopped.is_none()).collect();
    order.sort_by_key(|outcome| outcome.longest_gap_ms);
    order.get(order.len() / 2).copied().or_else(|| made.first())
}

#[cfg(test)]
mod tests {
    use proto::v1::RecordedNode;

    use super::*;

    fn night(dcs: &[&str]) -> Night {
        let node = |dc: &&str| RecordedNode {
            dc: (*dc).to_owned(),
            ..RecordedNode::default()
        };
        let mut night = Night::default();
        night.cluster.nodes = dcs.iter().map(node).collect();
        night
    }

    #[test]
    fn more_replicas_than_the_nights_nodes_can_hold_are_refused_with_the_reason() {
        let three = night(&["seoul", "busan", "tokyo"]);
        assert_eq!(room_for(&three, 3), Ok(()));
        let why = room_for(&three, 5).expect_err("three nodes hold no five replicas");
        assert!(why.contains("need 5 nodes"), "{why}");
        let six = night(&["seoul", "seoul", "busan", "busan", "tokyo", "tokyo"]);
        assert_eq!(room_for(&six, 5), Ok(()));
        let crowded = night(&["seoul", "seoul", "seoul", "seoul", "busan"]);
        assert!(room_for(&crowded, 5).is_err());
    }
}
