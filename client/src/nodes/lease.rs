//! A node in use by one call or stream, and the nodes that a call has tried.

use std::sync::Arc;
use std::time::Duration;

use proto::net::Channel;
use tokio::time::Instant;

use super::Nodes;
use crate::error::Fault;
use crate::options::{LATENCY_VALID, REFUSALS_MAX};

/// Which nodes one call has tried already.
#[derive(Clone, Default)]
pub(crate) struct Tried {
    pub(super) addresses: Vec<Arc<str>>,
    /// The data center that failed last.
    pub(super) avoid_dc: Option<Arc<str>>,
}

impl Tried {
    /// Notes that the node in `lease` did not help, for this reason.
    pub(crate) fn ended(&mut self, lease: &Lease, fault: Fault) {
        match fault {
            Fault::Leaving => self.left(lease),
            Fault::Node | Fault::Refused | Fault::None => self.failed(lease),
        }
    }

    /// Notes that the node in `lease` did not help.
    pub(crate) fn failed(&mut self, lease: &Lease) {
        self.addresses.push(lease.address.clone());
        self.avoid_dc = (!lease.dc.is_empty()).then(|| lease.dc.clone());
    }

    /// Notes that the node in `lease` goes away; those beside it need not.
    pub(crate) fn left(&mut self, lease: &Lease) {
        self.addresses.push(lease.address.clone());
    }

    /// Forgets which nodes were tried, but not the data center to keep away from.
    pub(crate) fn forget(&mut self) {
        self.addresses.clear();
    }
}

/// A node in use by one call or stream.
pub(crate) struct Lease {
    pub(super) nodes: Arc<Nodes>,
    pub(crate) address: Arc<str>,
    pub(crate) dc: Arc<str>,
    pub(crate) channel: Channel,
}

impl Lease {
    /// Another use of the same node.
    pub(crate) fn again(&self) -> Lease {
        self.nodes.with(&self.address, |node| node.active += 1);
        Lease {
            nodes: self.nodes.clone(),
            address: self.address.clone(),
            dc: self.dc.clone(),
            channel: self.channel.clone(),
        }
    }

    /// The node answered, after `latency` when that says something about it.
    pub(crate) fn succeeded(&self, latency: Option<Duration>) {
        let now = Instant::now();
        self.nodes.with(&self.address, |node| {
            node.lost = None;
            node.refusals = 0;
            node.answered = Some(now);
            if let Some(latency) = latency {
                let mean = match node.latency {
                    Some((mean, at)) if now - at < LATENCY_VALID => (mean * 7 + latency) / 8,
                    _ => latency,
                };
                node.latency = Some((mean, now));
            }
        });
    }

    /// Whether the node has said that it goes away.
    pub(crate) fn is_leaving(&self) -> bool {
        let mut leaving = false;
        let now = Instant::now();
        self.nodes
            .with(&self.address, |node| leaving = node.is_leaving(now));
        leaving
    }

    /// Which node it is, for what outlives the lease.
    pub(crate) fn node(&self) -> (Arc<Nodes>, Arc<str>) {
        (self.nodes.clone(), self.address.clone())
    }

    /// What a failed attempt says about the node.
    pub(crate) fn failed(&self, fault: Fault) {
        let now = Instant::now();
        self.nodes.with(&self.address, |node| match fault {
            Fault::None => {}
            Fault::Node => node.lose(now),
            Fault::Leaving => node.leaving = Some(now),
            Fault::Refused => {
                node.refusals += 1;
                if node.refusals >= REFUSALS_MAX {
                    node.refusals = 0;
                    node.lose(now);
                }
            }
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.nodes.with(&self.address, |node| {
            node.active = node.active.saturating_sub(1)
        });
    }
}
