//! Both tiers on the same lines: thin ones, long ones, lossy ones, with a data center away for a while.
//! What holds with the whole gRPC stack must hold without it, and the other way round, by the same
//! measure. A test process makes one run only, as in `regressions`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use firebreak_sim::catalogue::{self, Variant};
use firebreak_sim::plan::Tier;
use firebreak_sim::{Outcome, run};

/// One with which nodes keep as much log as the product does.
const SEED: u64 = 5;

/// A load of which a thin line carries four times as much, and a data center that must catch up.
fn check(line: &str, tier: Tier, gap_ms_max: u64) {
    let text = format!(
        r#"
about = "A line, and a data center that is away for a while."

[topology]
nodes = 1
{line}

[workload]
duration = "40s"
rooms = 12
senders = 24
pause = "100ms..200ms"
body = "1 KiB..4 KiB"
tails = 1
movers = 1
deadline = "10s"

[[fault]]
at = "6s"
action = "silence"
dc = "tokyo"
for = "12s"

[expect]
promises = "DOELSUHGP"
gap_max = "{gap_ms_max}ms"
failed_calls_max = 0
recovery_max = "20s"
acked_min = 500
"#
    );
    let file = catalogue::parse(&text, "line.toml").unwrap();
    let outcome = run(&file.plan(SEED, Variant::Ours, tier));
    held(&outcome, line);
}

/// Everything that was expected of a run holds.
fn held(outcome: &Outcome, line: &str) {
    assert_eq!(outcome.stopped, None, "{line}");
    let broken: Vec<_> = outcome
        .promises
        .values()
        .flat_map(|judged| &judged.broken)
        .collect();
    assert!(broken.is_empty(), "{line}: {broken:#?}");
    let missed: Vec<_> = outcome.goals.iter().filter(|goal| !goal.held).collect();
    assert!(missed.is_empty(), "{line}: {missed:#?}");
}

const THIN: &str = r#"bandwidth = "1 MB/s""#;
const LONG: &str = "latency = \"200ms\"\nbandwidth = \"12 MB/s\"";
const LOSSY: &str = "latency = \"50ms\"\nbandwidth = \"4 MB/s\"\nloss = \"1%\"";

#[test]
fn a_thin_line_holds_without_http2() {
    check(THIN, Tier::Direct, 3_000);
}

#[test]
fn a_thin_line_holds_with_it() {
    check(THIN, Tier::Grpc, 3_000);
}

#[test]
fn a_long_line_holds_without_http2() {
    check(LONG, Tier::Direct, 8_000);
}

#[test]
fn a_long_line_holds_with_it() {
    check(LONG, Tier::Grpc, 8_000);
}

#[test]
fn a_lossy_line_holds_without_http2() {
    check(LOSSY, Tier::Direct, 4_000);
}

#[test]
fn a_lossy_line_holds_with_it() {
    check(LOSSY, Tier::Grpc, 4_000);
}

/// A line of so many Mbit/s and ms to the other end and back, a quarter of it in use: a data center is
/// away for half a minute and catches up. It needs no snapshot for that, and what others send meanwhile
/// takes no more than twice what it takes on the calm line.
fn check_catching_up(mbits: u64, round_ms: u64, tier: Tier) {
    const AWAY: (usize, usize) = (10, 40);
    const CATCHES_UP: usize = 12;
    // Of a thin line a quarter, and of a wide one what is enough to tell.
    let bytes_per_s = (mbits * 125_000 / 4).min(250_000);
    let senders = 16;
    let pause_ms = senders * 1_100 * 1_000 / bytes_per_s;
    let (kb_per_s, one_way_us) = (mbits * 125, round_ms * 500);
    let text = format!(
        r#"
about = "A line, and a data center that is away for half a minute."

[topology]
nodes = 1
latency = "{one_way_us}us"
bandwidth = "{kb_per_s} kB/s"

[workload]
duration = "60s"
rooms = 32
zipf = 0
senders = {senders}
pause = "{pause_ms}ms"
body = "700 B..1200 B"
streams = "0%"
tails = 0
movers = 0
deadline = "10s"

[workload.readers]
linearizable = 0
session = 0
bounded = 0
local = 0

[[fault]]
at = "{away}s"
action = "silence"
dc = "tokyo"
for = "30s"

[expect]
promises = "DOELSUHGP"
failed_calls_max = 0
recovery_max = "20s"
rest_max = "60s"
snapshots_max = 0
acked_min = 300
"#,
        away = AWAY.0
    );
    let file = catalogue::parse(&text, "line.toml").unwrap();
    let outcome = run(&file.plan(SEED, Variant::Ours, tier));
    let line = format!("{mbits} Mbit/s, {round_ms} ms");
    held(&outcome, &line);
    let p99 = |from: usize, to: usize| -> Vec<u64> {
        let seconds = outcome.seconds[from..to].iter();
        let mut ms: Vec<u64> = seconds.filter_map(|second| second.p99_ms).collect();
        ms.sort_unstable();
        ms
    };
    let middle = |ms: &[u64]| ms[ms.len() / 2];
    let (calm, busy) = (p99(2, AWAY.0), p99(AWAY.1, AWAY.1 + CATCHES_UP));
    eprintln!("{line} {tier:?}: {calm:?} {busy:?}");
    assert!(
        middle(&busy) <= 2 * middle(&calm),
        "{line}: {calm:?} ms, while one catches up {busy:?} ms"
    );
}

#[test]
fn calls_over_a_mbit_and_a_ms_stay_short_without_http2() {
    check_catching_up(1, 1, Tier::Direct);
}

#[test]
fn calls_over_a_mbit_and_fifty_ms_stay_short_without_http2() {
    check_catching_up(1, 50, Tier::Direct);
}

#[test]
fn calls_over_a_mbit_and_fifty_ms_stay_short_with_it() {
    check_catching_up(1, 50, Tier::Grpc);
}

#[test]
fn calls_over_eight_mbit_and_a_ms_stay_short_without_http2() {
    check_catching_up(8, 1, Tier::Direct);
}

#[test]
fn calls_over_eight_mbit_and_fifty_ms_stay_short_without_http2() {
    check_catching_up(8, 50, Tier::Direct);
}

#[test]
fn calls_over_a_hundred_mbit_and_a_ms_stay_short_without_http2() {
    check_catching_up(100, 1, Tier::Direct);
}

#[test]
fn calls_over_a_hundred_mbit_and_fifty_ms_stay_short_without_http2() {
    check_catching_up(100, 50, Tier::Direct);
}

#[test]
fn calls_over_a_hundred_mbit_and_fifty_ms_stay_short_with_it() {
    check_catching_up(100, 50, Tier::Grpc);
}
