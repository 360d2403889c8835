//! Series that are written by hand: each alert rings on its own, in time, and not a second sooner; so do
//! those that no scenario brings about.

use std::collections::BTreeMap;

use firebreak_sim::alarms::{Labels, Recording, promtool, ring};
use server::sight::alerts::{self, ALERTS};

/// `name{a="b"}` and its values: `1x5` is five times 1, `1+2x5` begins at 1 and grows by 2.
type Series = (&'static str, &'static str);

/// An alert, what makes it ring, and the second in which it does.
struct Case {
    alert: &'static str,
    series: &'static [Series],
    at: usize,
}

const fn case(alert: &'static str, series: &'static [Series], at: usize) -> Case {
    Case { alert, series, at }
}

const CASES: &[Case] = &[
    case("FirebreakNoNode", &[("up{instance=\"a\"}", "1x5 0x30")], 20),
    case(
        "FirebreakNodeNotHealthy",
        &[
            ("firebreak_healthy{instance=\"a\"}", "1x5 0x30"),
            ("firebreak_draining{instance=\"a\"}", "0x35"),
        ],
        15,
    ),
    case(
        "FirebreakShardsWithoutLeader",
        &[("firebreak_shards_without_leader", "0x5 3x30")],
        15,
    ),
    case(
        "FirebreakShardsWithoutQuorum",
        &[("firebreak_shards_without_quorum", "0x5 3x30")],
        10,
    ),
    case(
        "FirebreakAppendsFail",
        &[
            (
                "firebreak_append_messages_total{outcome=\"ok\",tenant=\"t\"}",
                "0+100x120",
            ),
            (
                "firebreak_append_messages_total{outcome=\"failed\",tenant=\"t\"}",
                "0x10 2+2x110",
            ),
        ],
        34,
    ),
    case(
        "FirebreakReadsFail",
        &[
            (
                "firebreak_reads_total{outcome=\"ok\",tenant=\"t\"}",
                "0+100x120",
            ),
            (
                "firebreak_reads_total{outcome=\"unknown\",tenant=\"t\"}",
                "0x10 2+2x110",
            ),
        ],
        34,
    ),
    case(
        "FirebreakAppendsWait",
        &[("firebreak_longest_gap_seconds", "0.1x5 2x5 2.5x5")],
        10,
    ),
    case(
        "FirebreakNextLossStops",
        &[
            ("firebreak_shards_at_risk{instance=\"a\"}", "0x60"),
            ("firebreak_shards_at_risk{instance=\"b\"}", "0x5 2x55"),
        ],
        35,
    ),
    case(
        "FirebreakNodeDown",
        &[
            ("up{instance=\"a\"}", "1x40"),
            ("up{instance=\"b\"}", "1x5 0x35"),
        ],
        20,
    ),
    case(
        "FirebreakNodeRestarts",
        &[("firebreak_uptime_seconds", "50+1x5 0+1x5 0+1x5 0+1x5 0+1x5")],
        15,
    ),
    case(
        "FirebreakReplicaBroken",
        &[
            ("firebreak_replicas{state=\"leader\"}", "4x10"),
            ("firebreak_replicas{state=\"broken\"}", "0x5 1x5"),
        ],
        5,
    ),
    case(
        "FirebreakReplicasMoveLong",
        &[("firebreak_replicas_moving", "0x5 2x3700")],
        3_605,
    ),
    case(
        "FirebreakMapBehind",
        &[
            ("firebreak_map_epoch{instance=\"a\"}", "7x90"),
            ("firebreak_map_epoch{instance=\"b\"}", "7x5 6x85"),
        ],
        65,
    ),
    case(
        "FirebreakApplyBehind",
        &[("firebreak_unapplied_entries", "0x5 10001x80")],
        65,
    ),
    case(
        "FirebreakLinkDown",
        &[(
            "firebreak_link_state{instance=\"a\",peer=\"b\",dc=\"x\",state=\"reset\"}",
            "0x5 1x20",
        )],
        15,
    ),
    case(
        "FirebreakLinkOneSided",
        &[
            (
                "firebreak_link_state{instance=\"a\",peer=\"b\",dc=\"x\",state=\"silent\"}",
                "0x5 1x20",
            ),
            (
                "firebreak_link_state{instance=\"c\",peer=\"b\",dc=\"x\",state=\"up\"}",
                "1x25",
            ),
        ],
        15,
    ),
    case(
        "FirebreakLinkSlow",
        &[(
            "firebreak_link_round_trip_seconds{peer=\"b\",dc=\"x\"}",
            "0.4x5 0.5x80",
        )],
        65,
    ),
    case(
        "FirebreakDiskFull",
        &[("firebreak_disk_reserve_reached", "0x5 1x20")],
        10,
    ),
    case(
        "FirebreakDiskNearlyFull",
        &[
            ("firebreak_disk_free_bytes", "100x5 19x90"),
            ("firebreak_disk_reserve_bytes", "10x95"),
            ("firebreak_disk_reserve_reached", "0x95"),
        ],
        65,
    ),
    case(
        "FirebreakDiskStalls",
        &[("firebreak_disk_stalled", "0x5 1x1 0x60")],
        5,
    ),
    case(
        "FirebreakFsyncSlow",
        &[
            ("firebreak_fsync_duration_seconds_sum", "0+0.2x60"),
            ("firebreak_fsync_duration_seconds_count", "0+1x60"),
        ],
        11,
    ),
    case(
        "FirebreakResourceShort",
        &[
            ("firebreak_resource_used{resource=\"calls\"}", "80x5 81x80"),
            ("firebreak_resource_limit{resource=\"calls\"}", "100x85"),
        ],
        65,
    ),
    case(
        "FirebreakMemoryShort",
        &[
            ("firebreak_resource_used{resource=\"memory\"}", "90x5 96x80"),
            ("firebreak_resource_limit{resource=\"memory\"}", "100x85"),
        ],
        65,
    ),
    case(
        "FirebreakResourceRefuses",
        &[(
            "firebreak_resource_refused_total{resource=\"calls\"}",
            "7x5 8x5",
        )],
        5,
    ),
    case(
        "FirebreakDescriptorsShort",
        &[
            ("firebreak_process_descriptors", "80x5 81x80"),
            ("firebreak_process_descriptors_limit", "100x85"),
        ],
        65,
    ),
    case(
        "FirebreakTasksLate",
        &[("firebreak_lateness_seconds", "0.01x5 0.2x60")],
        35,
    ),
    case(
        "FirebreakClockOff",
        &[("firebreak_clock_offset_seconds{node=\"b\"}", "0x5 -0.3x30")],
        15,
    ),
    case(
        "FirebreakDrainsLong",
        &[("firebreak_draining", "0x5 1x43300")],
        43_205,
    ),
    case(
        "FirebreakVersionsDiffer",
        &[
            (
                "firebreak_node_info{instance=\"a\",version=\"1\"}",
                "1x86500",
            ),
            ("firebreak_node_info{instance=\"b\",version=\"1\"}", "1x5"),
            (
                "firebreak_node_info{instance=\"b\",version=\"2\"}",
                "_x5 1x86495",
            ),
        ],
        86_405,
    ),
    case(
        "FirebreakLogLinesLost",
        &[("firebreak_log_lines_lost_total", "0x5 1x5")],
        5,
    ),
    case(
        "FirebreakCertificateExpires",
        &[(
            "firebreak_certificate_expiry_seconds",
            "2592000x5 2591999x80",
        )],
        65,
    ),
];

/// What a healthy node tells: nothing rings on it.
const HEALTHY: &[Series] = &[
    ("up{instance=\"a\"}", "1x700"),
    ("firebreak_healthy", "1x700"),
    ("firebreak_draining", "0x700"),
    ("firebreak_shards_without_leader", "0x700"),
    ("firebreak_shards_without_quorum", "0x700"),
    ("firebreak_shards_at_risk", "0x700"),
    (
        "firebreak_append_messages_total{outcome=\"ok\"}",
        "0+100x700",
    ),
    (
        "firebreak_append_messages_total{outcome=\"refused\"}",
        "0+0.5x700",
    ),
    ("firebreak_reads_total{outcome=\"ok\"}", "0+100x700"),
    ("firebreak_reads_total{outcome=\"failed\"}", "0x700"),
    ("firebreak_longest_gap_seconds", "0.3x700"),
    ("firebreak_uptime_seconds", "50+1x700"),
    ("firebreak_replicas{state=\"broken\"}", "0x700"),
    ("firebreak_replicas_moving", "1x700"),
    ("firebreak_map_epoch", "7x700"),
    ("firebreak_unapplied_entries", "100x700"),
    (
        "firebreak_link_state{peer=\"b\",dc=\"x\",state=\"silent\"}",
        "0x700",
    ),
    (
        "firebreak_link_state{peer=\"b\",dc=\"x\",state=\"up\"}",
        "1x700",
    ),
    (
        "firebreak_link_round_trip_seconds{peer=\"b\",dc=\"x\"}",
        "0.03x700",
    ),
    ("firebreak_disk_reserve_reached", "0x700"),
    ("firebreak_disk_free_bytes", "100x700"),
    ("firebreak_disk_reserve_bytes", "10x700"),
    ("firebreak_disk_stalled", "0x700"),
    ("firebreak_fsync_duration_seconds_sum", "0+0.01x700"),
    ("firebreak_fsync_duration_seconds_count", "0+5x700"),
    (
        "firebreak_resource_used{resource=\"open shards\"}",
        "100x700",
    ),
    ("firebreak_resource_used{resource=\"calls\"}", "10x700"),
    (
        "firebreak_resource_limit{resource=\"open shards\"}",
        "100x700",
    ),
    ("firebreak_resource_limit{resource=\"calls\"}", "100x700"),
    (
        "firebreak_resource_refused_total{resource=\"calls\"}",
        "7x700",
    ),
    ("firebreak_process_descriptors", "10x700"),
    ("firebreak_process_descriptors_limit", "100x700"),
    ("firebreak_lateness_seconds", "0.01x700"),
    ("firebreak_clock_offset_seconds{node=\"a\"}", "0.01x700"),
    ("firebreak_node_info{version=\"1\"}", "1x700"),
    ("firebreak_log_lines_lost_total", "3x700"),
    // 0: it has none.
    ("firebreak_certificate_expiry_seconds", "0x700"),
];

fn values(text: &str) -> Vec<Option<f64>> {
    let runs = text.split(' ').map(|run| run.split_once('x').unwrap());
    let run = |(value, count): (&str, &str)| {
        let count: u32 = count.parse().unwrap();
        let (value, by) = value.split_once('+').unwrap_or((value, "0"));
        let by: f64 = by.parse().unwrap();
        let value: Option<f64> = (value != "_").then(|| value.parse().unwrap());
        (0..count).map(move |step| value.map(|value| value + by * f64::from(step)))
    };
    runs.flat_map(run).collect()
}

fn recording(series: &[Series]) -> Recording {
    let mut recording = Recording::default();
    for (series, text) in series {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels
            .trim_end_matches('}')
            .split(',')
            .filter(|one| !one.is_empty());
        let mut labels: Labels = labels
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap();
                (name.to_owned(), value.trim_matches('"').to_owned())
            })
            .collect();
        labels.insert("job".to_owned(), alerts::JOB.to_owned());
        labels
            .entry("instance".to_owned())
            .or_insert_with(|| "a".to_owned());
        for (second, value) in values(text).into_iter().enumerate() {
            if let Some(value) = value {
                recording.add(name, labels.clone(), second, value);
            }
        }
    }
    recording
}

#[test]
fn every_alert_rings_in_time_on_what_it_is_about() {
    let mut cases: BTreeMap<&str, &Case> = BTreeMap::new();
    for case in CASES {
        assert!(
            cases.insert(case.alert, case).is_none(),
            "{} twice",
            case.alert
        );
    }
    for alert in ALERTS {
        let case = cases.get(alert.name);
        let case = case.unwrap_or_else(|| panic!("{} has no series", alert.name));
        let recording = recording(case.series);
        let rung = ring(alert, &recording).unwrap();
        let from = rung.iter().map(|one| one.from_s).min();
        assert_eq!(from, Some(case.at), "{}: {rung:?}", alert.name);
    }
}

#[test]
fn no_alert_rings_on_a_healthy_node() {
    let recording = recording(HEALTHY);
    for alert in ALERTS {
        let rung = ring(alert, &recording).unwrap();
        assert_eq!(rung, [], "{}", alert.name);
        for (name, _) in alerts::named(alert.expr) {
            assert!(
                recording.series.contains_key(&name),
                "{name} is not among them"
            );
        }
    }
}

/// Hours of seconds are too many for a test that compares each.
const COMPARED_MAX: usize = 1_000;

#[test]
fn promtool_comes_to_the_same() {
    let healthy = Case {
        alert: "nothing",
        series: HEALTHY,
        at: 0,
    };
    for case in CASES.iter().chain([&healthy]) {
        let recording = recording(case.series);
        if recording.seconds > COMPARED_MAX {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        write(promtool::RULES, promtool::rules());
        write("alarms_test.yml", promtool::test(&recording).unwrap());
        crate::promtool(folder.path(), case.alert);
    }
}
