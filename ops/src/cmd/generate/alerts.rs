//! `generate alerts`: Prometheus' alerting rules.

use std::fmt::Write as _;

use server::sight::alerts::{ALERTS, Alert, Group, JOB};

use super::{File, Output};

const EXAMPLES: &str = "\
Examples:
  firebreak generate alerts > firebreak-alerts.yml
  firebreak generate alerts --out /etc/prometheus/rules
  firebreak generate alerts --runbook-url https://wiki.example.com/firebreak
  promtool check rules <(firebreak generate alerts)

Prometheus has to scrape the nodes under the job \"firebreak\":

  scrape_configs:
    - job_name: firebreak
      scrape_interval: 5s
      static_configs:
        - targets: [\"seoul-1:7101\", \"busan-1:7101\", \"tokyo-1:7101\"]
  rule_files: [\"rules/firebreak-alerts.yml\"]";

/// Write Prometheus' alerting rules.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where the runbooks are to be read: each alert gets a link to its own below that
    #[arg(long, value_name = "URL")]
    runbook_url: Option<String>,
    #[command(flatten)]
    output: Output,
}

impl Args {
    pub fn files(self) -> (Vec<File>, Output) {
        let text = rules(self.runbook_url.as_deref());
        (vec![File::new("firebreak-alerts.yml", text)], self.output)
    }
}

/// A scalar of YAML: JSON's strings are that, too.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `90s` as Prometheus reads it.
fn duration(seconds: u64) -> String {
    match seconds {
        s if s > 0 && s.is_multiple_of(3_600) => format!("{}h", s / 3_600),
        s if s > 0 && s.is_multiple_of(60) => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// All rules, as a file.
pub fn rules(runbook_url: Option<&str>) -> String {
    let mut text = format!(
        "# Alerts of Firebreak {}, made by `firebreak generate alerts`.\n\
         # The nodes are scraped under the job \"{JOB}\". What to do when one rings:\n\
         # `firebreak generate runbooks NAME`.\ngroups:\n",
        env!("CARGO_PKG_VERSION"),
    );
    for group in Group::ALL {
        let _ = write!(text, "  - name: {}\n    rules:\n", group.name());
        for alert in ALERTS.iter().filter(|alert| alert.group == group) {
            rule(&mut text, alert, runbook_url);
        }
    }
    text
}

fn rule(text: &mut String, alert: &Alert, runbook_url: Option<&str>) {
    let _ = writeln!(text, "      - alert: {}", alert.name);
    match alert.expr.contains('\n') {
        false => {
            let _ = writeln!(text, "        expr: {}", quoted(alert.expr));
        }
        true => {
            text.push_str("        expr: |-\n");
            for line in alert.expr.lines() {
                let _ = writeln!(text, "          {line}");
            }
        }
    }
    if alert.for_s > 0 {
        let _ = writeln!(text, "        for: {}", duration(alert.for_s));
    }
    let _ = writeln!(
        text,
        "        labels:\n          severity: {}",
        alert.severity.name()
    );
    text.push_str("        annotations:\n");
    let mut annotations = vec![
        ("summary", alert.summary.to_owned()),
        ("description", alert.description.to_owned()),
        ("runbook", alert.runbook.to_owned()),
    ];
    if let Some(url) = runbook_url {
        let url = format!("{}/{}", url.trim_end_matches('/'), alert.runbook);
        annotations.push(("runbook_url", url));
    }
    for (name, value) in annotations {
        let _ = writeln!(text, "          {name}: {}", quoted(&value));
    }
}
