//! The operators' calls: what each node says of itself, the hashes of a replica, joining.

mod access;
mod drills;
mod nodes;

use std::sync::Arc;
use std::time::Duration;

use model::limits;
use proto::net::Channel;
use proto::v1;
use proto::v1::admin_client::AdminClient;

use crate::builder::Client;
use crate::error::Error;
use crate::retry::Effect;

pub use self::nodes::{NodeReport, ReplicaHash};

/// Whom a drain names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drain {
    /// A node, by name or id.
    Node(String),
    /// All nodes that a data center has now.
    Dc(String),
}

fn admin(channel: Channel) -> AdminClient<Channel> {
    AdminClient::new(channel).max_decoding_message_size(limits::FRAME_BYTES_MAX)
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
mod tests;
