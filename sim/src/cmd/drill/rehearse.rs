//! `drill rehearse`: the plan on seeds of the simulator, from the present cluster.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};
use firebreak_sim::drill::{Stage, rehearse};
use firebreak_sim::{Outcome, Plan};
use indicatif::{ProgressBar, ProgressStyle};
use server::drill::rehearsal::{Rehearsal, Seeds, Spread};

use super::super::cases::TierName;
use super::super::files::{self, Console};
use super::super::outage;
use super::super::stop::Stop;
use super::super::worker::{LIMIT_SECONDS, Workers};
use super::super::{Ended, Failure, pool};

/// Seeds at most.
const SEEDS_MAX: u64 = 1_000;

const EXAMPLES: &str = "\
Examples:
  firebreak drill rehearse plan.toml                          gathers the present cluster first
  firebreak drill rehearse plan.toml --cluster night.json --seeds 50 --json rehearsal.json
  firebreak drill rehearse plan.toml --tier direct            quicker, and coarser by a few ms

Half of the seeds run the plan as it is. In the other half a further data center burns in the middle, and the
drill is aborted. One more run has all data centers in one building.
What the simulator does not know of the cluster is listed.

Exit codes: 0 the goals would be met, 1 a goal would be missed, a run did not end or a file cannot be
written, 2 wrong arguments or an unusable file, 3 a promise of safety broke.";

/// Rehearses a drill on seeds of the simulator
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What `firebreak drill plan` wrote
    plan: PathBuf,
    /// The present cluster, as `firebreak outage record` writes it
    #[arg(long, value_name = "FILE")]
    cluster: PathBuf,
    /// How many seeds are run in all
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(2..=SEEDS_MAX))]
    seeds: u64,
    /// What carries calls
    #[arg(long, value_enum, default_value_t = TierName::Grpc)]
    tier: TierName,
    /// Runs at a time; as many as there are cores when not given
    #[arg(long)]
    jobs: Option<usize>,
    /// The digest of the map that it is made from, hex
    #[arg(long, value_name = "HEX", default_value = "")]
    layout_digest: String,
    /// Writes the rehearsal there; - is stdout
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = files::STDOUT)]
    json: Option<String>,
    /// Where plans of runs go in which a promise broke
    #[arg(long, value_name = "DIR", default_value = files::OUT)]
    out: PathBuf,
}

/// Which of the three a run is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Calm,
    Fire,
    Twin,
}

impl Args {
    /// Rehearses.
    pub(crate) fn run(self) -> Ended {
        files::ready(self.json.as_deref())?;
        let console = Console::beside(&[self.json.as_deref()]);
        let (plan, plan_digest) = super::plan(&self.plan)?;
        let night = outage::read(&self.cluster)?;
        let stage = Stage::of(&plan, &night, self.tier.into());
        let stage =
            stage.map_err(|why| Failure::Usage(format!("{}: {why}", self.plan.display())))?;
        let seeds = Seeded {
            seeds: self.seeds,
            jobs: self.jobs,
            out: self.out.clone(),
        };
        let made = seeds.make(&stage, true)?;
        let of = |wanted: Kind| -> Vec<&Outcome> {
            let those = made.iter().filter(|(kind, _)| *kind == wanted);
            those.map(|(_, outcome)| outcome).collect()
        };
        let rehearsal = Rehearsal {
            plan_digest,
            layout_digest: self.layout_digest.clone(),
            at_ms: now_ms(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            calm: rehearse::seeds(&of(Kind::Calm)),
            beside_a_fire: rehearse::seeds(&of(Kind::Fire)),
            twin: of(Kind::Twin).first().map(|twin| rehearse::twin(twin)),
            not_in_it: stage.not_in_it.clone(),
        };
        for line in lines(&rehearsal) {
            console.say(&line);
        }
        let missed = rehearse::missed(&rehearsal, &plan);
        for what in &missed {
            console.say(&format!("! the simulator says: {what}"));
        }
        seeds.keep(&made, console)?;
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&rehearsal);
            let text = text.map_err(|error| Failure::Failed(format!("as JSON: {error}")))?;
            files::write(Path::new(path), &format!("{text}\n"))?;
        }
        let stopped = made
            .iter()
            .any(|(kind, outcome)| *kind != Kind::Twin && rehearse::unsettled(outcome));
        let broken = rehearsal.calm.broken + rehearsal.beside_a_fire.broken > 0;
        Ok(ExitCode::from(
            match (broken, stopped || !missed.is_empty()) {
                (true, _) => 3,
                (false, true) => 1,
                (false, false) => 0,
            },
        ))
    }
}

/// How many runs are made, how many at a time, and where plans go.
pub(super) struct Seeded {
    pub seeds: u64,
    pub jobs: Option<usize>,
    pub out: PathBuf,
}

impl Seeded {
    /// Makes all runs, each in a process of its own.
    pub(super) fn make(&self, stage: &Stage, twin: bool) -> Result<Vec<(Kind, Outcome)>, Failure> {
        let half = self.seeds.div_ceil(2);
        let calm = (1..=half).map(|seed| (Kind::Calm, stage.calm(seed)));
        let fires = (1..=self.seeds - half)
            .filter_map(|seed| Some((Kind::Fire, stage.beside_a_fire(seed)?)));
        let twin = twin.then(|| (Kind::Twin, stage.twin())).into_iter();
        let plans: Vec<(Kind, Plan)> = twin.chain(calm).chain(fires).collect();
        let workers = Workers::new(LIMIT_SECONDS, Stop::after(None))?;
        let bar = bar(plans.len() as u64);
        let run =
            |(kind, plan): (Kind, Plan)| Ok(workers.run(&plan, None)?.map(|done| (kind, done)));
        let mut made = Vec::new();
        pool::each(
            self.jobs.unwrap_or_else(pool::cores),
            plans.into_iter(),
            run,
            |done| {
                let Some((kind, done)) = done else {
                    return Err(Failure::Failed("interrupted".to_owned()));
                };
                made.push((kind, done.outcome));
                bar.inc(1);
                Ok(())
            },
        )?;
        bar.finish_and_clear();
        made.sort_by_key(|(_, outcome)| outcome.plan.seed);
        Ok(made)
    }

    /// Writes the plans of runs in which something broke, so that they can be made again.
    pub(super) fn keep(&self, made: &[(Kind, Outcome)], console: Console) -> Result<(), Failure> {
        let bad = made.iter().filter(|(kind, outcome)| {
            *kind != Kind::Twin && (rehearse::broken(outcome) || rehearse::unsettled(outcome))
        });
        for (kind, outcome) in bad {
            let folder = match kind {
                Kind::Fire => self.out.join("beside-a-fire"),
                Kind::Calm | Kind::Twin => self.out.clone(),
            };
            let path = files::plan_path(&folder, &outcome.plan);
            files::write(&path, &files::plan_text(&outcome.plan)?)?;
            let file = files::quoted(&path.to_string_lossy());
            console.say(&format!("replay: firebreak sim replay {file}"));
        }
        Ok(())
    }
}

/// Wall-clock time.
#[allow(
    clippy::disallowed_methods,
    reason = "the command's own clock: no run goes on in this process"
)]
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    u64::try_from(ms).unwrap_or(u64::MAX)
}

fn bar(runs: u64) -> ProgressBar {
    let bar = ProgressBar::new(runs);
    let style = ProgressStyle::with_template(
        "rehearsing {bar:30} {pos}/{len} seeds · {elapsed}, {eta} to go",
    );
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A rehearsal for people.
pub(super) fn lines(rehearsal: &Rehearsal) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "",
        "as planned",
        "beside a real fire",
        "all in one building",
    ]);
    let (calm, fire) = (&rehearsal.calm, &rehearsal.beside_a_fire);
    let twin = rehearsal.twin.as_ref();
    let spread = |of: &dyn Fn(&Seeds) -> Spread, unit: &str| {
        let told = |seeds: &Seeds| match seeds.ran {
            0 => "–".to_owned(),
            _ => format!(
                "{}, {}, {}{unit}",
                of(seeds).p50,
                of(seeds).p99,
                of(seeds).max
            ),
        };
        (told(calm), told(fire))
    };
    let mut row = |what: &str, (calm, fire): (String, String), twin: Option<String>| {
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let twin = twin.unwrap_or_else(|| "–".to_owned());
        table.add_row([Cell::new(what), right(calm), right(fire), right(twin)]);
    };
    row(
        "seeds",
        (calm.ran.to_string(), fire.ran.to_string()),
        twin.map(|_| "1".to_owned()),
    );
    row(
        "longest gap: p50, p99, worst",
        spread(&|seeds| seeds.gap_ms, " ms"),
        twin.map(|twin| format!("{} ms", twin.gap_ms)),
    );
    row(
        "failed calls: p50, p99, worst",
        spread(&|seeds| seeds.failed, ""),
        twin.map(|twin| twin.failed.to_string()),
    );
    row(
        "replicas that moved: p50, p99, worst",
        spread(&|seeds| seeds.moves, ""),
        None,
    );
    row(
        "seeds with a broken promise",
        (calm.broken.to_string(), fire.broken.to_string()),
        twin.map(|twin| format!("{} messages lost", twin.lost)),
    );
    row(
        "seeds not at rest in time",
        (calm.unsettled.to_string(), fire.unsettled.to_string()),
        None,
    );
    let mut lines = vec![table.to_string()];
    let told = |what: &str, notes: &[String]| -> Vec<String> {
        let notes = notes.iter().take(3);
        notes.map(|note| format!("  {what} {note}")).collect()
    };
    lines.push("The worst seeds:".to_owned());
    lines.extend(told("as planned,", &calm.notes));
    lines.extend(told("beside a fire,", &fire.notes));
    lines.extend(twin.map(|twin| twin.story.clone()));
    lines.push("The simulator does not know:".to_owned());
    lines.extend(rehearsal.not_in_it.iter().map(|what| format!("  - {what}")));
    lines
}
