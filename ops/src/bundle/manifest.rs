//! What is in an archive, and what is missing from it and why.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use comfy_table::{Cell, CellAlignment};
use indicatif::HumanBytes;
use serde::Serialize;
use server::sight::verdict::{Judged, Verdict};
use server::sight::view::View;

use super::archive::Entry;
use super::gather::Gathered;
use super::when::Range;
use crate::cmd::target::new_table;

/// The form of manifest.json.
const FORMAT: u32 = 1;
/// Lines about what is missing that are shown; JSON has them all.
const MISSING_SHOWN: usize = 20;

/// Something that is not in the archive.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Missing {
    /// Of which node; none: of all.
    node: Option<String>,
    /// Which file; none: all of the node's.
    file: Option<String>,
    /// For people.
    why: String,
}

impl Missing {
    /// Everything that nodes would give.
    pub fn all(why: String) -> Missing {
        Missing {
            node: None,
            file: None,
            why,
        }
    }

    /// A whole node.
    pub fn node(node: &str, why: String) -> Missing {
        Missing {
            node: Some(node.to_owned()),
            ..Missing::all(why)
        }
    }

    /// A file of a node, or its end.
    pub fn file(node: &str, file: &str, why: String) -> Missing {
        Missing {
            file: Some(file.to_owned()),
            ..Missing::node(node, why)
        }
    }

    /// Says whose it is.
    pub fn of(&mut self, node: &str) {
        self.node = Some(node.to_owned());
    }

    /// For people.
    pub fn line(&self) -> String {
        match (&self.node, &self.file) {
            (Some(node), Some(file)) => format!("{node}, {file}: {}", self.why),
            (Some(node), None) => format!("{node}: {}", self.why),
            (None, _) => self.why.clone(),
        }
    }
}

/// What is in an archive.
#[derive(Serialize)]
pub struct Manifest {
    format: u32,
    made_at: String,
    made_by: String,
    asked: Vec<String>,
    limit_s: u64,
    recorder: Range,
    cluster_id: Option<String>,
    verdict: Option<Verdict>,
    sentence: Option<String>,
    /// Nothing is missing.
    complete: bool,
    nodes: Vec<Node>,
    files: Vec<File>,
    /// What is not in it.
    pub missing: Vec<Missing>,
}

#[derive(Serialize)]
struct Node {
    node: String,
    dc: String,
    files: usize,
    bytes: u64,
    missing: usize,
}

#[derive(Serialize)]
struct File {
    path: String,
    bytes: u64,
    left_out_bytes: u64,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Document<'a> {
    archive: String,
    archive_bytes: u64,
    #[serde(flatten)]
    manifest: &'a Manifest,
}

impl Manifest {
    /// Of an archive with nothing in it yet.
    pub fn new(now: SystemTime, limit_s: u64, recorder: Range, asked: &[String]) -> Manifest {
        Manifest {
            format: FORMAT,
            made_at: humantime::format_rfc3339_seconds(now).to_string(),
            made_by: format!("firebreak {}", env!("CARGO_PKG_VERSION")),
            asked: asked.to_vec(),
            limit_s,
            recorder,
            cluster_id: None,
            verdict: None,
            sentence: None,
            complete: true,
            nodes: Vec::new(),
            files: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Notes how the cluster stands.
    pub fn told(&mut self, view: &View, judged: &Judged) {
        self.cluster_id = Some(view.cluster_id.clone());
        self.verdict = Some(judged.verdict);
        self.sentence = Some(judged.sentence.clone());
    }

    /// Notes a file.
    pub fn file(&mut self, entry: &Entry) {
        self.files.push(File {
            path: entry.path.clone(),
            bytes: entry.data.len() as u64,
            left_out_bytes: entry.left_out_bytes,
        });
    }

    /// Notes what a node gave.
    pub fn add(&mut self, gathered: &Gathered) {
        let bytes = |data: &Vec<u8>| data.len() as u64;
        self.nodes.push(Node {
            node: gathered.node.clone(),
            dc: gathered.dc.clone(),
            files: gathered.entries.len(),
            bytes: gathered.entries.iter().map(|one| bytes(&one.data)).sum(),
            missing: gathered.missing.len(),
        });
        gathered.entries.iter().for_each(|one| self.file(one));
        self.missing.extend(gathered.missing.iter().cloned());
        self.nodes
            .sort_by(|a, b| (&a.dc, &a.node).cmp(&(&b.dc, &b.node)));
    }

    /// Nothing was gathered.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// As it is in the archive; nothing is added behind it.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn json(&mut self) -> anyhow::Result<Vec<u8>> {
        self.complete = self.missing.is_empty();
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(serde_json::to_vec_pretty(self)?)
    }

    /// The same for who asked with `--json`.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn document(&self, archive: &Path, archive_bytes: u64) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(&Document {
            archive: archive.display().to_string(),
            archive_bytes,
            manifest: self,
        })?)
    }

    /// For people.
    pub fn print(&self, archive: &Path, archive_bytes: u64) {
        if let Some(sentence) = &self.sentence {
            println!("{sentence}");
        }
        let mut table = new_table(&["node", "dc", "files", "bytes", "missing"]);
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        for node in &self.nodes {
            let missing = match (node.files, node.missing) {
                (0, _) => "all".to_owned(),
                (_, 0) => String::new(),
                (_, count) => count.to_string(),
            };
            table.add_row(vec![
                Cell::new(&node.node),
                Cell::new(&node.dc),
                right(node.files.to_string()),
                right(HumanBytes(node.bytes).to_string()),
                right(missing),
            ]);
        }
        println!("{table}");
        for line in self.missing_lines() {
            println!("{line}");
        }
        let size = HumanBytes(archive_bytes);
        println!("{} ({size}): {}", archive.display(), self.summary());
    }

    fn summary(&self) -> String {
        let files = self.files.len();
        match self.missing.is_empty() {
            true => format!("{files} files, nothing is missing"),
            false => format!("{files} files; what is missing is in its manifest.json too"),
        }
    }

    /// What is missing, files of a node for one reason together.
    fn missing_lines(&self) -> Vec<String> {
        let mut together: BTreeMap<(&Option<String>, &str), Vec<&str>> = BTreeMap::new();
        for one in &self.missing {
            let files = together.entry((&one.node, &one.why)).or_default();
            files.extend(one.file.as_deref());
        }
        let line = |((node, why), files): ((&Option<String>, &str), Vec<&str>)| {
            let file = (!files.is_empty()).then(|| files.join(", "));
            let one = Missing {
                node: node.clone(),
                file,
                why: why.to_owned(),
            };
            format!("missing: {}", one.line())
        };
        let mut lines: Vec<String> = together.into_iter().map(line).collect();
        let more = lines.len().saturating_sub(MISSING_SHOWN);
        if more > 0 {
            lines.truncate(MISSING_SHOWN);
            lines.push(format!("and {more} more; manifest.json has all"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_once_a_reason_and_makes_it_incomplete() {
        let now = SystemTime::UNIX_EPOCH;
        let range = Range::parse("15m", None, now).unwrap();
        let mut manifest = Manifest::new(now, 5, range, &["a:1".to_owned()]);
        assert!(manifest.is_empty());
        let late = |file| Missing::file("busan-1", file, "not within 5 s".to_owned());
        manifest.add(&Gathered {
            node: "busan-1".to_owned(),
            dc: "busan".to_owned(),
            entries: vec![Entry::of("nodes/busan-1/status.json", b"{}".to_vec())],
            missing: vec![late("log.txt"), late("msgdb.LOG")],
        });
        manifest.add(&Gathered {
            node: "seoul-1".to_owned(),
            missing: vec![Missing::node("seoul-1", "it does not answer".to_owned())],
            ..Gathered::default()
        });
        assert_eq!(
            manifest.missing_lines(),
            [
                "missing: busan-1, log.txt, msgdb.LOG: not within 5 s",
                "missing: seoul-1: it does not answer"
            ]
        );
        let json: serde_json::Value = serde_json::from_slice(&manifest.json().unwrap()).unwrap();
        assert_eq!(json["complete"], false);
        assert_eq!(json["missing"][2]["node"], "seoul-1");
        assert_eq!(json["files"][0]["path"], "nodes/busan-1/status.json");
        assert!(!manifest.is_empty());
    }
}
