use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use tonic::Status;
use tonic::codegen::http::HeaderValue;
use tonic::transport::{Channel, Endpoint};

use super::*;
use crate::net::TcpIncoming;
use crate::net::rooms::Rooms;
use crate::v1;
use crate::v1::conversations_client::ConversationsClient;
use crate::v1::conversations_server::ConversationsServer;

/// Far above what anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

/// The rules where a test has none of its own: a MiB a message, one a call.
pub(in crate::net) struct Plain;

impl guard::Rules for Plain {
    fn say(&self, refused: guard::Refused) -> Status {
        Status::resource_exhausted(format!("{refused:?}"))
    }

    fn takes(&self, _: &str) -> guard::Takes {
        guard::Takes {
            bytes_max: 1024 * 1024,
            many: false,
        }
    }
}

struct Served {
    address: SocketAddr,
    rooms: ConversationsClient<Channel>,
    /// Connections that were accepted.
    accepted: Arc<AtomicUsize>,
    closing: watch::Sender<bool>,
    elsewhere: watch::Sender<bool>,
    callers: TaskTracker,
    stop: Option<oneshot::Sender<()>>,
    /// Lets the slow call end.
    slow: Arc<Notify>,
}

async fn served() -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    let incoming = TcpIncoming(listener).inspect(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let rooms = Rooms::default();
    let slow = rooms.slow.clone();
    let (closing, elsewhere) = (watch::Sender::new(false), watch::Sender::new(false));
    let callers = TaskTracker::new();
    let ending = Ending {
        closing: closing.subscribe(),
        elsewhere: elsewhere.subscribe(),
        callers: callers.clone(),
    };
    let routes = Routes::new(ConversationsServer::new(rooms));
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = stopped.map(drop);
    let guard = Guard::new(guard::Limits::default(), Arc::new(Plain));
    tokio::spawn(serve(incoming, routes, stopped, ending, guard));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.connect_lazy();
    Served {
        address,
        rooms: ConversationsClient::new(channel),
        accepted,
        closing,
        elsewhere,
        callers,
        stop: Some(stop),
        slow,
    }
}

impl Served {
    async fn get(&mut self, forwarded: bool) {
        loop {
            let mut request = tonic::Request::new(v1::GetConversationRequest::default());
            if forwarded {
                let yes = tonic::metadata::MetadataValue::from_static("1");
                request.metadata_mut().insert(FORWARDED, yes);
            }
            let answer = timeout(LIMIT, self.rooms.get_conversation(request)).await;
            match answer.unwrap() {
                Ok(_) => return,
                // Never sent, its connection being about to end: whoever is above a channel of tonic's
                // sends it again.
                Err(status) => assert_eq!(status.code(), tonic::Code::Cancelled, "{status}"),
            }
        }
    }

    fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn clients_who_should_go_elsewhere_are_served_and_their_connections_end() {
    let mut served = served().await;
    served.get(false).await;
    served.get(false).await;
    assert_eq!(served.connections(), 1);
    served.elsewhere.send_replace(true);
    // The word may cross a call or two; nobody fails.
    timeout(LIMIT, async {
        while served.connections() < 3 {
            served.get(false).await;
        }
    })
    .await
    .unwrap();
    served.elsewhere.send_replace(false);
    served.get(false).await;
    let before = served.connections();
    for _ in 0..20 {
        served.get(false).await;
    }
    assert!(served.connections() <= before + 1, "it lasts again");
}

#[tokio::test]
async fn a_call_in_progress_is_answered_although_its_connection_is_to_end() {
    let mut served = served().await;
    let mut rooms = served.rooms.clone();
    let create = v1::CreateConversationRequest::default();
    let slow = tokio::spawn(async move { rooms.create_conversation(create).await });
    served.get(false).await;
    served.elsewhere.send_replace(true);
    timeout(LIMIT, async {
        while served.connections() < 2 {
            served.get(false).await;
        }
    })
    .await
    .unwrap();
    assert!(!slow.is_finished());
    served.slow.notify_one();
    timeout(LIMIT, slow).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_closes_takes_nobody_new_and_serves_those_who_are_there() {
    let mut served = served().await;
    served.get(false).await;
    served.closing.send_replace(true);
    timeout(LIMIT, async {
        while TcpStream::connect(served.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    served.get(false).await;
}

#[tokio::test]
async fn a_server_that_stops_waits_for_clients_to_hang_up_and_not_for_nodes() {
    let mut served = served().await;
    served.get(true).await;
    served.callers.close();
    timeout(LIMIT, served.callers.wait()).await.unwrap();
    served.callers.reopen();
    let mut rooms = served.rooms.clone();
    let create = v1::CreateConversationRequest::default();
    let slow = tokio::spawn(async move { rooms.create_conversation(create).await });
    served.get(false).await;
    served.stop.take().unwrap().send(()).unwrap();
    served.callers.close();
    assert_eq!(served.callers.len(), 1);
    assert!(
        served.callers.wait().now_or_never().is_none(),
        "a call goes on"
    );
    served.slow.notify_one();
    timeout(LIMIT, slow).await.unwrap().unwrap().unwrap();
    timeout(LIMIT, served.callers.wait()).await.unwrap();
}

#[tokio::test]
async fn what_nodes_forward_does_not_end_their_connection() {
    let mut served = served().await;
    served.elsewhere.send_replace(true);
    for _ in 0..20 {
        served.get(true).await;
    }
    assert_eq!(served.connections(), 1);
}

#[test]
fn calls_of_nodes_operators_and_health_checks_are_no_clients() {
    let call = |path: &str| Request::builder().uri(path).body(()).unwrap();
    assert!(is_clients(&call("/firebreak.v1.Messages/AppendMessage")));
    let get = "/firebreak.v1.Conversations/GetConversation";
    assert!(is_clients(&call(get)));
    for path in [
        "/firebreak.v1.Admin/GetStatus",
        "/firebreak.node.v1.Peer/Link",
        "/grpc.health.v1.Health/Check",
    ] {
        assert!(!is_clients(&call(path)), "{path}");
    }
    let mut forwarded = call(get);
    let yes = HeaderValue::from_static("1");
    forwarded.headers_mut().insert(FORWARDED, yes);
    assert!(!is_clients(&forwarded));
}
