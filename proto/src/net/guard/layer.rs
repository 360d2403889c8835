//! Where calls come in: each is counted, or refused at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{Either, FutureExt as _, Map, Ready, ready};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tower::Layer;

use super::call::Incoming;
use super::{Call, Connection, Kind, Refused, Weight};
use crate::FORWARDED;
use crate::net::is_grpc;
use crate::net::serve::is_clients;

/// Guards the calls of one connection.
#[derive(Clone)]
pub struct Guarding(pub Arc<Connection>);

impl<S> Layer<S> for Guarding {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            inner,
            connection: self.0.clone(),
        }
    }
}

/// A service whose calls are counted.
#[derive(Clone)]
pub struct Guarded<S> {
    inner: S,
    connection: Arc<Connection>,
}

impl<S> Guarded<S> {
    /// `inner`, as called over `connection`.
    pub fn new(inner: S, connection: Arc<Connection>) -> Guarded<S> {
        Guarded { inner, connection }
    }
}

type Answered = Result<Response<Body>, Infallible>;
type Finish = Box<dyn FnOnce(Answered) -> Answered + Send>;

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Answered>, Map<S::Future, Finish>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let kind = kind(&request);
        let takes = self
            .connection
            .guard()
            .shared
            .rules
            .takes(request.uri().path());
        let call = match self.connection.begin(kind, takes.bytes_max) {
            Ok(call) => call,
            Err(refused) => return Either::Left(ready(Ok(refusal(&self.connection, refused)))),
        };
        let (mut head, body) = request.into_parts();
        head.extensions.insert(call.clone());
        // What a page sends has no frames; its handlers bound it.
        let body = match is_grpc(&head.headers) {
            true => Body::new(Incoming::new(body, call.clone(), takes.many)),
            false => body,
        };
        let answered = self.inner.call(Request::from_parts(head, body));
        let finish: Finish = Box::new(move |answered| Ok(finish(&call, answered?)));
        Either::Right(answered.map(finish))
    }
}

/// Takes the answer in, or refuses it.
fn finish(call: &Arc<Call>, answer: Response<Body>) -> Response<Body> {
    let (head, body) = answer.into_parts();
    let weight = head.extensions.get::<Weight>().map_or(0, |weight| weight.0);
    match call.answer(body, weight) {
        Ok(body) => Response::from_parts(head, body),
        Err(refused) => refusal(call.connection(), refused),
    }
}

fn refusal(connection: &Connection, refused: Refused) -> Response<Body> {
    connection.guard().say(refused).into_http()
}

fn kind<B>(request: &Request<B>) -> Kind {
    if request.uri().path().starts_with("/firebreak.node.v1.") {
        Kind::Peer
    } else if request.headers().contains_key(FORWARDED) {
        Kind::Forwarded
    } else if is_clients(request) {
        Kind::Client
    } else {
        Kind::Operator
    }
}
