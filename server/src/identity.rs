//! Who this node is, as its own disk says: a record of `raftdb` that is synced before anyone hears
//! of what it says.
//!
//! The boot counter rises with each start and comes with a fresh nonce, so that peers notice an
//! old copy of a disk; the disk id is drawn once, so that they notice a wiped one.

use bytes::Bytes;
use model::cluster::ClusterState;
use prost::Message;
use store::Log;
use thiserror::Error;

/// The name of the record.
const KEY: &str = "identity";
/// The format that this version writes.
const FORMAT: u32 = 1;

/// The record. A disk format: tags are permanent.
#[derive(Clone, PartialEq, Message)]
pub struct Record {
    /// The format of the writer.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// The cluster's id, hex; empty until the node has been let in.
    #[prost(string, tag = "2")]
    pub cluster_id: String,
    /// The node's number; 0 until the node has been let in.
    #[prost(uint64, tag = "3")]
    pub node: u64,
    /// The node's name.
    #[prost(string, tag = "4")]
    pub name: String,
    /// 16 random bytes, drawn before the first join is tried.
    #[prost(bytes = "bytes", tag = "5")]
    pub disk_id: Bytes,
    /// Starts so far.
    #[prost(uint64, tag = "6")]
    pub boot: u64,
    /// Drawn at the last start.
    #[prost(uint64, tag = "7")]
    pub boot_nonce: u64,
    /// On the founder's disk until the cluster is founded: what to found.
    #[prost(message, optional, tag = "8")]
    pub found: Option<ClusterState>,
    /// host:port of the nodes named when this one joined.
    #[prost(string, repeated, tag = "9")]
    pub seeds: Vec<String>,
    /// What the cluster's nodes prove themselves with: 32 random bytes; none in a cluster that was
    /// founded without.
    #[prost(bytes = "bytes", tag = "10")]
    pub secret: Bytes,
}

/// Why the record cannot be used.
#[derive(Clone, Debug, Error)]
pub enum Error {
    /// The disk failed, or gave back something corrupt.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// It is not a record of this kind.
    #[error("the identity record in raftdb cannot be understood: {0}")]
    Malformed(String),
    /// The directory belongs to a node of another name.
    #[error(
        "the data directory is that of node {found:?}, the configuration says {configured:?}: \
         use the right directory, or an empty one"
    )]
    OtherNode {
        /// The name on the disk.
        found: String,
        /// The name in the configuration.
        configured: String,
    },
}

impl Record {
    /// A record of a node that nobody has let in yet.
    pub fn new(name: &str, disk_id: [u8; 16]) -> Record {
        Record {
            format: FORMAT,
            name: name.to_owned(),
            disk_id: Bytes::copy_from_slice(&disk_id),
            ..Record::default()
        }
    }

    /// Whether the node belongs to a cluster.
    pub fn is_member(&self) -> bool {
        self.node > 0
    }

    /// The disk's id.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it has not 16 bytes.
    pub fn disk_id(&self) -> Result<[u8; 16], Error> {
        let malformed = |_| Error::Malformed("its disk id has not 16 bytes".into());
        self.disk_id.as_ref().try_into().map_err(malformed)
    }

    /// Reads the record of the node `name`; `None` on a fresh disk.
    ///
    /// # Errors
    /// [`enum@Error`].
    pub fn load(log: &Log, name: &str) -> Result<Option<Record>, Error> {
        let Some(bytes) = log.local_get(KEY)? else {
            return Ok(None);
        };
        let record = Record::read(bytes)?;
        if record.name != name {
            return Err(Error::OtherNode {
                found: record.name,
                configured: name.to_owned(),
            });
        }
        Ok(Some(record))
    }

    /// Writes the record; durable on completion.
    ///
    /// # Errors
    /// As the disk has.
    pub async fn save(&self, log: &Log) -> Result<(), Error> {
        let bytes = Bytes::from(self.encode_to_vec());
        Ok(log.local_put(KEY, Some(bytes)).await?)
    }

    fn read(bytes: Bytes) -> Result<Record, Error> {
        let record = Record::decode(bytes).map_err(|error| Error::Malformed(error.to_string()))?;
        if record.format == 0 || record.format > FORMAT {
            return Err(Error::Store(store::Error::Format {
                file: "raftdb (identity)".into(),
                found: record.format,
                known: FORMAT,
            }));
        }
        record.disk_id()?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use store::engine::memory::{Disk, Memory};

    use super::*;

    async fn with_log<T>(disk: &Disk, work: impl AsyncFnOnce(&Log) -> T) -> T {
        let (log, writer) = Log::open(Arc::new(Memory::open(disk))).expect("a good disk");
        let writer = tokio::spawn(writer);
        let result = work(&log).await;
        drop(log);
        writer.await.expect("no panic").expect("no error");
        result
    }

    #[tokio::test]
    async fn what_was_saved_is_there_after_a_power_cut_and_only_for_that_name() {
        let disk = Disk::new();
        let mut record = Record::new("a", [1; 16]);
        record.boot = 7;
        with_log(&disk, async |log| {
            assert!(Record::load(log, "a").expect("readable").is_none());
            record.save(log).await.expect("saved");
        })
        .await;
        disk.power_cut(0);
        with_log(&disk, async |log| {
            assert_eq!(
                Record::load(log, "a").expect("readable"),
                Some(record.clone())
            );
            let error = Record::load(log, "b").expect_err("another node");
            assert!(error.to_string().contains("node \"a\""), "{error}");
        })
        .await;
    }

    #[test]
    fn a_record_of_a_later_format_or_without_sense_is_refused() {
        let later = Record {
            format: FORMAT + 1,
            ..Record::new("a", [1; 16])
        };
        let error = Record::read(later.encode_to_vec().into()).expect_err("later");
        assert!(error.to_string().contains("holds format 2"), "{error}");
        assert!(matches!(
            Record::read(vec![0xff].into()),
            Err(Error::Malformed(_))
        ));
        let short = Record {
            disk_id: Bytes::from_static(b"x"),
            ..Record::new("a", [1; 16])
        };
        assert!(matches!(
            Record::read(short.encode_to_vec().into()),
            Err(Error::Malformed(_))
        ));
    }

    #[test]
    fn the_record_on_disk_never_changes() {
        let record = Record {
            cluster_id: "c".into(),
            node: 2,
            boot: 3,
            boot_nonce: 4,
            seeds: vec!["h:1".into()],
            ..Record::new("n", [9; 16])
        };
        let golden = b"\x08\x01\x12\x01c\x18\x02\"\x01n*\x10\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t0\x038\x04J\x03h:1";
        assert_eq!(record.encode_to_vec(), golden);
        assert_eq!(
            Record::read(Bytes::from_static(golden)).expect("readable"),
            record
        );
    }
}
