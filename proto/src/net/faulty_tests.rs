use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};
use tokio::time::{Instant, timeout};

use super::*;
use crate::net::FarTcp;

/// Longer than anything that comes; time is paused in most tests.
const LIMIT: Duration = Duration::from_secs(100);
const SILENCE: Harm = Harm::Cut {
    sends: true,
    hears: true,
};

fn everyone(harm: Harm) -> Vec<Rule> {
    vec![Rule { peers: None, harm }]
}

/// One end of a pipe that knows what was done to it.
struct Pipe {
    pipe: DuplexStream,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    aborted: AtomicBool,
    /// Where the bytes of the last write were, and the room of the last read.
    written_at: AtomicUsize,
    read_at: AtomicUsize,
    polls: AtomicUsize,
}

impl Abort for Pipe {
    fn abort(&self) {
        self.seen.aborted.store(true, Ordering::SeqCst);
    }
}

impl Connected for Pipe {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let at = buffer.initialize_unfilled().as_ptr();
        self.seen.read_at.store(at.addr(), Ordering::SeqCst);
        self.seen.polls.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.pipe).poll_read(context, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let at = bytes.as_ptr().addr();
        self.seen.written_at.store(at, Ordering::SeqCst);
        self.seen.polls.fetch_add(1, Ordering::SeqCst);
        Pin::new(&mut self.pipe).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(context)
    }
}

/// A connection that `switch` can hold up, and its other end.
fn pair(switch: &Switch) -> (super::Stream<Pipe>, DuplexStream, Arc<Seen>) {
    let (pipe, other) = duplex(1 << 20);
    let seen = Arc::<Seen>::default();
    let pipe = Pipe {
        pipe,
        seen: seen.clone(),
    };
    let line = Line::new(switch.clone(), Whom::default());
    (super::Stream::new(pipe, Some(line)), other, seen)
}

#[tokio::test]
async fn with_nothing_on_bytes_go_straight_through_and_nothing_is_kept_of_them() {
    let switch = Switch::new(1);
    let (mut here, mut there, seen) = pair(&switch);
    let sent = [7_u8; 1000];
    here.write_all(&sent).await.unwrap();
    // The very bytes, not a copy of them, in one poll.
    assert_eq!(seen.written_at.load(Ordering::SeqCst), sent.as_ptr().addr());
    assert_eq!(seen.polls.load(Ordering::SeqCst), 1);
    there.write_all(&sent).await.unwrap();
    let mut read = [0_u8; 1000];
    let at = read.as_ptr().addr();
    here.read_exact(&mut read).await.unwrap();
    assert_eq!(seen.read_at.load(Ordering::SeqCst), at);
    assert_eq!(seen.polls.load(Ordering::SeqCst), 2);
    // Behind a fault it is so again.
    switch.set(everyone(SILENCE));
    assert!(here.read(&mut read).now_or_never().is_none());
    switch.set(Vec::new());
    there.write_all(&sent).await.unwrap();
    here.read_exact(&mut read).await.unwrap();
    here.write_all(&sent).await.unwrap();
    assert_eq!(seen.written_at.load(Ordering::SeqCst), sent.as_ptr().addr());
    assert_eq!(seen.read_at.load(Ordering::SeqCst), at);
}

#[tokio::test(start_paused = true)]
async fn silence_holds_both_ways_and_what_was_sent_comes_when_it_ends() {
    let switch = Switch::new(1);
    let (mut here, mut there, _) = pair(&switch);
    switch.set(everyone(SILENCE));
    here.write_all(b"out").await.unwrap();
    here.flush().await.unwrap();
    there.write_all(b"in").await.unwrap();
    let mut bytes = [0; 3];
    assert!(timeout(LIMIT, there.read(&mut bytes)).await.is_err());
    // Who waits is woken by the end alone.
    let waiting = tokio::spawn(async move {
        let mut bytes = [0; 2];
        here.read_exact(&mut bytes).await.unwrap();
        (here, bytes)
    });
    tokio::time::sleep(LIMIT).await;
    assert!(!waiting.is_finished());
    switch.set(Vec::new());
    let (here, heard) = timeout(LIMIT, waiting).await.unwrap().unwrap();
    assert_eq!(&heard, b"in");
    timeout(LIMIT, there.read_exact(&mut bytes))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&bytes, b"out");
    drop(here);
}

#[tokio::test(start_paused = true)]
async fn a_cut_holds_one_way_alone() {
    let switch = Switch::new(1);
    let (mut here, mut there, _) = pair(&switch);
    let mut byte = [0];
    for sends in [true, false] {
        switch.set(everyone(Harm::Cut {
            sends,
            hears: !sends,
        }));
        here.write_all(b"o").await.unwrap();
        there.write_all(b"i").await.unwrap();
        assert_eq!(timeout(LIMIT, there.read(&mut byte)).await.is_err(), sends);
        assert_eq!(timeout(LIMIT, here.read(&mut byte)).await.is_err(), !sends);
        switch.set(Vec::new());
        // What was kept leaves when its connection is polled, as any is.
        let mut more = [0];
        let got = match sends {
            true => tokio::select! {
                got = there.read_exact(&mut byte) => got,
                more = here.read(&mut more) => panic!("{more:?}"),
            },
            false => here.read_exact(&mut byte).await,
        };
        assert_eq!(got.unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_in_silence_ends_for_its_other_end_when_that_is_over() {
    let switch = Switch::new(1);
    let (mut here, mut there, _) = pair(&switch);
    switch.set(everyone(SILENCE));
    here.write_all(b"last words").await.unwrap();
    drop(here);
    let mut heard = Vec::new();
    assert!(timeout(LIMIT, there.read_to_end(&mut heard)).await.is_err());
    assert_eq!((heard.len(), switch.lingering()), (0, 1));
    switch.set(Vec::new());
    timeout(LIMIT, there.read_to_end(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(heard, b"last words");
    // Nor is an end heard that comes in silence.
    let (mut here, there, _) = pair(&switch);
    switch.set(everyone(SILENCE));
    drop(there);
    assert!(timeout(LIMIT, here.read(&mut [0])).await.is_err());
    switch.set(Vec::new());
    assert_eq!(here.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(switch.lingering(), 0);
}

fn slow(delay_ms: u64, jitter_ms: u64, loss_ppm: u32) -> Slow {
    Slow {
        delay: Duration::from_millis(delay_ms),
        jitter: Duration::from_millis(jitter_ms),
        loss_ppm,
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_way_takes_its_delay_and_the_other_none() {
    let switch = Switch::new(1);
    let (mut here, mut there, _) = pair(&switch);
    let mut byte = [0];
    for sends in [true, false] {
        switch.set(everyone(Harm::Slow {
            sends,
            hears: !sends,
            by: slow(70, 0, 0),
        }));
        let began = Instant::now();
        here.write_all(b"o").await.unwrap();
        // Who writes need not come again for it to leave.
        let reading = tokio::spawn(async move {
            let mut byte = [0];
            here.read_exact(&mut byte).await.unwrap();
            here
        });
        there.read_exact(&mut byte).await.unwrap();
        let out = began.elapsed();
        let began = Instant::now();
        there.write_all(b"i").await.unwrap();
        here = reading.await.unwrap();
        let back = began.elapsed();
        let late = |way: Duration| (70..75).contains(&way.as_millis());
        assert_eq!((late(out), late(back)), (sends, !sends), "{out:?} {back:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn jitter_and_losses_delay_and_neither_lose_nor_reorder() {
    let switch = Switch::new(7);
    let (mut here, mut there, _) = pair(&switch);
    switch.set(everyone(Harm::Slow {
        sends: true,
        hears: true,
        by: slow(5, 20, 200_000),
    }));
    let began = Instant::now();
    let sending = async {
        for n in 0..200_u8 {
            here.write_all(&[n]).await.unwrap();
            here.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        here.shutdown().await.unwrap();
        // Its connection is polled as any is.
        let _ = here.read(&mut [0]).await;
    };
    // Dropped with its end, which the sender hears.
    let receiving = async move {
        let mut all = Vec::new();
        there.read_to_end(&mut all).await.unwrap();
        (all, began.elapsed())
    };
    let both = async { tokio::join!(sending, receiving) };
    let ((), (all, took)) = timeout(LIMIT, both).await.unwrap();
    assert_eq!(all, (0..200).collect::<Vec<u8>>());
    // One of five was sent again, at the earliest 200 ms later.
    assert!(took >= Duration::from_millis(400), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reset_ends_what_is_idle_at_once_and_for_good() {
    let switch = Switch::new(1);
    let (mut here, _there, seen) = pair(&switch);
    let idle = tokio::spawn(async move {
        let failed = here.read(&mut [0]).await.unwrap_err();
        (here, failed.kind())
    });
    tokio::time::sleep(LIMIT).await;
    switch.set(everyone(Harm::Reset));
    let (mut here, kind) = timeout(LIMIT, idle).await.unwrap().unwrap();
    assert_eq!(kind, io::ErrorKind::ConnectionReset);
    switch.set(Vec::new());
    assert!(here.write_all(b"x").await.is_err());
    drop(here);
    assert!(seen.aborted.load(Ordering::SeqCst));
    let (mut fresh, mut other, _) = pair(&switch);
    fresh.write_all(b"x").await.unwrap();
    assert_eq!(other.read(&mut [0]).await.unwrap(), 1);
}

#[test]
fn peers_are_known_by_what_was_dialled_or_by_where_they_come_from() {
    let peers = Peers {
        addresses: BTreeSet::from(["busan-1:7400".to_owned()]),
        sockets: BTreeSet::from(["10.0.0.2:7400".parse().unwrap()]),
    };
    let whom = |dialled: Option<&str>, socket: &str| Whom {
        dialled: dialled.map(str::to_owned),
        socket: socket.parse().ok(),
    };
    for (known, whom) in [
        (true, whom(Some("busan-1:7400"), "")),
        (true, whom(Some("10.0.0.2:7400"), "10.0.0.2:7400")),
        // Another node at the same address.
        (false, whom(Some("10.0.0.2:7401"), "10.0.0.2:7401")),
        (true, whom(None, "10.0.0.2:51234")),
        (true, whom(None, "[::ffff:10.0.0.2]:51234")),
        (false, whom(None, "10.0.0.3:7400")),
        (false, whom(None, "")),
    ] {
        assert_eq!(peers.has(&whom), known, "{whom:?}");
    }
}

/// A listener of real TCP, its port, and the switch of whoever listens.
async fn listening(switch: &Switch) -> (Incoming<FarTcp>, u16) {
    let network = Faulty::new(FarTcp::from(None), switch.clone());
    let incoming = network.listen("127.0.0.1:0").await.unwrap();
    let address = incoming.below.plain.0.local_addr().unwrap();
    (incoming, address.port())
}

#[tokio::test]
async fn new_connections_are_refused_at_both_ends_and_open_again_behind_it() {
    let switch = Switch::new(1);
    let (mut incoming, port) = listening(&switch).await;
    let plain = Faulty::never(FarTcp::from(None));
    let own = Faulty::new(FarTcp::from(None), switch.clone());
    switch.set(everyone(Harm::Refuse));
    let refused = own.connect("127.0.0.1", port).await.err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    let mut caller = plain.connect("127.0.0.1", port).await.unwrap();
    // Nobody gets it, and its other end is told.
    let mut byte = [0];
    tokio::select! {
        heard = caller.read(&mut byte) => assert!(heard.is_err(), "{heard:?}"),
        accepted = incoming.next() => panic!("accepted: {}", accepted.is_some()),
    }
    switch.set(Vec::new());
    let (caller, accepted) = tokio::join!(plain.connect("127.0.0.1", port), incoming.next());
    assert!(caller.is_ok() && accepted.unwrap().is_ok());
}

#[tokio::test]
async fn in_silence_nothing_is_accepted_nor_opened_until_it_ends() {
    let switch = Switch::new(1);
    let (mut incoming, port) = listening(&switch).await;
    let own = Faulty::new(FarTcp::from(None), switch.clone());
    let plain = Faulty::never(FarTcp::from(None));
    switch.set(everyone(SILENCE));
    // The kernel takes it, as for a process that stands still.
    let _caller = plain.connect("127.0.0.1", port).await.unwrap();
    assert!(incoming.next().now_or_never().is_none());
    let opening = tokio::spawn(async move { own.connect("127.0.0.1", port).await.is_ok() });
    tokio::task::yield_now().await;
    assert!(!opening.is_finished());
    switch.set(Vec::new());
    assert!(incoming.next().await.unwrap().is_ok());
    assert!(opening.await.unwrap());
}

/// What a task that holds a connection takes along when its last waker goes.
struct Holder(Switch);

impl std::task::Wake for Holder {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Holder {
    fn drop(&mut self) {
        // As a connection does that is dropped.
        self.0.forget(7);
        self.0.keep(8, std::task::Waker::noop());
    }
}

#[test]
fn the_last_waker_of_a_task_may_drop_connections_of_the_same_switch() {
    let switch = Switch::new(1);
    let waker = std::task::Waker::from(Arc::new(Holder(switch.clone())));
    switch.keep(7, &waker);
    drop(waker);
    let (done, ended) = std::sync::mpsc::channel();
    #[allow(
        clippy::disallowed_methods,
        reason = "a lock that waits for itself stops the thread that tries it"
    )]
    std::thread::spawn(move || {
        switch.keep(7, std::task::Waker::noop());
        // Who waits is gone only when this has failed.
        let _ = done.send(());
    });
    ended.recv_timeout(LIMIT).unwrap();
}
