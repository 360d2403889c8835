//! What several nodes' flight recorders have of a time: the document that `firebreak outage record` writes,
//! and what can be told from it.
//!
//! ```text
//!  GetEvents of each node, or its files ─► Night ─┬─ felt     who was down, stood still, was cut off
//!                                                 └─ account  who led, the longest pauses, the load
//! ```

pub mod account;
pub mod felt;

use std::collections::BTreeMap;

use proto::v1::record::What;
use proto::v1::{ClusterRecord, Record};
use serde::{Deserialize, Serialize};

pub use crate::recorder::ring::at_ms;

/// What the document calls itself.
pub const KIND: &str = "firebreak-night";
/// Its format.
pub const FORMAT: u32 = 1;

/// A time as the nodes' recorders have it. A later version may add fields; it does not mind those that it
/// does not know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Night {
    /// [`KIND`].
    pub kind: String,
    /// [`FORMAT`].
    pub format: u32,
    /// Of the program that recorded it.
    pub version: String,
    /// When that was, Unix milliseconds.
    pub recorded_ms: u64,
    /// What was asked for, Unix milliseconds as most clocks said.
    pub from_ms: u64,
    /// As above.
    pub to_ms: u64,
    /// The cluster, as the newest record has it.
    pub cluster: ClusterRecord,
    /// What each node has, by its number.
    pub nodes: Vec<NodeNight>,
    /// Nodes whose recorders could not be asked.
    pub missing: Vec<Missing>,
}

/// What one node has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeNight {
    /// Its number.
    pub node_id: u64,
    /// Its name.
    pub name: String,
    /// Where it was read: host:port, or a data directory.
    pub source: String,
    /// Records that it lost since its start, as it was asked.
    pub dropped: u64,
    /// Bytes of its files that could not be read.
    pub torn_bytes: u64,
    /// The oldest that it keeps, Unix milliseconds.
    pub first_ms: u64,
    /// It broke off, or there was more than is taken.
    pub cut_short: Option<String>,
    /// The recorder is off there.
    pub off: bool,
    /// What was known before: who it is, the cluster, the ways, and who led.
    pub head: Vec<Record>,
    /// Its records, by time.
    pub records: Vec<Record>,
}

/// A node that could not be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Missing {
    /// Its name, or its address.
    pub name: String,
    /// Why.
    pub why: String,
}

impl Night {
    /// Reads a document.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(text: &str) -> Result<Night, String> {
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| match error.is_eof() {
                true => format!("is cut short: {error}; record it again"),
                false => format!("is not JSON: {error}"),
            })?;
        let kind = value.get("kind").and_then(serde_json::Value::as_str);
        if kind != Some(KIND) {
            return Err(format!(
                "is no record of a night (its kind is {}): `firebreak outage record` writes one",
                kind.map_or_else(|| "missing".to_owned(), |kind| format!("{kind:?}"))
            ));
        }
        let format = value.get("format").and_then(serde_json::Value::as_u64);
        if format != Some(u64::from(FORMAT)) {
            let found = format.map_or_else(|| "none".to_owned(), |format| format.to_string());
            return Err(format!(
                "has format {found}; this version reads format {FORMAT}: use the version that wrote it"
            ));
        }
        let mut night: Night =
            serde_json::from_value(value).map_err(|error| format!("cannot be read: {error}"))?;
        if night.from_ms >= night.to_ms {
            return Err("has no time in it: from_ms is not before to_ms".to_owned());
        }
        night.order();
        Ok(night)
    }

    /// Puts everything in its order, and takes the newest cluster.
    pub fn order(&mut self) {
        self.nodes.sort_by_key(|node| node.node_id);
        for node in &mut self.nodes {
            // Stable: what was noted in one millisecond stays as it was noted.
            node.records.sort_by_key(at_ms);
        }
        let records = self.nodes.iter();
        let records = records.flat_map(|node| node.head.iter().chain(&node.records));
        let clusters = records.filter_map(|record| match &record.what {
            Some(What::Cluster(cluster)) => Some(cluster),
            _ => None,
        });
        let newest = clusters.max_by_key(|cluster| cluster.epoch).cloned();
        if let Some(newest) = newest.filter(|newest| newest.epoch >= self.cluster.epoch) {
            self.cluster = newest;
        }
    }

    /// What nodes are called.
    pub fn names(&self) -> BTreeMap<u64, String> {
        let known = self.cluster.nodes.iter();
        let known = known.map(|node| (node.node_id, node.name.clone()));
        let told = self.nodes.iter().map(|n| (n.node_id, n.name.clone()));
        told.chain(known).collect()
    }

    /// The data center of a node; empty where that is not known.
    pub fn dc_of(&self, node: u64) -> &str {
        let known = self.cluster.nodes.iter().find(|one| one.node_id == node);
        known.map_or("", |node| node.dc.as_str())
    }

    /// What all nodes knew before the time.
    pub fn heads(&self) -> impl Iterator<Item = (u64, &What)> {
        let of = |node: &'_ NodeNight| node.node_id;
        let nodes = self.nodes.iter();
        nodes.flat_map(move |node| {
            let id = of(node);
            let words = node.head.iter().filter_map(|record| record.what.as_ref());
            words.map(move |what| (id, what))
        })
    }

    /// All records of the time, of all nodes, by time.
    pub fn events(&self) -> Vec<(u64, u64, &What)> {
        let of = |node: &'_ NodeNight| -> Vec<(u64, u64, &What)> {
            let records = self.records(node.node_id);
            records.map(|(at, what)| (at, node.node_id, what)).collect()
        };
        let mut events: Vec<(u64, u64, &What)> = Vec::new();
        for node in &self.nodes {
            events.extend(of(node));
        }
        events.sort_by_key(|(at, node, _)| (*at, *node));
        events
    }

    /// One node's.
    pub fn records(&self, node: u64) -> impl Iterator<Item = (u64, &What)> {
        let nodes = self.nodes.iter().filter(move |one| one.node_id == node);
        let records = nodes.flat_map(|node| &node.records);
        records.filter_map(|record| Some((at_ms(record), record.what.as_ref()?)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proto::v1::{RecordedNode, RecordedShard};

    use super::*;

    pub(crate) const START: u64 = 1_796_000_000_000;

    /// Three nodes in three data centers and a shard; `records` are node, ms since the begin, what.
    pub(crate) fn night(records: Vec<(u64, u64, What)>) -> Night {
        let name = |id: u64| ["", "seoul-1", "busan-1", "tokyo-1"][usize::try_from(id).unwrap()];
        let mut night = Night {
            kind: KIND.to_owned(),
            format: FORMAT,
            from_ms: START,
            to_ms: START + 60_000,
            cluster: ClusterRecord {
                epoch: 1,
                nodes: (1..=3)
                    .map(|id| RecordedNode {
                        node_id: id,
                        name: name(id).to_owned(),
                        region: "kr".to_owned(),
                        dc: name(id).split('-').next().unwrap().to_owned(),
                        rack: "r1".to_owned(),
                    })
                    .collect(),
                shards: vec![RecordedShard {
                    shard: 1,
                    replicas: vec![1, 2, 3],
                    prefer: Vec::new(),
                }],
                ..ClusterRecord::default()
            },
            nodes: (1..=3)
                .map(|id| NodeNight {
                    node_id: id,
                    name: name(id).to_owned(),
                    ..NodeNight::default()
                })
                .collect(),
            ..Night::default()
        };
        for (node, at, what) in records {
            let node = &mut night.nodes[usize::try_from(node).unwrap() - 1];
            node.records.push(Record {
                unix_ms: START + at,
                boot: 1,
                what: Some(what),
                ..Record::default()
            });
        }
        night.order();
        night
    }

    #[test]
    fn a_document_is_read_as_it_was_written_and_later_fields_are_skipped() {
        let stood = proto::v1::StoodRecord {
            lasted_ms: 30_000,
            suspended: false,
        };
        let night = night(vec![(1, 31_000, What::Stood(stood))]);
        let mut value = serde_json::to_value(&night).unwrap();
        assert_eq!(Night::parse(&value.to_string()), Ok(night.clone()));
        value["later"] = 7.into();
        value["nodes"][0]["records"][0]["what"]["stood"]["later"] = 7.into();
        assert_eq!(Night::parse(&value.to_string()), Ok(night));
    }

    #[test]
    fn what_is_no_night_is_refused_with_what_would_be_right() {
        let check = |text: &str, part: &str| {
            let why = Night::parse(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        };
        check("{\"kind\":\"firebreak-ni", "is cut short");
        check("night", "is not JSON");
        check("{}", "is no record of a night");
        check(
            "{\"kind\":\"firebreak-night\",\"format\":9}",
            "has format 9",
        );
        check(
            "{\"kind\":\"firebreak-night\",\"format\":1}",
            "no time in it",
        );
        check(
            "{\"kind\":\"firebreak-night\",\"format\":1,\"from_ms\":\"x\"}",
            "cannot be read",
        );
    }
}
