//! What gRPC asks of every request and tonic does not look at: the method, the content type, and that
//! a call which takes one message is sent one.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use bytes::{Buf as _, Bytes};
use http_body::{Frame, SizeHint};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use proto::net::is_grpc;
use tonic::Status;
use tonic::service::Routes;

use crate::contained::contain;
use crate::error::Failure;

/// Bytes in front of each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Has all `routes` follow gRPC's rules. `descriptors` are the encoded files that describe them.
///
/// # Errors
/// When the descriptors cannot be read.
pub fn with_rules(routes: Routes, descriptors: &[&[u8]]) -> Result<Routes, String> {
    let streamed = Arc::new(streamed(descriptors)?);
    let rules = from_fn(move |request: Request, next: Next| {
        let streamed = streamed.clone();
        async move {
            match follow(request, &streamed) {
                Ok(request) => match contain(next.run(request)).await {
                    Some(response) => response,
                    None => Status::from(Failure::Internal("the call panicked".into())).into_http(),
                },
                Err(refusal) => refusal,
            }
        }
    });
    let router: Router = routes.into_axum_router().layer(rules);
    Ok(Routes::from(router))
}

/// The paths of methods whose callers send a stream of messages.
fn streamed(descriptors: &[&[u8]]) -> Result<BTreeSet<String>, String> {
    let mut paths = BTreeSet::new();
    for encoded in descriptors {
        let files = FileDescriptorSet::decode(*encoded).map_err(|error| error.to_string())?;
        for file in files.file {
            for service in &file.service {
                let of_clients = service.method.iter().filter(|m| m.client_streaming());
                let (package, service) = (file.package(), service.name());
                paths.extend(of_clients.map(|m| format!("/{package}.{service}/{}", m.name())));
            }
        }
    }
    Ok(paths)
}

/// The request as it is to be served, or what is answered instead.
fn follow(request: Request, streamed: &BTreeSet<String>) -> Result<Request, Response> {
    if request.method() != Method::POST {
        return Err(StatusCode::METHOD_NOT_ALLOWED.into_response());
    }
    if !is_grpc(request.headers()) {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response());
    }
    if streamed.contains(request.uri().path()) {
        return Ok(request);
    }
    Ok(request.map(|body| {
        Body::new(One {
            body,
            at: At::Prefix([0; PREFIX_BYTES], 0),
        })
    }))
}

/// A request's body that may hold one message.
struct One {
    body: Body,
    at: At,
}

/// Where in the body the next byte lies.
#[derive(Clone, Copy)]
enum At {
    /// In the message's prefix, of which so many bytes have come.
    Prefix([u8; PREFIX_BYTES], usize),
    /// In the message, of which so many bytes are missing.
    Message(u64),
    /// Behind it.
    End,
}

impl At {
    /// Passes over what has come; false when a second message begins.
    fn pass(&mut self, mut data: &[u8]) -> bool {
        while !data.is_empty() {
            match self {
                At::Prefix(prefix, have) => {
                    prefix[*have] = data.get_u8();
                    *have += 1;
                    if *have == PREFIX_BYTES {
                        let [_, length @ ..] = *prefix;
                        *self = At::Message(u64::from(u32::from_be_bytes(length)));
                    }
                }
                At::Message(0) => *self = At::End,
                At::Message(left) => {
                    let step = data.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    data.advance(step);
                    *left -= step as u64;
                }
                At::End => return false,
            }
        }
        true
    }
}

impl http_body::Body for One {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match frame {
            Some(Ok(frame)) => match frame.data_ref().is_none_or(|data| self.at.pass(data)) {
                true => Some(Ok(frame)),
                false => Some(Err(Status::from(Failure::SecondMessage).into())),
            },
            Some(Err(error)) => Some(Err(error.into())),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header;
    use proptest::prelude::*;

    use super::*;

    fn message(len: usize) -> Vec<u8> {
        let len_bytes = u32::try_from(len).unwrap().to_be_bytes();
        [&[0], &len_bytes[..], &vec![7; len]].concat()
    }

    proptest! {
        #[test]
        fn one_message_passes_and_a_second_is_seen_however_they_are_cut(
            first in 0_usize..40,
            second in proptest::option::of(0_usize..40),
            piece in 1_usize..20,
        ) {
            let mut bytes = message(first);
            bytes.extend(second.map(message).unwrap_or_default());
            let mut at = At::Prefix([0; PREFIX_BYTES], 0);
            let passed = bytes.chunks(piece).all(|piece| at.pass(piece));
            prop_assert_eq!(passed, second.is_none());
        }
    }

    #[test]
    fn only_posts_of_grpc_are_served() {
        let streamed = streamed(&[proto::DESCRIPTORS]).unwrap();
        assert!(
            streamed.contains("/firebreak.v1.Messages/AppendStream"),
            "{streamed:?}"
        );
        assert!(!streamed.contains("/firebreak.v1.Messages/Tail"));
        let status = |method: Method, kind: Option<&str>| {
            let mut request = Request::builder().method(method).uri("/x/Y");
            if let Some(kind) = kind {
                request = request.header(header::CONTENT_TYPE, kind);
            }
            let request = request.body(Body::empty()).unwrap();
            follow(request, &streamed)
                .err()
                .map(|refusal| refusal.status().as_u16())
        };
        let post = |kind| status(Method::POST, Some(kind));
        for kind in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;x=y",
        ] {
            assert_eq!(post(kind), None, "{kind}");
        }
        for kind in ["application/json", "text/html", "application/grpc-web", ""] {
            assert_eq!(post(kind), Some(415), "{kind}");
        }
        assert_eq!(status(Method::POST, None), Some(415));
        assert_eq!(status(Method::GET, Some("application/grpc")), Some(405));
    }
}
