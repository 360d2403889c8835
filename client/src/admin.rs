//! The operators' calls: what each node says of itself, the hashes of a replica, joining.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::limits;
use proto::net::Channel;
use proto::v1;
use proto::v1::access_client::AccessClient;
use proto::v1::admin_client::AdminClient;
use tokio::time::{Instant, timeout};

use crate::builder::Client;
use crate::error::{Error, Refusal};
use crate::options::HASH_PART_TIMEOUT;
use crate::retry::Effect;

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

/// Whom a drain names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drain {
    /// A node, by name or id.
    Node(String),
    /// All nodes that a data center has now.
    Dc(String),
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

fn admin(channel: Channel) -> AdminClient<Channel> {
    AdminClient::new(channel).max_decoding_message_size(limits::FRAME_BYTES_MAX)
}

fn access(channel: Channel) -> AccessClient<Channel> {
    AccessClient::new(channel).max_decoding_message_size(limits::FRAME_BYTES_MAX)
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
fn by_who_answered(reports: Vec<NodeReport>, first: &v1::GetStatusResponse) -> Vec<NodeReport> {
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
    /// The cluster as any node sees it.
    ///
    /// # Errors
    /// [`Error::Deadline`] when no node answers.
    pub async fn status(&self) -> Result<v1::GetStatusResponse, Error> {
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(v1::GetStatusRequest::default());
                async move { admin(attempt.channel).get_status(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// The cluster as the node at `address` sees it, asked once.
    ///
    /// # Errors
    /// [`Error::Refused`] when it does not answer within `limit`.
    pub async fn status_of(
        &self,
        address: &str,
        limit: Duration,
    ) -> Result<v1::GetStatusResponse, Error> {
        self.status_with(address, limit, v1::GetStatusRequest::default())
            .await
    }

    async fn status_with(
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

    /// The policies as any node knows them.
    ///
    /// # Errors
    /// [`Error::Deadline`] when no node answers.
    pub async fn policies(&self) -> Result<v1::GetPoliciesResponse, Error> {
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(v1::GetPoliciesRequest {});
                async move { admin(attempt.channel).get_policies(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// Sets the default policy, or that of one shard; none takes it away. Asking again is safe.
    /// Gives the epoch of the map that has it.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason when it cannot hold, or [`Error::Deadline`].
    pub async fn set_policy(
        &self,
        shard: Option<u32>,
        policy: Option<v1::Policy>,
    ) -> Result<u64, Error> {
        let wanted = v1::SetPolicyRequest { shard, policy };
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(wanted.clone());
                async move { admin(attempt.channel).set_policy(request).await }
            })
            .await?;
        Ok(answer.value.map_epoch)
    }

    /// Drains the nodes that are named, or takes them back. Asking again is safe. Gives the epoch of
    /// the map that has it; that everything has moved is seen in the status.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn set_draining(&self, whom: &Drain, draining: bool) -> Result<u64, Error> {
        let (node, dc) = match whom {
            Drain::Node(node) => (node.clone(), String::new()),
            Drain::Dc(dc) => (String::new(), dc.clone()),
        };
        let wanted = v1::SetDrainingRequest { node, dc, draining };
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(wanted.clone());
                async move { admin(attempt.channel).set_draining(request).await }
            })
            .await?;
        Ok(answer.value.map_epoch)
    }

    /// Registers a node. Asking again with the same `disk_id` is safe.
    ///
    /// # Errors
    /// [`Error::Refused`] when the token or the node is not accepted, or [`Error::Deadline`].
    pub async fn join(&self, request: v1::JoinNodeRequest) -> Result<v1::JoinNodeResponse, Error> {
        let request = Arc::new(request);
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request((*request).clone());
                async move { admin(attempt.channel).join_node(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// What nodes join with, as any node knows it.
    ///
    /// # Errors
    /// [`Error::Refused`] where the cluster keeps only its hash, or [`Error::Deadline`].
    pub async fn join_token(&self) -> Result<v1::JoinToken, Error> {
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(v1::GetJoinTokenRequest {});
                async move { admin(attempt.channel).get_join_token(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// Has nodes join with a new token. Asking again gives yet another.
    ///
    /// # Errors
    /// [`Error::Refused`], or [`Error::Deadline`].
    pub async fn rotate_join_token(
        &self,
        request: v1::RotateJoinTokenRequest,
    ) -> Result<v1::JoinToken, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(request);
                async move { admin(attempt.channel).rotate_join_token(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// Has nodes join with another token, too. Its text is in the answer alone. When the outcome is not known
    /// there may be a token that nobody has: it is in the list, to be revoked.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn create_join_token(
        &self,
        request: v1::CreateJoinTokenRequest,
    ) -> Result<v1::JoinToken, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(request.clone());
                async move { admin(attempt.channel).create_join_token(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// The tokens that nodes join with, without their texts.
    ///
    /// # Errors
    /// [`Error::Refused`], or [`Error::Deadline`].
    pub async fn join_tokens(&self) -> Result<Vec<v1::JoinToken>, Error> {
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(v1::ListJoinTokensRequest {});
                async move { admin(attempt.channel).list_join_tokens(request).await }
            })
            .await?;
        Ok(answer.value.tokens)
    }

    /// Has nodes join with a token no more. Gives the epoch of the map in which it is gone.
    ///
    /// # Errors
    /// [`Error::Refused`] for one that there is not, or [`Error::Deadline`].
    pub async fn revoke_join_token(&self, id: &str) -> Result<u64, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(v1::RevokeJoinTokenRequest { id: id.to_owned() });
                async move { admin(attempt.channel).revoke_join_token(request).await }
            })
            .await?;
        Ok(answer.value.epoch)
    }

    /// Who the client is to the node that answers.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is nobody, or [`Error::Deadline`].
    pub async fn who_am_i(&self) -> Result<v1::WhoAmIResponse, Error> {
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(v1::WhoAmIRequest {});
                async move { access(attempt.channel).who_am_i(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// Makes an API key. Its text is in the answer alone. When the outcome is not known there may be a key
    /// that nobody has: it is in the list, to be revoked.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn create_key(
        &self,
        request: v1::CreateKeyRequest,
    ) -> Result<v1::CreateKeyResponse, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(request.clone());
                async move { access(attempt.channel).create_key(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// The API keys there are, without their texts.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn keys(&self) -> Result<Vec<v1::ApiKey>, Error> {
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(v1::ListKeysRequest {});
                async move { access(attempt.channel).list_keys(request).await }
            })
            .await?;
        Ok(answer.value.keys)
    }

    /// Has an API key open nothing any more. Doing so again is safe.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn revoke_key(&self, id: &str) -> Result<u64, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(v1::RevokeKeyRequest { id: id.to_owned() });
                async move { access(attempt.channel).revoke_key(request).await }
            })
            .await?;
        Ok(answer.value.epoch)
    }

    /// Has the tokens of an issuer believed, in place of what was said of it before.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn set_issuer(&self, issuer: v1::Issuer) -> Result<u64, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let issuer = Some(issuer.clone());
                let request = attempt.request(v1::SetIssuerRequest { issuer });
                async move { access(attempt.channel).set_issuer(request).await }
            })
            .await?;
        Ok(answer.value.epoch)
    }

    /// The issuers whose tokens are believed.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn issuers(&self) -> Result<Vec<v1::Issuer>, Error> {
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(v1::ListIssuersRequest {});
                async move { access(attempt.channel).list_issuers(request).await }
            })
            .await?;
        Ok(answer.value.issuers)
    }

    /// Has the tokens of an issuer believed no more. Doing so again is safe.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn remove_issuer(&self, name: &str) -> Result<u64, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let name = name.to_owned();
                let request = attempt.request(v1::RemoveIssuerRequest { name });
                async move { access(attempt.channel).remove_issuer(request).await }
            })
            .await?;
        Ok(answer.value.epoch)
    }

    /// A page of the audit, from a number on; 0 = from the first record that is kept.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn audit(&self, from: u64) -> Result<v1::ReadAuditResponse, Error> {
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(v1::ReadAuditRequest { from, page_size: 0 });
                async move { access(attempt.channel).read_audit(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// The drills as any node knows them.
    ///
    /// # Errors
    /// [`Error::Deadline`] when no node answers.
    pub async fn drills(&self) -> Result<v1::GetDrillsResponse, Error> {
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(v1::GetDrillsRequest {});
                async move { admin(attempt.channel).get_drills(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// Changes the drills. Asking again is safe.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn change_drill(
        &self,
        change: v1::change_drill_request::Change,
    ) -> Result<v1::ChangeDrillResponse, Error> {
        let change = Some(change);
        let request = Arc::new(v1::ChangeDrillRequest { change });
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request((*request).clone());
                async move { admin(attempt.channel).change_drill(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// Has the certificate of a drill that has ended signed by the cluster's key.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no such drill, or [`Error::Deadline`].
    pub async fn sign_drill(
        &self,
        request: v1::SignDrillRequest,
    ) -> Result<v1::SignDrillResponse, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(request.clone());
                async move { admin(attempt.channel).sign_drill(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// The public part of the key that signs certificates, 32 bytes.
    ///
    /// # Errors
    /// [`Error::Refused`], or [`Error::Deadline`].
    pub async fn drill_key(&self) -> Result<Vec<u8>, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(v1::GetDrillKeyRequest {});
                async move { admin(attempt.channel).get_drill_key(request).await }
            })
            .await?;
        Ok(answer.value.public_key.to_vec())
    }

    /// Says that a node stands in another data center. Asking again is safe.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn relocate_node(&self, request: v1::RelocateNodeRequest) -> Result<u64, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(request.clone());
                async move { admin(attempt.channel).relocate_node(request).await }
            })
            .await?;
        Ok(answer.value.epoch)
    }

    /// Sends a replica of a shard on its way, or takes that back. It has arrived when the status lists
    /// the move no more.
    ///
    /// # Errors
    /// [`Error::Refused`] when it makes no sense or would do harm, or [`Error::Deadline`].
    pub async fn move_replica(&self, request: v1::MoveReplicaRequest) -> Result<u64, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(request);
                async move { admin(attempt.channel).move_replica(request).await }
            })
            .await?;
        Ok(answer.value.epoch)
    }

    /// Has the cluster forget starts of a node that it never made; whether it holds, or another operator
    /// has to say the same. Asking again is safe.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no such node, or [`Error::Deadline`].
    pub async fn forget_boot(&self, request: v1::ForgetBootRequest) -> Result<bool, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(request.clone());
                async move { admin(attempt.channel).forget_boot(request).await }
            })
            .await?;
        Ok(answer.value.holds)
    }

    /// Has a node give up all it holds and leave, or takes that back.
    ///
    /// # Errors
    /// [`Error::Refused`] when the others could not hold it, or [`Error::Deadline`].
    pub async fn remove_node(&self, request: v1::RemoveNodeRequest) -> Result<u64, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(request);
                async move { admin(attempt.channel).remove_node(request).await }
            })
            .await?;
        Ok(answer.value.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(node_id: u64, cluster_id: &str) -> v1::GetStatusResponse {
        v1::GetStatusResponse {
            node_id,
            cluster_id: cluster_id.to_owned(),
            node_name: format!("node-{node_id}"),
            ..v1::GetStatusResponse::default()
        }
    }

    /// A cluster of the nodes 1, 2, … at whose addresses these nodes answered; 0 is nobody. Gives who
    /// is held to have answered for each of them.
    #[track_caller]
    fn check(answered: &[(u64, &str)], expect: &[Result<u64, &str>]) {
        let reports = (1..)
            .zip(answered)
            .map(|(node_id, (who, cluster))| NodeReport {
                address: format!("h{node_id}:1"),
                listed: Some(v1::NodeStatus {
                    node_id,
                    ..v1::NodeStatus::default()
                }),
                status: match who {
                    0 => Err(Error::Refused(Refusal::silent(Duration::from_secs(1)))),
                    who => Ok(answer(*who, cluster)),
                },
                took: Duration::ZERO,
            });
        let judged = by_who_answered(reports.collect(), &answer(1, "c"));
        for (report, expect) in judged.iter().zip(expect) {
            match (&report.status, expect) {
                (Ok(status), Ok(node)) => assert_eq!(status.node_id, *node),
                (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{error}"),
                (status, expect) => panic!("{status:?} instead of {expect:?}"),
            }
        }
    }

    #[test]
    fn who_answers_at_an_address_is_believed_and_not_the_address() {
        check(&[(1, "c"), (2, "c")], &[Ok(1), Ok(2)]);
        check(&[(1, "c"), (0, "")], &[Ok(1), Err("no answer")]);
        // A new node has a lost one's address.
        check(
            &[(1, "c"), (7, "c")],
            &[Ok(1), Err("node-7 (n7) answers at h2:1")],
        );
        // Two nodes have each other's: both are there.
        check(&[(1, "c"), (3, "c"), (2, "c")], &[Ok(1), Ok(2), Ok(3)]);
        // The first answer came from an address that no list has.
        check(&[(0, ""), (2, "c")], &[Ok(1), Ok(2)]);
        check(&[(1, "c"), (2, "d")], &[Ok(1), Err("another cluster")]);
    }
}
