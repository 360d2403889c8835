//! The Raft logs and hard states of all shards, in `raftdb`.
