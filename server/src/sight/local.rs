//! What this node knows of itself for operators, beside its replicas and resources.

use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use raft::{Clock, LinkStatus};
use tokio::time::{MissedTickBehavior, interval};

use super::happened::Happened;
use super::health::Canary;
use super::outages::Outages;
use super::rates::{self, Rates};
use super::traffic::{self, Whose};
use crate::gateway::Gateway;
use crate::recorder::seconds::micros as us;

/// Looks of [`traffic`] in one of [`rates`].
const LOOKS: u32 = 5;

const _: () = assert!(
    rates::RATES_CHECK_EVERY.as_millis()
        == traffic::TRAFFIC_CHECK_EVERY.as_millis() * LOOKS as u128
);

/// What a node knows of itself. Clones are one.
#[derive(Clone)]
pub struct Local {
    /// The node.
    pub gateway: Arc<Gateway>,
    /// Whether clients can append.
    pub canary: Canary,
    /// What happened since its start.
    pub happened: Happened,
    /// How much its shards are used.
    pub rates: Rates,
    /// When callers were not served.
    pub outages: Outages,
    /// host:port of its console and metrics; none = it serves none.
    pub http: Option<String>,
    /// For the time of day where the cluster's is not known.
    pub clock: Arc<dyn Clock>,
    /// Of the program.
    pub version: &'static str,
}

impl Local {
    /// Looks at what is counted, for as long as the node lives.
    pub async fn watch(self) {
        let mut ticks = interval(traffic::TRAFFIC_CHECK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = 0_u32;
        loop {
            ticks.tick().await;
            self.gateway.traffic.look();
            if looks.is_multiple_of(LOOKS) {
                let led = self.gateway.raft.replicas_together().led;
                self.rates.look(&led, self.now_ms());
            }
            looks = looks.wrapping_add(1);
        }
    }

    /// Agreed time, or this node's own where none is agreed; Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        let agreed = self.gateway.raft.agreed_ms();
        agreed.unwrap_or_else(|| self.clock.unix_ms())
    }

    /// What its callers ask and wait.
    pub fn figures(&self, sync: Option<Duration>) -> v1::Figures {
        let lately = self.gateway.traffic.lately();
        let rates = self.rates.busiest().into_iter();
        v1::Figures {
            acks_per_s: lately.acks_per_s,
            p50_us: lately.p50.map_or(0, us),
            p99_us: lately.p99.map_or(0, us),
            gap_5m_us: us(lately.gap),
            gap_5m_whose: lately
                .whose
                .map_or_else(String::new, |whose| self.told(&whose)),
            failed_5m: lately.unserved,
            reads_per_s: lately.reads_per_s,
            tails: self.gateway.traffic.tails_open(),
            sync_us: sync.map_or(0, us),
            lateness_us: us(self.gateway.raft.lateness()),
            shards: rates
                .map(|(shard, changes_per_s)| v1::ShardRate {
                    shard: shard.0,
                    changes_per_s,
                })
                .collect(),
        }
    }

    /// How it feels the others.
    pub fn links(&self) -> Vec<v1::LinkStatus> {
        let links = self.gateway.raft.links().into_iter();
        links.map(link).collect()
    }

    /// Whether clients can append here.
    pub fn health(&self) -> v1::Health {
        let why = self.canary.health().why_not;
        v1::Health {
            ok: why.is_none(),
            why: why.unwrap_or_default(),
        }
    }

    /// The use of its shards over the last half hour.
    pub fn heat(&self) -> Vec<v1::HeatCell> {
        let cells = self.rates.cells().into_iter();
        cells
            .map(|cell| v1::HeatCell {
                at_ms: cell.at_ms,
                shards: cell.changes.keys().map(|shard| shard.0).collect(),
                changes: cell.changes.values().copied().collect(),
            })
            .collect()
    }

    fn told(&self, (tenant, slot): &Whose) -> String {
        match self.gateway.shard_of(*slot) {
            Some(shard) => format!("tenant {tenant}, shard {}", shard.0),
            None => format!("tenant {tenant}"),
        }
    }
}

fn link(link: LinkStatus) -> v1::LinkStatus {
    v1::LinkStatus {
        node_id: link.node.0,
        state: link.state.to_owned(),
        round_us: link.round.map_or(0, us),
        silent_us: us(link.silent),
        limit_us: us(link.limit),
    }
}
