//! Structured logs, set up once by the program that runs a node; the crates below only emit them.

use std::collections::BTreeMap;
use std::io;

use model::cluster::ClusterState;
use parking_lot::RwLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// The levels there are.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// The parts of a node that say something, and what it is built on.
const PARTS: [&str; 14] = [
    "firebreak",
    "firebreak_client",
    "firebreak_model",
    "firebreak_proto",
    "firebreak_raft",
    "firebreak_server",
    "firebreak_sim",
    "firebreak_store",
    "h2",
    "hyper",
    "hyper_util",
    "openraft",
    "tonic",
    "tower",
];
/// What a level looks like, for people.
const RIGHT: &str =
    "use error, warn, info, debug or trace, or more for a part, as info,firebreak_raft=debug";

/// Checks tracing's directives: a level, or levels per part. What tracing takes for the name of a part that
/// there is not would be heeded by nobody, and nothing would be logged.
///
/// # Errors
/// Text saying what is wrong.
pub fn check_level(level: &str) -> Result<(), String> {
    for directive in level.split(',').map(str::trim) {
        // What is in brackets is a span's, which tracing knows better.
        let (part, level) = match directive.split_once('=') {
            _ if directive.contains('[') => continue,
            Some((part, level)) => (Some(part), level),
            None => (None, directive),
        };
        if !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
            let meant = nearest(level, &LEVELS);
            return Err(format!("{level:?} is no level{meant}; {RIGHT}"));
        }
        let crate_of = |part: &str| part.split("::").next().unwrap_or_default().to_owned();
        if let Some(part) = part.map(crate_of)
            && !PARTS.contains(&part.as_str())
        {
            let meant = nearest(&part, &PARTS);
            return Err(format!(
                "{part:?} is no part of this program{meant}; {RIGHT}"
            ));
        }
    }
    let parsed = EnvFilter::builder().parse(level);
    parsed
        .map(drop)
        .map_err(|error| format!("{error}; {RIGHT}"))
}

/// `: did you mean "info"?` where something is near.
fn nearest(word: &str, known: &[&str]) -> String {
    let word = word.to_ascii_lowercase();
    let distance = |other: &str| {
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (at, a) in word.bytes().enumerate() {
            let mut before = std::mem::replace(&mut row[0], at + 1);
            for (to, b) in other.bytes().enumerate() {
                let change = before + usize::from(a != b);
                before = row[to + 1];
                row[to + 1] = change.min(row[to] + 1).min(before + 1);
            }
        }
        row[other.len()]
    };
    let near = known.iter().map(|other| (distance(other), other)).min();
    match near.filter(|(distance, _)| *distance <= 2) {
        Some((_, meant)) => format!(": did you mean {meant:?}?"),
        None => String::new(),
    }
}

/// The variable that says what is logged, for a node and for the simulator.
pub const VARIABLE: &str = "FIREBREAK_LOG";

/// What the environment asks to be logged.
///
/// # Errors
/// When it makes no sense.
pub fn from_environment() -> Result<Option<String>, String> {
    let Ok(level) = std::env::var(VARIABLE) else {
        return Ok(None);
    };
    check_level(&level).map_err(|wrong| format!("{VARIABLE}: {wrong}"))?;
    Ok(Some(level))
}

/// What is filtered by: openraft speaks of every heartbeat that fails, in each of thousands of
/// groups, and calls a node that stops as it was told an error. What counts of it is told by those who
/// use it, so it is heard only when it is named.
fn directives(level: &str) -> String {
    if level.contains("openraft") {
        return level.to_owned();
    }
    format!("{level},openraft=off")
}

/// The names of the nodes, by number, as far as they are known. They are the same for all who log in
/// a process.
static NAMES: RwLock<BTreeMap<u64, String>> = RwLock::new(BTreeMap::new());

/// Notes what the nodes are called, so that log lines say it.
pub fn know(view: &ClusterState) {
    let known = NAMES.read().len();
    let names = || view.nodes.iter().map(|node| (node.id, &node.name));
    let all = || {
        let known = NAMES.read();
        names().all(|(id, name)| known.get(&id) == Some(name))
    };
    if known != view.nodes.len() || !all() {
        *NAMES.write() = names().map(|(id, name)| (id, name.clone())).collect();
    }
}

/// A text for people, in which nodes and shards have ids.
pub fn words(text: &str) -> String {
    named(text, &NAMES.read())
}

/// Writes log lines for people: what the code calls n2 and s1 has a name and a word there.
struct Named<W>(W);

impl<W: io::Write> io::Write for Named<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(line) {
            Ok(text) => self.0.write_all(words(text).as_bytes())?,
            Err(_) => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Makes those writers.
struct Naming<W>(W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Naming<W> {
    type Writer = Named<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        Named(self.0.make_writer())
    }

    fn make_writer_for(&'w self, meta: &tracing::Metadata<'_>) -> Self::Writer {
        Named(self.0.make_writer_for(meta))
    }
}

/// A text with `busan-1 (n2)` for n2 and `shard 1 (s1)` for s1, where these stand for themselves.
pub fn named(line: &str, names: &BTreeMap<u64, String>) -> String {
    let mut text = String::with_capacity(line.len() + 32);
    let mut rest = line;
    let mut begins = true;
    while let Some(first) = rest.chars().next() {
        if begins && let Some((words, length)) = word(rest, names) {
            text.push_str(&words);
            rest = &rest[length..];
            begins = false;
            continue;
        }
        // A colour is no part of a word.
        let colour = (first == '\u{1b}').then(|| rest.find('m')).flatten();
        let length = colour.map_or(first.len_utf8(), |end| end + 1);
        begins = first == '\u{1b}' || matches!(first, ' ' | '=' | '(' | '[' | '{' | ',' | '"');
        text.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    text
}

/// What to say for the id that a text begins with, and how long that is; none when it begins with none.
fn word(text: &str, names: &BTreeMap<u64, String>) -> Option<(String, usize)> {
    let (prefix, suffix) = [("NodeId(", ")"), ("ShardId(", ")"), ("n", ""), ("s", "")]
        .into_iter()
        .find(|(prefix, _)| text.starts_with(prefix))?;
    let digits = &text[prefix.len()..];
    let count = digits.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = digits[..count].parse().ok()?;
    let behind = digits[count..].strip_prefix(suffix)?;
    let ends = match behind.chars().next() {
        None => true,
        // A full stop may end a sentence.
        Some('.') => behind[1..].chars().next().is_none_or(char::is_whitespace),
        Some(c) => !(c.is_alphanumeric() || matches!(c, '-' | '_' | '/')),
    };
    if !ends {
        return None;
    }
    let words = match (prefix, number) {
        ("n" | "NodeId(", id) => format!("{} (n{id})", names.get(&id)?),
        (_, 0) => "the meta shard".to_owned(),
        (_, shard) => format!("shard {shard} (s{shard})"),
    };
    Some((words, prefix.len() + count + suffix.len()))
}

/// Sends all logs of this process to `writer`, which must neither block nor fail. The environment's `FIREBREAK_LOG` wins over `level`.
/// Colours are used when
/// standard error is a terminal, and never when `NO_COLOR` is set.
///
/// # Errors
/// When `level` or `FIREBREAK_LOG` cannot be read, or logs have been set up before.
pub fn install<W>(level: &str, format: Format, writer: W) -> Result<(), String>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let from_environment = from_environment()?;
    let level = from_environment.as_deref().unwrap_or(level);
    check_level(level)?;
    let filter = EnvFilter::builder().parse_lossy(directives(level));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        // It would tell them on standard error, where they come from.
        .log_internal_errors(false);
    match format {
        Format::Json => lines
            .with_writer(writer)
            .json()
            .flatten_event(true)
            .try_init(),
        Format::Text => {
            let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let colour = !plain && io::IsTerminal::is_terminal(&io::stderr());
            lines
                .with_writer(Naming(writer))
                .with_ansi(colour)
                .try_init()
        }
    }
    .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_checked_before_they_are_used() {
        assert!(check_level("info").is_ok());
        assert!(check_level("info,firebreak_raft=debug").is_ok());
        assert!(check_level("warn,firebreak_raft::quorum=TRACE,h2=off").is_ok());
        for (wrong, says) in [
            ("inf", "\"inf\" is no level: did you mean \"info\"?"),
            ("debg", "did you mean \"debug\"?"),
            ("", "\"\" is no level; use error"),
            ("info,", "\"\" is no level"),
            ("firebreak_raft", "\"firebreak_raft\" is no level"),
            (
                "info,firebreak_rft=debug",
                "no part of this program: did you mean \"firebreak_raft\"?",
            ),
            ("firebreak_raft=loud", "\"loud\" is no level; use"),
            ("x=y=z", "no level"),
        ] {
            let error = check_level(wrong).expect_err(wrong);
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }

    #[test]
    fn lines_name_nodes_and_shards_and_leave_all_else_as_it_is() {
        let names = BTreeMap::from([(2, "busan-1".to_owned())]);
        for (line, says) in [
            (
                "a node is silent peer=n2 shards=3",
                "a node is silent peer=busan-1 (n2) shards=3",
            ),
            ("silent={NodeId(2)}", "silent={busan-1 (n2)}"),
            (
                "\u{1b}[3mto\u{1b}[0m\u{1b}[2m=\u{1b}[0mn2\n",
                "\u{1b}[3mto\u{1b}[0m\u{1b}[2m=\u{1b}[0mbusan-1 (n2)\n",
            ),
            ("shard=s1 of s0", "shard=shard 1 (s1) of the meta shard"),
            ("no leader of s3.", "no leader of shard 3 (s3)."),
            ("n9 is nobody yet", "n9 is nobody yet"),
            (
                "took 3 s in /data/s1/x n2.log xn2 n2x s1-2",
                "took 3 s in /data/s1/x n2.log xn2 n2x s1-2",
            ),
            ("", ""),
        ] {
            assert_eq!(named(line, &names), says);
        }
    }

    #[test]
    fn openraft_is_quiet_unless_it_is_named() {
        assert_eq!(directives("debug"), "debug,openraft=off");
        assert_eq!(directives("info,openraft=info"), "info,openraft=info");
        assert!(check_level(&directives("info,firebreak_raft=debug")).is_ok());
    }
}
