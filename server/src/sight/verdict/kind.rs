//! What can be wrong with a cluster: each kind once, with its runbook, why it matters, and where to look
//! next.

/// The kinds, and the list of them, from one table: none can be left out of the list.
macro_rules! kinds {
    ($($kind:ident: $runbook:literal, $why:literal, $command:literal;)+) => {
        /// What can be wrong; each has a runbook.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Kind {
            $($kind,)+
        }

        impl Kind {
            const ALL: &[Kind] = &[$(Kind::$kind),+];

            pub(super) fn runbook(self) -> &'static str {
                match self {
                    $(Kind::$kind => $runbook,)+
                }
            }

            pub(super) fn why(self) -> &'static str {
                match self {
                    $(Kind::$kind => $why,)+
                }
            }

            pub(super) fn command(self) -> &'static str {
                match self {
                    $(Kind::$kind => $command,)+
                }
            }
        }
    };
}

kinds! {
    Silent: "no-node-answers",
        "nobody can be asked, so nothing is known of the cluster from here",
        "firebreak status --watch";
    Forming: "cluster-forming",
        "shards are laid out once all nodes that were promised have joined",
        "firebreak status --watch";
    NoQuorum: "no-quorum",
        "a majority of a shard's replicas must answer before anything of it is acknowledged",
        "firebreak status --watch";
    NoLeader: "no-leader",
        "calls to these shards wait, and are served once one is elected",
        "firebreak status --watch";
    DiskFull: "disk-full",
        "a node keeps a reserve so that its databases never run out of room",
        "firebreak node list";
    NodeSilent: "node-silent",
        "its shards are led elsewhere; with another loss some may be without a quorum",
        "firebreak node list";
    Broken: "replica-broken",
        "what it stored cannot be read; it is rebuilt from the others",
        "firebreak shard list";
    Misplaced: "replica-misplaced",
        "a shard is safe against the next loss once all its replicas are whole",
        "firebreak shard list";
    ClockOff: "clock-off",
        "times of messages would be wrong, and leases are measured less surely",
        "firebreak node list";
}

/// The runbooks that problems name.
pub fn runbooks() -> impl Iterator<Item = &'static str> {
    Kind::ALL.iter().map(|kind| kind.runbook())
}
