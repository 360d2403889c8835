//! What other nodes ask of this one. Frames of all shards come in on one stream per node; a frame
//! that cannot be read, or that is for a replica that is not here, is answered and harms nothing.

mod answers;
mod connection;

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use model::id::{NodeId, ShardId};
use model::limits;
use prost::Message;
use proto::node as wire;
use proto::node::peer_server::{Peer, PeerServer};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status, Streaming};

use crate::adapter::{trust, types};
use crate::link::out::Out;
use crate::replica::group::Group;
use crate::replica::incoming;
use crate::shared::Shared;

use self::answers::meant;
use self::connection::Connection;

/// The node-to-node service.
pub(crate) struct Inbound {
    node: Arc<Shared>,
}

/// The service, ready to be served.
pub(crate) fn service(node: Arc<Shared>) -> PeerServer<Inbound> {
    PeerServer::new(Inbound { node })
        .max_decoding_message_size(limits::FRAME_BYTES_MAX)
        .max_encoding_message_size(limits::FRAME_BYTES_MAX)
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl Peer for Inbound {
    type LinkStream = Answers<wire::Frames>;
    type WatchClusterStream = Answers<wire::ClusterView>;
    type CopySnapshotStream = Answers<wire::SnapshotCame>;

    async fn link(
        &self,
        request: Request<Streaming<wire::Frames>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let from = self.node.admit_here(request.metadata()).await?;
        if let Some(link) = self.node.peers().link(from) {
            link.knock();
        }
        let (out, answers) = Out::new();
        let (removed, end) = oneshot::channel();
        let connection = Connection::new(self.node.clone(), from, out);
        tokio::spawn(connection.run(request.into_inner(), removed));
        let end = futures::stream::once(end);
        let end = end.filter_map(|end| futures::future::ready(end.ok().map(Err)));
        let answers = futures::stream::select(answers.batches().map(Ok), end);
        Ok(self.node.hello().response(answers.boxed()))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::SnapshotDone>, Status> {
        let Opened {
            from,
            group,
            head,
            mut chunks,
        } = self.opened(request, |head| head.files).await?;
        let shard = group.shard;
        tracing::info!(%shard, %from, "receiving a snapshot");
        let data = incoming::receive_files(&head, &group.state, &mut chunks).await?;
        let vote = Some(incoming::install(&group, head.vote, data).await?);
        Ok(self.node.hello().response(wire::SnapshotDone { vote }))
    }

    async fn copy_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<Self::CopySnapshotStream>, Status> {
        // How many files there are its end tells.
        let Opened {
            from,
            group,
            head,
            chunks,
        } = self.opened(request, |_| 1).await?;
        let (out, answers) = mpsc::channel(1);
        tokio::spawn(async move {
            if let Err(status) = incoming::receive(&group, from, head, chunks, &out).await {
                let _ = out.send(Err(status)).await;
            }
        });
        let answers = tokio_stream::wrappers::ReceiverStream::new(answers);
        Ok(self.node.hello().response(answers.boxed()))
    }

    async fn watch_cluster(
        &self,
        request: Request<wire::WatchClusterRequest>,
    ) -> Result<Response<Self::WatchClusterStream>, Status> {
        // One that has just joined asks again, or others: what members know is for members.
        self.node.admit(request.metadata()).await?;
        let known = request.into_inner().known_epoch;
        let views = tokio_stream::wrappers::WatchStream::new(self.node.view());
        let views = views.filter(move |view| futures::future::ready(view.epoch > known));
        let views = views.map(|view| {
            Ok(wire::ClusterView {
                state: view.encode_to_vec().into(),
            })
        });
        Ok(Response::new(views.boxed()))
    }

    async fn who(
        &self,
        request: Request<wire::WhoRequest>,
    ) -> Result<Response<wire::WhoAnswer>, Status> {
        let node = &self.node;
        let here = Some(node.place());
        if node.hello().wrote(request.metadata()) {
            let others = Vec::new();
            return Ok(Response::new(wire::WhoAnswer { here, others }));
        }
        let others = match node.admit(request.metadata()).await {
            Ok(_) => node.peers().whereabouts().all(),
            // A node that has joined and is not known here yet.
            Err(status) if status.code() == tonic::Code::Unavailable => Vec::new(),
            Err(status) => return Err(status),
        };
        Ok(Response::new(wire::WhoAnswer { here, others }))
    }
}

/// A snapshot that comes, behind its head.
struct Opened {
    from: NodeId,
    group: Arc<Group>,
    head: wire::SnapshotHead,
    chunks: Streaming<wire::SnapshotChunk>,
}

impl Inbound {
    /// Looks at who sends a snapshot, and at its head: before anything of it is kept, it must be for a
    /// replica that is here and has room for it. `files` says how many files the head stands for.
    async fn opened(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
        files: impl FnOnce(&wire::SnapshotHead) -> u32,
    ) -> Result<Opened, Status> {
        let node = &self.node;
        let from = node.admit_here(request.metadata()).await?;
        let mut chunks = request.into_inner();
        let head = incoming::receive_head(&mut chunks).await?;
        let shard = ShardId(head.shard);
        let here = node.group(shard);
        let group = here.ok_or_else(|| Status::not_found(format!("no replica of {shard} here")))?;
        let files = files(&head);
        let named = wire::SnapshotHead {
            files,
            ..head.clone()
        };
        let invalid = |e: types::Malformed| Status::invalid_argument(e.to_string());
        trust::snapshot(&named, from, group.known_term()).map_err(invalid)?;
        meant(node, &group, head.incarnation).map_err(Status::not_found)?;
        if node.disk_is_tight() && !shard.is_meta() {
            return Err(Status::resource_exhausted(
                "this node's disk has no room for a snapshot",
            ));
        }
        Ok(Opened {
            from,
            group,
            head,
            chunks,
        })
    }
}
