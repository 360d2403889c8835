//! A channel to one node: tonic's over HTTP/2, or what a [`Dial`](super::Dial) brings instead.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tonic::body::Body;
use tonic::codegen::{Service, http};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Response = http::Response<Body>;
type Boxed = Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>>;

/// What carries calls where HTTP/2 does not.
pub trait Transport: Send + Sync + 'static {
    /// Makes a call. An error whose chain holds [`tonic::ConnectError`] says that nothing was sent.
    fn call(&self, request: http::Request<Body>) -> Boxed;
}

/// Where calls to one node go. Cheap to clone; the clones share their connection.
#[derive(Clone)]
pub struct Channel {
    kind: Kind,
    /// What each call carries.
    header: Option<(http::HeaderName, http::HeaderValue)>,
}

#[derive(Clone)]
enum Kind {
    Http2(tonic::transport::Channel),
    Other(std::sync::Arc<dyn Transport>),
}

impl From<tonic::transport::Channel> for Channel {
    fn from(channel: tonic::transport::Channel) -> Channel {
        Channel {
            kind: Kind::Http2(channel),
            header: None,
        }
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kind {
            Kind::Http2(channel) => channel.fmt(f),
            Kind::Other(_) => f.write_str("Channel"),
        }
    }
}

impl Channel {
    /// A channel over a transport of one's own.
    pub fn over(transport: std::sync::Arc<dyn Transport>) -> Channel {
        Channel {
            kind: Kind::Other(transport),
            header: None,
        }
    }

    /// The same, with a header in each call; one that is no header is left out.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Channel {
        let value = http::HeaderValue::from_str(value).ok();
        self.header = value.map(|value| (http::HeaderName::from_static(name), value));
        self
    }
}

impl Service<http::Request<Body>> for Channel {
    type Response = Response;
    type Error = BoxError;
    type Future = Calling;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.kind {
            Kind::Http2(channel) => {
                ready!(channel.poll_ready(context))?;
                Poll::Ready(Ok(()))
            }
            Kind::Other(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Calling {
        if let Some((name, value)) = &self.header {
            request.headers_mut().insert(name, value.clone());
        }
        Calling(match &mut self.kind {
            Kind::Http2(channel) => Answer::Http2(channel.call(request)),
            Kind::Other(transport) => Answer::Other(transport.call(request)),
        })
    }
}

/// A call in progress.
pub struct Calling(Answer);

enum Answer {
    Http2(<tonic::transport::Channel as Service<http::Request<Body>>>::Future),
    Other(Boxed),
}

impl Future for Calling {
    type Output = Result<Response, BoxError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Answer::Http2(answer) => {
                let response = ready!(Pin::new(answer).poll(context))?;
                Poll::Ready(Ok(response))
            }
            Answer::Other(answer) => answer.as_mut().poll(context),
        }
    }
}
