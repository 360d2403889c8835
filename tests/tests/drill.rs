//! Drills on real nodes: `firebreak drill`. Everything waits for what nodes and the command say; the only
//! times that are expectations are those that a drill promises: undone within 10 s, gone within 60 s.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the processes it starts and waits for run on the real clock"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use firebreak::cluster::Cluster;
use firebreak_tests::{LIMIT, Place, binary, client, cluster};
use serde_json::Value;

/// The faults of a controller that is gone have ended after this.
const GONE: Duration = Duration::from_secs(60);
/// An abort has undone everything after this.
const UNDONE: Duration = Duration::from_secs(10);
/// Between two looks at a drill.
const DRILL_CHECK_EVERY: Duration = Duration::from_millis(100);

fn command(cluster: &Cluster, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("drill").args(args);
    command.env("FIREBREAK_TARGET", cluster.addresses().join(","));
    command
}

fn run(cluster: &Cluster, args: &[&str]) -> Output {
    command(cluster, args).output().unwrap()
}

fn text(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[track_caller]
fn ends(cluster: &Cluster, args: &[&str], code: i32, says: &str) -> String {
    let output = run(cluster, args);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    assert!(text.contains(says), "{args:?}: {text}");
    text
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(output)))
}

/// A plan that two operators have approved: its file and its name.
fn approved(cluster: &Cluster, place: &Path, scenario: &str, more: &[&str]) -> (PathBuf, String) {
    let file = place.join(format!("{scenario}.toml"));
    let plan = planned(cluster, &file, scenario, more);
    for who in ["kim", "lee"] {
        ends(
            cluster,
            &["approve", file.to_str().unwrap(), "--as", who],
            0,
            who,
        );
    }
    (file, plan["plan"]["id"].as_str().unwrap().to_owned())
}

fn planned(cluster: &Cluster, file: &Path, scenario: &str, more: &[&str]) -> Value {
    let file = file.to_str().unwrap();
    let usual = [
        "plan", scenario, "--target", "dc=seoul", "--before", "2s", "--after", "3s", "--goal",
        "gap=30s", "-o", file, "--json",
    ];
    let made = run(cluster, &[&usual[..], more].concat());
    assert_eq!(made.status.code(), Some(0), "{}", text(&made));
    json(&made)
}

/// The command at work, killed when it is not waited for.
struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Controller {
    fn start(cluster: &Cluster, file: &Path, dir: &Path) -> Controller {
        Controller::run(cluster, file.to_str().unwrap(), dir, &[])
    }

    fn run(cluster: &Cluster, plan: &str, dir: &Path, more: &[&str]) -> Controller {
        let usual = ["run", plan, "--dir", dir.to_str().unwrap()];
        let mut command = command(cluster, &[&usual[..], more].concat());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Controller(command.spawn().unwrap())
    }

    fn signal(&self, signal: libc::c_int) {
        firebreak::cluster::process::send_signal(self.0.id(), signal).unwrap();
    }

    /// Starts the nodes that it wants started, until it ends.
    fn ends_starting(mut self, cluster: &mut Cluster, wanted: &Path) -> ExitStatus {
        loop {
            cluster.start_wanted(wanted).unwrap();
            if let Some(status) = self.0.try_wait().unwrap() {
                cluster.start_wanted(wanted).unwrap();
                return status;
            }
            std::thread::sleep(DRILL_CHECK_EVERY);
        }
    }

    fn ends(mut self, code: i32, dir: &Path) -> Value {
        let status = self.0.wait().unwrap();
        let paper = std::fs::read_to_string(dir.join("paper.json")).unwrap_or_default();
        assert_eq!(status.code(), Some(code), "{paper}");
        serde_json::from_str(&paper).unwrap()
    }
}

fn shown(cluster: &Cluster, id: &str) -> Value {
    json(&run(cluster, &["show", id, "--json"]))
}

/// Waits until a note of the drill says something.
fn noted(cluster: &Cluster, id: &str, says: &str) {
    let until = Instant::now() + LIMIT;
    loop {
        let drill = shown(cluster, id);
        if drill["notes"].to_string().contains(says) {
            return;
        }
        assert!(Instant::now() < until, "{says}: {drill:#}");
        std::thread::sleep(DRILL_CHECK_EVERY);
    }
}

/// Waits until no node has a fault on.
async fn all_clear(cluster: &Cluster, within: Duration) {
    let client = client(cluster);
    let until = Instant::now() + within;
    loop {
        let reports = client.status_all(Duration::from_secs(1)).await.unwrap();
        let clear = |report: &client::NodeReport| {
            report
                .status
                .as_ref()
                .is_ok_and(|status| status.faults.is_empty())
        };
        if reports.iter().all(clear) {
            return;
        }
        assert!(Instant::now() < until, "{reports:?}");
        tokio::time::sleep(DRILL_CHECK_EVERY).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_is_planned_approved_run_and_judged() {
    let (place, cluster) = cluster(1).await;
    let file = place.path().join("dc-silent.toml");
    let plan = planned(
        &cluster,
        &file,
        "dc-silent",
        &["--for", "4s", "--cap", "failed=0"],
    );
    let id = plan["plan"]["id"].as_str().unwrap();
    let named = file.to_str().unwrap();
    ends(&cluster, &["preflight", named], 0, "the cluster is fit");
    ends(&cluster, &["run", named], 2, "no drill");
    ends(&cluster, &["approve", named, "--as", "kim"], 0, "1 of 2");
    ends(
        &cluster,
        &["approve", named, "--as", "kim"],
        2,
        "another operator's",
    );
    ends(&cluster, &["run", named], 2, "needs 2 approvals and has 1");
    ends(&cluster, &["approve", id, "--as", "lee"], 0, "2 of 2");
    let dir = place.path().join("drill");
    let ran = run(
        &cluster,
        &["run", named, "--dir", dir.to_str().unwrap(), "--json"],
    );
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran));
    let paper = json(&ran);
    assert_eq!(paper["end"], "passed");
    for count in ["failed", "lost", "duplicated", "reordered", "stale"] {
        assert_eq!(paper["measured"][count], 0, "{paper:#}");
    }
    let moments: Vec<&str> = paper["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["moment"].as_str().unwrap())
        .collect();
    for moment in [
        "inject",
        "detect",
        "first-leader",
        "last-leader",
        "heal",
        "fully-replicated",
    ] {
        assert!(moments.contains(&moment), "{moment}: {paper:#}");
    }
    let oracles = paper["oracles"].as_array().unwrap();
    for promise in ["D", "O", "E", "L", "S", "G", "U", "H", "P", "A"] {
        let told = oracles.iter().any(|one| one["promise"] == promise);
        assert!(told, "{promise}: {oracles:#?}");
    }
    assert!(
        oracles.iter().all(|one| one["held"] == true),
        "{oracles:#?}"
    );
    for file in [
        "plan.toml",
        "preflight.json",
        "ledger.jsonl",
        "night.json",
        "paper.json",
    ] {
        assert!(dir.join(file).is_file(), "{file}");
    }
    all_clear(&cluster, LIMIT).await;
    let held = shown(&cluster, id);
    assert_eq!(
        (held["state"].as_str(), &held["summary"]["failed"]),
        (Some("passed"), &0.into())
    );
    ends(&cluster, &["run", named, "--dir", "again"], 2, "has ended");
    ends(&cluster, &["status"], 0, "no drill runs");
    vouched(&cluster, &dir, id);
}

/// The certificate of a drill, the cluster's key, and the promises that it showed.
fn vouched(cluster: &Cluster, dir: &Path, id: &str) {
    let certificate = dir.join("certificate.json");
    let (file, folder) = (certificate.to_str().unwrap(), dir.to_str().unwrap());
    let key = text(&run(cluster, &["key"]));
    let key = key.split_whitespace().next().unwrap();
    let whole = ["verify", file, "--dir", folder, "--key", key];
    ends(cluster, &whole, 0, id);
    let other = "00".repeat(32);
    ends(
        cluster,
        &["verify", file, "--key", &other],
        2,
        "another key",
    );
    let other_byte = dir.join("other-byte.json");
    let signed = std::fs::read_to_string(&certificate).unwrap();
    std::fs::write(&other_byte, signed.replacen("seoul", "seouL", 1)).unwrap();
    let other_byte = other_byte.to_str().unwrap();
    ends(
        cluster,
        &["verify", other_byte, "--key", key],
        2,
        "was changed",
    );
    let ledger = dir.join("ledger.jsonl");
    let held = std::fs::read_to_string(&ledger).unwrap();
    std::fs::write(&ledger, held.replacen("seoul", "seouL", 1)).unwrap();
    ends(cluster, &whole, 2, "ledger.jsonl was changed");
    let paper = dir.join("paper.json");
    let again = dir.join("again.json");
    let (paper, again) = (paper.to_str().unwrap(), again.to_str().unwrap());
    let certify = ["certify", "--paper", paper, "--out", again];
    ends(cluster, &certify, 0, "signed by");
    let mut promises = Command::new(binary());
    promises.args(["promises", "--json"]);
    promises.env("FIREBREAK_TARGET", cluster.addresses().join(","));
    // All of them were shown by it.
    let output = promises.output().unwrap();
    let told = text(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains(id), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_a_dead_controller_stopped_go_on_by_themselves() {
    let (place, cluster) = cluster(1).await;
    let real = ["--real", "--for", "5m"];
    let (file, id) = approved(&cluster, place.path(), "dc-stands-still", &real);
    let dir = place.path().join("drill");
    let controller = Controller::start(&cluster, &file, &dir);
    noted(&cluster, &id, "sigstop begins");
    drop(controller);
    all_clear(&cluster, GONE).await;
    let until = Instant::now() + LIMIT;
    while shown(&cluster, &id)["state"] != "inconclusive" {
        assert!(Instant::now() < until, "{:#}", shown(&cluster, &id));
        std::thread::sleep(DRILL_CHECK_EVERY);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_center_is_killed_for_real_and_started_by_whoever_starts_nodes() {
    let (place, mut cluster) = cluster(1).await;
    let (file, id) = approved(
        &cluster,
        place.path(),
        "dc-crash",
        &["--real", "--for", "3s"],
    );
    let dir = place.path().join("drill");
    let wanted = place.path().join("wanted");
    std::fs::create_dir(&wanted).unwrap();
    let with = Cluster::start_with(&wanted);
    let before = cluster.pids();
    let file = file.to_str().unwrap();
    let controller = Controller::run(&cluster, file, &dir, &["--start-with", &with]);
    let status = controller.ends_starting(&mut cluster, &wanted);
    let paper = std::fs::read_to_string(dir.join("paper.json")).unwrap();
    assert_eq!(status.code(), Some(0), "{paper}");
    assert_ne!(before, cluster.pids(), "it was killed");
    assert_eq!(shown(&cluster, &id)["state"], "passed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_a_drill_and_is_taken_back_when_it_is_interrupted() {
    let (place, cluster) = cluster(1).await;
    let (file, id) = approved(&cluster, place.path(), "drain-dc", &["--for", "5m"]);
    let dir = place.path().join("drill");
    let controller = Controller::start(&cluster, &file, &dir);
    noted(&cluster, &id, "drain begins");
    let drained = |statuses: &[client::v1::GetStatusResponse]| {
        let of = |status: &client::v1::GetStatusResponse| status.nodes.iter().any(|n| n.draining);
        statuses.iter().any(of)
    };
    let until = Instant::now() + LIMIT;
    while !drained(&cluster.statuses().await) {
        assert!(Instant::now() < until, "nothing is drained");
        tokio::time::sleep(DRILL_CHECK_EVERY).await;
    }
    controller.signal(libc::SIGINT);
    let until = Instant::now() + UNDONE;
    while drained(&cluster.statuses().await) {
        assert!(Instant::now() < until, "it is drained still");
        tokio::time::sleep(DRILL_CHECK_EVERY).await;
    }
    let paper = controller.ends(4, &dir);
    assert!(
        paper["why"].to_string().contains("interrupted"),
        "{paper:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_undoes_everything_within_ten_seconds() {
    let (place, cluster) = cluster(1).await;
    let (file, id) = approved(&cluster, place.path(), "dc-silent", &["--for", "5m"]);
    let dir = place.path().join("drill");
    let controller = Controller::start(&cluster, &file, &dir);
    noted(&cluster, &id, "silence begins");
    controller.signal(libc::SIGINT);
    all_clear(&cluster, UNDONE).await;
    let paper = controller.ends(4, &dir);
    assert!(
        paper["why"].to_string().contains("interrupted"),
        "{paper:#}"
    );
    assert_eq!(shown(&cluster, &id)["state"], "aborted");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_controller_takes_over_and_ends_what_the_first_began() {
    taken_over("dc-silent", "silence", &["--for", "30s"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_controller_takes_over_processes_that_the_first_stopped() {
    taken_over("dc-stands-still", "sigstop", &["--real", "--for", "30s"]).await;
}

async fn taken_over(scenario: &str, action: &str, more: &[&str]) {
    let (place, cluster) = cluster(1).await;
    let (file, id) = approved(&cluster, place.path(), scenario, more);
    let dir = place.path().join("drill");
    let controller = Controller::start(&cluster, &file, &dir);
    noted(&cluster, &id, &format!("{action} begins"));
    let survivor = &cluster.nodes()[2].address;
    let resume = ["--resume", "--target", survivor];
    let (folder, other) = (dir.to_str().unwrap(), place.path().join("other"));
    let early = [&["run", &id, "--dir", other.to_str().unwrap()], &resume[..]].concat();
    ends(&cluster, &early, 2, "was heard");
    drop(controller);
    let again = [&["run", &id, "--dir", folder], &resume[..]].concat();
    let until = Instant::now() + LIMIT;
    let ended = loop {
        let output = run(&cluster, &again);
        if output.status.code() != Some(2) {
            break output;
        }
        assert!(Instant::now() < until, "{}", text(&output));
        std::thread::sleep(DRILL_CHECK_EVERY);
    };
    assert_eq!(ended.status.code(), Some(5), "{}", text(&ended));
    let paper = std::fs::read_to_string(dir.join("paper.json")).unwrap();
    assert!(paper.contains("took over"), "{paper}");
    all_clear(&cluster, UNDONE).await;
    let held = shown(&cluster, &id);
    assert_eq!(held["state"], "inconclusive", "{held:#}");
    assert!(
        held["notes"]
            .to_string()
            .contains(&format!("{action} ends")),
        "{held:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_and_approved_for_good_is_run_by_a_timer() {
    let (place, cluster) = cluster(1).await;
    let file = place.path().join("stall.toml");
    planned(&cluster, &file, "fsync-stall", &["--for", "2s"]);
    let add = [
        "schedule",
        "add",
        "weekly",
        file.to_str().unwrap(),
        "--every",
        "weekly",
        "--first",
        "2020-01-01T00:00:00Z",
    ];
    ends(&cluster, &add, 0, "weekly");
    for who in ["kim", "lee"] {
        let approve = ["schedule", "approve", "weekly", "--as", who];
        ends(&cluster, &approve, 0, who);
    }
    let drills = place.path().join("drills");
    let due = ["due", "--dir", drills.to_str().unwrap()];
    ends(&cluster, &due, 0, "PASSED");
    ends(&cluster, &due, 0, "nothing is due");
    let told = text(&run(&cluster, &["list"]));
    assert!(
        told.contains("fsync-stall") && told.contains("passed"),
        "{told}"
    );
}

#[test]
fn the_course_of_drills_goes_from_plan_to_certificate_with_clients_in_other_languages() {
    let place = Place::new();
    let dir = place.path().join("drills");
    let output = Command::new(binary())
        .args(["drill", "all", "--scenario", "dc-crash", "--seeds", "2"])
        .args(["--no-install", "--no-timing", "--dir"])
        .arg(&dir)
        .output()
        .unwrap();
    let said = text(&output);
    let code = output.status.code();
    // Where no client in another language is installed, that is told.
    assert!(code == Some(0) || code == Some(5), "{code:?}: {said}");
    let read = |file: &str| std::fs::read_to_string(dir.join(file)).expect(file);
    let rows: Value = serde_json::from_str(&read("drills.json")).unwrap();
    let row = &rows[0];
    for fault in ["failed_calls", "lost", "duplicated", "reordered", "stale"] {
        assert_eq!(row[fault], 0, "{fault}: {row:#}");
    }
    assert!(row["calls"].as_u64() > Some(500), "{row:#}");
    let clients = row["clients"].as_object().unwrap();
    for rust in ["rust send", "rust stream", "rust read-linearizable"] {
        assert!(clients[rust].as_u64() > Some(0), "{row:#}");
    }
    for language in ["python", "node"] {
        let missing = said.contains(&format!("no clients in {language}"));
        let there = clients.keys().any(|kind| kind.starts_with(language));
        assert_ne!(missing, there, "{language}: {said}");
    }
    for file in [
        "rehearsal.json",
        "report.html",
        "report.xml",
        "regulator.ko.md",
        "certificate.json",
    ] {
        read(&format!("dc-crash-1/{file}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_faults_of_a_controller_that_is_killed_end_by_themselves_and_history_says_so() {
    let (place, cluster) = cluster(1).await;
    let (file, id) = approved(&cluster, place.path(), "dc-silent", &["--for", "5m"]);
    let dir = place.path().join("drill");
    let controller = Controller::start(&cluster, &file, &dir);
    noted(&cluster, &id, "silence begins");
    ends(&cluster, &["status"], 3, "RUNNING");
    drop(controller);
    all_clear(&cluster, GONE).await;
    let until = Instant::now() + LIMIT;
    while shown(&cluster, &id)["state"] != "inconclusive" {
        assert!(Instant::now() < until, "{:#}", shown(&cluster, &id));
        std::thread::sleep(DRILL_CHECK_EVERY);
    }
    assert!(shown(&cluster, &id)["why"].to_string().contains("was lost"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_from_another_node_undoes_everything_within_ten_seconds() {
    let (place, cluster) = cluster(1).await;
    let (file, id) = approved(&cluster, place.path(), "dc-silent", &["--for", "5m"]);
    let dir = place.path().join("drill");
    let controller = Controller::start(&cluster, &file, &dir);
    noted(&cluster, &id, "silence begins");
    let survivor = &cluster.nodes()[2].address;
    let began = Instant::now();
    let args = [
        "abort",
        &id,
        "--as",
        "lee",
        "--why",
        "customers call",
        "--target",
        survivor,
    ];
    ends(&cluster, &args, 0, "ended");
    all_clear(&cluster, UNDONE.saturating_sub(began.elapsed())).await;
    let paper = controller.ends(4, &dir);
    assert_eq!(paper["end"], "aborted");
    assert!(
        paper["why"].to_string().contains("customers call"),
        "{paper:#}"
    );
    assert_eq!(shown(&cluster, &id)["state"], "aborted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_fault_beside_the_drill_ends_it_and_is_named() {
    let (place, mut cluster) = cluster(1).await;
    let (file, id) = approved(
        &cluster,
        place.path(),
        "dc-all-disks-slow",
        &["--for", "5m"],
    );
    let dir = place.path().join("drill");
    let controller = Controller::start(&cluster, &file, &dir);
    noted(&cluster, &id, "slow-sync begins");
    let other = cluster
        .nodes()
        .iter()
        .position(|node| node.dc == "tokyo")
        .unwrap();
    let name = cluster.nodes()[other].name.clone();
    cluster.kill(&[other]).unwrap();
    noted(&cluster, &id, "aborted: a real fault");
    cluster.start_node(other).unwrap();
    let paper = controller.ends(4, &dir);
    assert!(paper["why"].to_string().contains(&name), "{paper:#}");
    all_clear(&cluster, LIMIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_that_is_slower_than_its_goal_says_so_with_its_exit_code() {
    let (place, cluster) = cluster(1).await;
    let file = place.path().join("plan.toml");
    let goal = ["--for", "2s", "--goal", "gap=1ms"];
    planned(&cluster, &file, "dc-silent", &goal);
    let file = file.to_str().unwrap();
    for who in ["kim", "lee"] {
        ends(&cluster, &["approve", file, "--as", who], 0, who);
    }
    let dir = place.path().join("drill");
    let paper = Controller::run(&cluster, file, &dir, &[]).ends(1, &dir);
    assert_eq!(paper["end"], "missed", "{paper:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_that_is_too_tight_aborts_and_the_lever_bars() {
    let (place, cluster) = cluster(1).await;
    let tight = ["--for", "5m", "--cap", "gap=1ms"];
    let (file, id) = approved(&cluster, place.path(), "dc-silent", &tight);
    let dir = place.path().join("drill");
    let paper = Controller::start(&cluster, &file, &dir).ends(4, &dir);
    assert!(
        paper["why"].to_string().contains("the cap is 1 ms"),
        "{paper:#}"
    );
    all_clear(&cluster, LIMIT).await;
    assert_eq!(shown(&cluster, &id)["state"], "aborted");
    let (again, _) = approved(&cluster, place.path(), "fsync-stall", &["--for", "5m"]);
    ends(
        &cluster,
        &["stop-all", "--as", "kim", "--why", "smoke"],
        0,
        "ended",
    );
    ends(&cluster, &["status"], 4, "kim");
    let again = again.to_str().unwrap();
    ends(
        &cluster,
        &["run", again, "--dir", "barred"],
        2,
        "pulled the lever",
    );
    ends(&cluster, &["release", "--as", "kim"], 0, "released");
    ends(&cluster, &["preflight", again], 0, "fit");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_or_may_not_be_is_refused_with_the_reason() {
    let (place, cluster) = cluster(1).await;
    let no = |args: &[&str], says: &str| {
        ends(&cluster, args, 2, says);
    };
    no(
        &["plan", "dc-slient", "--target", "dc=seoul"],
        "there is no scenario",
    );
    no(
        &["plan", "bitflip", "--target", "dc=seoul"],
        "cannot be done to a live cluster",
    );
    no(&["plan", "dc-silent"], "--target dc=NAME");
    no(
        &["plan", "dc-silent", "--target", "dc=mars"],
        "there is no data center",
    );
    no(
        &[
            "plan",
            "dc-silent",
            "--target",
            "dc=seoul",
            "--cap",
            "speed=1",
        ],
        "there are failed=N",
    );
    no(
        &[
            "plan",
            "dc-silent",
            "--target",
            "dc=seoul",
            "--target",
            "dc=busan",
        ],
        "seoul,busan would leave no quorum",
    );
    no(&["plan", "rolling-restart"], "--real");
    no(&["show", "nothing"], "there is no drill");
    no(&["abort", "nothing"], "there is no drill");
    no(&["run", "nothing"], "neither a file nor a drill");
    // The same operator twice.
    let alone = place.path().join("alone.toml");
    planned(&cluster, &alone, "fsync-stall", &["--for", "1s"]);
    let alone = alone.to_str().unwrap();
    ends(&cluster, &["approve", alone, "--as", "kim"], 0, "kim");
    no(&["approve", alone, "--as", "kim"], "another operator");
    // A plan that people have edited: two data centers at once leave no quorum.
    let (file, _) = approved(&cluster, place.path(), "dc-silent", &["--for", "5m"]);
    let text = std::fs::read_to_string(&file).unwrap();
    let both = place.path().join("both.toml");
    let edited = text.replace("[\"seoul-1\"]", "[\"seoul-1\", \"busan-1\"]");
    std::fs::write(&both, edited).unwrap();
    ends(
        &cluster,
        &["preflight", both.to_str().unwrap()],
        1,
        "no quorum",
    );
    no(
        &["run", both.to_str().unwrap(), "--dir", "both"],
        "no quorum",
    );
    no(
        &["approve", both.to_str().unwrap(), "--as", "kim"],
        "with another plan",
    );
    std::fs::write(&both, "format = 9").unwrap();
    no(&["preflight", both.to_str().unwrap()], "both.toml");
    // Two at once.
    let (other, _) = approved(&cluster, place.path(), "fsync-stall", &["--for", "5m"]);
    let dir = place.path().join("first");
    let first = Controller::start(&cluster, &file, &dir);
    let until = Instant::now() + LIMIT;
    while run(&cluster, &["status"]).status.code() != Some(3) {
        assert!(Instant::now() < until, "it does not begin");
        std::thread::sleep(DRILL_CHECK_EVERY);
    }
    no(&["run", other.to_str().unwrap(), "--dir", "second"], "runs");
    ends(&cluster, &["stop-all", "--as", "kim"], 0, "ended");
    first.ends(4, &dir);
    // Blocked.
    ends(&cluster, &["release", "--as", "kim"], 0, "released");
    let (from, to) = ("2020-01-01T00:00:00Z", "2199-01-01T00:00:00Z");
    let block = [
        "schedule",
        "block",
        "sale",
        "--from",
        from,
        "--to",
        to,
        "--why",
        "the great sale",
    ];
    ends(&cluster, &block, 0, "sale");
    no(
        &["run", other.to_str().unwrap(), "--dir", "blocked"],
        "the great sale",
    );
    ends(&cluster, &["schedule", "unblock", "sale"], 0, "sale");
    // What is due and not approved for good does not begin.
    let other = other.to_str().unwrap();
    let add = [
        "schedule", "add", "weekly", other, "--every", "weekly", "--first", from,
    ];
    ends(&cluster, &add, 0, "weekly");
    no(&["due"], "no standing approval");
    ends(
        &cluster,
        &["schedule", "approve", "weekly", "--as", "kim"],
        0,
        "kim",
    );
    no(
        &["schedule", "approve", "weekly", "--as", "kim"],
        "another operator's",
    );
    no(&["due"], "1 of 2");
}
