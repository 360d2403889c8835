//! What a configuration gives, and what it is told.

use super::*;

const GOOD: &str = r#"
name = "seoul-1"
listen = "0.0.0.0:7101"
advertise = "10.0.0.1:7101"
data_dir = "/var/lib/firebreak"
peers = ["10.0.0.2:7101"]

[locality]
region = "kr"
dc = "seoul"
"#;

fn problems(text: &str) -> Vec<String> {
    match Config::parse(text, "node.toml") {
        Ok(_) => Vec::new(),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

#[test]
fn a_short_file_gets_the_documented_defaults() {
    let config = Config::parse(GOOD, "node.toml").expect("valid");
    assert_eq!(config.advertise, "10.0.0.1:7101");
    assert_eq!(config.locality.rack, "");
    assert_eq!(
        config.limits,
        Limits {
            body_bytes_max: 65_536,
            disk_reserve: Reserve {
                percent: 5,
                bytes: None
            },
            disk_ballast_bytes: None,
            connections_max: 0,
            calls_per_connection_max: 4_096,
            network_bytes: 0,
            connection_percent: 50,
            address_percent: 75,
            preface_ms: 5_000,
            receive_ms: 30_000,
            take_ms: 30_000,
        }
    );
    assert_eq!(config.raft.heartbeat_ms, 500);
    assert_eq!(
        config.log,
        Log {
            level: "info".into(),
            format: Format::Text
        }
    );
    assert_eq!(config.storage.cache_bytes, 0, "a share");
    assert_eq!(config.memory.max_bytes, 0, "a share");
}

#[test]
fn every_key_can_be_set() {
    let all = format!(
        "{GOOD}rack = \"r1\"\n[limits]\nbody_bytes_max = 0x400\ndisk_reserve_percent = 10\n\
         disk_reserve_mb = 2048\ndisk_ballast_mb = 0\n\
         [raft]\nheartbeat_ms = 50\nelection_min_ms = 150\nelection_max_ms = 300\n\
         read_lease_ms = 0\n[log]\nlevel = \"info,firebreak_raft=debug\"\nformat = \"json\"\n\
         [storage]\ncache_mb = 1\n[memory]\nmax_mb = 128\n"
    );
    let all = all.replace(
        "[raft]",
        "connections_max = 8\ncalls_per_connection_max = 1\nnetwork_mb = 8\nconnection_percent = 1\n\
         address_percent = 2\npreface_ms = 100\nreceive_ms = 200\ntake_ms = 1000\n[raft]",
    );
    let config = Config::parse(&all, "node.toml").expect("valid");
    assert_eq!(config.limits.body_bytes_max, 1_024);
    assert_eq!(config.limits.disk_reserve.bytes, Some(2 << 30));
    assert_eq!(config.limits.disk_ballast_bytes, Some(0));
    assert_eq!(config.raft.election_max_ms, 300);
    assert_eq!(config.log.format, Format::Json);
    assert_eq!(config.memory.max_bytes, 128 * 1024 * 1024);
    assert_eq!(config.limits.network_bytes, 8 * 1024 * 1024);
    assert_eq!(config.limits.take_ms, 1_000);
    assert_eq!(config.locality.rack, "r1");
}

#[test]
fn all_problems_come_at_once_with_their_lines() {
    let text = "nmae = \"x\"\nlisten = 7101\ndata_dir = \"/d\"\n[locality]\ndc = \"a b\"\n\
                [raft]\nheartbeat_ms = -5\n[limits]\ndisk_reserve_percent = \"5\"\n";
    assert_eq!(
        problems(text),
        [
            "node.toml: name: is required",
            "node.toml:1: nmae: is not a key; known here: name, listen, advertise, data_dir, \
             peers, locality, limits, raft, scrub, log, storage, memory, network, http, recorder, \
             traces, drill, tenants, classes, tls, auth",
            "node.toml:2: listen: must be a text in quotes; it is of type integer",
            "node.toml:4: locality.region: is required",
            "node.toml:5: locality.dc: dc \"a b\" must be 1 to 128 characters of a-z A-Z 0-9 \
             - _ . ~ and start with a letter or digit",
            "node.toml:7: raft.heartbeat_ms: must be a whole number of ms, 20 to 10000; it is -5",
            "node.toml:9: limits.disk_reserve_percent: must be a whole number of percent, 0 to \
             50; it is \"5\"",
        ]
    );
}

#[test]
fn an_empty_file_is_told_what_it_needs() {
    let found = problems("");
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(
        found.iter().all(|p| p.ends_with("is required")),
        "{found:?}"
    );
}

fn check(change: (&str, &str), expect: &str) {
    assert!(GOOD.contains(change.0));
    let found = problems(&GOOD.replace(change.0, change.1));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains(expect), "{}", found[0]);
}

#[test]
fn addresses_must_be_such_that_others_can_reach() {
    check(
        ("\"10.0.0.1:7101\"", "\"10.0.0.1\""),
        "node.toml:4: advertise: \"10.0.0.1\" is not",
    );
    check(
        ("advertise = \"10.0.0.1:7101\"", ""),
        "advertise: 0.0.0.0:7101 is no address",
    );
    check(("10.0.0.2:7101", "10.0.0.2:x"), "node.toml:6: peers");
    check(
        ("[\"10.0.0.2:7101\"]", "\"10.0.0.2:7101\""),
        "list of texts",
    );
}

#[test]
fn timings_must_fit_each_other() {
    let with = |raft: &str| problems(&format!("{GOOD}[raft]\n{raft}\n"));
    assert!(with("heartbeat_ms = 750")[0].contains("raft.election_min_ms: must be more than two"));
    assert!(with("election_max_ms = 1500")[0].contains("must be more than election_min_ms"));
    assert!(with("read_lease_ms = 1500")[0].contains("must be less than election_min_ms"));
}

#[test]
fn drills_are_allowed_by_default_where_only_the_own_machine_reaches_the_node() {
    let file = |listen: &str, drill: &str| {
        let good = GOOD.replace("0.0.0.0:7101", listen);
        format!("{good}[drill]\n{drill}\n")
    };
    for (listen, set, allowed, at) in [
        ("0.0.0.0:7101", "", false, "0.0.0.0:0"),
        ("10.0.0.1:7101", "", false, "10.0.0.1:0"),
        ("127.0.1.2:7101", "", true, "127.0.1.2:0"),
        ("[::1]:7101", "", true, "[::1]:0"),
        ("localhost:7101", "", true, "localhost:0"),
        ("127.0.0.1:7101", "allowed = false", false, "127.0.0.1:0"),
        ("10.0.0.1:7101", "allowed = true", true, "10.0.0.1:0"),
        (
            "127.0.0.1:7101",
            "listen = \"127.0.0.1:7199\"",
            true,
            "127.0.0.1:7199",
        ),
    ] {
        let drill = Config::parse(&file(listen, set), "node.toml")
            .expect("valid")
            .drill;
        assert_eq!(
            (drill.allowed, drill.listen.as_str()),
            (allowed, at),
            "{listen} {set}"
        );
    }
    let with = |drill: &str| problems(&file("127.0.0.1:7101", drill));
    assert!(
        with("listen = \"127.0.0.1:7101\"")[0].contains("drill.listen: is where the node listens")
    );
    assert!(with("listen = \"here\"")[0].contains("drill.listen"));
    assert!(with("allowed = 1")[0].contains("drill.allowed: must be true or false"));
    let idle = with("allowed = false\nlisten = \"127.0.0.1:7199\"");
    assert!(
        idle[0].contains("of no use while drills are not allowed"),
        "{idle:?}"
    );
    assert_eq!(
        Drill::reached("0.0.0.0:7199", "10.0.0.1:7101"),
        "10.0.0.1:7199"
    );
    assert_eq!(
        Drill::reached("127.0.0.1:7199", "10.0.0.1:7101"),
        "127.0.0.1:7199"
    );
}

#[test]
fn distances_name_ip_addresses_and_need_one_to_be_known_by() {
    let file = |listen: &str, network: &str| {
        let good = GOOD.replace("0.0.0.0:7101", listen);
        format!("{good}[network]\n{network}\n")
    };
    let with = |network: &str| problems(&file("10.0.0.1:7101", network));
    let delays = "delay_ms = { \"127.0.0.12\" = 15 }";
    let config = Config::parse(&file("10.0.0.1:7101", delays), "node.toml").expect("valid");
    let far = "127.0.0.12".parse().expect("an address");
    assert_eq!(config.network.delay_ms.get(&far), Some(&15));
    assert!(with("delay_ms = { busan = 15 }")[0].contains("delay_ms.busan: is no IP address"));
    let zero = with("delay_ms = { \"::1\" = 0 }");
    assert!(zero[0].contains("1 to 500"), "{zero:?}");
    let far = "delay_ms = { \"127.0.0.12\" = 250 }";
    let refused = with(far);
    assert!(
        refused[0].contains("set that to 625 or more"),
        "{refused:?}"
    );
    let slower = format!("{}[raft]\nheartbeat_ms = 625\n", file("10.0.0.1:7101", far));
    Config::parse(&slower, "node.toml").expect("far enough apart");
    let gone = with("cuts_file = \"cuts\"");
    assert!(gone[0].contains("firebreak drill plan"), "{gone:?}");
    assert_eq!(gone.len(), 1, "said once");
    for listen in ["0.0.0.0:7101", "seoul:7101"] {
        let found = problems(&file(listen, delays));
        assert!(
            found[0].contains("needs an IP address in listen"),
            "{found:?}"
        );
    }
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    let found = problems("name = \"a\nlisten = \"b:1\"");
    assert!(found[0].starts_with("node.toml:1: not TOML: "), "{found:?}");
    assert!(
        problems("log = 5\n")
            .iter()
            .any(|p| p.contains("log: must be a section"))
    );
    assert!(problems(&format!("{GOOD}[log]\nlevel = \"x=y=z\"\n"))[0].contains("log.level"));
    assert!(problems(&format!("{GOOD}[log]\nformat = \"xml\"\n"))[0].contains("\"json\""));
}

#[test]
fn a_missing_file_is_an_error_that_names_it() {
    let error = Config::load(Path::new("/nonexistent/node.toml")).expect_err("missing");
    assert!(
        error
            .to_string()
            .starts_with("/nonexistent/node.toml: cannot be read")
    );
}
