//! A simulated host's end of a drill: the same faults as in production, told over a way that no fault
//! reaches, and done to the simulated network.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use proto::net::faulty::{Harm, Rule};
use proto::v1::{EndFaultsRequest, RenewFaultsRequest, StartFaultsRequest};
use server::drill::faults::kind::Kind;
use server::drill::faults::{Control, Stage};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::history::DrillSeen;
use crate::net::{Net, now_us};

/// What a controller tells a node.
pub enum Order {
    /// Puts faults on.
    Start(StartFaultsRequest),
    /// Lets them live longer.
    Renew(RenewFaultsRequest),
    /// Ends them.
    End(EndFaultsRequest),
}

type Posted = (Order, oneshot::Sender<Result<(), String>>);

/// The way to a host that no fault reaches, and what came of what was told over it. Outlives nodes.
#[derive(Default)]
pub(super) struct Desk {
    orders: Mutex<VecDeque<Posted>>,
    posted: Notify,
    seen: Mutex<Vec<DrillSeen>>,
}

impl Desk {
    /// Tells the node something; nobody answers while it is down.
    pub fn post(&self, order: Order) -> oneshot::Receiver<Result<(), String>> {
        let (answer, answered) = oneshot::channel();
        self.orders.lock().push_back((order, answer));
        self.posted.notify_one();
        answered
    }

    /// When faults were on.
    pub fn seen(&self) -> Vec<DrillSeen> {
        self.seen.lock().clone()
    }

    /// Faults live until then, as their controller was told.
    fn lives(&self, host: &str, ttl_ms: u64) {
        let now = now_us();
        let until_us = now + ttl_ms * 1_000;
        let mut seen = self.seen.lock();
        match seen.last_mut().filter(|one| one.ended_us.is_none()) {
            Some(one) => one.until_us = one.until_us.max(until_us),
            None => seen.push(DrillSeen {
                host: host.to_owned(),
                began_us: now,
                until_us,
                ended_us: None,
            }),
        }
    }

    fn ended(&self) {
        if let Some(one) = self.seen.lock().last_mut() {
            one.ended_us.get_or_insert_with(now_us);
        }
    }
}

/// The stage of one start of a node.
pub(super) struct Simulated {
    pub host: String,
    pub net: Net,
    pub desk: Arc<Desk>,
}

impl Stage for Simulated {
    fn refuses(&self, kind: &Kind) -> Option<String> {
        match kind {
            Kind::Network(Harm::Cut { .. }) | Kind::SlowSync(_) | Kind::FullDisk => None,
            Kind::Network(_) | Kind::StandStill => Some(
                "the simulator does that with actions of its own: link, reset, block, pause"
                    .to_owned(),
            ),
        }
    }

    fn network(&self, rules: Vec<Rule>) {
        let over = rules.is_empty();
        self.net.bend(rules);
        if over {
            self.desk.ended();
        }
    }

    fn stand_still(&self, _: Option<Instant>) {}

    fn look_up(&self, _: &str, _: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn open(&self, control: Arc<Control>, _: &str) -> io::Result<Option<String>> {
        self.desk.orders.lock().clear();
        let (host, desk) = (self.host.clone(), self.desk.clone());
        tokio::spawn(control.clone().keep());
        tokio::spawn(async move {
            tokio::select! {
                () = control.closed() => {}
                never = serve(&host, &desk, &control) => match never {},
            }
        });
        Ok(None)
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        // Its process has ended, and its faults with it.
        self.desk.ended();
    }
}

async fn serve(host: &str, desk: &Desk, control: &Control) -> std::convert::Infallible {
    loop {
        let next = desk.orders.lock().pop_front();
        let Some((order, answer)) = next else {
            desk.posted.notified().await;
            continue;
        };
        let (done, ttl_ms) = match order {
            Order::Start(start) => {
                let ttl_ms = start.ttl_ms;
                (control.start(start).await, Some(ttl_ms))
            }
            Order::Renew(renew) => (control.renew(&renew), Some(renew.ttl_ms)),
            Order::End(end) => {
                control.end(&end);
                (Ok(()), None)
            }
        };
        if let (Ok(()), Some(ttl_ms), true) = (&done, ttl_ms, !control.told().faults.is_empty()) {
            desk.lives(host, ttl_ms);
        }
        // Who asked may have gone.
        let _ = answer.send(done.map_err(|refused| refused.to_string()));
    }
}
