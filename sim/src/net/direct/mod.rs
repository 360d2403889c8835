//! Calls handed over without HTTP/2: heads, pieces of bodies and trailers travel as they are over
//! the same simulated connections, with the same delays, cuts and resets. What HTTP/2 would do for
//! a connection is done here too: it is shared by all calls, pinged, closed gracefully, and its end
//! ends every call on it.
//!
//! Flow control is HTTP/2's too ([`flow`]): windows of each call and of the connection, pieces of bodies
//! that take turns, and what concerns the connection or ends a call waits for none of them.

mod client;
mod flow;
mod pieces;
mod server;

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, request, response};
use http_body::Body as _;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;

pub(super) use client::Direct;
pub(super) use server::serve;

use super::stream::Io;
use flow::Flow;

/// As the HTTP/2 tier's keepalive.
const PING_INTERVAL: Duration = proto::net::KEEPALIVE_INTERVAL;
const PING_TIMEOUT: Duration = proto::net::KEEPALIVE_TIMEOUT;
/// What a head or trailers count for on the line, bytes; HTTP/2 compresses them to about this.
const HEAD_BYTES: usize = 64;
const FRAME_BYTES: usize = 9;

/// A piece of a call.
pub struct Frame {
    /// The call's number on its connection; 0 for what concerns the connection.
    call: u64,
    part: Part,
}

enum Part {
    Request(Box<request::Parts>),
    Response(Box<response::Parts>),
    Data(Bytes),
    Trailers(Box<HeaderMap>),
    /// The body is complete.
    End,
    /// The call is over, unfinished.
    Cancel,
    /// So many bytes of the call were read, or of all calls.
    Window(usize),
    Ping,
    Pong,
    /// No new calls on this connection; from the client, that it makes none any more.
    GoAway,
}

impl Frame {
    /// What it counts for on the line.
    pub(super) fn bytes(&self) -> usize {
        let body = match &self.part {
            Part::Data(data) => data.len(),
            Part::Request(_) | Part::Response(_) | Part::Trailers(_) => HEAD_BYTES,
            Part::End | Part::Cancel | Part::Window(_) | Part::Ping | Part::Pong | Part::GoAway => {
                0
            }
        };
        FRAME_BYTES + body
    }

    /// All that it says, for the trace: a number that tells its call and kind, and its content. A head's
    /// is put together in `head`.
    pub(super) fn said<'a>(&'a self, head: &'a mut Vec<u8>) -> (u64, &'a [u8]) {
        head.clear();
        let kind = match &self.part {
            Part::Request(request) => {
                head.extend_from_slice(request.method.as_str().as_bytes());
                // Hosts differ by connection, which the trace knows.
                head.extend_from_slice(request.uri.path().as_bytes());
                head.extend_from_slice(request.uri.query().unwrap_or_default().as_bytes());
                put(head, &request.headers);
                1
            }
            Part::Response(response) => {
                head.extend_from_slice(&response.status.as_u16().to_le_bytes());
                put(head, &response.headers);
                2
            }
            Part::Trailers(trailers) => {
                put(head, trailers);
                3
            }
            Part::Data(data) => return (self.call << 4 | 4, data),
            Part::End => 5,
            Part::Cancel => 6,
            Part::Ping => 7,
            Part::Pong => 8,
            Part::GoAway => 9,
            Part::Window(bytes) => {
                head.extend_from_slice(&bytes.to_le_bytes());
                10
            }
        };
        (self.call << 4 | kind, head)
    }
}

/// Adds headers as lines, in the order in which they were set.
fn put(head: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        head.push(b'\n');
        head.extend_from_slice(name.as_str().as_bytes());
        head.push(b':');
        head.extend_from_slice(value.as_bytes());
    }
}

/// Sends a frame; waits while the connection's window is full.
async fn send(io: &Io, call: u64, part: Part) -> io::Result<()> {
    let mut frame = Some(Frame { call, part });
    std::future::poll_fn(|context| {
        let mut fabric = io.fabric().lock();
        fabric.poll_send(io.end(), &mut frame, context)
    })
    .await
}

/// Sends a frame that waits for no window, as HTTP/2 puts pings, credits and cancellations in front of
/// data. A connection that is over loses it.
fn send_now(io: &Io, call: u64, part: Part) {
    io.fabric().lock().send_now(io.end(), Frame { call, part });
}

async fn receive(io: &Io) -> io::Result<Option<Frame>> {
    std::future::poll_fn(|context| io.fabric().lock().poll_receive(io.end(), context)).await
}

/// Sends a body to its end.
async fn pump(flow: &Flow, call: u64, body: Body) -> io::Result<()> {
    let _sent = Sent { flow, call };
    let mut body = std::pin::pin!(body);
    loop {
        let next = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await;
        match next {
            None => return send(flow.io(), call, Part::End).await,
            // gRPC's own errors are trailers; this is a body that broke off.
            Some(Err(_)) => return send(flow.io(), call, Part::Cancel).await,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => flow.send_data(call, data).await?,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        send(flow.io(), call, Part::Trailers(Box::new(trailers))).await?;
                    }
                }
            },
        }
    }
}

/// Forgets a call's window however its body ends.
struct Sent<'a> {
    flow: &'a Flow,
    call: u64,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.flow.sent(self.call);
    }
}

fn broken(error: &io::Error) -> Status {
    Status::unavailable(format!("the connection broke: {error}"))
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer to a ping")
}

/// When to ping and when to give up, as HTTP/2's keepalive does.
struct Pulse {
    heard: Instant,
    waiting: bool,
    /// Mostly it rings for nothing, since something was heard meanwhile: to set it anew each time
    /// would cost more.
    alarm: Pin<Box<Sleep>>,
}

impl Pulse {
    fn new() -> Pulse {
        let now = Instant::now();
        Pulse {
            heard: now,
            waiting: false,
            alarm: Box::pin(sleep_until(now + PING_INTERVAL)),
        }
    }

    fn heard(&mut self) {
        self.heard = Instant::now();
        if std::mem::take(&mut self.waiting) {
            self.alarm.as_mut().reset(self.heard + PING_INTERVAL);
        }
    }

    /// Pings whenever the other side is silent; completes when it is for too long.
    async fn silent(&mut self, io: &Io) -> io::Error {
        loop {
            self.alarm.as_mut().await;
            let due = self.heard + PING_INTERVAL;
            if self.waiting {
                return timed_out();
            }
            if Instant::now() < due {
                self.alarm.as_mut().reset(due);
                continue;
            }
            send_now(io, 0, Part::Ping);
            self.waiting = true;
            self.alarm.as_mut().reset(due + PING_TIMEOUT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(call: u64, part: Part) -> (u64, Vec<u8>) {
        let mut head = b"of the frame before".to_vec();
        let frame = Frame { call, part };
        let (number, content) = frame.said(&mut head);
        (number, content.to_vec())
    }

    fn request(path: &str, timeout: &str) -> Part {
        let request = http::Request::post(path).header("grpc-timeout", timeout);
        Part::Request(Box::new(request.body(()).unwrap().into_parts().0))
    }

    fn trailers(status: &str) -> Part {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", status.parse().unwrap());
        Part::Trailers(Box::new(headers))
    }

    #[test]
    fn frames_of_one_size_that_say_other_things_are_told_apart() {
        let data = |bytes: &'static [u8]| Part::Data(Bytes::from_static(bytes));
        let all = [
            said(1, data(b"one")),
            said(1, data(b"two")),
            said(2, data(b"two")),
            said(1, request("/a/append", "5S")),
            said(1, request("/a/delete", "5S")),
            said(1, request("/a/append", "6S")),
            said(1, trailers("0")),
            said(1, trailers("9")),
            said(1, Part::End),
            said(1, Part::Cancel),
            said(0, Part::Ping),
            said(0, Part::Pong),
            said(1, Part::Window(1)),
            said(1, Part::Window(2)),
            said(0, Part::Window(2)),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{one:?}");
        }
        assert_eq!(said(1, data(b"one")), all[0]);
        assert_eq!(said(1, request("/a/append", "5S")), all[3]);
    }
}
