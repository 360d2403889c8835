//! What each node says of itself: its status, outages, events, and the hashes of its replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::v1;
use tokio::time::{Instant, timeout};

use super::admin;
use crate::builder::Client;
use crate::error::{Error, Refusal};
use crate::options::HASH_PART_TIMEOUT;

/// One node's own answer to a question to all.
#[derive(Clone, Debug)]
pub struct NodeReport {
    /// host:port that was asked.
    pub address: String,
    /// As the cluster lists it; None for an address that no answer mentions.
    pub listed: Option<v1::NodeStatus>,
    /// What it answered.
    pub status: Result<v1::GetStatusResponse, Error>,
    /// How long that took.
    pub took: Duration,
}

/// The hashes of one replica, read back from its disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicaHash {
    /// The read point in the log.
    pub applied_index: u64,
    /// The shard's revision at the read point.
    pub revision: u64,
    /// In key order.
    pub conversations: Vec<v1::ConversationHash>,
}

async fn once<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T, Error> {
    match timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(status)) => Err(Error::Refused(Refusal::from_status(&status))),
        Err(_) => Err(Error::Refused(Refusal::silent(limit))),
    }
}

/// For the next page of a node's events.
const EVENTS_PAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// What is taken of one node's events, bytes, about.
const EVENTS_BYTES_MAX: usize = 96 * 1024 * 1024;

/// Gives each listed node what it said itself, wherever that was. `first` is an answer from before.
pub(super) fn by_who_answered(
    reports: Vec<NodeReport>,
    first: &v1::GetStatusResponse,
) -> Vec<NodeReport> {
    let mine = |status: &v1::GetStatusResponse| status.cluster_id == first.cluster_id;
    let mut said: BTreeMap<u64, (String, v1::GetStatusResponse)> = BTreeMap::new();
    let unknown = (String::new(), first.clone());
    said.insert(first.node_id, unknown);
    for report in &reports {
        if let Ok(status) = &report.status
            && mine(status)
        {
            let answer = (report.address.clone(), status.clone());
            said.insert(status.node_id, answer);
        }
    }
    let judged = |mut report: NodeReport| {
        let node = report.listed.as_ref().map_or(0, |node| node.node_id);
        let itself = |status: &v1::GetStatusResponse| status.node_id == node && mine(status);
        if report.status.as_ref().is_ok_and(itself) {
            return report;
        }
        if let Some((address, status)) = said.get(&node) {
            if !address.is_empty() {
                report.address.clone_from(address);
            }
            report.status = Ok(status.clone());
        } else if let Ok(other) = &report.status {
            let whose = match mine(other) {
                true => format!("{} (n{})", other.node_name, other.node_id),
                false => format!("{} of another cluster", other.node_name),
            };
            let refusal = Refusal::other_node(&report.address, &whose);
            report.status = Err(Error::Refused(refusal));
        }
        report
    };
    reports.into_iter().map(judged).collect()
}

impl Client {
    pub(super) async fn status_with(
        &self,
        address: &str,
        limit: Duration,
        asked: v1::GetStatusRequest,
    ) -> Result<v1::GetStatusResponse, Error> {
        let channel = self.inner.nodes.channel(address)?;
        let status = once(limit, admin(channel).get_status(asked)).await?;
        let status = status.into_inner();
        self.inner.nodes.learn(address, &status);
        Ok(status)
    }

    /// What every node of the cluster says of itself, asked at once, each once, by node id.
    /// Learns first from any node who the others are. An address proves nothing: what another node
    /// answers at a node's address is that other node's report.
    ///
    /// # Errors
    /// [`Error::Deadline`] when no node answers at all.
    pub async fn status_all(&self, limit: Duration) -> Result<Vec<NodeReport>, Error> {
        self.status_all_with(limit, v1::GetStatusRequest::default())
            .await
    }

    /// As [`Client::status_all`], with more of what each node says.
    ///
    /// # Errors
    /// As there.
    pub async fn status_all_with(
        &self,
        limit: Duration,
        asked: v1::GetStatusRequest,
    ) -> Result<Vec<NodeReport>, Error> {
        let seen = self.status().await?;
        let asks = seen.nodes.iter().map(|node| async {
            let begun = Instant::now();
            let status = self.status_with(&node.address, limit, asked).await;
            NodeReport {
                address: node.address.clone(),
                listed: Some(node.clone()),
                status,
                took: begun.elapsed(),
            }
        });
        let mut reports = by_who_answered(futures::future::join_all(asks).await, &seen);
        reports.sort_by_key(|report| report.listed.as_ref().map(|node| node.node_id));
        Ok(reports)
    }

    /// When callers of the node at `address` were not served, as far as that is not stored yet.
    ///
    /// # Errors
    /// [`Error::Refused`] when it does not answer within `limit`.
    pub async fn outages_of(
        &self,
        address: &str,
        limit: Duration,
    ) -> Result<v1::GetOutagesResponse, Error> {
        let channel = self.inner.nodes.channel(address)?;
        let request = v1::GetOutagesRequest {};
        let told = once(limit, admin(channel).get_outages(request)).await?;
        Ok(told.into_inner())
    }

    /// What would have expired of the shards that the node at `address` leads.
    ///
    /// # Errors
    /// [`Error::Refused`] when it refuses, or does not answer within `limit`.
    pub async fn retention_of(
        &self,
        address: &str,
        request: v1::PlanRetentionRequest,
        limit: Duration,
    ) -> Result<v1::PlanRetentionResponse, Error> {
        let channel = self.inner.nodes.channel(address)?;
        let told = once(limit, admin(channel).plan_retention(request)).await?;
        Ok(told.into_inner())
    }

    /// What the flight recorder of the node at `address` has of a time, Unix milliseconds; it has `begin` to
    /// begin its answer. What it gave before it broke off is given with why it did.
    ///
    /// # Errors
    /// [`Error::Refused`] when the node refuses, or is silent for `begin`.
    pub async fn events_of(
        &self,
        address: &str,
        (from_ms, to_ms): (u64, u64),
        begin: Duration,
    ) -> Result<(Vec<v1::GetEventsResponse>, Option<Error>), Error> {
        let mut pages: Vec<v1::GetEventsResponse> = Vec::new();
        let mut bytes = 0;
        loop {
            let channel = self.inner.nodes.channel(address)?;
            let after = pages.last().map(|page| page.next.clone());
            let request = v1::GetEventsRequest {
                from_ms,
                to_ms,
                after: after.unwrap_or_default(),
                without_seconds: false,
            };
            let limit = match pages.is_empty() {
                true => begin,
                false => EVENTS_PAGE_TIMEOUT,
            };
            let asked = once(limit, admin(channel).get_events(request)).await;
            let mut answer = match asked {
                Err(error) if pages.is_empty() => return Err(error),
                Err(error) => return Ok((pages, Some(error))),
                Ok(answer) => answer.into_inner(),
            };
            loop {
                match once(EVENTS_PAGE_TIMEOUT, answer.message()).await {
                    Ok(Some(page)) => {
                        bytes += prost::Message::encoded_len(&page);
                        pages.push(page);
                    }
                    Ok(None) => break,
                    Err(error) if pages.is_empty() => return Err(error),
                    Err(error) => return Ok((pages, Some(error))),
                }
            }
            let more = pages.last().is_some_and(|page| page.more);
            if !more || bytes > EVENTS_BYTES_MAX {
                return Ok((pages, None));
            }
        }
    }

    /// Reads the replica of `shard` on the node at `address` back from its disk and hashes it.
    /// Asked once; takes as long as the disk needs.
    ///
    /// # Errors
    /// [`Error::Refused`] when the node refuses, breaks off or is silent for 30 s.
    pub async fn hash_replica(&self, address: &str, shard: u32) -> Result<ReplicaHash, Error> {
        let channel = self.inner.nodes.channel(address)?;
        let request = v1::HashReplicaRequest { shard };
        let mut parts = once(HASH_PART_TIMEOUT, admin(channel).hash_replica(request))
            .await?
            .into_inner();
        let mut whole = ReplicaHash::default();
        while let Some(part) = once(HASH_PART_TIMEOUT, parts.message()).await? {
            whole.applied_index = part.applied_index;
            whole.revision = part.revision;
            whole.conversations.extend(part.conversations);
        }
        Ok(whole)
    }
}
