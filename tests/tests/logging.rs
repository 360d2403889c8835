//! What is beside the point must not stop the point: a node whose log lines nobody takes serves and
//! stops as any other, and a command whose output cannot be written says so in one line.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the processes it starts and waits for run on the real clock"
)]

use std::fs::File;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use firebreak::cluster::port::PortLease;
use firebreak::cluster::process::send_signal;
use firebreak_tests::{LIMIT, Place, binary};

/// A cluster of one, not started.
struct One {
    place: Place,
    port: PortLease,
}

impl One {
    fn found(level: &str) -> One {
        let one = One {
            place: Place::new(),
            port: PortLease::take(Ipv4Addr::LOCALHOST).unwrap(),
        };
        let data = one.place.path().join("data");
        let text = format!(
            "name = \"one\"\nlisten = \"{}\"\ndata_dir = \"{}\"\n[locality]\nregion = \"r\"\n\
             dc = \"d\"\n[limits]\ndisk_reserve_percent = 0\n[log]\nlevel = \"{level}\"\n",
            one.address(),
            data.display()
        );
        std::fs::write(one.config(), text).unwrap();
        let config = one.config().display().to_string();
        let args = [
            "init",
            "--config",
            &config,
            "--nodes",
            "1",
            "--replicas",
            "1",
        ];
        let founded = one.command(&args).output().unwrap();
        assert!(founded.status.success(), "{founded:?}");
        one
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.port())
    }

    fn config(&self) -> PathBuf {
        self.place.path().join("node.toml")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(args)
            .env("FIREBREAK_TARGET", self.address())
            .stdin(Stdio::null());
        command
    }

    fn serve(&self, stderr: Stdio) -> Child {
        let config = self.config().display().to_string();
        let mut command = self.command(&["serve", "--config", &config]);
        command.stdout(Stdio::null()).stderr(stderr);
        command.spawn().unwrap()
    }

    /// Waits until the node serves and takes a message.
    fn serves(&self, child: &mut Child) {
        let begun = std::time::Instant::now();
        loop {
            assert!(child.try_wait().unwrap().is_none(), "the node has ended");
            let status = self.command(&["status"]).output().unwrap();
            if status.status.success() {
                break;
            }
            assert!(begun.elapsed() < LIMIT, "{status:?}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let line = self.place.path().join("line.jsonl");
        std::fs::write(
            &line,
            "{\"conversation\":\"c\",\"sender\":\"s\",\"timestamp\":\"2018-05-02T19:38:15Z\",\"text\":\"x\"}\n",
        )
        .unwrap();
        let file = line.display().to_string();
        let imported = self.command(&["import", &file]).output().unwrap();
        assert!(imported.status.success(), "{imported:?}");
    }
}

fn stops(mut child: Child) -> Option<i32> {
    send_signal(child.id(), libc::SIGTERM).unwrap();
    child.wait().unwrap().code()
}

fn full() -> Stdio {
    Stdio::from(File::options().write(true).open("/dev/full").unwrap())
}

#[test]
fn a_node_whose_log_is_full_serves_and_stops_as_any_other() {
    let one = One::found("info");
    let mut child = one.serve(full());
    one.serves(&mut child);
    assert_eq!(stops(child), Some(0));
}

#[test]
fn a_node_whose_logs_reader_has_gone_serves_on_and_stops_as_any_other() {
    let one = One::found("debug");
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut child = one.serve(Stdio::from(OwnedFd::from(writer)));
    let mut first = [0; 1];
    reader.read_exact(&mut first).unwrap();
    drop(reader);
    one.serves(&mut child);
    assert_eq!(stops(child), Some(0));
}

#[test]
fn a_node_whose_logs_reader_stands_still_serves_on_and_stops_as_any_other() {
    let one = One::found("trace");
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = one.serve(Stdio::from(OwnedFd::from(writer)));
    // At this level the pipe's 64 KiB are full long before the node serves.
    one.serves(&mut child);
    assert_eq!(stops(child), Some(0));
    drop(reader);
}

#[test]
fn a_command_whose_output_cannot_be_written_says_so_in_one_line() {
    let one = One::found("info");
    let mut child = one.serve(Stdio::null());
    one.serves(&mut child);
    for verb in [
        &["status"][..],
        &["status", "--json"],
        &["node", "list"],
        &["shard", "list"],
        &["policy", "show"],
        &["read", "c"],
        &["whatif", "--lose", "node=one", "--json"],
    ] {
        let output: Output = one
            .command(verb)
            .stdout(full())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{verb:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{verb:?}: {said}");
        assert!(said.starts_with("error: "), "{verb:?}: {said}");
    }
    assert_eq!(stops(child), Some(0));
}
