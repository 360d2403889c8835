//! `generate dashboards`: what Grafana shows: can we bear the next loss, how was the last one, who hears
//! whom, and for how long what there is will do.

use super::panels::{Dashboard, Look, Panel};
use super::{File, Output};
use crate::exit::Usage;

const EXAMPLES: &str = "\
Examples:
  firebreak generate dashboards --out /var/lib/grafana/dashboards
  firebreak generate dashboards firebreak-gray | jq .title

Import the files in Grafana, or have it provision the folder. They ask one Prometheus, chosen on the page,
and load nothing else.";

/// Write Grafana's dashboards.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The dashboard's name; without it, all of them
    name: Option<String>,
    #[command(flatten)]
    output: Output,
}

impl Args {
    /// # Errors
    /// Usage, when there is no dashboard of that name.
    pub fn files(self) -> anyhow::Result<(Vec<File>, Output)> {
        let named = |one: &&Dashboard| self.name.as_deref().is_none_or(|name| name == one.name);
        let found: Vec<&Dashboard> = ALL.iter().filter(named).collect();
        if found.is_empty() {
            let known: Vec<&str> = ALL.iter().map(|one| one.name).collect();
            let (name, known) = (self.name.unwrap_or_default(), known.join(", "));
            let why = format!("there is no dashboard {name:?}; there are: {known}");
            return Err(Usage(why).into());
        }
        let mut files = Vec::new();
        for one in found {
            let text = serde_json::to_string_pretty(&one.json())?;
            files.push(File::new(format!("{}.json", one.name), text + "\n"));
        }
        Ok((files, self.output))
    }
}

const fn panel(
    (title, help): (&'static str, &'static str),
    (look, unit, width): (Look, &'static str, u32),
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel {
        title,
        help,
        look,
        unit,
        queries,
        width,
    }
}

const ZERO: Look = Look::Number { red_from: 1.0 };

/// All there are.
pub const ALL: &[Dashboard] = &[SURVIVE, FAILOVER, GRAY, CAPACITY];

const SURVIVE: Dashboard = Dashboard {
    name: "firebreak-survive",
    title: "Firebreak: survive now",
    about: "Are users hurt, and can we bear the next loss?",
    panels: &[
        panel(
            (
                "Shards that one more loss stops",
                "Shards that have a quorum now and would have none without one more data center.",
            ),
            (ZERO, "none", 6),
            &[("max(firebreak_shards_at_risk)", "")],
        ),
        panel(
            (
                "Shards without a quorum",
                "Nothing of these is acknowledged, as the node says that hears least.",
            ),
            (ZERO, "none", 6),
            &[("max(firebreak_shards_without_quorum)", "")],
        ),
        panel(
            (
                "Shards without a leader",
                "Calls to these wait, as the node says that hears least.",
            ),
            (ZERO, "none", 6),
            &[("max(firebreak_shards_without_leader)", "")],
        ),
        panel(
            ("Nodes that answer", "Of those that Prometheus scrapes."),
            (Look::AtLeast { red_below: 1.0 }, "percentunit", 6),
            &[("avg(up{job=\"firebreak\"})", "")],
        ),
        panel(
            (
                "Clients can append here",
                "1 while the canary of a node is acknowledged.",
            ),
            (Look::Lines, "none", 12),
            &[("firebreak_healthy", "{{instance}}")],
        ),
        panel(
            (
                "Longest wait within 5 minutes",
                "Of any append, as each node's callers waited.",
            ),
            (Look::Lines, "s", 12),
            &[("firebreak_longest_gap_seconds", "{{instance}}")],
        ),
        panel(
            (
                "Appends by how they ended",
                "Messages a second; refused, unknown and failed ones are tried again by clients.",
            ),
            (Look::Lines, "ops", 12),
            &[(
                "sum by (outcome) (rate(firebreak_append_messages_total[1m]))",
                "{{outcome}}",
            )],
        ),
        panel(
            (
                "Replicas by state",
                "Unconfirmed: leaders without a quorum.",
            ),
            (Look::Lines, "none", 12),
            &[("sum by (state) (firebreak_replicas)", "{{state}}")],
        ),
        panel(
            (
                "Replicas on their way",
                "A shard is safe against the next loss once all of its replicas are whole.",
            ),
            (Look::Lines, "none", 12),
            &[("max(firebreak_replicas_moving)", "moving")],
        ),
        panel(
            (
                "Clocks",
                "By how much each is ahead, as most of the others say.",
            ),
            (Look::Lines, "s", 12),
            &[("max by (node) (firebreak_clock_offset_seconds)", "{{node}}")],
        ),
    ],
};

const FAILOVER: Dashboard = Dashboard {
    name: "firebreak-failover",
    title: "Firebreak: failover",
    about: "How was the last failover: who led, what waited, what was refused?",
    panels: &[
        panel(
            ("Leaders by node", "Shards led with a quorum."),
            (Look::Lines, "none", 12),
            &[("firebreak_replicas{state=\"leader\"}", "{{instance}}")],
        ),
        panel(
            ("Appends acknowledged", "Messages a second by node."),
            (Look::Lines, "ops", 12),
            &[(
                "sum by (instance) (rate(firebreak_append_messages_total{outcome=~\"ok|deduplicated\"}[30s]))",
                "{{instance}}",
            )],
        ),
        panel(
            ("Appends: 99th percentile", "By the way they came."),
            (Look::Lines, "s", 12),
            &[(
                "histogram_quantile(0.99, sum by (way, le) (rate(firebreak_append_duration_seconds_bucket[1m])))",
                "{{way}}",
            )],
        ),
        panel(
            ("Reads: 99th percentile", "By read level."),
            (Look::Lines, "s", 12),
            &[(
                "histogram_quantile(0.99, sum by (level, le) (rate(firebreak_read_duration_seconds_bucket[1m])))",
                "{{level}}",
            )],
        ),
        panel(
            ("Refusals by reason", "Calls and items a second."),
            (Look::Lines, "ops", 12),
            &[(
                "sum by (reason) (rate(firebreak_refusals_total[1m])) > 0",
                "{{reason}}",
            )],
        ),
        panel(
            (
                "Canaries",
                "A canary is an append that each node makes every 2 s.",
            ),
            (Look::Lines, "ops", 12),
            &[(
                "sum by (instance, outcome) (rate(firebreak_canary_appends_total[1m]))",
                "{{instance}} {{outcome}}",
            )],
        ),
        panel(
            (
                "Shards without leader or quorum",
                "The most that any node tells.",
            ),
            (Look::Lines, "none", 12),
            &[
                ("max(firebreak_shards_without_leader)", "without leader"),
                ("max(firebreak_shards_without_quorum)", "without quorum"),
            ],
        ),
        panel(
            (
                "Unapplied entries",
                "The most that a replica of the node has committed and not applied.",
            ),
            (Look::Lines, "none", 12),
            &[("firebreak_unapplied_entries", "{{instance}}")],
        ),
        panel(
            (
                "Starts",
                "Time since each node's start: it falls to 0 at one.",
            ),
            (Look::Lines, "s", 12),
            &[("firebreak_uptime_seconds", "{{instance}}")],
        ),
        panel(
            ("Drained", "1 while a node is drained or stops."),
            (Look::Lines, "none", 12),
            &[("firebreak_draining", "{{instance}}")],
        ),
    ],
};

const GRAY: Dashboard = Dashboard {
    name: "firebreak-gray",
    title: "Firebreak: gray matrix",
    about: "Who hears whom, each way: a row is who listens, a column is who is heard.",
    panels: &[
        panel(
            (
                "Who hears whom",
                "1: the link is up. A row is the node that listens, a column the node that it hears.",
            ),
            (
                Look::Matrix {
                    row: "node",
                    column: "peer",
                },
                "none",
                24,
            ),
            &[(
                "firebreak_link_state{state=\"up\"} * on (instance) group_left (node) firebreak_node_info",
                "",
            )],
        ),
        panel(
            ("Not heard by", "Nodes that do not hear the one named."),
            (Look::Lines, "none", 12),
            &[(
                "count by (peer) (firebreak_link_state{state=~\"silent|reset\"} == 1)",
                "{{peer}}",
            )],
        ),
        panel(
            ("Silence, of the limit", "At 100 % a node is given up."),
            (Look::Lines, "percentunit", 12),
            &[(
                "max by (peer) (firebreak_link_silence_seconds / firebreak_link_silence_limit_seconds)",
                "{{peer}}",
            )],
        ),
        panel(
            (
                "Round trips",
                "The slowest and the quickest that any node measures to a data center.",
            ),
            (Look::Lines, "s", 12),
            &[
                (
                    "max by (dc) (firebreak_link_round_trip_seconds)",
                    "{{dc}} slowest",
                ),
                (
                    "min by (dc) (firebreak_link_round_trip_seconds > 0)",
                    "{{dc}} quickest",
                ),
            ],
        ),
        panel(
            (
                "Lateness",
                "By how much tasks run late: want of processor time looks like a slow network.",
            ),
            (Look::Lines, "s", 12),
            &[("firebreak_lateness_seconds", "{{instance}}")],
        ),
        panel(
            (
                "Syncs",
                "What a sync of the log takes, on average of a minute.",
            ),
            (Look::Lines, "s", 12),
            &[(
                "rate(firebreak_fsync_duration_seconds_sum[1m]) / rate(firebreak_fsync_duration_seconds_count[1m])",
                "{{instance}}",
            )],
        ),
        panel(
            (
                "Stalled disks",
                "1 while the log waits for its disk for so long that the node gives its leaders away.",
            ),
            (Look::Lines, "none", 12),
            &[("firebreak_disk_stalled", "{{instance}}")],
        ),
    ],
};

const CAPACITY: Dashboard = Dashboard {
    name: "firebreak-capacity",
    title: "Firebreak: capacity",
    about: "For how long will what there is do?",
    panels: &[
        panel(
            (
                "Disk free above the reserve",
                "At 0 a node refuses appends.",
            ),
            (Look::Lines, "bytes", 12),
            &[(
                "firebreak_disk_free_bytes - firebreak_disk_reserve_bytes",
                "{{instance}}",
            )],
        ),
        panel(
            (
                "Days until a disk reaches its reserve",
                "At the pace of the last 6 hours; disks that do not fill are left out.",
            ),
            (Look::Lines, "d", 12),
            &[(
                "(firebreak_disk_free_bytes - firebreak_disk_reserve_bytes) / (-deriv(firebreak_disk_free_bytes[6h]) > 0) / 86400",
                "{{instance}}",
            )],
        ),
        panel(
            ("Stored", "What each database takes on the disk."),
            (Look::Lines, "bytes", 12),
            &[(
                "sum by (instance, database) (firebreak_stored_bytes)",
                "{{instance}} {{database}}",
            )],
        ),
        panel(
            (
                "Written to the disk for each byte",
                "Log, flushes and compactions, of what was handed to the database.",
            ),
            (Look::Lines, "none", 12),
            &[(
                "rate(firebreak_database_disk_written_bytes_total[5m]) / rate(firebreak_database_written_bytes_total[5m])",
                "{{instance}} {{database}}",
            )],
        ),
        panel(
            (
                "Appends that share a sync",
                "Those that waited, by the syncs.",
            ),
            (Look::Lines, "none", 12),
            &[(
                "rate(firebreak_fsync_waiters_total[1m]) / rate(firebreak_fsync_duration_seconds_count[1m])",
                "{{instance}}",
            )],
        ),
        panel(
            (
                "Bounded resources",
                "The share in use; from 80 % on an alert rings.",
            ),
            (Look::Lines, "percentunit", 12),
            &[(
                "firebreak_resource_used / firebreak_resource_limit",
                "{{instance}} {{resource}}",
            )],
        ),
        panel(
            ("Refused for want of it", "A second."),
            (Look::Lines, "ops", 12),
            &[(
                "rate(firebreak_resource_refused_total[5m]) > 0",
                "{{instance}} {{resource}}",
            )],
        ),
        panel(
            ("Processor", "Cores that each process uses."),
            (Look::Lines, "none", 12),
            &[(
                "rate(firebreak_process_cpu_seconds_total[1m])",
                "{{instance}}",
            )],
        ),
        panel(
            ("Memory", "Of the process, and of it the databases'."),
            (Look::Lines, "bytes", 12),
            &[
                ("firebreak_process_resident_memory_bytes", "{{instance}}"),
                (
                    "sum by (instance) (firebreak_database_memory_bytes)",
                    "{{instance}} databases",
                ),
            ],
        ),
        panel(
            ("File descriptors", "The share that is open."),
            (Look::Lines, "percentunit", 12),
            &[(
                "firebreak_process_descriptors / firebreak_process_descriptors_limit",
                "{{instance}}",
            )],
        ),
        panel(
            (
                "Messages by tenant",
                "A second; the first tenants by name, the others together.",
            ),
            (Look::Lines, "ops", 12),
            &[(
                "topk(10, sum by (tenant) (rate(firebreak_append_messages_total[5m])))",
                "{{tenant}}",
            )],
        ),
        panel(
            ("Tails", "That are open."),
            (Look::Lines, "none", 12),
            &[("firebreak_tails", "{{instance}}")],
        ),
    ],
};
