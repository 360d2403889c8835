//! Every alert, by group.

use super::{Alert, Group, Severity};

const fn alert(
    name: &'static str,
    (group, severity): (Group, Severity),
    runbook: &'static str,
    (for_s, expr): (u64, &'static str),
    (summary, description): (&'static str, &'static str),
) -> Alert {
    Alert {
        name,
        group,
        severity,
        runbook,
        for_s,
        expr,
        summary,
        description,
    }
}

use Group::{Disks, Limits, Links, Serving, Survival, Upkeep};
use Severity::{Critical, Info, Warning};

/// All there are, by group, what hurts most first.
pub const ALERTS: &[Alert] = &[
    // Calls that are not served.
    alert(
        "FirebreakNoNode",
        (Serving, Critical),
        "no-node-answers",
        (15, r#"absent(up{job="firebreak"} == 1)"#),
        (
            "no node answers Prometheus",
            "All nodes are down, or Prometheus does not reach them, or scrapes them under another job.",
        ),
    ),
    alert(
        "FirebreakNodeNotHealthy",
        (Serving, Critical),
        "cannot-append",
        (
            10,
            "(firebreak_healthy == 0) unless (firebreak_draining == 1)",
        ),
        (
            "clients cannot append through {{ $labels.instance }}",
            "The canary that the node appends every 2 s is not acknowledged; /healthz of the node says why.",
        ),
    ),
    alert(
        "FirebreakShardsWithoutLeader",
        (Serving, Critical),
        "no-leader",
        (
            10,
            "(firebreak_shards_without_leader > 0) unless (firebreak_disk_stalled == 1)",
        ),
        (
            "{{ $labels.instance }} knows no leader of {{ $value }} shards",
            "Calls to these shards wait; an election takes about a second where a quorum is heard.",
        ),
    ),
    alert(
        "FirebreakShardsWithoutQuorum",
        (Serving, Critical),
        "no-quorum",
        (5, "firebreak_shards_without_quorum > 0"),
        (
            "{{ $labels.instance }} hears no quorum of {{ $value }} shards",
            "Nothing of these shards is acknowledged until most of their replicas hear each other.",
        ),
    ),
    alert(
        "FirebreakAppendsFail",
        (Serving, Critical),
        "calls-fail",
        (
            15,
            r#"sum(rate(firebreak_append_messages_total{outcome=~"refused|unknown|failed"}[1m]))
  / sum(rate(firebreak_append_messages_total[1m])) > 0.01"#,
        ),
        (
            "{{ $value | humanizePercentage }} of appends are not acknowledged",
            "Clients try again by themselves; a user notices when that does not help within the call's deadline.",
        ),
    ),
    alert(
        "FirebreakReadsFail",
        (Serving, Critical),
        "calls-fail",
        (
            15,
            r#"sum(rate(firebreak_reads_total{outcome=~"refused|unknown|failed"}[1m]))
  / sum(rate(firebreak_reads_total[1m])) > 0.01"#,
        ),
        (
            "{{ $value | humanizePercentage }} of reads are not answered",
            "Clients try again by themselves; a user notices when that does not help within the call's deadline.",
        ),
    ),
    alert(
        "FirebreakAppendsWait",
        (Serving, Warning),
        "calls-wait",
        (0, "firebreak_longest_gap_seconds > 2"),
        (
            "an append waited for {{ $value | humanizeDuration }} at {{ $labels.instance }}",
            "The longest wait of the last 5 minutes; a data center that burns costs less than 2 s.",
        ),
    ),
    // What the next loss would do.
    alert(
        "FirebreakNextLossStops",
        (Survival, Critical),
        "next-loss",
        (30, "max(firebreak_shards_at_risk) > 0"),
        (
            "{{ $value }} shards would stop if one more data center were lost",
            "They have a quorum now, and would have none without one of the data centers that are left.",
        ),
    ),
    alert(
        "FirebreakNodeDown",
        (Survival, Warning),
        "node-silent",
        (15, r#"up{job="firebreak"} == 0"#),
        (
            "{{ $labels.instance }} does not answer Prometheus",
            "Its shards are led elsewhere; its replicas are replaced when it is gone for 5 minutes.",
        ),
    ),
    alert(
        "FirebreakNodeRestarts",
        (Survival, Warning),
        "node-silent",
        (0, "resets(firebreak_uptime_seconds[15m]) > 2"),
        (
            "{{ $labels.instance }} has started again {{ $value }} times in 15 minutes",
            "Its log says why it stopped; exit codes are in the operator's manual.",
        ),
    ),
    alert(
        "FirebreakReplicaBroken",
        (Survival, Warning),
        "replica-broken",
        (0, r#"firebreak_replicas{state="broken"} > 0"#),
        (
            "{{ $value }} replicas of {{ $labels.instance }} are broken",
            "What they stored cannot be read; they are rebuilt from the others, and this says for how long.",
        ),
    ),
    alert(
        "FirebreakReplicasMoveLong",
        (Survival, Warning),
        "replica-misplaced",
        (3_600, "max(firebreak_replicas_moving) > 0"),
        (
            "replicas have been on their way for an hour",
            "Each move says what it waits for; a shard is safe against the next loss once all are whole.",
        ),
    ),
    alert(
        "FirebreakMapBehind",
        (Survival, Warning),
        "map-behind",
        (
            60,
            "max(firebreak_map_epoch) - min(firebreak_map_epoch) > 0",
        ),
        (
            "nodes know maps of the shards that are {{ $value }} changes apart",
            "A node that does not learn of changes asks others for what they do not have any more.",
        ),
    ),
    alert(
        "FirebreakApplyBehind",
        (Survival, Warning),
        "calls-wait",
        (60, "firebreak_unapplied_entries > 10000"),
        (
            "a replica of {{ $labels.instance }} has {{ $value }} entries to apply",
            "Reads there are old or wait, and it can lead only once it has applied them.",
        ),
    ),
    // How nodes hear each other.
    alert(
        "FirebreakLinkDown",
        (Links, Warning),
        "node-silent",
        (
            10,
            r#"count by (peer, dc) (firebreak_link_state{state=~"silent|reset"} == 1) > 0"#,
        ),
        (
            "{{ $value }} nodes do not hear {{ $labels.peer }} in {{ $labels.dc }}",
            "It is down, or cut off from them; it leads nothing that they can take over.",
        ),
    ),
    alert(
        "FirebreakLinkOneSided",
        (Links, Warning),
        "link-one-sided",
        (
            10,
            r#"count by (peer, dc) (firebreak_link_state{state=~"silent|reset"} == 1)
  and count by (peer, dc) (firebreak_link_state{state="up"} == 1)"#,
        ),
        (
            "{{ $value }} nodes do not hear {{ $labels.peer }} in {{ $labels.dc }}, others do",
            "A gray failure: the network carries packets one way or between some places only.",
        ),
    ),
    alert(
        "FirebreakLinkSlow",
        (Links, Warning),
        "link-slow",
        (60, "firebreak_link_round_trip_seconds > 0.4"),
        (
            "a round from {{ $labels.instance }} to {{ $labels.peer }} takes {{ $value | humanizeDuration }}",
            "Rounds above 400 ms need a larger raft.heartbeat_ms on all nodes; every append waits for one.",
        ),
    ),
    // Disks.
    alert(
        "FirebreakDiskFull",
        (Disks, Critical),
        "disk-full",
        (5, "firebreak_disk_reserve_reached == 1"),
        (
            "the disk of {{ $labels.instance }} is full up to its reserve",
            "Appends that it would lead are led elsewhere; when most disks are full they are refused.",
        ),
    ),
    alert(
        "FirebreakDiskNearlyFull",
        (Disks, Warning),
        "disk-full",
        (
            60,
            "firebreak_disk_free_bytes < 2 * firebreak_disk_reserve_bytes unless firebreak_disk_reserve_reached == 1",
        ),
        (
            "{{ $value | humanize1024 }}B are left on the disk of {{ $labels.instance }}",
            "Less than twice the reserve is free; at the reserve the node refuses appends.",
        ),
    ),
    alert(
        "FirebreakDiskStalls",
        (Disks, Warning),
        "disk-slow",
        (0, "max_over_time(firebreak_disk_stalled[1m]) > 0"),
        (
            "the disk of {{ $labels.instance }} does not complete its syncs",
            "The node gives its leaders away until it does; nothing that was acknowledged is at stake.",
        ),
    ),
    alert(
        "FirebreakFsyncSlow",
        (Disks, Warning),
        "disk-slow",
        (
            10,
            "rate(firebreak_fsync_duration_seconds_sum[30s]) / rate(firebreak_fsync_duration_seconds_count[30s]) > 0.1",
        ),
        (
            "a sync takes {{ $value | humanizeDuration }} at {{ $labels.instance }}",
            "Every append waits for the syncs of a majority; the slowest disk of each shard is not waited for.",
        ),
    ),
    // What there is only so much of.
    alert(
        "FirebreakResourceShort",
        (Limits, Warning),
        "resource-short",
        (
            60,
            r#"firebreak_resource_used{resource=~"connections|calls|bytes under way"}
  / firebreak_resource_limit > 0.8"#,
        ),
        (
            "{{ $labels.resource }} of {{ $labels.instance }}: {{ $value | humanizePercentage }} in use",
            "At the limit the node refuses what comes; `firebreak status` names the key that raises it.",
        ),
    ),
    alert(
        "FirebreakMemoryShort",
        (Limits, Warning),
        "resource-short",
        (
            60,
            r#"firebreak_resource_used{resource="memory"} / firebreak_resource_limit > 0.95"#,
        ),
        (
            "memory of {{ $labels.instance }}: {{ $value | humanizePercentage }} of its budget in use",
            "Caches shrink first, then calls are refused; memory.max_mb is the budget.",
        ),
    ),
    alert(
        "FirebreakResourceRefuses",
        (Limits, Warning),
        "resource-short",
        (0, "increase(firebreak_resource_refused_total[5m]) > 0"),
        (
            "{{ $labels.instance }} was short of {{ $labels.resource }}",
            "Within 5 minutes it refused or gave up {{ $value }} times for want of it.",
        ),
    ),
    alert(
        "FirebreakDescriptorsShort",
        (Limits, Warning),
        "resource-short",
        (
            60,
            "firebreak_process_descriptors / firebreak_process_descriptors_limit > 0.8",
        ),
        (
            "{{ $labels.instance }} has {{ $value | humanizePercentage }} of its file descriptors open",
            "Without one it accepts no connection and opens no file: raise LimitNOFILE of its unit.",
        ),
    ),
    alert(
        "FirebreakTasksLate",
        (Limits, Warning),
        "tasks-late",
        (30, "max_over_time(firebreak_lateness_seconds[15s]) > 0.03"),
        (
            "tasks of {{ $labels.instance }} run {{ $value | humanizeDuration }} late",
            "The machine wants processor time; leases and elections wait longer for it.",
        ),
    ),
    // What has to be done some day.
    alert(
        "FirebreakClockOff",
        (Upkeep, Warning),
        "clock-off",
        (
            10,
            "max by (node) (abs(firebreak_clock_offset_seconds)) > 0.25",
        ),
        (
            "the clock of {{ $labels.node }} is {{ $value | humanizeDuration }} off",
            "It leads nothing until it is set right; no promise rests on it.",
        ),
    ),
    alert(
        "FirebreakDrainsLong",
        (Upkeep, Info),
        "drains-long",
        (43_200, "firebreak_draining == 1"),
        (
            "{{ $labels.instance }} has been drained for 12 hours",
            "It stays a voter and keeps its data, and leads nothing until it is taken back.",
        ),
    ),
    alert(
        "FirebreakVersionsDiffer",
        (Upkeep, Info),
        "versions-differ",
        (
            86_400,
            "count(count by (version) (firebreak_node_info)) > 1",
        ),
        (
            "nodes have run {{ $value }} versions for a day",
            "A rolling upgrade was begun and not completed.",
        ),
    ),
    alert(
        "FirebreakLogLinesLost",
        (Upkeep, Warning),
        "log-lines-lost",
        (0, "increase(firebreak_log_lines_lost_total[10m]) > 0"),
        (
            "{{ $labels.instance }} could not write {{ $value }} log lines",
            "Whoever reads its standard error is too slow, or the disk that takes it is full.",
        ),
    ),
    alert(
        "FirebreakCertificateExpires",
        (Upkeep, Warning),
        "certificate-expires",
        (
            60,
            "firebreak_certificate_expiry_seconds > 0 and firebreak_certificate_expiry_seconds < 2592000",
        ),
        (
            "the certificate of {{ $labels.instance }} expires in {{ $value | humanizeDuration }}",
            "From then on no other node and no client talks to it.",
        ),
    ),
];
