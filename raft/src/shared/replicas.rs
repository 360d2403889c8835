//! The replicas of a node: opened as the view names them, watched over, stopped when they are broken or
//! given up.

use std::sync::Arc;

use bytes::Bytes;
use model::cluster::{ClusterState, Shard};
use model::id::ShardId;
use model::limits;
use store::state::ShardState;
use store::{Error, Position, ShardLog};
use tokio::sync::watch;

use super::records::{BROKEN, Broken, VIEW};
use super::{Opened, Shared, dropped};
use crate::adapter::incarnation;
use crate::api::Event;
use crate::replica::group::{Group, OpenError, Opening};

impl Shared {
    /// Takes a newer view: links to new nodes, groups for what this node is to hold, an end of
    /// those that it is not to hold any more.
    pub(crate) async fn learn(self: &Arc<Self>, view: ClusterState) {
        let _one_at_a_time = self.opening.lock().await;
        if view.epoch <= self.view.borrow().epoch {
            return;
        }
        // Noted before the view is, so that no start finds the view and not what it ends.
        let given_up = match self.give_up(&view).await {
            Ok(given_up) => given_up,
            Err(error) => return self.die(error.to_string()),
        };
        let record = Bytes::from(prost::Message::encode_to_vec(&view));
        if let Err(error) = self.log.local_put(VIEW, Some(record)).await {
            return self.die(error.to_string());
        }
        for link in self.peers.update(&view) {
            self.tell(Opened::Link(link));
        }
        for shard in given_up {
            match self.wipe(shard).await {
                Ok(()) | Err(Error::Corrupt { .. }) => {}
                Err(error) => return self.die(error.to_string()),
            }
        }
        for shard in &view.shards {
            let id = ShardId(shard.id);
            if view.holds(self.id(), id) && self.group(id).is_none() {
                // Whoever comes later learns from the others.
                let founds = shard.changes == 0 && shard.replicas.contains(&self.id().0);
                if let Err(why) = self.open_replica(id, slots(shard), founds).await {
                    return self.die(why);
                }
                let Some(group) = self.group(id) else {
                    continue;
                };
                let founds = founds && group.place.incarnation == 0;
                let founds = founds.then(|| shard.clone());
                self.tell(Opened::Begins(group, founds));
            }
        }
        self.view.send_replace(Arc::new(view));
    }

    /// Tells the tasks what is open; nobody listens only while the node is stopping.
    fn tell(&self, opened: Opened) {
        let _ = self.opens.send(opened);
    }

    /// Why the replica of a shard is broken, if it is.
    pub(crate) fn why_broken(&self, shard: ShardId) -> Option<String> {
        let broken = self.broken.lock();
        broken.get(&shard).map(|broken| broken.why.clone())
    }

    /// Begins to wipe a broken replica, of which its shard's leader says that it is no member, so that
    /// it learns from the others; `false` while that cannot be.
    pub(crate) fn begin_anew(self: &Arc<Self>, shard: ShardId) -> bool {
        let view = self.current_view();
        let wanted = shard.is_meta() || view.holds(self.id(), shard);
        let stopped = self.broken.lock().get(&shard).is_some_and(|b| b.stopped);
        if !wanted || !stopped || self.learning() >= limits::MOVES_TO_NODE_MAX {
            return false;
        }
        let node = self.clone();
        tokio::spawn(async move {
            let stop = node.stop.clone();
            let rebuilt = node.rebuild(shard);
            if let Some(Err(why)) = stop.run_until_cancelled(rebuilt).await {
                node.die(why);
            }
        });
        true
    }

    /// How many replicas of this node are not named by their shards' memberships yet: they learn. The
    /// meta shard's is a guest on most nodes.
    fn learning(&self) -> usize {
        let groups = self.groups.read();
        let data = groups.values().filter(|group| !group.shard.is_meta());
        data.filter(|group| !group.place.counts()).count()
    }

    async fn rebuild(self: &Arc<Self>, shard: ShardId) -> Result<(), String> {
        let _one_at_a_time = self.opening.lock().await;
        let view = self.current_view();
        let slots = match view.shard(shard) {
            Some(of) if view.holds(self.id(), shard) => slots(of),
            None if shard.is_meta() => 0..=0,
            Some(_) | None => return Ok(()),
        };
        // Asked for twice, it was done meanwhile.
        if !self.broken.lock().contains_key(&shard) {
            return Ok(());
        }
        tracing::warn!(%shard, "the broken replica is wiped and learns from the others");
        let disk = |error: Error| error.to_string();
        let begun = dropped::begin(&self.log, shard, slots.clone(), None);
        begun.await.map_err(disk)?;
        match self.wipe(shard).await {
            Err(error @ Error::Corrupt { .. }) => {
                tracing::error!(%shard, %error, "a broken replica cannot be wiped");
                return Ok(());
            }
            wiped => wiped.map_err(disk)?,
        }
        self.open_replica(shard, slots, false).await?;
        self.note(Event::ReplicaRebuilt { shard });
        if let Some(group) = self.group(shard) {
            self.tell(Opened::Begins(group, None));
        }
        Ok(())
    }

    /// Wipes a replica that has stopped and whose marker is there; it is broken no more.
    async fn wipe(&self, shard: ShardId) -> Result<(), Error> {
        dropped::finish(&self.log, &self.state, shard).await?;
        let noted = self.broken.lock().remove(&shard).is_some();
        if noted {
            self.log.local_put(&broken_key(shard), None).await?;
            self.peers.vitals().is_broken(shard, false);
        }
        Ok(())
    }

    /// Stops the replicas that this node is not to hold any more, and notes that they are to be
    /// dropped. The shard's voters have been changed before the view says so, and that is
    /// committed: nobody counts on them.
    async fn give_up(&self, view: &ClusterState) -> Result<Vec<ShardId>, Error> {
        let mut given_up = Vec::new();
        for shard in &view.shards {
            let id = ShardId(shard.id);
            if view.holds(self.id(), id) {
                continue;
            }
            let group = self.shut(id);
            // One that is broken has stopped, or is about to by itself, and is given up no less.
            let broken = self.broken.lock().get(&id).map(|broken| broken.stopped);
            let last = match (group, broken) {
                (Some(group), _) => {
                    group.closing.cancel();
                    group.stop().await;
                    group.last_log()
                }
                (None, Some(true)) => None,
                (None, Some(false) | None) => continue,
            };
            dropped::begin(&self.log, id, slots(shard), last).await?;
            tracing::info!(shard = %id, "this node gives up its replica");
            self.note(Event::ReplicaClosed { shard: id });
            given_up.push(id);
        }
        Ok(given_up)
    }

    /// Opens the replica of a shard, unless it is broken; `founds` tells one that was laid out from one
    /// that comes later. `Err` only when the node cannot go on.
    pub(crate) async fn open_replica(
        self: &Arc<Self>,
        shard: ShardId,
        slots: std::ops::RangeInclusive<u16>,
        founds: bool,
    ) -> Result<(), String> {
        if self.broken.lock().contains_key(&shard) {
            return Ok(());
        }
        let opened = match self.stores(shard, slots, founds).await {
            Ok((log, state, floor, incarnation)) => {
                let opening = Opening {
                    node: self.id(),
                    shard,
                    tuning: self.tuning.clone(),
                    log,
                    state,
                    peers: self.peers.clone(),
                    room: self.room.clone(),
                    waiting: self.waiting.clone(),
                    floor,
                    incarnation,
                };
                Group::open(opening).await
            }
            Err(corrupt @ Error::Corrupt { .. }) => Err(OpenError::Broken(corrupt.to_string())),
            Err(error) => Err(OpenError::Node(error.to_string())),
        };
        match opened {
            Ok(group) => {
                if !shard.is_meta() {
                    group.leadership.sleep.hold();
                }
                self.have(&group);
                self.note(Event::ReplicaOpened {
                    shard,
                    incarnation: group.place.incarnation,
                });
                self.tell(Opened::Replica(group.clone()));
                if group.place.incarnation > 0 {
                    let named = group.clone();
                    tokio::spawn(async move { named.let_stand().await });
                }
                tokio::spawn(supervise(self.clone(), group));
                Ok(())
            }
            Err(OpenError::Broken(why)) => {
                self.note_broken(shard, &why, true);
                self.set_broken(shard, why).await;
                Ok(())
            }
            Err(OpenError::Node(why)) => Err(why),
        }
    }

    fn have(&self, group: &Arc<Group>) {
        let mut groups = self.groups.write();
        groups.insert(group.shard, group.clone());
        (self.opened)(groups.len());
    }

    fn shut(&self, shard: ShardId) -> Option<Arc<Group>> {
        let mut groups = self.groups.write();
        let group = groups.remove(&shard);
        (self.opened)(groups.len());
        group
    }

    /// What there is of a shard on the disks, and which incarnation that is.
    async fn stores(
        &self,
        shard: ShardId,
        slots: std::ops::RangeInclusive<u16>,
        founds: bool,
    ) -> Result<(ShardLog, ShardState, Option<Position>, u64), Error> {
        // One that it had before, and whose drop a damaged disk has held up.
        dropped::finish(&self.log, &self.state, shard).await?;
        let floor = dropped::floor(&self.log, shard)?;
        let log = self.log.shard(shard)?;
        let state = self.state.shard(shard, slots)?;
        let mut incarnation = incarnation::of(&self.log, shard)?;
        let empty = log.last().is_none() && state.applied().position.is_none();
        if incarnation == 0 && empty && !founds {
            // Nobody must take it for one that this node has had, or will have.
            incarnation = incarnation::renew(&self.log, shard).await?;
        }
        Ok((log, state, floor, incarnation))
    }

    /// Notes in memory that a replica is broken, so that nobody opens it.
    fn note_broken(&self, shard: ShardId, why: &str, stopped: bool) {
        let why = why.to_owned();
        let broken = Broken { why, stopped };
        self.broken.lock().insert(shard, broken);
        self.peers.vitals().is_broken(shard, true);
    }

    /// Notes for good that a replica, which has stopped, is broken: it neither votes nor acknowledges
    /// until it is rebuilt from the others.
    async fn set_broken(&self, shard: ShardId, why: String) {
        tracing::error!(
            %shard,
            %why,
            "this replica is broken and has stopped; the node's other shards go on, and it is rebuilt \
             from the others as soon as these are all there"
        );
        let event = Event::ReplicaBroken {
            shard,
            why: why.clone(),
        };
        self.note(event);
        let noted = self
            .log
            .local_put(&broken_key(shard), Some(Bytes::from(why)))
            .await;
        if let Err(error) = noted {
            self.die(error.to_string());
        }
    }
}

fn broken_key(shard: ShardId) -> String {
    format!("{BROKEN}{}", shard.0)
}

/// The slots of a shard.
fn slots(shard: &Shard) -> std::ops::RangeInclusive<u16> {
    // They are below 2^16 in every layout that was decided.
    let slot = |slot: u32| u16::try_from(slot).unwrap_or(u16::MAX);
    slot(shard.slot_first)..=slot(shard.slot_last)
}

/// Waits for a replica's end, and decides what ends with it.
async fn supervise(node: Arc<Shared>, group: Arc<Group>) {
    let mut fault = group.fault.watch();
    let mut read_error = group.state.watch_read_error();
    let error = tokio::select! {
        // A replica that is given up stops, too: looked at in this order.
        biased;
        () = node.stop.cancelled() => return,
        () = group.closing.cancelled() => return,
        error = first(&mut fault) => error,
        error = first(&mut read_error) => error,
        why = group.stopped() => {
            // The disk's own word, when it came first, says more.
            let fault = group.fault.watch().borrow().clone();
            if fault.is_none() {
                return node.die(format!("the Raft core of {} stopped: {why}", group.shard));
            }
            fault
        }
    };
    match error {
        Some(corrupt @ Error::Corrupt { .. }) => {
            let why = corrupt.to_string();
            // In this order: nobody opens it again meanwhile.
            node.note_broken(group.shard, &why, false);
            node.shut(group.shard);
            group.stop().await;
            node.set_broken(group.shard, why.clone()).await;
            // From here on it may be wiped.
            node.note_broken(group.shard, &why, true);
        }
        Some(error) => node.die(error.to_string()),
        None => {}
    }
}

/// The error, once there is one; `None` when there will be none.
async fn first(errors: &mut watch::Receiver<Option<Error>>) -> Option<Error> {
    let error = errors.wait_for(Option::is_some).await.ok();
    error.and_then(|error| error.clone())
}
