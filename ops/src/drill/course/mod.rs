//! The drills that real processes are held to: `firebreak drill all`, which is `make drill`.
//!
//! ```text
//!  nine `serve`, 30 ms apart ─► for each scenario: `firebreak drill plan`, preflight, rehearse, approve
//!     (made up by their own        twice, run, verify: the commands that an operator gives
//!      transport)              ─► what was seen, from each folder ─► table, JSON
//! ```
//!
//! Nodes that a drill has killed are started by this process, as a service manager would: the drill's
//! controller asks for it by a file of the node's name.

mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use firebreak::cluster::{Cluster, ClusterPlan, START_LIMIT};
use tokio::process::{Child, Command};

use crate::canary::foreign::Language;
use crate::cmd::drill::code;
use crate::demo::fire;
use crate::stop::Stop;
pub use report::Row;

/// Those that are played when nobody says which.
pub const SCENARIOS: [&str; 8] = [
    "dc-silent",
    "dc-crash",
    "dc-stands-still",
    "asymmetric-send",
    "asymmetric-recv",
    "drain-dc",
    "rolling-restart",
    "kakao-2022",
];
/// Of them those that befall all data centers.
const OF_ALL: [&str; 1] = ["rolling-restart"];
/// Round trip between data centers.
const ROUND_TRIP: Duration = Duration::from_millis(30);
/// How long the canaries run before the first step, and after the last.
const CALM: &str = "3s";
/// The goal where waits are not judged: what a call has to live.
const ANY_GAP: &str = "gap=5s";
/// Who approves.
const OPERATORS: [&str; 2] = ["first-operator", "second-operator"];
/// Between two looks at a drill that runs.
const DRILL_CHECK_EVERY: Duration = Duration::from_millis(10);

/// What is played, and how.
pub struct Course {
    /// The simulator's scenarios.
    pub scenarios: Vec<String>,
    /// How often each.
    pub runs: u32,
    /// Seeds of each rehearsal.
    pub seeds: u64,
    /// Where folders go.
    pub dir: PathBuf,
    /// Languages of canaries besides Rust.
    pub languages: Vec<Language>,
    /// Whether waits are judged.
    pub timing: bool,
}

/// Plays all, and gives what came of each.
///
/// # Errors
/// When one cannot be played to its end.
pub async fn play(course: &Course, place: &Path, mut stop: Stop) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let began = Instant::now();
    let mut cluster = tokio::select! {
        cluster = found(place) => cluster?,
        () = stop.asked() => bail!("interrupted; all is stopped"),
    };
    let total = course.scenarios.len() * usize::try_from(course.runs).unwrap_or(1);
    for scenario in &course.scenarios {
        for run in 1..=course.runs {
            let minutes = began.elapsed().as_secs_f64() / 60.0;
            let at = rows.len() + 1;
            eprintln!("▸ {at} of {total}: {scenario}, run {run}, after {minutes:.1} minutes");
            let mut one = One::new(course, &mut cluster, scenario, run, &mut stop)?;
            let row = one
                .play()
                .await
                .with_context(|| format!("{scenario}, run {run}"))?;
            eprintln!("  {}", row.line());
            rows.push(row);
            report::save(&course.dir, &rows)?;
        }
    }
    println!("{}", report::table(&rows));
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let folder = course.dir.display();
    println!(
        "{} drills in {minutes:.1} minutes; their reports are in {folder}",
        rows.len()
    );
    Ok(rows)
}

/// The exit code of all: the worst of them.
pub fn code(rows: &[Row]) -> u8 {
    // A broken promise is worse than a drill that tells nothing, and that than a missed goal.
    let worst = [
        code::BROKEN,
        code::ABORTED,
        code::INCONCLUSIVE,
        code::MISSED,
    ];
    let held = |code: &u8| rows.iter().any(|row| row.code() == *code);
    worst.into_iter().find(held).unwrap_or(0)
}

async fn found(place: &Path) -> anyhow::Result<Cluster> {
    let binary = std::env::current_exe().context("cannot find this program itself")?;
    let plan = ClusterPlan {
        round_trip: Some(ROUND_TRIP),
        racks_per_dc: 3,
        ..ClusterPlan::three_dcs(place, &binary, 3)
    };
    let began = Instant::now();
    let cluster = Cluster::start(plan).await?;
    let node = &cluster.nodes()[0];
    let config = server::Config::load(&node.config)?;
    println!(
        "Nine nodes, {} ms round trip between data centers, all else at its default but for the \
         reserve of a disk that is not theirs alone. {}:\n\n{}\n\
         raft: heartbeat {} ms, election {} to {} ms, read lease {} ms\n",
        ROUND_TRIP.as_millis(),
        node.name,
        fs::read_to_string(&node.config)?,
        config.raft.heartbeat_ms,
        config.raft.election_min_ms,
        config.raft.election_max_ms,
        config.raft.read_lease_ms,
    );
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("✔ every shard is led ({seconds:.1} s)");
    Ok(cluster)
}

/// One drill.
struct One<'a> {
    course: &'a Course,
    cluster: &'a mut Cluster,
    scenario: &'a str,
    stop: &'a mut Stop,
    /// Its folder.
    dir: PathBuf,
    /// Where the controller asks for nodes to be started.
    wanted: PathBuf,
}

impl<'a> One<'a> {
    fn new(
        course: &'a Course,
        cluster: &'a mut Cluster,
        scenario: &'a str,
        run: u32,
        stop: &'a mut Stop,
    ) -> anyhow::Result<One<'a>> {
        let dir = course.dir.join(format!("{scenario}-{run}"));
        if dir.exists() {
            fs::remove_dir_all(&dir)
                .with_context(|| format!("{} cannot be replaced", dir.display()))?;
        }
        let wanted = cluster.plan().dir.join("wanted");
        fs::create_dir_all(&wanted)?;
        fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        Ok(One {
            course,
            cluster,
            scenario,
            stop,
            dir,
            wanted,
        })
    }

    async fn play(&mut self) -> anyhow::Result<Row> {
        let plan = self.dir.join("plan.toml");
        let plan = plan.to_str().context("a folder whose name is no text")?;
        let dir = self
            .dir
            .to_str()
            .context("a folder whose name is no text")?;
        let (plan, dir) = (plan.to_owned(), dir.to_owned());
        self.plan(&plan).await?;
        self.give(&["preflight", &plan], &[0]).await?;
        let seeds = self.course.seeds.to_string();
        // That a goal would be missed, or a promise broken, in the simulator is told, and tried all the same.
        let rehearsed = ["rehearse", &plan, "--seeds", &seeds];
        let rehearsed = self
            .give(&rehearsed, &[0, code::MISSED, code::BROKEN])
            .await?;
        for who in OPERATORS {
            self.give(&["approve", &plan, "--as", who], &[0]).await?;
        }
        let wanted = Cluster::start_with(&self.wanted);
        let mut run = vec!["run", &plan, "--dir", &dir, "--start-with", &wanted];
        let languages: Vec<&str> = self.course.languages.iter().map(|one| one.name()).collect();
        let languages = languages.join(",");
        if !languages.is_empty() {
            run.extend(["--with", &languages]);
        }
        let ran = self.give(&run, &code::RUN).await?;
        let certificate = self.dir.join(server::drill::certificate::FILE);
        let certificate = certificate.to_string_lossy().into_owned();
        self.give(&["verify", &certificate, "--dir", &dir], &[0])
            .await?;
        self.whole().await?;
        Row::of(&self.dir, ran, rehearsed)
    }

    /// Plans it for the data center that leads most.
    async fn plan(&mut self, file: &str) -> anyhow::Result<()> {
        let (dc, _) = fire::choose(self.cluster).await?;
        let target = format!("dc={dc}");
        let mut args = vec!["plan", self.scenario, "--real", "-o", file];
        args.extend(["--before", CALM, "--after", CALM]);
        if !OF_ALL.contains(&self.scenario) {
            args.extend(["--target", &target]);
        }
        if !self.course.timing {
            args.extend(["--goal", ANY_GAP]);
        }
        self.give(&args, &[0]).await.map(drop)
    }

    /// Gives a command, starts the nodes that it asks for meanwhile, and gives its exit code.
    async fn give(&mut self, args: &[&str], may: &[u8]) -> anyhow::Result<u8> {
        let mut command = Command::new(&self.cluster.plan().binary);
        command.arg("drill").args(args);
        command.env("FIREBREAK_TARGET", self.cluster.addresses().join(","));
        // Ctrl-C is for this process, which passes it on: so it comes once.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null());
        let child = command.spawn().context("cannot run this program itself")?;
        let status = self.wait(child).await?;
        let ended = status.code().and_then(|code| u8::try_from(code).ok());
        match ended {
            Some(code) if may.contains(&code) => Ok(code),
            _ => bail!("`firebreak drill {}` ended with {status}", args.join(" ")),
        }
    }

    async fn wait(&mut self, mut child: Child) -> anyhow::Result<std::process::ExitStatus> {
        let mut interrupted = false;
        loop {
            self.cluster.start_wanted(&self.wanted)?;
            tokio::select! {
                () = tokio::time::sleep(DRILL_CHECK_EVERY) => {}
                () = self.stop.asked() => {
                    interrupted = true;
                    if let Some(pid) = child.id() {
                        // Fails only when it has ended.
                        let _ = firebreak::cluster::process::send_signal(pid, libc::SIGINT);
                    }
                }
            }
            if let Some(status) = child.try_wait()? {
                self.cluster.start_wanted(&self.wanted)?;
                match interrupted {
                    true => bail!("interrupted; all is stopped"),
                    false => return Ok(status),
                }
            }
        }
    }

    /// Waits until the next one may begin.
    async fn whole(&mut self) -> anyhow::Result<()> {
        self.cluster.wait_ready(START_LIMIT).await?;
        self.cluster.wait_replicated(START_LIMIT).await.map(drop)
    }
}
