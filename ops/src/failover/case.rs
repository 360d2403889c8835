//! What is done to a data center while clients are at work.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use firebreak::cluster::{Cluster, START_LIMIT, view};

/// How long a data center stays silent or cut off.
const HOLD: Duration = Duration::from_secs(6);
/// How long clients go on after the last that was done.
const AFTER: Duration = Duration::from_secs(3);
/// How long a node may take to stop as asked.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// One of the drills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// SIGKILL of a data center's nodes: the kernel resets their connections.
    Kill,
    /// SIGSTOP of a data center's nodes: silence, and connections that stay open. Then SIGCONT.
    Stop,
    /// Nothing that a data center sends arrives in the others, which it hears.
    CutSends,
    /// A data center hears nothing of the others, which hear it.
    CutHears,
    /// All nodes, one after the other: SIGTERM, and started again.
    Rolling,
    /// `firebreak dc drain` of a data center, and `undrain`.
    Drain,
    /// A data center that was killed comes back.
    Return,
}

/// What all cases need to know.
pub struct Victim {
    /// The data center.
    pub dc: String,
    /// Its nodes' positions.
    pub nodes: Vec<usize>,
}

impl Case {
    /// All, in the order in which they are played.
    pub const ALL: [Case; 7] = [
        Case::Kill,
        Case::Return,
        Case::Stop,
        Case::CutSends,
        Case::CutHears,
        Case::Rolling,
        Case::Drain,
    ];

    /// As in the report.
    pub fn name(self) -> &'static str {
        match self {
            Case::Kill => "sigkill-dc",
            Case::Stop => "sigstop-dc",
            Case::CutSends => "cut-sends",
            Case::CutHears => "cut-hears",
            Case::Rolling => "rolling-restart",
            Case::Drain => "drain-dc",
            Case::Return => "return",
        }
    }

    /// The longest gap that a client of the judged kind may see, ms.
    pub fn goal_ms(self) -> Option<u64> {
        match self {
            Case::Kill => Some(500),
            Case::Stop => Some(1_500),
            Case::Rolling | Case::Drain => Some(150),
            Case::CutSends | Case::CutHears | Case::Return => None,
        }
    }

    /// Whether nodes outside of the victim's data center live through it.
    pub fn spares_others(self) -> bool {
        self != Case::Rolling
    }

    /// Why it cannot be played with this `firebreak`, if it cannot.
    ///
    /// # Errors
    /// When the command cannot be run at all.
    pub fn absent(self, cluster: &Cluster) -> anyhow::Result<Option<String>> {
        if self != Case::Drain {
            return Ok(None);
        }
        let help = cluster.run(&["dc", "drain", "--help"])?;
        let missing = "this firebreak has no command `dc drain`".to_owned();
        Ok((!help.status.success()).then_some(missing))
    }

    /// What must have happened before clients begin.
    ///
    /// # Errors
    /// When a node does not do as told.
    pub async fn prepare(self, cluster: &mut Cluster, victim: &Victim) -> anyhow::Result<()> {
        if self == Case::Return {
            cluster.kill(&victim.nodes)?;
            led(cluster).await?;
        }
        Ok(())
    }

    /// Plays it; clients are at work before, meanwhile and after.
    ///
    /// # Errors
    /// When a node does not do as told.
    pub async fn play(self, cluster: &mut Cluster, victim: &Victim) -> anyhow::Result<()> {
        match self {
            Case::Kill => {
                cluster.kill(&victim.nodes)?;
                led(cluster).await?;
            }
            Case::Stop => {
                cluster.signal(&victim.nodes, libc::SIGSTOP)?;
                tokio::time::sleep(HOLD).await;
                cluster.signal(&victim.nodes, libc::SIGCONT)?;
            }
            Case::CutSends | Case::CutHears => {
                cut(cluster, &victim.dc, self)?;
                tokio::time::sleep(HOLD).await;
                mend(cluster)?;
            }
            Case::Rolling => {
                for node in 0..cluster.nodes().len() {
                    tokio::task::block_in_place(|| cluster.terminate(node, STOP_LIMIT))?;
                    cluster.start_node(node)?;
                    cluster.wait_ready(START_LIMIT).await?;
                }
            }
            Case::Drain => {
                dc_command(cluster, "drain", victim).await?;
                tokio::time::sleep(AFTER).await;
                dc_command(cluster, "undrain", victim).await?;
            }
            Case::Return => {
                for &node in &victim.nodes {
                    cluster.start_node(node)?;
                }
                cluster.wait_ready(START_LIMIT).await?;
            }
        }
        tokio::time::sleep(AFTER).await;
        Ok(())
    }

    /// Brings everything back, once clients have ended.
    ///
    /// # Errors
    /// When that does not succeed.
    pub async fn heal(self, cluster: &mut Cluster, victim: &Victim) -> anyhow::Result<()> {
        for &node in &victim.nodes {
            cluster.start_node(node)?;
        }
        cluster.wait_ready(START_LIMIT).await?;
        cluster.wait_replicated(START_LIMIT).await.map(drop)
    }
}

async fn led(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster
        .wait_for(START_LIMIT, "every shard to be led again", view::all_led)
        .await
        .map(drop)
}

/// Cuts every way between the victim and the others in one direction. Each end is told its part: a
/// connection takes both ways, so neither can open one.
fn cut(cluster: &Cluster, victim: &str, case: Case) -> anyhow::Result<()> {
    let plan = cluster.plan();
    let (at_victim, at_others) = match case == Case::CutHears {
        true => ("from", "to"),
        false => ("to", "from"),
    };
    let others = plan.places.iter().map(|(_, dc)| dc.as_str());
    let mut lines = String::new();
    for other in others.filter(|dc| *dc != victim) {
        lines += &format!("{at_victim} {}\n", plan.host(other));
        let line = format!("{at_others} {}\n", plan.host(victim));
        write(cluster, other, &line)?;
    }
    write(cluster, victim, &lines)
}

fn mend(cluster: &Cluster) -> anyhow::Result<()> {
    let places = &cluster.plan().places;
    places.iter().try_for_each(|(_, dc)| write(cluster, dc, ""))
}

/// Written beside and renamed, so that nobody reads half of it.
fn write(cluster: &Cluster, dc: &str, lines: &str) -> anyhow::Result<()> {
    let file = cluster.plan().cuts_file(dc);
    let new = file.with_extension("new");
    fs::write(&new, lines)?;
    fs::rename(&new, &file).with_context(|| format!("cannot write {}", file.display()))
}

/// Runs `firebreak dc VERB` through a node that is not concerned.
async fn dc_command(cluster: &Cluster, verb: &str, victim: &Victim) -> anyhow::Result<()> {
    let targets: Vec<&str> = cluster
        .nodes()
        .iter()
        .filter(|node| node.dc != victim.dc)
        .map(|node| node.address.as_str())
        .collect();
    let targets = targets.join(",");
    let began = Instant::now();
    tokio::task::block_in_place(|| {
        cluster.run_ok(&["dc", verb, &victim.dc, "--target", &targets])
    })?;
    eprintln!(
        "    dc {verb} {} took {:.1} s",
        victim.dc,
        began.elapsed().as_secs_f64()
    );
    Ok(())
}
