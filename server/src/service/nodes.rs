//! Nodes that join, what they join with, and where they stand: what the operators' API says of members.

use std::net::IpAddr;
use std::sync::Arc;

use model::cluster::tokens::{NewToken, Token, is_token_id};
use model::cluster::{ChangeBody, Join, Locality, Named, Node, Relocate};
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
use crate::world::{Authority, Certificates};

/// Who signs a certificate, and for which host.
struct Signs {
    authority: Arc<dyn Authority>,
    host: String,
}

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
        let view = self.gateway.view();
        let kept = view.join_token.as_ref().map(|kept| kept.token.clone());
        let kept = kept.filter(|text| !text.is_empty()).ok_or_else(|| {
            Failure::ChangeRefused(
                "the cluster keeps only hashes of its join tokens; `firebreak token create` gives another"
                    .into(),
            )
        })?;
        let told = view.token(&view.token_hash).unwrap_or_default();
        Ok(v1::JoinToken {
            token: kept,
            ..self.shown(&told)
        })
    }

    pub(super) fn join_tokens(&self) -> v1::ListJoinTokensResponse {
        let tokens = self.gateway.view().tokens();
        v1::ListJoinTokensResponse {
            tokens: tokens.iter().map(|token| self.shown(token)).collect(),
        }
    }

    /// Without its text.
    fn shown(&self, token: &Token) -> v1::JoinToken {
        v1::JoinToken {
            token: String::new(),
            expires_ms: token.expires_ms,
            expired: token.has_expired(self.clock.unix_ms()),
            id: token.id(),
            label: token.label.clone(),
            created_ms: token.created_ms,
            node: token.node.clone(),
            host: token.host.clone(),
        }
    }

    /// A cluster whose founder has just been started is not founded yet: that is waited for.
    async fn founded(&self, call: &Call) -> Result<(), Failure> {
        let mut view = self.gateway.raft.view();
        let founded = view.wait_for(|view| view.epoch > 0);
        match tokio::time::timeout(call.deadline.remaining(), founded).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Failure::NotReady),
        }
    }

    /// Has nodes join with another token; with no other one, where it is to be `alone`.
    pub(super) async fn new_token(
        &self,
        wanted: v1::CreateJoinTokenRequest,
        alone: bool,
        call: &Call,
    ) -> Result<v1::JoinToken, Failure> {
        self.founded(call).await?;
        self.all_know_access()?;
        let text = found::new_token(&*self.entropy)
            .map_err(|error| Failure::Internal(format!("no random bytes: {error}")))?;
        let token = Token {
            hash: hash::token_hash(&text),
            label: wanted.label,
            created_ms: self.clock.unix_ms(),
            expires_ms: found::expires_ms(&*self.clock, wanted.valid_ms),
            node: wanted.node,
            host: wanted.host,
        };
        let shown = self.shown(&token);
        let new = NewToken {
            token: Some(token),
            alone,
        };
        self.change(ChangeBody::CreateToken(new), call).await?;
        tracing::info!(id = shown.id, alone, "nodes join with a new token");
        Ok(v1::JoinToken {
            token: text,
            ..shown
        })
    }

    pub(super) async fn revoke_token(&self, id: String, call: &Call) -> Result<u64, Failure> {
        if !is_token_id(&id) {
            // It may be a token's text, which must not get into the audit.
            let why =
                "a token is named by its 8 hexadecimal digits: `firebreak token list` has them";
            return Err(Failure::ChangeRefused(why.into()));
        }
        self.all_know_access()?;
        let epoch = self
            .change(ChangeBody::RevokeToken(Named { name: id.clone() }), call)
            .await?;
        tracing::info!(id, "a join token was revoked");
        Ok(epoch)
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
        self.founded(&call).await?;
        self.of_here(&request)?;
        self.token_is_right(&request.token, from, &request.name)
            .await?;
        self.free(&request)?;
        let signer = self.signer(&request)?;
        let asked = request.certificate_request.clone();
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
        let signed = match signer {
            None => Certificates::default(),
            Some(Signs { authority, host }) => {
                let signed = authority.sign(&name, &host, &asked);
                tracing::info!(%name, host, signed = signed.is_ok(), "a node asks for its certificate");
                signed.map_err(Failure::JoinRefused)?
            }
        };
        Ok(v1::JoinNodeResponse {
            cluster_id: self.gateway.raft.identity().cluster_id.clone(),
            node_id: changed.node_id,
            nodes: self.nodes(&self.gateway.view()),
            secret: self.gateway.raft.identity().secret.bytes(),
            certificate: signed.own,
            authorities: signed.authorities,
        })
    }

    /// Who signs the certificate that a node asks for, and for which host; none where it asks for none. The token
    /// says both: with one for any node, whoever has it could be any node, and stand in any node's place.
    fn signer(&self, request: &v1::JoinNodeRequest) -> Result<Option<Signs>, Failure> {
        if request.certificate_request.is_empty() {
            return Ok(None);
        }
        let token = self.gateway.view().token(&hash::token_hash(&request.token));
        let token = token.unwrap_or_default();
        if token.node != request.name {
            let name = &request.name;
            return Err(Failure::JoinRefused(format!(
                "the join token gives node {name} no certificate: `firebreak token create --node {name} --host \
                 HOST` makes one that does"
            )));
        }
        let (host, _) = request.address.rsplit_once(':').unwrap_or_default();
        let host = host.trim_matches(['[', ']']);
        if host != token.host {
            return Err(Failure::JoinRefused(format!(
                "the join token is for node {} at {}, and its advertise says {host}",
                token.node, token.host
            )));
        }
        let authority = self.authority.clone().ok_or_else(|| {
            // Another node may well sign.
            Failure::ChangeRefused(
                "this node signs no certificates: ask one that has tls.authority_key, or make the files with \
                 `firebreak cert node`"
                    .into(),
            )
        })?;
        Ok(Some(Signs {
            authority,
            host: token.host,
        }))
    }
}
