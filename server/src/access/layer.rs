//! The one layer in front of all routes: it lets each request in, or answers in its place.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;

use super::session::{self, CSRF_HEADER};
use super::table::{self, Need, is_grpc};
use super::{Asks, Caller, Doors, Local, Way, Who};
use crate::error::{Failure, Unknown};

/// `routes`, to which only those come whom `doors` let in.
pub fn guarded(routes: Routes, doors: Arc<Doors>) -> Routes {
    let let_in = from_fn(move |mut request: Request, next: Next| {
        let doors = doors.clone();
        async move {
            let is_page = !is_grpc(request.uri().path());
            let caller = match enter(&doors, &request) {
                Ok(caller) => caller,
                Err(failure) => return refused(failure, is_page),
            };
            let streams = doors.required() && !is_page && ends(&caller);
            let who = caller.who.clone();
            request.extensions_mut().insert(caller);
            let response = next.run(request).await;
            match streams {
                true => until_ended(response, doors, who),
                false => response,
            }
        }
    });
    Routes::from(routes.into_axum_router().layer(let_in))
}

/// `routes` as they are served on the local socket.
pub fn local(routes: Routes) -> Routes {
    let mark = from_fn(|mut request: Request, next: Next| {
        request.extensions_mut().insert(Local);
        next.run(request)
    });
    Routes::from(routes.into_axum_router().layer(mark))
}

/// Whether a caller's credential may end while its call goes on.
fn ends(caller: &Caller) -> bool {
    match caller.who.way {
        Way::Key(_) | Way::Token(_) => true,
        Way::Certificate | Way::Open | Way::Local | Way::Node | Way::Nobody => false,
    }
}

fn enter(doors: &Doors, request: &Request) -> Result<Caller, Failure> {
    let path = request.uri().path();
    let info = request.extensions().get::<TcpConnectInfo>();
    let from = info.and_then(|info| Some(info.remote_addr()?.ip().to_canonical()));
    let caller = doors.enter(Asks {
        path,
        headers: request.headers(),
        from,
        local: request.extensions().get::<Local>().is_some(),
    })?;
    if doors.required() && forgeable(request.headers(), path) && !request.method().is_safe() {
        let why = "a request that changes something needs the header x-firebreak-csrf";
        return Err(caller.refuse("", Failure::Credentials(Unknown::Invalid(why))));
    }
    Ok(caller)
}

/// Whether another site could have had a browser send this: it brings a cookie and nothing else.
fn forgeable(headers: &HeaderMap, path: &str) -> bool {
    let needs = table::of(path).is_none_or(|row| row.need != Need::Open);
    needs
        && !headers.contains_key(header::AUTHORIZATION)
        && session::cookie(headers).is_some()
        && !headers.contains_key(CSRF_HEADER)
}

/// What is answered to who is not let in.
fn refused(failure: Failure, is_page: bool) -> Response {
    let reason = failure.reason();
    let unknown = matches!(failure, Failure::Credentials(_));
    let status = Status::from(failure);
    if !is_page {
        return status.into_http();
    }
    let code = match status.code() {
        tonic::Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        tonic::Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    };
    let body = format!("{reason}: {}\n", status.message());
    let mut response = (code, body).into_response();
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if unknown {
        let asks = HeaderValue::from_static("Bearer realm=\"firebreak\"");
        headers.insert(header::WWW_AUTHENTICATE, asks);
    }
    response
}

/// An answer that goes on no longer than its caller's credential.
fn until_ended(response: Response, doors: Arc<Doors>, who: Arc<Who>) -> Response {
    response.map(|body| {
        Body::new(Ending {
            body,
            passed: 0,
            state: State::Whole(doors, who),
        })
    })
}

/// How often it is looked whether a credential has ended while there is always something to send, frames.
const LOOK_EVERY: u32 = 32;

/// A body that is cut off once its caller would not be let in any more.
struct Ending {
    body: Body,
    passed: u32,
    state: State,
}

enum State {
    /// Nobody has had to wait for anything: most answers are whole at once.
    Whole(Arc<Doors>, Arc<Who>),
    /// The credential is watched.
    Watched(BoxFuture<'static, Unknown>),
    /// It was cut off.
    Over,
}

impl Ending {
    /// Why the credential has ended, if it has.
    fn ended(&mut self, context: &mut Context<'_>) -> Poll<Unknown> {
        if let State::Whole(doors, who) = &self.state {
            let ended = doors.clone().ended(who.clone());
            self.state = State::Watched(Box::pin(ended));
        }
        match &mut self.state {
            State::Watched(ended) => ended.as_mut().poll(context),
            State::Whole(..) | State::Over => Poll::Pending,
        }
    }

    fn cut_off(&mut self, unknown: Unknown) -> Frame<Bytes> {
        self.state = State::Over;
        let status = Status::from(Failure::Credentials(unknown));
        Frame::trailers(status.into_http::<Body>().headers().clone())
    }
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if matches!(self.state, State::Over) {
            return Poll::Ready(None);
        }
        self.passed = self.passed.wrapping_add(1);
        if self.passed.is_multiple_of(LOOK_EVERY)
            && let Poll::Ready(unknown) = self.ended(context)
        {
            return Poll::Ready(Some(Ok(self.cut_off(unknown))));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        match self.ended(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(unknown) => Poll::Ready(Some(Ok(self.cut_off(unknown)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Over) || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.state {
            State::Over => SizeHint::with_exact(0),
            // It may be cut off before all of it is sent.
            State::Whole(..) | State::Watched(_) => SizeHint::default(),
        }
    }
}
