use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use super::*;

const DELAY: Duration = Duration::from_millis(60);
const HERE: &str = "127.0.0.31";
const THERE: &str = "127.0.0.32";
/// Far above what anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A network at `own` for which `other` is far.
fn network(own: &str, other: &str) -> FarTcp {
    let distances = Distances {
        from: Some(ip(own)),
        delays: BTreeMap::from([(ip(other), DELAY)]),
    };
    FarTcp::new(distances)
}

/// A connection between here and there; both ends.
async fn pair() -> (Io, Io) {
    let here = network(HERE, THERE);
    let there = network(THERE, HERE);
    // Asking for the port first would race; a listener of the same kind tells it.
    let listener = tokio::net::TcpListener::bind((THERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut incoming = Incoming {
        plain: TcpIncoming(listener),
        network: there,
    };
    let (near_end, far_end) = tokio::join!(here.connect(THERE, port), incoming.next());
    (near_end.unwrap(), far_end.unwrap().unwrap())
}

#[tokio::test]
async fn a_round_trip_takes_the_delay_twice() {
    let (mut here, mut there) = pair().await;
    let began = Instant::now();
    here.write_all(b"ping").await.unwrap();
    let mut bytes = [0; 4];
    there.read_exact(&mut bytes).await.unwrap();
    assert!(began.elapsed() >= DELAY);
    there.write_all(&bytes).await.unwrap();
    here.read_exact(&mut bytes).await.unwrap();
    assert!(began.elapsed() >= 2 * DELAY);
    assert_eq!(&bytes, b"ping");
}

#[tokio::test]
async fn connecting_takes_a_round_trip_and_so_does_a_refusal() {
    let began = Instant::now();
    let _pair = pair().await;
    assert!(began.elapsed() >= 2 * DELAY);
    let here = network(HERE, THERE);
    let began = Instant::now();
    // Nobody listens on a port that was just given back.
    let listener = tokio::net::TcpListener::bind((THERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let refused = here.connect(THERE, port).await.err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert!(began.elapsed() >= 2 * DELAY);
}

#[tokio::test]
async fn distance_does_not_limit_throughput() {
    const BYTES: usize = 64 * 1024 * 1024;
    let (mut here, mut there) = pair().await;
    let sending = async {
        let part = vec![7; 128 * 1024];
        for _ in 0..BYTES / part.len() {
            here.write_all(&part).await.unwrap();
        }
        here.shutdown().await.unwrap();
    };
    let receiving = async {
        let mut all = Vec::with_capacity(BYTES);
        there.read_to_end(&mut all).await.unwrap();
        all
    };
    // Part after part, each delayed by itself, would take half a minute.
    let ((), all) = timeout(LIMIT, async { tokio::join!(sending, receiving) })
        .await
        .unwrap();
    assert!(all.len() == BYTES && all.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn a_close_and_a_reset_are_heard_late_and_behind_what_was_sent_before() {
    for reset in [false, true] {
        let (mut here, there) = pair().await;
        let Io::Far(mut far) = there else {
            panic!("a far end")
        };
        far.out.write_all(b"last words").await.unwrap();
        // The reset would overtake what nobody has read yet.
        tokio::time::sleep(DELAY / 3).await;
        let began = Instant::now();
        if reset {
            far.out.as_ref().set_zero_linger().unwrap();
        }
        drop(far);
        // A write may learn of it no sooner either.
        while began.elapsed() < DELAY / 2 {
            here.write_all(b"into the void").await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut heard = Vec::new();
        let end = timeout(LIMIT, here.read_to_end(&mut heard)).await.unwrap();
        assert!(began.elapsed() >= DELAY, "reset: {reset}");
        assert_eq!(heard, b"last words");
        assert!(end.is_ok() || reset, "{end:?}");
        // Now it is known.
        let written = async {
            while here.write_all(b"too late").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, written).await.unwrap();
    }
}
