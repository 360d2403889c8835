//! Nodes that join, what they join with, and where they stand: what the operators' API says of members.

use std::net::IpAddr;

use model::cluster::{ChangeBody, Join, JoinToken, Locality, Node, Relocate};
use model::command::{Reason, Refusal};
use model::hash;
use model::id::NodeId;
use proto::v1;
use tokio::time::Instant;

use super::admin::Admin;
use crate::check::Checker;
use crate::deadline::Call;
use crate::error::Failure;
use crate::found;
use crate::guesses;

impl Admin {
    /// Whether the address of a node that joins is nobody's who is there: a replaced disk may join from
    /// where the old one was.
    fn free(&self, request: &v1::JoinNodeRequest) -> Result<(), Failure> {
        let view = self.gateway.view();
        let mut held = view.nodes.iter().filter(|node| {
            let same = self.address(node) == request.address && node.name != request.name;
            same && self.gateway.raft.reachable(NodeId(node.id))
        });
        held.next().map_or(Ok(()), |node| {
            Err(Failure::JoinRefused(format!(
                "the address {} is that of node {} (n{}), which is up: a node needs one of its own",
                node.address, node.name, node.id
            )))
        })
    }

    /// Whether a node that has joined before has joined this cluster, and is in it still.
    fn of_here(&self, request: &v1::JoinNodeRequest) -> Result<(), Failure> {
        let mine = &self.gateway.raft.identity().cluster_id;
        if !request.cluster_id.is_empty() && request.cluster_id != *mine {
            return Err(Failure::JoinRefused(format!(
                "the data directory is that of a node of cluster {}, and this is cluster {mine}: name \
                 a node of that cluster, or join this one with an empty directory",
                request.cluster_id
            )));
        }
        if self.gateway.view().was_removed(NodeId(request.node_id)) {
            return Err(Failure::JoinRefused(format!(
                "n{} was removed from the cluster, and its disk is not used again: empty its data \
                 directory and join again, under any name that is free",
                request.node_id
            )));
        }
        Ok(())
    }

    pub(super) async fn relocate(
        &self,
        request: v1::RelocateNodeRequest,
        call: &Call,
    ) -> Result<u64, Failure> {
        let mut check = Checker::of(call, 0);
        check.place(&request.region, &request.dc);
        check.finish()?;
        let view = self.gateway.view();
        let before = view.node(NodeId(request.node_id));
        let before = before.and_then(|node| node.locality.clone());
        let body = ChangeBody::Relocate(Relocate {
            node: request.node_id,
            locality: Some(Locality {
                region: request.region,
                dc: request.dc,
                ..before.unwrap_or_default()
            }),
        });
        self.change(body, call).await
    }

    pub(super) fn join_token(&self) -> Result<v1::JoinToken, Failure> {
        match &self.gateway.view().join_token {
            Some(token) => Ok(self.shown(token.clone())),
            None => Err(Failure::ChangeRefused(
                "the cluster keeps only the hash of its join token; `firebreak token rotate` gives a \
                 new one"
                    .into(),
            )),
        }
    }

    fn shown(&self, token: JoinToken) -> v1::JoinToken {
        v1::JoinToken {
            expired: token.has_expired(self.clock.unix_ms()),
            token: token.token,
            expires_ms: token.expires_ms,
        }
    }

    pub(super) async fn rotate(
        &self,
        request: v1::RotateJoinTokenRequest,
        call: &Call,
    ) -> Result<v1::JoinToken, Failure> {
        let token = found::new_token(&*self.entropy)
            .map_err(|error| Failure::Internal(format!("no random bytes: {error}")))?;
        let expires_ms = found::expires_ms(&*self.clock, request.valid_ms);
        let token = JoinToken { token, expires_ms };
        self.change(ChangeBody::JoinToken(token.clone()), call)
            .await?;
        tracing::info!("nodes join with a new token");
        Ok(self.shown(token))
    }

    /// Whether the token is the cluster's, as far as this node knows. One that has been made a moment
    /// ago is waited for.
    async fn token_is_right(
        &self,
        token: &str,
        from: Option<IpAddr>,
        name: &str,
    ) -> Result<(), Failure> {
        if !self.guesses.begin(from, Instant::now()) {
            return Err(Failure::JoinLimited);
        }
        let hash = hash::token_hash(token);
        let mut view = self.gateway.raft.view();
        let right = view.wait_for(|view| view.takes_token(&hash));
        if matches!(tokio::time::timeout(guesses::PAUSE, right).await, Ok(Ok(_))) {
            self.guesses.right(from);
            return Ok(());
        }
        let from = from.map_or_else(|| "an unknown address".to_owned(), |from| from.to_string());
        tracing::warn!(%from, %name, "a node asks to join with a wrong token");
        let why = "the join token is not this cluster's";
        Err(Failure::JoinRefused(why.into()))
    }

    pub(super) async fn join(
        &self,
        request: v1::JoinNodeRequest,
        from: Option<IpAddr>,
        call: Call,
    ) -> Result<v1::JoinNodeResponse, Failure> {
        let mut check = Checker::of(&call, 0);
        check.join(&request);
        check.finish()?;
        // A cluster whose founder has just been started is not founded yet.
        let mut view = self.gateway.raft.view();
        let founded = view.wait_for(|view| view.epoch > 0);
        match tokio::time::timeout(call.deadline.remaining(), founded).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(Failure::NotReady),
        }
        self.of_here(&request)?;
        self.token_is_right(&request.token, from, &request.name)
            .await?;
        self.free(&request)?;
        let name = request.name.clone();
        let body = ChangeBody::Join(Join {
            // For a leader of an older version, which looks at nothing else.
            token_hash: hash::token_hash(&request.token),
            token: request.token,
            node: Some(Node {
                id: 0,
                name: request.name,
                address: request.address,
                locality: Some(Locality {
                    region: request.region,
                    dc: request.dc,
                    rack: request.rack,
                }),
                disk_id: request.disk_id,
                address_boot: 0,
            }),
        });
        let refused = |refusal: Refusal| match matches!(
            refusal.reason(),
            Reason::Invalid | Reason::AlreadyExists
        ) {
            true => Failure::JoinRefused(refusal.message),
            false => Failure::Refused(refusal),
        };
        let changed = self.decide(body, &call, refused).await?;
        tracing::info!(node = changed.node_id, %name, "a node joined");
        Ok(v1::JoinNodeResponse {
            cluster_id: self.gateway.raft.identity().cluster_id.clone(),
            node_id: changed.node_id,
            nodes: self.nodes(&self.gateway.view()),
            secret: self.gateway.raft.identity().secret.bytes(),
        })
    }
}
