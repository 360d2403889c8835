//! The shipped alerts ring: in scenarios of the simulator, as docs/alerts.md says how soon, and on series
//! that are written by hand. In a quiet hour none does.
//!
//! Where `promtool` is installed it evaluates the same rules over the same series, and must come to the
//! same for each second. When the product rings otherwise than the page says, this rewrites it:
//!
//! ```sh
//! README_WRITE=1 cargo nextest run --release --workspace -E 'binary(alarms)'
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the programs it starts run in the real world"
)]

mod scenarios;
mod written;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The page that lists the alerts, and how soon they ring.
fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/alerts.md")
}

/// Has the page say `text` between the two marks of `part`, or checks that it does.
#[track_caller]
fn says(part: &str, text: &str) {
    let page = page();
    let old = std::fs::read_to_string(&page).unwrap();
    let (begin, end) = (
        format!("<!-- {part} begins -->\n"),
        format!("<!-- {part} ends -->"),
    );
    let (before, rest) = old.split_once(&begin).unwrap();
    let (stale, after) = rest.split_once(&end).unwrap();
    if std::env::var_os("README_WRITE").is_some() {
        std::fs::write(&page, format!("{before}{begin}{text}{end}{after}")).unwrap();
        return;
    }
    assert_eq!(
        stale, text,
        "docs/alerts.md is stale: README_WRITE=1 rewrites it"
    );
}

/// Has promtool test the rules in a folder, where it is installed.
fn promtool(folder: &Path, about: &str) {
    let mut command = Command::new("promtool");
    command.args(["test", "rules", "alarms_test.yml"]);
    let Ok(output) = command.current_dir(folder).output() else {
        println!("promtool is not installed: {about} was not compared with it");
        return;
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{about}: {said}");
}
