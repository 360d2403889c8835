//! Both tiers on the same lines: thin ones, long ones, lossy ones, with a data center away for a while.
//! What holds with the whole gRPC stack must hold without it, and the other way round, by the same
//! measure. A test process makes one run only, as in `regressions`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use firebreak_sim::catalogue::{self, Variant};
use firebreak_sim::plan::Tier;
use firebreak_sim::run;

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
    let outcome = run(&file.plan(1, Variant::Ours, tier));
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
