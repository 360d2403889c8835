//! `node.toml`: every key, its meaning, default and bounds; and errors that name the file, the
//! line, the key and what would be right, all of them at once.
//!
#![doc = include_str!("config/reference.md")]

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::id;
use model::limits;
use raft::{Scrubbing, Tuning};
use thiserror::Error;

use crate::telemetry::Format;

mod auth;
mod drill;
mod http;
mod table;
mod tenants;
mod tls;
mod traces;

pub use auth::Auth;
pub use drill::Drill;
pub use http::Http;
pub use tls::{Tls, TlsMode};
pub use traces::Traces;

const MIB: u64 = 1024 * 1024;

use table::{Reader, Section};

/// Every key of `node.toml`: a table in Markdown.
pub const REFERENCE: &str = include_str!("config/reference.md");

/// A node's configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What people call the node.
    pub name: String,
    /// host:port to listen on.
    pub listen: String,
    /// host:port where others reach it.
    pub advertise: String,
    /// Folder of its data.
    pub data_dir: PathBuf,
    /// host:port of nodes to ask about the cluster.
    pub peers: Vec<String>,
    /// Where it stands.
    pub locality: Locality,
    /// Bounds.
    pub limits: Limits,
    /// Timing of the groups.
    pub raft: Tuning,
    /// What to log, and how.
    pub log: Log,
    /// Memory of the databases.
    pub storage: Storage,
    /// Memory of the node.
    pub memory: Memory,
    /// Distances that are made up.
    pub network: Network,
    /// What operators see.
    pub http: Http,
    /// Where traced calls are told.
    pub traces: Traces,
    /// Drills on it.
    pub drill: Drill,
    /// With whom it speaks TLS.
    pub tls: Tls,
    /// Which tenants may call, and whose turn it is.
    pub tenants: crate::tenants::Settings,
    /// Whether callers must say who they are.
    pub auth: Auth,
    /// What the flight recorder keeps, bytes; 0 = it is off.
    pub recorder_bytes: u64,
    /// What was set, and where.
    pub given: Given,
}

/// What a file of configuration sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The file.
    pub file: Option<String>,
    /// The value of each key that is set, with its section.
    pub values: BTreeMap<String, String>,
}

impl Given {
    fn of(root: &toml::de::DeTable<'_>, text: &str) -> Given {
        let mut values = BTreeMap::new();
        let shown = |value: &toml::Spanned<toml::de::DeValue<'_>>| {
            text.get(value.span()).unwrap_or_default().to_owned()
        };
        for (key, value) in root {
            let key = key.get_ref();
            match value.get_ref() {
                toml::de::DeValue::Table(section) => {
                    values.extend(section.iter().map(|(inner, value)| {
                        (format!("{key}.{}", inner.get_ref()), shown(value))
                    }));
                }
                _ => drop(values.insert(key.to_string(), shown(value))),
            }
        }
        Given { file: None, values }
    }
}

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locality {
    /// Data centers near each other.
    pub region: String,
    /// What burns together.
    pub dc: String,
    /// What shares power and a switch.
    pub rack: String,
}

/// Bounds that an operator may set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest message body, bytes.
    pub body_bytes_max: usize,
    /// What of the disk stays free.
    pub disk_reserve: Reserve,
    /// The ballast's size, bytes; none = what an opening of the databases may need.
    pub disk_ballast_bytes: Option<u64>,
    /// Connections at once; 0 = as the descriptors allow.
    pub connections_max: u64,
    /// Calls of one connection at once.
    pub calls_per_connection_max: usize,
    /// Requests, answers and calls under way, bytes; 0 = a share of the node's memory.
    pub network_bytes: u64,
    /// Of these, what one connection may have, percent.
    pub connection_percent: usize,
    /// Of these, what one address may have, percent.
    pub address_percent: usize,
    /// How long a connection may take to say that it speaks HTTP/2, ms.
    pub preface_ms: u64,
    /// How long a message may take to arrive, ms.
    pub receive_ms: u64,
    /// How long nothing of an answer may be taken, ms.
    pub take_ms: u64,
}

/// Memory of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What its caches, queues and buffers may have together, bytes; 0 = half of the machine's.
    pub max_bytes: u64,
    /// Of these, heads and ids of conversations, bytes; 0 = a share.
    pub heads_bytes: usize,
    /// Last entries of the logs, bytes; 0 = a share. No key sets it.
    pub tails_bytes: usize,
    /// Commands that wait for their leaders, bytes; 0 = a share. No key sets it.
    pub queue_bytes: usize,
}

/// How much of a disk stays free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// A share of it, percent.
    pub percent: u64,
    /// So many bytes at least; none = what the databases may need at once, unless the share is 0.
    pub bytes: Option<u64>,
}

/// What to log, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// tracing's directives.
    pub level: String,
    /// Lines for people or for machines.
    pub format: Format,
}

/// Memory of the databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Blocks of state kept in memory, bytes; 0 = a share of the node's memory.
    pub cache_bytes: usize,
}

/// Distances that are made up, for drills and tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// How late what comes from an address is, one way, ms.
    pub delay_ms: BTreeMap<IpAddr, u64>,
}

/// One thing wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1; 0 when it concerns no line.
    pub line: usize,
    /// The key, with its section.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Everything wrong with a configuration.
#[derive(Clone, Debug, Error)]
pub struct Errors {
    /// The file.
    pub file: String,
    /// In the order of the lines.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { line, key, message }) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", self.file)?;
            if *line > 0 {
                write!(f, ":{line}")?;
            }
            if !key.is_empty() {
                write!(f, ": {key}")?;
            }
            write!(f, ": {message}")?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads a file. Relative paths in it are of the folder that it is in.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Config, Errors> {
        let file = path.display().to_string();
        let absolute = std::path::absolute(path);
        let read = absolute.and_then(|path| Ok((std::fs::read_to_string(&path)?, path)));
        match read {
            Ok((text, path)) => {
                let mut config = Config::parse(&text, &file)?;
                config.resolve(path.parent().unwrap_or(&path));
                config.given.file = Some(path.display().to_string());
                Ok(config)
            }
            Err(error) => Err(Errors {
                file,
                problems: vec![Problem {
                    line: 0,
                    key: String::new(),
                    message: format!("cannot be read: {error}"),
                }],
            }),
        }
    }

    /// Makes relative paths those of a folder: who starts the node from where is of no matter.
    fn resolve(&mut self, folder: &Path) {
        self.data_dir = folder.join(&self.data_dir);
        self.tls.resolve(folder);
    }

    /// Whether only this machine reaches the node's port.
    pub fn listens_locally(&self) -> bool {
        let host = self.listen.rsplit_once(':').map_or("", |(host, _)| host);
        auth::is_loopback(host)
    }

    /// Reads a text; `file` is named in errors. Relative paths stay as they are.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, file: &str) -> Result<Config, Errors> {
        let mut reader = Reader::new(text);
        let config = {
            let (root, syntax) = toml::de::DeTable::parse_recoverable(text);
            for error in syntax {
                reader.syntax(&error);
            }
            // Behind a syntax error keys seem missing that are not.
            if reader.failed() {
                None
            } else {
                Some(Config {
                    given: Given::of(root.get_ref(), text),
                    ..read(&mut reader, root.get_ref())
                })
            }
        };
        match config {
            Some(config) if !reader.failed() => Ok(config),
            Some(_) | None => Err(Errors {
                file: file.to_owned(),
                problems: reader.into_problems(),
            }),
        }
    }
}

fn read(reader: &mut Reader<'_>, root: &toml::de::DeTable<'_>) -> Config {
    let top = Section::root(root);
    let sections = [
        "locality", "limits", "raft", "scrub", "log", "storage", "memory", "network", "http",
        "recorder", "traces", "drill", "tenants", "classes", "tls", "auth",
    ];
    let keys = ["name", "listen", "advertise", "data_dir", "peers"];
    reader.known(&top, &[&keys[..], &sections[..]].concat());

    let name = reader.string(&top, "name", None);
    reader.verify(&top, "name", id::segment("name", &name));
    let listen = reader.string(&top, "listen", None);
    reader.verify(&top, "listen", address(&listen));
    let advertise = reader.string(&top, "advertise", Some(&listen));
    let reachable = address(&advertise).and_then(|()| anywhere(&advertise));
    if top.has("advertise") || address(&listen).is_ok() {
        reader.verify(&top, "advertise", reachable);
    }
    let data_dir = PathBuf::from(reader.string(&top, "data_dir", None));
    let peers = reader.strings(&top, "peers", 64);
    for peer in &peers {
        reader.verify(&top, "peers", address(peer));
    }

    let place = reader.section(&top, "locality");
    reader.known(&place, &["region", "dc", "rack"]);
    let locality = Locality {
        region: reader.string(&place, "region", None),
        dc: reader.string(&place, "dc", None),
        rack: reader.string(&place, "rack", Some("")),
    };
    reader.verify(&place, "region", id::segment("region", &locality.region));
    reader.verify(&place, "dc", id::segment("dc", &locality.dc));
    if !locality.rack.is_empty() {
        reader.verify(&place, "rack", id::segment("rack", &locality.rack));
    }

    let limits = bounds(reader, &top);
    let raft = tuning(reader, &top);

    let log = reader.section(&top, "log");
    reader.known(&log, &["level", "format"]);
    let level = reader.string(&log, "level", Some("info"));
    reader.verify(&log, "level", crate::telemetry::check_level(&level));
    let format = reader.string(&log, "format", Some("text"));
    let format = match format.as_str() {
        "json" => Format::Json,
        "text" => Format::Text,
        _ => {
            reader.add(&log, "format", "must be \"text\" or \"json\"");
            Format::Text
        }
    };

    let network = network(reader, &top, &listen, raft.heartbeat_ms);

    let http = http::read(reader, &top, &listen);
    let traces = traces::read(reader, &top);
    let drill = drill::read(reader, &top, &listen, http.listen.as_deref());
    let auth = auth::read(reader, &top);

    let tls = tls::read(reader, &top);
    let tenants = tenants::read(reader, &top);

    let storage = reader.section(&top, "storage");
    reader.known(&storage, &["cache_mb"]);
    let cache_mb = reader.number(&storage, "cache_mb", 0, 1..=1_048_576, "MiB");
    let memory = reader.section(&top, "memory");
    reader.known(&memory, &["max_mb", "heads_mb"]);
    let heads_mb = reader.number(&memory, "heads_mb", 0, 1..=1_048_576, "MiB");
    let max_mb = reader.number(&memory, "max_mb", 0, 128..=16_777_216, "MiB");
    let recorder = reader.section(&top, "recorder");
    reader.known(&recorder, &["max_mb"]);
    let recorder_mb = reader.number(&recorder, "max_mb", 64, 0..=65_536, "MiB");
    Config {
        name,
        listen,
        advertise,
        data_dir,
        peers,
        locality,
        limits,
        raft,
        log: Log { level, format },
        storage: Storage {
            cache_bytes: usize::try_from(cache_mb * MIB).unwrap_or(usize::MAX),
        },
        memory: Memory {
            max_bytes: max_mb * MIB,
            heads_bytes: usize::try_from(heads_mb * MIB).unwrap_or(usize::MAX),
            ..Memory::default()
        },
        network,
        http,
        traces,
        drill,
        tls,
        tenants,
        auth,
        given: Given::default(),
        recorder_bytes: recorder_mb * MIB,
    }
}

fn bounds(reader: &mut Reader<'_>, top: &Section<'_>) -> Limits {
    let section = reader.section(top, "limits");
    reader.known(
        &section,
        &[
            "body_bytes_max",
            "disk_reserve_percent",
            "disk_reserve_mb",
            "disk_ballast_mb",
            "connections_max",
            "calls_per_connection_max",
            "network_mb",
            "connection_percent",
            "address_percent",
            "preface_ms",
            "receive_ms",
            "take_ms",
        ],
    );
    let mut mib = |key| {
        let mib = reader.number(&section, key, 0, 0..=1_048_576, "MiB");
        section.has(key).then_some(mib * MIB)
    };
    let (reserve_bytes, disk_ballast_bytes) = (mib("disk_reserve_mb"), mib("disk_ballast_mb"));
    let mut number =
        |key, default, bounds, unit| reader.number(&section, key, default, bounds, unit);
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    // A body and its attributes must fit a batch with room to spare.
    let body_max = (limits::BATCH_BYTES_MAX / 2) as u64;
    let body = limits::BODY_BYTES_MAX as u64;
    let calls = limits::CALLS_PER_CONNECTION_MAX as u64;
    Limits {
        body_bytes_max: size(number("body_bytes_max", body, 1..=body_max, "bytes")),
        disk_reserve: Reserve {
            percent: number("disk_reserve_percent", 5, 0..=50, "percent"),
            bytes: reserve_bytes,
        },
        disk_ballast_bytes,
        connections_max: number("connections_max", 0, 8..=1_000_000, "connections"),
        calls_per_connection_max: size(number(
            "calls_per_connection_max",
            calls,
            1..=2 * calls,
            "calls",
        )),
        network_bytes: number("network_mb", 0, 8..=1_048_576, "MiB") * MIB,
        connection_percent: size(number("connection_percent", 50, 1..=100, "percent")),
        address_percent: size(number("address_percent", 75, 1..=100, "percent")),
        preface_ms: number("preface_ms", 5_000, 100..=3_600_000, "ms"),
        receive_ms: number("receive_ms", 30_000, 100..=3_600_000, "ms"),
        take_ms: number("take_ms", 30_000, 1_000..=3_600_000, "ms"),
    }
}

fn network(reader: &mut Reader<'_>, top: &Section<'_>, listen: &str, heartbeat_ms: u64) -> Network {
    let section = reader.section(top, "network");
    reader.known(&section, &["delay_ms", "cuts_file"]);
    let delays = reader.section(&section, "delay_ms");
    let mut delay_ms = BTreeMap::new();
    for key in delays.keys() {
        let ms = reader.number(&delays, key, 1, 1..=500, "ms");
        let round_ms = 2 * ms;
        let least_ms = raft::heartbeat_ms_min(Duration::from_millis(round_ms));
        if heartbeat_ms < least_ms {
            let message = format!(
                "makes a round trip of {round_ms} ms, too long for raft.heartbeat_ms = {heartbeat_ms}, within \
                 four fifths of which a heartbeat must be answered: set that to {least_ms} or more"
            );
            reader.add(&delays, key, message);
        }
        match key.parse::<IpAddr>() {
            Ok(address) => drop(delay_ms.insert(address.to_canonical(), ms)),
            Err(_) => reader.add(&delays, key, "is no IP address"),
        }
    }
    if delay_ms.len() > 64 {
        reader.add(&section, "delay_ms", "must have at most 64 entries");
    }
    let own = listen.parse::<std::net::SocketAddr>();
    let known = own.is_ok_and(|own| !own.ip().is_unspecified());
    if !delay_ms.is_empty() && !known {
        let message = "needs an IP address in listen, by which others know this node";
        reader.add(&section, "delay_ms", message);
    }
    if section.has("cuts_file") {
        let gone = "is no setting any more: leave it out; `firebreak drill plan asymmetric-send` and its like cut \
                    ways of a running node";
        reader.add(&section, "cuts_file", gone);
    }
    Network { delay_ms }
}

fn tuning(reader: &mut Reader<'_>, top: &Section<'_>) -> Tuning {
    let section = reader.section(top, "raft");
    reader.known(
        &section,
        &[
            "heartbeat_ms",
            "election_min_ms",
            "election_max_ms",
            "read_lease_ms",
            "replace_after_ms",
        ],
    );
    let default = Tuning::default();
    let scrub = scrub(reader, top);
    let mut ms = |key, default, bounds| reader.number(&section, key, default, bounds, "ms");
    let tuning = Tuning {
        heartbeat_ms: ms("heartbeat_ms", default.heartbeat_ms, 20..=10_000),
        election_min_ms: ms("election_min_ms", default.election_min_ms, 1..=60_000),
        election_max_ms: ms("election_max_ms", default.election_max_ms, 1..=60_000),
        read_lease_ms: ms("read_lease_ms", default.read_lease_ms, 0..=60_000),
        keep: default.keep.clone(),
        replace_after_ms: ms(
            "replace_after_ms",
            default.replace_after_ms,
            1_000..=7 * 24 * 60 * 60 * 1_000,
        ),
        scrub,
    };
    let Tuning {
        heartbeat_ms,
        election_min_ms,
        election_max_ms,
        read_lease_ms,
        keep: _,
        replace_after_ms: _,
        scrub: _,
    } = tuning;
    for (wrong, key, message) in [
        (
            election_min_ms <= 2 * heartbeat_ms,
            "election_min_ms",
            format!(
                "must be more than two heartbeats ({} ms); it is {election_min_ms}",
                2 * heartbeat_ms
            ),
        ),
        (
            election_max_ms <= election_min_ms,
            "election_max_ms",
            format!(
                "must be more than election_min_ms ({election_min_ms}); it is {election_max_ms}"
            ),
        ),
        (
            read_lease_ms >= election_min_ms,
            "read_lease_ms",
            format!("must be less than election_min_ms ({election_min_ms}); it is {read_lease_ms}"),
        ),
    ] {
        if wrong {
            reader.add(&section, key, message);
        }
    }
    tuning
}

fn scrub(reader: &mut Reader<'_>, top: &Section<'_>) -> Scrubbing {
    const HOUR_MS: u64 = 60 * 60 * 1_000;
    const MIB: u64 = 1024 * 1024;
    let section = reader.section(top, "scrub");
    reader.known(&section, &["every_h", "max_mb_per_s"]);
    let default = Scrubbing::default();
    let every_h = default.every_ms / HOUR_MS;
    let mb_per_s = default.bytes_per_s / MIB;
    Scrubbing {
        every_ms: HOUR_MS * reader.number(&section, "every_h", every_h, 0..=8_760, "hours"),
        bytes_per_s: MIB * reader.number(&section, "max_mb_per_s", mb_per_s, 1..=10_000, "MiB/s"),
    }
}

fn address(text: &str) -> Result<(), String> {
    proto::net::endpoint(text)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Whether others can come to an address.
fn anywhere(text: &str) -> Result<(), String> {
    proto::net::destination(text).map_err(|error| format!("{error}; set advertise to one"))
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
