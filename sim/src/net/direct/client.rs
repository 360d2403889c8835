//! The calling side: a channel that connects when first used and again after its connection ended.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use http_body::Frame as BodyFrame;
use parking_lot::Mutex;
use proto::net::{CONNECT_TIMEOUT, Transport};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tonic::ConnectError;
use tonic::body::Body;

use super::super::Net;
use super::flow::Flow;
use super::pieces::{self, Piece, Pieces};
use super::{Frame, Part, Pulse, broken, pump, receive, send, send_now};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Response = http::Response<Body>;
type Opened = Result<Arc<Link>, Arc<io::Error>>;

/// A channel to one host.
pub(in super::super) struct Direct {
    net: Net,
    host: String,
    port: u16,
    current: Arc<Mutex<Option<watch::Receiver<Option<Opened>>>>>,
}

/// An open connection.
struct Link {
    flow: Arc<Flow>,
    calls: Mutex<BTreeMap<u64, Call>>,
    last: AtomicU64,
    over: AtomicBool,
}

struct Call {
    stage: Stage,
    /// Sends the request's body, which ends with the call; none when all of it was sent at once.
    sending: Option<AbortHandle>,
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(sending) = &self.sending {
            sending.abort();
        }
    }
}

enum Stage {
    Waiting(oneshot::Sender<Result<Response, BoxError>>),
    Streaming(Pieces),
    Over,
}

impl Direct {
    pub(in super::super) fn new(net: Net, host: String, port: u16) -> Direct {
        Direct {
            net,
            host,
            port,
            current: Arc::default(),
        }
    }

    /// The connection in use, or the one that is being opened.
    fn link(&self) -> watch::Receiver<Option<Opened>> {
        let mut current = self.current.lock();
        if let Some(opening) = &*current {
            let usable = match &*opening.borrow() {
                None => true,
                Some(Ok(link)) => !link.over.load(Ordering::Relaxed),
                Some(Err(_)) => false,
            };
            if usable && opening.has_changed().is_ok() {
                return opening.clone();
            }
        }
        let (opened, opening) = watch::channel(None);
        *current = Some(opening.clone());
        let (net, host, port) = (self.net.clone(), self.host.clone(), self.port);
        tokio::spawn(async move {
            let io = tokio::time::timeout(CONNECT_TIMEOUT, net.connect(&host, port)).await;
            let io = io.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            match io {
                Err(error) => drop(opened.send_replace(Some(Err(Arc::new(error))))),
                Ok(io) => {
                    let link = Arc::new(Link {
                        flow: Arc::new(Flow::new(io)),
                        calls: Mutex::default(),
                        last: AtomicU64::new(0),
                        over: AtomicBool::new(false),
                    });
                    opened.send_replace(Some(Ok(link.clone())));
                    // Held while the connection is open, so that `link` sees its end.
                    let ended = link.read(&opened).await;
                    link.end(
                        &ended
                            .err()
                            .unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()),
                    );
                }
            }
        });
        opening
    }
}

impl Transport for Direct {
    fn call(
        &self,
        request: http::Request<Body>,
    ) -> Pin<Box<dyn Future<Output = Result<Response, BoxError>> + Send>> {
        let mut opening = self.link();
        Box::pin(async move {
            let opened = opening.wait_for(Option::is_some).await;
            let opened = opened.ok().and_then(|opened| opened.clone());
            let link = match opened {
                Some(Ok(link)) => link,
                Some(Err(error)) => return Err(not_sent(&error)),
                None => return Err(not_sent(&io::ErrorKind::ConnectionAborted.into())),
            };
            Link::call(link, request).await
        })
    }
}

fn not_sent(error: &io::Error) -> BoxError {
    Box::new(ConnectError(error.to_string().into()))
}

/// Tells the server when a caller no longer waits.
struct Abandon {
    link: Arc<Link>,
    call: u64,
    answered: bool,
}

impl Drop for Abandon {
    fn drop(&mut self) {
        if !self.answered {
            self.link.cancel(self.call);
        }
    }
}

impl Link {
    async fn call(link: Arc<Link>, request: http::Request<Body>) -> Result<Response, BoxError> {
        let (head, body) = request.into_parts();
        let (answer, answered) = oneshot::channel();
        if link.over.load(Ordering::Relaxed) {
            return Err(not_sent(&io::ErrorKind::ConnectionAborted.into()));
        }
        let call = link.last.fetch_add(1, Ordering::Relaxed) + 1;
        let sender = link.clone();
        let mut sending = Box::pin(async move {
            send(sender.flow.io(), call, Part::Request(Box::new(head))).await?;
            pump(&sender.flow, call, body).await
        });
        // Most requests are whole: they need no task.
        let sending = match futures::poll!(sending.as_mut()) {
            Poll::Ready(_) => None,
            Poll::Pending => Some(tokio::spawn(sending).abort_handle()),
        };
        let stage = Stage::Waiting(answer);
        link.calls.lock().insert(call, Call { stage, sending });
        let mut abandon = Abandon {
            link: link.clone(),
            call,
            answered: false,
        };
        let response = answered
            .await
            .unwrap_or_else(|_| Err(Box::new(broken(&io::ErrorKind::ConnectionReset.into()))));
        abandon.answered = true;
        response
    }

    fn cancel(&self, call: u64) {
        let open = self.calls.lock().remove(&call);
        if open.is_some() {
            send_now(self.flow.io(), call, Part::Cancel);
        }
    }

    /// Takes what comes until the connection ends, or nobody holds the channel and no call is left.
    async fn read(self: &Arc<Self>, channel: &watch::Sender<Option<Opened>>) -> io::Result<()> {
        let mut pulse = Pulse::new();
        let mut held = true;
        let mut released = std::pin::pin!(channel.closed());
        while held || !self.calls.lock().is_empty() {
            let frame = tokio::select! {
                biased;
                frame = receive(self.flow.io()) => frame?,
                () = &mut released, if held => {
                    held = false;
                    continue;
                }
                error = pulse.silent(self.flow.io()) => return Err(error),
            };
            let Some(frame) = frame else { return Ok(()) };
            pulse.heard();
            self.take(frame);
        }
        Ok(())
    }

    fn take(self: &Arc<Self>, frame: Frame) {
        let Frame { call, part } = frame;
        match part {
            Part::Ping => send_now(self.flow.io(), 0, Part::Pong),
            Part::GoAway => {
                self.over.store(true, Ordering::Relaxed);
                let link = self.clone();
                // Behind the calls that wait for room.
                tokio::spawn(async move { send(link.flow.io(), 0, Part::GoAway).await });
            }
            Part::Response(head) => self.answered(call, *head),
            Part::Data(data) => {
                let bytes = data.len();
                if !self.give(call, Ok(BodyFrame::data(data))) {
                    self.flow.read(bytes);
                }
            }
            Part::Trailers(trailers) => {
                self.give(call, Ok(BodyFrame::trailers(*trailers)));
            }
            Part::Cancel => {
                let why = broken(&io::ErrorKind::ConnectionReset.into());
                let open = self.calls.lock().remove(&call);
                open.into_iter().for_each(|open| open.fail(why.clone()));
            }
            Part::End => drop(self.calls.lock().remove(&call)),
            Part::Window(bytes) => self.flow.credited(call, bytes),
            Part::Request(_) | Part::Pong => {}
        }
    }

    fn answered(self: &Arc<Self>, call: u64, head: http::response::Parts) {
        let link = self.clone();
        let (pieces, body) =
            pieces::body(&self.flow, call, Some(Box::new(move || link.cancel(call))));
        let answer = {
            let mut calls = self.calls.lock();
            let Some(open) = calls.get_mut(&call) else {
                return;
            };
            std::mem::replace(&mut open.stage, Stage::Streaming(pieces))
        };
        if let Stage::Waiting(answer) = answer {
            let response = http::Response::from_parts(head, Body::new(body));
            // An answer that nobody waits for drops its body, which cancels the call.
            let _ = answer.send(Ok(response));
        }
    }

    /// Whether somebody may read it.
    fn give(&self, call: u64, piece: Piece) -> bool {
        if let Some(open) = self.calls.lock().get(&call)
            && let Stage::Streaming(pieces) = &open.stage
        {
            pieces.give(piece);
            return true;
        }
        false
    }

    /// Ends every call with what ended the connection.
    fn end(&self, why: &io::Error) {
        let calls = {
            let mut calls = self.calls.lock();
            self.over.store(true, Ordering::Relaxed);
            std::mem::take(&mut *calls)
        };
        for call in calls.into_values() {
            call.fail(broken(why));
        }
    }
}

impl Call {
    fn fail(mut self, why: tonic::Status) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Waiting(answer) => drop(answer.send(Err(Box::new(why)))),
            Stage::Streaming(pieces) => pieces.give(Err(why)),
            Stage::Over => {}
        }
    }
}
