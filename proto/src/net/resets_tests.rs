//! Calls that run out while one end of their connection stands still, and the other calls on it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::join_all;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::server::Connected;

use super::guard::{Guard, Limits};
use super::rooms::Rooms;
use super::serve::tests::Plain;
use super::serve::{Ending, serve};
use super::{RESETS_MAX, endpoint};
use crate::v1;
use crate::v1::conversations_client::ConversationsClient;
use crate::v1::conversations_server::ConversationsServer;

/// Far above what anything here takes.
const LIMIT: Duration = Duration::from_secs(60);
/// Calls that run out at once: more than the libraries take by themselves.
const CALLS: usize = 3_000;

/// Whether an end of a connection stands still, as a process does that is stopped or gets no time:
/// what comes waits in its socket.
#[derive(Clone, Default)]
struct Gate(Arc<shut::Shut>);

mod shut {
    use std::sync::Mutex;

    use super::Waker;

    /// Whether it is shut, and who waits.
    #[derive(Default)]
    pub(super) struct Shut(pub(super) Mutex<(bool, Vec<Waker>)>);
}

impl Gate {
    fn shut(&self, shut: bool) {
        let mut state = self.0.0.lock().unwrap();
        state.0 = shut;
        state.1.drain(..).for_each(Waker::wake);
    }
}

struct Gated {
    io: TcpStream,
    gate: Gate,
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut state = self.gate.0.0.lock().unwrap();
        if state.0 {
            state.1.push(context.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl AsyncWrite for Gated {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

impl Connected for Gated {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

/// Lets calls run out, `rounds` times, while the server or the client stands still; another call on the
/// same connection goes on through it.
async fn check(server_stands_still: bool, rounds: usize) {
    let (server, client, rooms) = (Gate::default(), Gate::default(), Rooms::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connections = Arc::new(AtomicUsize::new(0));
    let (gate, count) = (server.clone(), connections.clone());
    let incoming = futures::stream::unfold(listener, move |listener| {
        let (gate, count) = (gate.clone(), count.clone());
        async move {
            let accepted = listener.accept().await.map(|(io, _)| Gated { io, gate });
            count.fetch_add(1, Ordering::SeqCst);
            Some((accepted, listener))
        }
    });
    let (never, no) = watch::channel(false);
    let ending = Ending {
        closing: no.clone(),
        elsewhere: no,
        callers: TaskTracker::new(),
    };
    let routes = Routes::new(ConversationsServer::new(rooms.clone()));
    let incoming = Box::pin(incoming);
    tokio::spawn(serve(
        incoming,
        routes,
        std::future::pending(),
        ending,
        Guard::new(Limits::default(), Arc::new(Plain)),
    ));

    let (gate, to) = (client.clone(), address.clone());
    let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let (gate, to) = (gate.clone(), to.clone());
        async move {
            let io = TcpStream::connect(to).await?;
            Ok::<_, std::io::Error>(TokioIo::new(Gated { io, gate }))
        }
    });
    let channel = endpoint(&address)
        .unwrap()
        .connect_with_connector_lazy(connector);
    let calls = ConversationsClient::new(channel);
    let get = |mut calls: ConversationsClient<_>, limit| async move {
        let request = v1::GetConversationRequest::default();
        timeout(limit, calls.get_conversation(request)).await
    };
    get(calls.clone(), LIMIT).await.unwrap().unwrap();
    let mut slow = calls.clone();
    let slow = tokio::spawn(async move {
        let request = v1::CreateConversationRequest::default();
        slow.create_conversation(request).await
    });

    for round in 1..=rounds {
        let stands_still = if server_stands_still {
            &server
        } else {
            &client
        };
        stands_still.shut(true);
        let run_out = join_all((0..CALLS).map(|_| get(calls.clone(), Duration::from_millis(500))));
        assert!(run_out.await.iter().all(Result::is_err), "none is answered");
        stands_still.shut(false);
        let behind = timeout(LIMIT, get(calls.clone(), LIMIT)).await.unwrap();
        behind
            .unwrap()
            .unwrap_or_else(|status| panic!("round {round}: {status}"));
    }
    rooms.slow.notify_one();
    timeout(LIMIT, slow).await.unwrap().unwrap().unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    drop(never);
}

#[tokio::test]
async fn calls_that_run_out_while_the_server_stands_still_end_nothing_else() {
    const { assert!(CALLS < RESETS_MAX) };
    check(true, 2).await;
}

#[tokio::test]
async fn late_answers_to_calls_that_ran_out_end_nothing_else() {
    check(false, 2).await;
}
