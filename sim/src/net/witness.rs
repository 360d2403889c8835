//! Calls of one host that somebody looks at: each is told when it comes to a node and when it is answered.
//! Neither the caller nor the node notices.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use tonic::service::Routes;

use super::fabric::HostId;

/// Of a longer answer only so many bytes are told.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub(super) HostId);

/// A call that was answered.
pub struct Answered {
    /// The host of the node that answered.
    pub node: String,
    /// The method's path, or that of the page with what was asked.
    pub path: String,
    /// Whether it was done: by the HTTP status, and gRPC's where there is one.
    pub ok: bool,
    /// What was answered, its first bytes at most.
    pub body: Bytes,
}

/// Somebody who looks at calls.
pub trait Witness: Send + Sync {
    /// A call has come to the node of a host.
    fn asked(&self, node: &str, path: &str);
    /// A call was answered whole.
    fn answered(&self, answered: Answered);
}

/// Whose calls are looked at, and by whom.
#[derive(Clone)]
pub(super) struct Looking {
    pub of: HostId,
    pub witness: Arc<dyn Witness>,
}

impl Looking {
    /// The routes of the node of `host`, looked at.
    pub fn at(self, host: String, routes: Routes) -> Routes {
        let looked = from_fn(move |request: Request, next: Next| {
            let (looking, host) = (self.clone(), host.clone());
            async move {
                let peer = request.extensions().get::<Peer>();
                if peer != Some(&Peer(looking.of)) {
                    return next.run(request).await;
                }
                let path = request.uri().path_and_query();
                let path = path.map_or_else(String::new, ToString::to_string);
                looking.witness.asked(&host, &path);
                let response = next.run(request).await;
                looking.told(host, path, response)
            }
        });
        Routes::from(routes.into_axum_router().layer(looked))
    }

    fn told(self, node: String, path: String, response: Response) -> Response {
        let status = response.headers().get("grpc-status");
        let fine = status.is_none_or(|status| status.as_bytes() == b"0");
        let ok = response.status().is_success() && fine;
        let (parts, body) = response.into_parts();
        let mut tee = Tee {
            body,
            kept: BytesMut::new(),
            to: Some((self.witness, node, path, ok)),
        };
        if tee.body.is_end_stream() {
            tee.tell();
        }
        Response::from_parts(parts, Body::new(tee))
    }
}

/// A body that is kept as it goes by.
struct Tee {
    body: Body,
    kept: BytesMut,
    to: Option<(Arc<dyn Witness>, String, String, bool)>,
}

impl Tee {
    fn tell(&mut self) {
        if let Some((witness, node, path, ok)) = self.to.take() {
            let body = std::mem::take(&mut self.kept).freeze();
            witness.answered(Answered {
                node,
                path,
                ok,
                body,
            });
        }
    }
}

impl http_body::Body for Tee {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let room = BODY_BYTES_MAX - self.kept.len();
                    let part = &data[..data.len().min(room)];
                    self.kept.extend_from_slice(part);
                }
                if frame.is_trailers() || self.body.is_end_stream() {
                    self.tell();
                }
            }
            Some(Err(_)) => self.to = None,
            None => self.tell(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
