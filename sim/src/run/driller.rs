//! The controller of drills: it asks the cluster for a drill as an operator does, has nodes put a silence
//! on themselves, lets that live, and ends it. It ends it at once when something else happens, and may
//! die on the way.

use std::sync::Arc;
use std::time::Duration;

use proto::net::Dialer;
use proto::v1::admin_client::AdminClient;
use proto::v1::change_drill_request::Change;
use proto::v1::{self, ChangeDrillRequest};
use tokio::time::{Instant, sleep, timeout};
use tonic::Request;

use super::operator::OperatorChannel;
use crate::host::{DrillOrder, Host};

/// How long one call may take.
const CALL_MAX: Duration = Duration::from_secs(2);
/// Between two attempts, and between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// How long it is tried to have a drill begin.
const BEGIN_MAX: Duration = Duration::from_secs(10);
/// The fault's id, and who plans, approves and controls.
const FAULT: &str = "silence";
const WHO: [&str; 2] = ["ann", "bea"];

/// What is to be drilled.
#[derive(Clone, Debug)]
pub(super) struct Drill {
    /// The nodes that fall silent.
    pub hosts: Vec<String>,
    /// How long a fault lives without being renewed, ms.
    pub ttl_ms: u64,
    /// How long the controller lives, ms; none = until it is told to end.
    pub renews_ms: Option<u64>,
}

/// Carries drills out, one after the other.
pub(super) async fn live(told: OperatorChannel, dialer: Dialer, hosts: Arc<[Arc<Host>]>) {
    for number in 1_u32.. {
        let drill = told.drill().await;
        let controller = Controller {
            id: format!("drill-{number}"),
            told: &told,
            dialer: &dialer,
            hosts: hosts
                .iter()
                .filter(|host| drill.hosts.contains(&host.name))
                .collect(),
            drill: &drill,
        };
        match timeout(BEGIN_MAX, controller.begin()).await {
            Ok(()) => controller.carry_out().await,
            // A run without its drill would hold, and show nothing.
            Err(_) => told.fail(format!("{} does not begin", controller.id)),
        }
    }
}

struct Controller<'a> {
    id: String,
    told: &'a OperatorChannel,
    dialer: &'a Dialer,
    drill: &'a Drill,
    hosts: Vec<&'a Arc<Host>>,
}

impl Controller<'_> {
    /// Plans it, has two operators approve, and begins.
    async fn begin(&self) {
        let names: Vec<String> = self.drill.hosts.iter().map(|h| format!("{h:?}")).collect();
        let (id, scenario) = (&self.id, "dc-silent");
        let plan = format!(
            "format = 1\nid = {id:?}\nscenario = {scenario:?}\nabout = \"\"\nhypothesis = \"\"\n\
             target = \"\"\ncluster_id = \"\"\nmap_epoch = 0\nmade_ms = 0\nbefore_ms = 1\nafter_ms = 1\n\
             [caps]\n[goals]\n[[step]]\nat_ms = 0\nfor_ms = 1\naction = \"silence\"\nnodes = [{}]\n",
            names.join(", ")
        );
        self.change(Change::Store(v1::StoreDrill {
            id: self.id.clone(),
            plan,
            scenario: scenario.to_owned(),
            who: WHO[0].to_owned(),
            ..v1::StoreDrill::default()
        }))
        .await;
        let digest = loop {
            match self.known().await {
                Some(drill) => break drill.plan_digest,
                None => sleep(PAUSE).await,
            }
        };
        for who in WHO {
            self.change(Change::Approve(v1::ApproveDrill {
                id: self.id.clone(),
                who: who.to_owned(),
                digest: digest.clone(),
            }))
            .await;
        }
        self.change(Change::Begin(v1::BeginDrill {
            id: self.id.clone(),
            who: WHO[0].to_owned(),
            plan_digest: digest,
        }))
        .await;
        // A node that does not know of it yet refuses.
        for host in &self.hosts {
            while !self.start(host).await {
                sleep(PAUSE).await;
            }
        }
    }

    async fn start(&self, host: &Host) -> bool {
        let fault = v1::Fault {
            id: FAULT.to_owned(),
            kind: "silence".to_owned(),
            ..v1::Fault::default()
        };
        let order = DrillOrder::Start(v1::StartFaultsRequest {
            drill: self.id.clone(),
            faults: vec![fault],
            ttl_ms: self.drill.ttl_ms,
        });
        // A node that is down does not answer.
        matches!(timeout(CALL_MAX, host.drill(order)).await, Ok(Ok(Ok(()))))
    }

    /// Renews until it is over, or until this controller is dead.
    async fn carry_out(&self) {
        let began = Instant::now();
        let renew_every = Duration::from_millis(self.drill.ttl_ms / 3);
        let mut renewed = began;
        let why = loop {
            if let Some(lives_ms) = self.drill.renews_ms
                && began.elapsed() >= Duration::from_millis(lives_ms)
            {
                // Dead: it says nothing to anybody.
                return;
            }
            if self.told.drill_over() {
                break "as planned";
            }
            if let Some(why) = self.trouble().await {
                break why;
            }
            if renewed.elapsed() >= renew_every {
                renewed = Instant::now();
                for host in &self.hosts {
                    drop(host.drill(DrillOrder::Renew(v1::RenewFaultsRequest {
                        drill: self.id.clone(),
                        ttl_ms: self.drill.ttl_ms,
                        ids: Vec::new(),
                    })));
                }
            }
            sleep(PAUSE).await;
        };
        tracing::info!(drill = self.id, why, "the drill ends");
        for host in &self.hosts {
            drop(host.drill(DrillOrder::End(v1::EndFaultsRequest::default())));
        }
        let abort = Change::Abort(v1::AbortDrill {
            id: self.id.clone(),
            who: WHO[0].to_owned(),
            why: why.to_owned(),
        });
        drop(timeout(BEGIN_MAX, self.change(abort)).await);
    }

    /// Why it must end at once, if it must: a node is lost that is no part of it, or nobody tells.
    async fn trouble(&self) -> Option<&'static str> {
        let drilled = |name: &String| self.drill.hosts.contains(name);
        for (host, address) in self.told.running() {
            if drilled(&host) {
                continue;
            }
            let Some(mut admin) = self.admin(&address) else {
                continue;
            };
            let asked = admin.get_status(request(v1::GetStatusRequest::default()));
            if let Ok(Ok(status)) = timeout(CALL_MAX, asked).await {
                let nodes = status.into_inner().nodes;
                let lost = nodes
                    .iter()
                    .any(|node| !node.reachable && !drilled(&node.name));
                return lost.then_some("a second fault, a real one");
            }
        }
        Some("no node tells how the cluster is")
    }

    fn admin(&self, address: &str) -> Option<AdminClient<proto::net::Channel>> {
        self.dialer.dial(address).ok().map(AdminClient::new)
    }

    /// The drill as some node knows it.
    async fn known(&self) -> Option<v1::Drill> {
        for (_, address) in self.told.running() {
            let mut admin = self.admin(&address)?;
            let asked = admin.get_drills(request(v1::GetDrillsRequest {}));
            if let Ok(Ok(drills)) = timeout(CALL_MAX, asked).await {
                let drills = drills.into_inner().drills.unwrap_or_default().drills;
                return drills.into_iter().find(|drill| drill.id == self.id);
            }
        }
        None
    }

    /// Has a change decided, by whichever node takes it. What a lost answer leaves open is asked for
    /// again, and refused then: it holds.
    async fn change(&self, change: Change) {
        loop {
            for (_, address) in self.told.running() {
                let Some(mut admin) = self.admin(&address) else {
                    continue;
                };
                let asked = admin.change_drill(request(ChangeDrillRequest {
                    change: Some(change.clone()),
                }));
                match timeout(CALL_MAX, asked).await {
                    Ok(Ok(_)) => return,
                    Ok(Err(status)) if status.code() == tonic::Code::FailedPrecondition => {
                        tracing::info!(drill = self.id, %status, "a change of the drill is refused");
                        return;
                    }
                    Ok(Err(status)) => tracing::info!(drill = self.id, %status, "not yet"),
                    Err(_) => {}
                }
            }
            sleep(PAUSE).await;
        }
    }
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_MAX);
    request
}
