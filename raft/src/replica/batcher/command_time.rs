//! The time that the leader stamps on an entry, and the format that it writes.

use model::command::FORMAT;
use model::id::NodeId;
use store::state::ShardState;

use crate::adapter::told;
use crate::replica::leaders::Leadership;
use crate::time::Time;
use crate::time::stamp::{Clocks, Stamp, Stamps};

/// The time that the leader stamps.
pub(crate) struct CommandTime {
    time: Time,
    pub(super) state: ShardState,
    stamps: Stamps,
    /// The newest format of entries that all replicas read, as far as that is known.
    format: u32,
}

impl CommandTime {
    /// By the node's clocks, and never before what `state` has applied.
    pub(crate) fn new(time: Time, state: ShardState) -> CommandTime {
        CommandTime {
            time,
            state,
            stamps: Stamps::default(),
            format: 0,
        }
    }

    /// The next stamp. `able` says whether all replicas know of time that passed.
    pub(super) fn next(&mut self, able: impl FnOnce(&Time) -> bool) -> Stamp {
        let applied = self.state.applied();
        let applied = Stamp {
            time_ms: applied.time_ms,
            passed_ms: applied.passed_ms,
        };
        let clocks = Clocks {
            now: self.time.now(),
            agreed_ms: self.time.agreed_ms(),
            wall_ms: self.time.wall_ms(),
        };
        // Once it is counted there is no way back: a version that cannot stops at such an entry.
        let counts = applied.passed_ms > 0 || able(&self.time);
        self.stamps.next(applied, clocks, counts)
    }

    /// The newest format of entries that all replicas read. Once one is applied there is no way back.
    pub(super) fn format(&mut self, leadership: &Leadership) -> u32 {
        if self.format < FORMAT {
            let applied = self.state.applied().entry_format;
            let mut told = FORMAT;
            others(leadership, |member| {
                told = told.min(self.time.reads(member))
            });
            self.format = self.format.max(applied).max(told);
        }
        self.format.min(FORMAT)
    }
}

/// Whether all other replicas are of versions that know of time that passed.
pub(super) fn able(leadership: &Leadership, time: &Time) -> bool {
    let mut all = true;
    others(leadership, |member| all &= time.has_told(member));
    all
}

/// Visits all other replicas.
fn others(leadership: &Leadership, visit: impl FnMut(NodeId)) {
    let members = told::server(&leadership.raft).membership_config;
    let members = members.nodes().map(|(id, _)| NodeId(*id));
    members
        .filter(|one| *one != leadership.node)
        .for_each(visit);
}
