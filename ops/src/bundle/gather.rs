//! What one node gives: its status, its files, what its recorder has. Each step has its limit, and what
//! came before a step broke off is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use client::{Client, Code, v1};
use futures::StreamExt as _;
use indicatif::ProgressBar;
use model::text::printable;
use server::secrets;
use server::sight::report::Report;
use tokio::time::{Instant, timeout_at};

use super::archive::{Entry, part};
use super::json::Shape;
use super::manifest::Missing;
use super::when::Range;

/// Steps at each node.
pub const STEPS: usize = 3;
/// The files that a node of this version gives.
pub const FILES: [&str; 9] = [
    "config.json",
    "process.json",
    "metrics.txt",
    "shards.txt",
    "limits.txt",
    "machine.txt",
    "log.txt",
    "raftdb.LOG",
    "msgdb.LOG",
];
/// What its recorder has.
pub const EVENTS: &str = "events.jsonl";
const STATUS: &str = "status.json";
/// Bytes of all files of a node.
const FILES_BYTES: usize = 64 << 20;
/// Bytes of what its recorder has, as JSON.
const EVENTS_BYTES: usize = 64 << 20;

/// What a node gave, and what it did not.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Its name.
    pub node: String,
    /// Its data center.
    pub dc: String,
    /// Its files.
    pub entries: Vec<Entry>,
    /// What there is not.
    pub missing: Vec<Missing>,
}

impl Gathered {
    /// Nothing, and why.
    pub fn none(node: &str, why: String) -> Gathered {
        Gathered {
            node: node.to_owned(),
            missing: vec![Missing::node(node, why)],
            ..Gathered::default()
        }
    }

    fn lacks(&mut self, file: &str, why: impl Into<String>) {
        let missing = Missing::file(&self.node, file, why.into());
        self.missing.push(missing);
    }

    fn has(&mut self, file: &str, data: Vec<u8>, left_out_bytes: u64) {
        let path = format!("nodes/{}/{}", part(&self.node), part(file));
        let data = secrets::clean(data);
        self.entries.push(Entry {
            path,
            data,
            left_out_bytes,
        });
    }
}

/// Asks a node for all that it gives; one that did not say how it is is not asked again.
pub async fn node(
    client: &Client,
    report: &Report,
    range: Range,
    limit: Duration,
    bar: &ProgressBar,
) -> Gathered {
    let listed = report.listed.as_ref();
    let mut gathered = Gathered {
        node: listed.map_or_else(|| report.address.clone(), |node| printable(&node.name)),
        dc: listed.map_or_else(String::new, |node| printable(&node.dc)),
        ..Gathered::default()
    };
    let status = match &report.status {
        Ok(status) => status,
        Err(why) => {
            let why = format!("it does not answer: {}", printable(why));
            gathered.missing.push(Missing::node(&gathered.node, why));
            return gathered;
        }
    };
    match as_json(status) {
        Ok(data) => gathered.has(STATUS, data, 0),
        Err(error) => gathered.lacks(STATUS, error.to_string()),
    }
    bar.inc(1);
    let address = report.address.as_str();
    let (files, events) = tokio::join!(
        async {
            let files = Files::ask(client, address, limit).await;
            bar.inc(1);
            files
        },
        async {
            let events = Events::ask(client, address, range, status.now_ms, limit).await;
            bar.inc(1);
            events
        }
    );
    files.into(&mut gathered);
    events.into(&mut gathered);
    gathered
}

fn as_json(status: &v1::GetStatusResponse) -> anyhow::Result<Vec<u8>> {
    let mut data = Vec::new();
    Shape::of("GetStatusResponse")?.write(status, true, &mut data)?;
    Ok(data)
}

/// Why a step was not done; what older nodes do not have is said so.
fn why(error: &client::Error, what: &str) -> String {
    match error {
        client::Error::Refused(refusal) if refusal.code == Code::Unimplemented => {
            format!("the node is of an earlier version, which has no {what}")
        }
        error => printable(&error.to_string()),
    }
}

fn too_late(limit: Duration) -> String {
    format!("not within {} s (--limit)", limit.as_secs())
}

/// The files of a node.
#[derive(Default)]
struct Files {
    /// Each with its data, whether it is whole, and what is left out of it.
    files: BTreeMap<String, File>,
    failed: Option<String>,
}

#[derive(Default)]
struct File {
    data: Vec<u8>,
    left_out_bytes: u64,
    whole: bool,
    missing: String,
}

impl Files {
    async fn ask(client: &Client, address: &str, limit: Duration) -> Files {
        let until = Instant::now() + limit;
        let mut files = Files::default();
        let asked = timeout_at(until, client.debug_of(address, Vec::new())).await;
        let mut parts = match asked {
            Ok(Ok(parts)) => parts,
            Ok(Err(error)) => {
                files.failed = Some(why(&error, "Admin.GetDebug"));
                return files;
            }
            Err(_) => {
                files.failed = Some(too_late(limit));
                return files;
            }
        };
        let mut bytes = 0;
        loop {
            match timeout_at(until, parts.next()).await {
                Ok(Some(Ok(piece))) => {
                    bytes += piece.data.len();
                    if bytes > FILES_BYTES {
                        files.failed = Some("the node gives more than it should".to_owned());
                        return files;
                    }
                    files.add(piece);
                }
                Ok(Some(Err(error))) => files.failed = Some(why(&error, "Admin.GetDebug")),
                Ok(None) => return files,
                Err(_) => files.failed = Some(too_late(limit)),
            }
            if files.failed.is_some() {
                return files;
            }
        }
    }

    fn add(&mut self, piece: v1::GetDebugPart) {
        let file = self.files.entry(piece.file).or_default();
        file.data.extend_from_slice(&piece.data);
        file.left_out_bytes = piece.left_out_bytes;
        file.whole = piece.last;
        file.missing = piece.missing;
    }

    fn into(self, gathered: &mut Gathered) {
        let broke_off = self
            .failed
            .clone()
            .unwrap_or_else(|| "it is not given".to_owned());
        let known: BTreeSet<String> = self.files.keys().cloned().collect();
        for (name, file) in self.files {
            let name = printable(&name);
            if !file.missing.is_empty() {
                gathered.lacks(&name, printable(&file.missing));
                continue;
            }
            if !file.whole {
                gathered.lacks(&name, format!("its end: {broke_off}"));
            }
            gathered.has(&name, file.data, file.left_out_bytes);
        }
        for name in FILES.iter().filter(|name| !known.contains(**name)) {
            gathered.lacks(name, broke_off.clone());
        }
    }
}

/// What a node's recorder has, a record a line.
#[derive(Default)]
struct Events {
    data: Vec<u8>,
    failed: Option<String>,
}

impl Events {
    async fn ask(
        client: &Client,
        address: &str,
        range: Range,
        now_ms: u64,
        limit: Duration,
    ) -> Events {
        let mut events = Events::default();
        let until = Instant::now() + limit;
        let told = timeout_at(until, events.read(client, address, range, now_ms)).await;
        events.failed = match told {
            Ok(failed) => failed,
            Err(_) => Some(too_late(limit)),
        };
        events
    }

    /// Why it ends before the end of the time, if it does.
    async fn read(
        &mut self,
        client: &Client,
        address: &str,
        range: Range,
        now_ms: u64,
    ) -> Option<String> {
        let shape = match Shape::of("Record") {
            Ok(shape) => shape,
            Err(error) => return Some(error.to_string()),
        };
        let (from_ms, to_ms) = range.at(now_ms);
        let mut after = String::new();
        loop {
            let request = v1::GetEventsRequest {
                from_ms,
                to_ms,
                after: after.clone(),
                without_seconds: false,
            };
            let mut pages = match client.recorded_of(address, request).await {
                Ok(pages) => pages,
                Err(error) => return Some(why(&error, "flight recorder")),
            };
            let mut more = false;
            while let Some(page) = pages.next().await {
                let page = match page {
                    Ok(page) => page,
                    Err(error) => return Some(why(&error, "flight recorder")),
                };
                if page.off {
                    return Some("the recorder is off there (recorder.max_mb = 0)".to_owned());
                }
                for record in &page.records {
                    if let Err(error) = shape.write(record, false, &mut self.data) {
                        return Some(error.to_string());
                    }
                    self.data.push(b'\n');
                }
                (more, after) = (page.more, page.next);
                if self.data.len() > EVENTS_BYTES {
                    let mib = EVENTS_BYTES >> 20;
                    return Some(format!("its end: more than {mib} MiB; ask for less time"));
                }
            }
            if !more {
                return None;
            }
        }
    }

    fn into(self, gathered: &mut Gathered) {
        match self.failed {
            Some(why) if self.data.is_empty() => gathered.lacks(EVENTS, why),
            Some(why) => {
                gathered.lacks(EVENTS, format!("its end: {why}"));
                gathered.has(EVENTS, self.data, 0);
            }
            None => gathered.has(EVENTS, self.data, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(file: &str, data: &str, last: bool) -> v1::GetDebugPart {
        v1::GetDebugPart {
            file: file.to_owned(),
            data: data.to_owned().into(),
            last,
            ..v1::GetDebugPart::default()
        }
    }

    #[test]
    fn what_came_before_a_step_broke_off_is_kept_and_the_rest_is_listed() {
        let mut files = Files::default();
        files.add(piece("config.json", "{", false));
        files.add(piece("config.json", "}", true));
        files.add(piece("log.txt", "half", false));
        files.add(v1::GetDebugPart {
            missing: "no such file".to_owned(),
            last: true,
            ..piece("msgdb.LOG", "", true)
        });
        files.failed = Some("not within 5 s (--limit)".to_owned());
        let mut gathered = Gathered {
            node: "seoul-1".to_owned(),
            ..Gathered::default()
        };
        files.into(&mut gathered);
        let has = gathered.entries.iter();
        let has: Vec<(&str, &[u8])> = has.map(|one| (one.path.as_str(), &one.data[..])).collect();
        assert_eq!(
            has,
            [
                ("nodes/seoul-1/config.json", &b"{}"[..]),
                ("nodes/seoul-1/log.txt", &b"half"[..])
            ]
        );
        let lines: Vec<String> = gathered.missing.iter().map(Missing::line).collect();
        assert!(
            lines[0].contains("log.txt: its end: not within 5 s"),
            "{lines:?}"
        );
        assert!(lines[1].contains("msgdb.LOG: no such file"), "{lines:?}");
        assert_eq!(lines.len(), FILES.len() - 1, "{lines:?}");
    }

    #[test]
    fn no_join_token_gets_into_the_archive_even_from_a_node_that_sends_one() {
        let token = format!("fb-{}", "5".repeat(40));
        let mut files = Files::default();
        files.add(piece("log.txt", &format!("join with {token}\n"), true));
        let mut gathered = Gathered::default();
        files.into(&mut gathered);
        assert_eq!(gathered.entries[0].data, b"join with (removed)\n");
    }
}
