//! The replicas of a node: opened as the view names them, watched over, stopped when they are broken or
//! given up.

use std::sync::Arc;

use bytes::Bytes;
use model::cluster::{ClusterState, Shard};
use model::id::ShardId;
use store::Error;
use tokio::sync::watch;

use super::{BROKEN, Inner, VIEW};
use crate::group::{Group, OpenError, Opening};
use crate::{dropped, liveness, meta, news};

impl Inner {
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
            tokio::spawn(liveness::watch(self.clone(), link));
        }
        for shard in given_up {
            match dropped::finish(&self.log, &self.state, shard).await {
                Ok(()) | Err(Error::Corrupt { .. }) => {}
                Err(error) => return self.die(error.to_string()),
            }
        }
        for shard in &view.shards {
            let id = ShardId(shard.id);
            if view.holds(self.id(), id) && self.group(id).is_none() {
                if let Err(why) = self.open(id, slots(shard)).await {
                    return self.die(why);
                }
                let Some(group) = self.group(id) else {
                    continue;
                };
                // Whoever comes later learns from the others.
                let founds = shard.changes == 0 && shard.replicas.contains(&self.id().0);
                let founds = founds.then(|| shard.clone());
                tokio::spawn(meta::begin_shard(self.clone(), group, founds));
            }
        }
        self.view.send_replace(Arc::new(view));
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
            let Some(group) = self.groups.write().remove(&id) else {
                continue;
            };
            group.closing.cancel();
            group.stop().await;
            dropped::begin(&self.log, id, slots(shard), group.last_log()).await?;
            tracing::info!(shard = %id, "this node gives up its replica");
            given_up.push(id);
        }
        Ok(given_up)
    }

    /// Opens the replica of a shard, unless it is broken. `Err` only when the node cannot go on.
    pub(super) async fn open(
        self: &Arc<Self>,
        shard: ShardId,
        slots: std::ops::RangeInclusive<u16>,
    ) -> Result<(), String> {
        if self.broken.lock().contains_key(&shard) {
            return Ok(());
        }
        // One that it had before, and whose drop a damaged disk has held up.
        let dropped = dropped::finish(&self.log, &self.state, shard).await;
        let opened = match dropped.and_then(|()| {
            let floor = dropped::floor(&self.log, shard)?;
            let log = self.log.shard(shard)?;
            Ok((log, self.state.shard(shard, slots)?, floor))
        }) {
            Ok((log, state, floor)) => {
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
                self.groups.write().insert(shard, group.clone());
                tokio::spawn(news::watch(self.clone(), group.clone(), self.won.clone()));
                tokio::spawn(supervise(self.clone(), group));
                Ok(())
            }
            Err(OpenError::Broken(why)) => {
                self.set_broken(shard, why).await;
                Ok(())
            }
            Err(OpenError::Node(why)) => Err(why),
        }
    }

    /// Stops a shard's replica for good: it neither votes nor acknowledges until it is rebuilt.
    async fn set_broken(&self, shard: ShardId, why: String) {
        tracing::error!(
            %shard,
            %why,
            "this replica is broken and stays stopped, the node's other shards go on; replacing it \
             needs a new node (wipe the data directory and join under a new name)"
        );
        let key = format!("{BROKEN}{}", shard.0);
        let noted = self
            .log
            .local_put(&key, Some(Bytes::from(why.clone())))
            .await;
        self.broken.lock().insert(shard, why);
        if let Err(error) = noted {
            self.die(error.to_string());
        }
    }
}

/// The slots of a shard.
fn slots(shard: &Shard) -> std::ops::RangeInclusive<u16> {
    // They are below 2^16 in every layout that was decided.
    let slot = |slot: u32| u16::try_from(slot).unwrap_or(u16::MAX);
    slot(shard.slot_first)..=slot(shard.slot_last)
}

/// Waits for a replica's end, and decides what ends with it.
async fn supervise(node: Arc<Inner>, group: Arc<Group>) {
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
            node.groups.write().remove(&group.shard);
            node.set_broken(group.shard, corrupt.to_string()).await;
            group.stop().await;
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
