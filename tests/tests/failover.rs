//! A data center is killed under load from the Rust client and from whichever plain gRPC clients are
//! installed (`make failover` installs them): no call fails, nothing acknowledged is lost or there
//! twice. Gaps are measured by `make failover`, on a machine that has nothing else to do.

use std::process::Command;

use firebreak_tests::{Place, binary};

/// All that was judged held, and a language is not installed.
const INCOMPLETE: i32 = 4;

#[test]
fn a_data_center_is_killed_and_no_call_of_any_language_fails() {
    let place = Place::new();
    let json = place.path().join("failover.json");
    let output = Command::new(binary())
        .args(["failover", "--case", "kill", "--runs", "1"])
        .args(["--no-install", "--no-timing", "--json"])
        .arg(&json)
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    assert!(
        code == Some(0) || code == Some(INCOMPLETE),
        "{code:?}: {said}"
    );
    let text = std::fs::read_to_string(&json).expect("a report");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let run = &report[0]["runs"][0];
    for fault in ["failed_calls", "lost", "duplicated", "reordered"] {
        assert_eq!(run[fault], 0, "{fault}: {text}");
    }
    // Clients were at work, those of the data center's own gateways among them.
    assert!(run["answered"].as_u64() > Some(500), "{text}");
    let clients = run["clients"].as_object().expect("clients");
    for rust in ["rust-unary", "rust-stream", "rust-read"] {
        assert!(clients[rust]["longest_gap_ms"].as_u64() > Some(0), "{text}");
    }
}
