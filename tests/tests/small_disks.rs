//! Disks that are small, and full: appends are refused before the databases run out of room, reads go
//! on, and whoever is killed starts again, even on a disk without a byte left.
//!
//! Each node has a file system of its own, of 400 MiB: on a loop device, or in memory. Both need to be
//! root; where neither can be mounted the test says so and tests nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on, and its processes run on the real clock"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::{Client, ListOptions, Message};
use firebreak::cluster::{Cluster, ClusterPlan};
use firebreak_tests::{LIMIT, Place, binary, client};
use tokio::time::Instant;

/// Of each disk.
const DISK_MIB: u64 = 400;
/// Of each message.
const BODY_BYTES: usize = 48 * 1024;
/// For the load to fill the disks: hundreds of megabytes, each synced, on a machine that may be busy.
const FILL_MAX: Duration = Duration::from_secs(300);

/// File systems of their own, until dropped.
#[derive(Default)]
struct Disks(Vec<PathBuf>);

fn done(command: &mut Command) -> bool {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

impl Disks {
    /// Mounts one at `at`; how, if that is possible.
    fn mount(&mut self, at: &Path) -> Option<&'static str> {
        std::fs::create_dir_all(at).unwrap();
        let image = at.with_extension("img");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(DISK_MIB << 20).unwrap();
        let made = done(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        if made
            && done(
                Command::new("mount")
                    .args(["-o", "loop"])
                    .arg(&image)
                    .arg(at),
            )
        {
            self.0.push(at.to_owned());
            return Some("a loop device");
        }
        let size = format!("size={DISK_MIB}m");
        let memory = ["-t", "tmpfs", "-o", &size, "tmpfs"];
        if done(Command::new("mount").args(memory).arg(at)) {
            self.0.push(at.to_owned());
            return Some("memory");
        }
        None
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for at in &self.0 {
            // Processes that still hold it let it go when they end.
            done(Command::new("umount").arg("-l").arg(at));
        }
    }
}

fn free(at: &Path) -> u64 {
    let output = Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(at)
        .output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    text.lines().last().unwrap().trim().parse().unwrap()
}

/// Fills a disk to its last byte, as somebody else who writes there would.
fn fill(at: &Path) {
    let mut file = std::fs::File::create(at.join("of-somebody-else")).unwrap();
    let mut piece = vec![1; 1 << 20];
    while !piece.is_empty() {
        match file.write_all(&piece).and_then(|()| file.sync_data()) {
            Ok(()) => {}
            Err(_) => piece.truncate(piece.len() / 2),
        }
    }
}

fn room(n: usize) -> String {
    format!("tenants/test/conversations/full-{n}")
}

fn message(id: &str) -> Message {
    Message::text("ann", "x".repeat(BODY_BYTES)).id(id)
}

/// Appends to a conversation of its own until it is told that the disk is full; how many were taken.
async fn append_until_full(client: Client, n: usize, stop: Arc<AtomicBool>) -> Result<u64, String> {
    let began = Instant::now();
    for taken in 0.. {
        if stop.load(Ordering::Relaxed) || began.elapsed() > FILL_MAX {
            return Err(format!("{taken} were taken and none was refused"));
        }
        let message = message(&format!("m{taken}"));
        match client.append(&room(n), message).await {
            Ok(_) => {}
            Err(error) if error.reason() == Some("DISK_FULL") => return Ok(taken),
            Err(error) => {
                stop.store(true, Ordering::Relaxed);
                return Err(format!("message {taken}: {error}"));
            }
        }
    }
    Ok(0)
}

async fn assert_readable(client: &Client, taken: &[u64]) {
    for (n, taken) in taken.iter().enumerate() {
        let options = ListOptions {
            page_size: 20,
            ..ListOptions::default()
        };
        let read = client.pages(&room(n), options).collect().await.unwrap();
        assert_eq!(read.len() as u64, *taken, "{}", room(n));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "leaders know their voters' room since, but this was not run yet with that: run it, and take this away when it passes"]
async fn small_disks_fill_up_and_everything_but_appends_goes_on() {
    let place = Place::new();
    let mut disks = Disks::default();
    let names = ["seoul-1", "busan-1", "tokyo-1"];
    for name in names {
        let at = place.path().join(format!("disk-of-{name}"));
        let Some(how) = disks.mount(&at) else {
            eprintln!(
                "SKIPPED: no file system can be mounted here (that needs root): NOTHING WAS TESTED"
            );
            return;
        };
        eprintln!("{name}: {DISK_MIB} MiB on {how}");
        std::fs::create_dir(at.join("data")).unwrap();
        std::os::unix::fs::symlink(at.join("data"), place.path().join(name)).unwrap();
    }
    let mut plan = ClusterPlan::three_dcs(place.path(), &binary(), 1);
    // The reserve is the product's.
    plan.settings = String::new();
    let mut cluster = Cluster::start(plan).await.unwrap();
    let client = client(&cluster);

    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..8)
        .map(|n| tokio::spawn(append_until_full(client.clone(), n, stop.clone())))
        .collect();
    let mut taken = Vec::new();
    for sender in senders {
        taken.push(sender.await.unwrap().unwrap());
    }
    cluster.check().unwrap();
    assert!(
        taken.iter().sum::<u64>() * BODY_BYTES as u64 > 100 << 20,
        "{taken:?}"
    );
    assert_readable(&client, &taken).await;
    let told = cluster.statuses().await;
    let told = told.iter().filter_map(|status| status.stats.as_ref());
    assert!(told.clone().any(|stats| stats.disk_reserve_reached));
    assert!(
        told.clone()
            .all(|stats| stats.disk_reserve_bytes > 32 << 20)
    );

    // All of them, at once: what they find on their disks is all that they have.
    cluster.kill(&[0, 1, 2]).unwrap();
    for node in 0..3 {
        cluster.start_node(node).unwrap();
    }
    cluster.wait_ready(LIMIT).await.unwrap();
    assert_readable(&client, &taken).await;
    let again = client.append(&room(0), message("later")).await;
    assert_eq!(again.unwrap_err().reason(), Some("DISK_FULL"));

    // Not a byte left: the ballast makes way.
    let at = place.path().join(format!("disk-of-{}", names[1]));
    let ballast = at.join("data/ballast");
    assert!(ballast.is_file(), "there was room for it at first");
    cluster.kill(&[1]).unwrap();
    fill(&at);
    assert!(free(&at) < 1 << 20);
    cluster.start_node(1).unwrap();
    cluster.wait_ready(LIMIT).await.unwrap();
    assert!(!ballast.exists());
    assert_readable(&client, &taken).await;
    cluster.check().unwrap();
}
