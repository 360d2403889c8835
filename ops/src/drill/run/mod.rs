//! The controller of a drill.
//!
//! ```text
//!  begin ─► calm ─► steps by time ─► after ─► whole again? ─► read back ─► judge ─► conclude
//!             │          │                       ▲
//!             │          ├ renews every few seconds, beats to the meta shard
//!             └ ledger   └ cap, real fault, margin, no view, ended by others ─► undo all
//! ```

mod after;
mod beat;
pub mod canary;
mod conclude;
mod gauge;
pub mod guard;
mod hands;
mod healing;
mod ledger;
mod measure;
pub mod process;
mod resume;
mod sweep;
mod tell;
mod verdict;
mod watch;
mod whole;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use client::Client;
use client::v1::{GetStatusResponse, drill};
use server::drill::check;
use server::drill::paper::{End, Happened, Moment, Paper};
use server::drill::plan::DrillPlan;
use server::drill::rehearsal::Rehearsal;

use super::book::{self, Planned};
use super::fit::Fit;
use crate::canary::foreign::Kit;
use crate::canary::late::Probe;
use crate::canary::{Call, now_us};
use crate::cmd::map::Map;
use crate::stop::Stop;
use canary::Canaries;
use gauge::Gauge;
use hands::Hands;
use healing::Healing;
pub use sweep::sweep;
use watch::{Looked, Watch};

/// Between two looks at the canaries and the clock.
const TICK: Duration = Duration::from_millis(50);
/// Between two looks at the cluster.
const CLUSTER_CHECK_EVERY: Duration = Duration::from_millis(500);
/// Between two renewals, and two beats.
const RENEW: Duration = Duration::from_secs(4);
/// How long the canaries may take to be answered.
const WARM_LIMIT: Duration = Duration::from_secs(60);
/// How long the canaries go on after an abort.
const AFTER_ABORT: Duration = Duration::from_secs(3);
/// What a note of the steps' begin says, with the time behind it.
const STEPS_BEGIN: &str = "the steps begin at ";

/// How it is carried out.
pub struct Options {
    /// The drill's folder.
    pub dir: PathBuf,
    /// Another controller's drill is taken over.
    pub resume: bool,
    /// What starts a node again, in which `{node}` is its name.
    pub start_with: Option<String>,
    /// Languages besides Rust that canaries send in.
    pub kits: Vec<Kit>,
    /// No words on the way.
    pub quiet: bool,
}

/// A note on its way to the meta shard, and what became of it.
type Beating = tokio::task::JoinHandle<(String, Result<(), client::Error>)>;

/// All that a controller has.
struct Run<'a> {
    client: Client,
    plan: &'a DrillPlan,
    fit: &'a Fit,
    /// What the simulator said, where it was asked.
    rehearsed: Option<Rehearsal>,
    options: &'a Options,
    number: u64,
    hands: Hands,
    watch: Watch,
    gauge: Gauge,
    canaries: Canaries,
    /// How late this machine is, while the canaries run.
    late: Option<Probe>,
    late_ms: u64,
    ledger: fs::File,
    timeline: Vec<Happened>,
    deviations: Vec<String>,
    /// Unix milliseconds of the first step.
    steps_at_ms: u64,
    /// Notes that the meta shard has not got yet.
    notes: Vec<String>,
    /// A note on its way there.
    beating: Option<Beating>,
    /// A look at the cluster on its way.
    looking: Option<tokio::task::JoinHandle<Option<Map>>>,
    looked: Looked,
    most: BTreeMap<String, f64>,
    moves: std::collections::BTreeSet<(u32, u64, u64)>,
    healing: Healing,
    /// Answers of nodes that the plan leaves alone, and how many came too late.
    asked: (u64, u64),
}

/// Unix milliseconds.
pub fn now_ms() -> u64 {
    now_us() / 1_000
}

/// Carries a drill out, and gives what was seen of it.
///
/// # Errors
/// Usage, when it may not begin; anything else when it cannot go on, with all undone.
pub async fn run(
    client: &Client,
    planned: &Planned,
    fit: &Fit,
    statuses: &[&GetStatusResponse],
    options: &Options,
) -> anyhow::Result<Paper> {
    let new = !options.dir.exists();
    let earlier = prepare(planned, fit, options)?;
    let number = match resume::claim(client, planned, options.resume).await {
        Ok(number) => number,
        Err(why) => {
            if new {
                forget(&options.dir);
            }
            return Err(why);
        }
    };
    let noted = match options.resume {
        true => sweep::noted_doors(client, &planned.plan.id).await?,
        false => BTreeMap::new(),
    };
    let hands = Hands::new(&planned.plan, client.clone(), statuses, noted, options)?;
    let mut run = Run::new(client, (planned, number), fit, statuses, hands, options)?;
    run.happened(Moment::Begin, "the canaries begin".to_owned());
    let mut stop = Stop::listen().context("cannot listen for signals")?;
    let ended = tokio::select! {
        ended = run.play() => ended,
        () = stop.asked() => Err("interrupted at its controller".to_owned()),
    };
    run.finish(ended, earlier).await
}

/// Writes what is known before into the drill's folder; gives the ledger of the run that is taken over.
fn prepare(planned: &Planned, fit: &Fit, options: &Options) -> anyhow::Result<Vec<Call>> {
    let dir = &options.dir;
    let folder = |error| anyhow!(crate::exit::Usage(format!("{}: {error}", dir.display())));
    fs::create_dir_all(dir).map_err(folder)?;
    fs::write(dir.join("plan.toml"), &planned.text).map_err(folder)?;
    fs::write(
        dir.join("preflight.json"),
        serde_json::to_string_pretty(fit)? + "\n",
    )?;
    let earlier = ledger::read(dir);
    if !options.resume && !earlier.is_empty() {
        return Err(anyhow!(crate::exit::Usage(format!(
            "{} has the ledger of another run: name another folder, or --resume",
            dir.display()
        ))));
    }
    Ok(earlier)
}

impl<'a> Run<'a> {
    /// With the canaries running, and nothing begun.
    fn new(
        client: &Client,
        (planned, number): (&'a Planned, u64),
        fit: &'a Fit,
        statuses: &[&GetStatusResponse],
        hands: Hands,
        options: &'a Options,
    ) -> anyhow::Result<Run<'a>> {
        let plan = &planned.plan;
        let places = canary::places(plan, statuses, options.kits.clone());
        Ok(Run {
            client: client.clone(),
            plan,
            fit,
            rehearsed: after::rehearsal(&options.dir),
            options,
            number,
            hands,
            watch: Watch::new(fit.margin, plan.caps.margin),
            gauge: Gauge::default(),
            canaries: Canaries::start(&format!("{}-{number}", plan.id), &places, client)?,
            late: Some(Probe::start()),
            late_ms: 0,
            ledger: ledger::open(&options.dir)?,
            timeline: Vec::new(),
            deviations: Vec::new(),
            steps_at_ms: 0,
            notes: sweep::doors(plan, statuses),
            beating: None,
            looking: None,
            looked: Looked::default(),
            most: BTreeMap::new(),
            moves: std::collections::BTreeSet::new(),
            healing: Healing::default(),
            asked: (0, 0),
        })
    }
}

impl Run<'_> {
    fn happened(&mut self, moment: Moment, text: String) {
        self.say(&text);
        self.notes.push(text.clone());
        self.timeline.push(Happened {
            at_ms: now_ms(),
            moment,
            text,
        });
    }

    fn say(&self, text: &str) {
        if !self.options.quiet {
            eprintln!("{} {text}", crate::cmd::outage::when::clock(now_ms()));
        }
    }

    /// Plays all; why it ended early, if it did.
    async fn play(&mut self) -> Result<(), String> {
        self.warm().await?;
        let mut done = vec![false; self.plan.steps.len()];
        match self.options.resume {
            true => self.take_over(&mut done).await?,
            false => {
                let begins = now_ms() + self.plan.before_ms;
                self.steps_at_ms = begins;
                self.happened(Moment::Begin, format!("{STEPS_BEGIN}{begins}"));
            }
        }
        let end_ms = self.steps_at_ms + check::steps_end_ms(self.plan) + self.plan.after_ms;
        let (mut renewed, mut looked) = (Instant::now(), Instant::now() - CLUSTER_CHECK_EVERY);
        self.beat().await?;
        loop {
            self.step(&mut done).await?;
            self.gauges()?;
            if looked.elapsed() >= CLUSTER_CHECK_EVERY {
                looked = Instant::now();
                self.look().await?;
            }
            if renewed.elapsed() >= RENEW {
                renewed = Instant::now();
                self.renew().await?;
                self.beat().await?;
            } else if !self.notes.is_empty() {
                self.beat().await?;
            }
            if now_ms() >= end_ms && !self.hands.busy() {
                return Ok(());
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn warm(&mut self) -> Result<(), String> {
        let began = Instant::now();
        while let Some(cold) = self.canaries.cold() {
            self.gauge
                .look(&self.canaries, u64::MAX)
                .iter()
                .try_for_each(|call| self.write(call))?;
            if began.elapsed() > WARM_LIMIT {
                return Err(format!("{cold} is not served before anything was done"));
            }
            if began.elapsed() > Duration::from_secs(1) {
                self.beat().await?;
            }
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }

    /// Begins and ends steps whose time has come.
    async fn step(&mut self, done: &mut [bool]) -> Result<(), String> {
        let now = now_ms().saturating_sub(self.steps_at_ms);
        if now_ms() < self.steps_at_ms {
            return Ok(());
        }
        let plan = self.plan;
        for (at, step) in plan.steps.iter().enumerate() {
            let ends = step.at_ms + step.for_ms.unwrap_or(0);
            if !done[at] && now >= step.at_ms {
                done[at] = true;
                self.healing.hurt();
                self.watch.spare(&step.nodes.iter().cloned().collect());
                let what = format!("{} begins on {}", step.action.name(), step.nodes.join(", "));
                self.happened(Moment::Inject, what);
                let begun = self.hands.begin(at, step).await;
                begun.map_err(|why| format!("step {} cannot be done: {why:#}", at + 1))?;
            } else if done[at] && now >= ends && self.hands.is_on(at) {
                self.watch.spare(&step.nodes.iter().cloned().collect());
                if let Err(why) = self.hands.end(at).await {
                    self.deviations.push(format!("step {}: {why:#}", at + 1));
                }
                let what = format!("{} ends on {}", step.action.name(), step.nodes.join(", "));
                self.happened(Moment::Heal, what);
                if !self.hands.busy() {
                    self.healing.healed();
                }
            }
        }
        Ok(())
    }

    /// Takes in what the canaries saw, and holds it against the caps.
    fn gauges(&mut self) -> Result<(), String> {
        let from_us = self.steps_at_ms.saturating_mul(1_000);
        let new = self.gauge.look(&self.canaries, from_us);
        new.iter().try_for_each(|call| self.write(call))?;
        if let Some(why) = self.canaries.ended() {
            return Err(why);
        }
        self.gauge
            .broken(&self.plan.caps)
            .map_or(Ok(()), |why| Err(format!("a cap is broken: {why}")))
    }

    fn write(&self, call: &Call) -> Result<(), String> {
        let line = serde_json::to_string(call).map_err(|error| error.to_string())?;
        let cannot = |error| format!("the ledger cannot be written: {error}");
        writeln!(&self.ledger, "{line}").map_err(cannot)
    }

    /// Judges the last look at the cluster once it is there, and begins the next one. Nothing waits for
    /// nodes that do not answer.
    async fn look(&mut self) -> Result<(), String> {
        self.watch.spare(&self.hands.touched());
        if let Some(looking) = &self.looking
            && !looking.is_finished()
        {
            return Ok(());
        }
        if let Some(looking) = self.looking.take() {
            let map = looking.await.ok().flatten();
            self.looked = self.watch.judge(map.as_ref(), &self.hands.away());
            let (answered, late) = self.looked.asked;
            self.asked = (self.asked.0 + answered, self.asked.1 + late);
            if self.looked.led {
                self.healing.led();
            }
        }
        self.looking = Some(tokio::spawn(watch::ask(self.client.clone())));
        for (dc, percent) in &self.looked.disk_pct {
            let most = self.most.entry(dc.clone()).or_insert(0.0);
            *most = most.max(*percent);
        }
        self.moves.extend(self.looked.moves.iter().copied());
        tell::progress(
            self.options.quiet,
            &self.gauge,
            self.plan,
            self.looked.margin,
            self.steps_at_ms,
        );
        self.looked.why.clone().map_or(Ok(()), Err)
    }

    async fn renew(&mut self) -> Result<(), String> {
        let gone = self.hands.renew().await;
        // A fault whose time is over ends a moment before it is taken out.
        let now = now_ms().saturating_sub(self.steps_at_ms);
        let early = self.plan.steps.iter().enumerate().filter(|(at, step)| {
            let ends = step.at_ms + step.for_ms.unwrap_or(0);
            self.hands.is_on(*at) && now + 500 < ends && step.nodes.iter().any(|n| gone.contains(n))
        });
        match early.count() {
            0 => Ok(()),
            _ => Err(format!(
                "the faults on {} ended before their time",
                gone.join(", ")
            )),
        }
    }

    /// Undoes all, waits until the cluster is whole, and makes the paper.
    async fn finish(
        mut self,
        ended: Result<(), String>,
        earlier: Vec<Call>,
    ) -> anyhow::Result<Paper> {
        let mut aborted = ended.err();
        let undone = Instant::now();
        let hurt = self.hands.busy();
        let left = self.hands.undo().await;
        if hurt {
            self.healing.healed();
        }
        if let Some(why) = &mut aborted
            && let Some(ended) = self.ended_by_others().await
        {
            *why = ended;
        }
        if let Some(why) = &aborted {
            let took = undone.elapsed().as_millis();
            self.happened(
                Moment::Abort,
                format!("aborted: {why}; undone in {took} ms"),
            );
        }
        self.deviations.extend(left);
        if aborted.is_some() {
            tokio::time::sleep(AFTER_ABORT).await;
        }
        self.happened(Moment::End, "the canaries end".to_owned());
        self.gauge
            .look(&self.canaries, 0)
            .iter()
            .try_for_each(|c| self.write(c))
            .map_err(|e| anyhow!(e))?;
        after::make(self, aborted, earlier).await
    }
}

/// How a drill ended, as the wire has it.
pub fn wire_end(end: End) -> drill::End {
    match end {
        End::Passed => drill::End::Passed,
        End::Missed => drill::End::Missed,
        End::Broken => drill::End::Broken,
        End::Aborted => drill::End::Aborted,
        End::Inconclusive => drill::End::Inconclusive,
    }
}

/// Takes away the folder of a drill that may not begin: nothing was done, and nothing is left of it.
fn forget(dir: &Path) {
    for file in ["plan.toml", "preflight.json"] {
        // What cannot be removed stays, and does no harm.
        let _ = fs::remove_file(dir.join(file));
    }
    let _ = fs::remove_dir(dir);
}

/// Writes a document of a drill's folder.
///
/// # Errors
/// When it cannot be written.
pub fn save(dir: &Path, file: &str, text: &str) -> anyhow::Result<()> {
    let path = dir.join(file);
    fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
}

/// A plan for tests.
#[cfg(test)]
pub fn tests_plan() -> DrillPlan {
    DrillPlan {
        format: server::drill::plan::FORMAT,
        id: "d".into(),
        scenario: "dc-silent".into(),
        about: String::new(),
        hypothesis: String::new(),
        target: String::new(),
        cluster_id: "c".into(),
        map_epoch: 1,
        made_ms: 1,
        before_ms: 1,
        after_ms: 1,
        caps: server::drill::plan::Caps::default(),
        goals: server::drill::plan::Goals::default(),
        steps: Vec::new(),
    }
}
