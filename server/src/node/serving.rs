//! A node that serves, and how it ends.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use raft::Node;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::RunError;
use super::routes::set_health;
use crate::drill::faults::Running;
use crate::events::{Event, Told};
use crate::gateway::Gateway;
use crate::memory::Gauging;
use crate::recorder::{LAST_WRITE_MAX, Recorder};
use crate::sight::metrics::Attached;

/// How long a node that stops tries to give its leaders away.
const STEP_ASIDE_MAX: Duration = Duration::from_secs(3);
/// How long clients have to go elsewhere, once a node that stops has told them and before it takes no
/// more calls: several answers of a busy one.
const NOTICE: Duration = Duration::from_millis(300);
/// How long calls may go on after a stop was asked for.
const CALLS_MAX: Duration = Duration::from_secs(5);
/// How long clients may take to hang up behind their calls: what they had sent before they heard of the
/// stop is answered until then. A round each, but for those that are gone.
const CALLERS_MAX: Duration = Duration::from_secs(1);
/// How long the groups may take to stop and flush.
const SHUTDOWN_MAX: Duration = Duration::from_secs(20);

/// A node that serves.
pub(super) struct Serving {
    pub raft: Arc<Node>,
    pub gateway: Arc<Gateway>,
    pub log_failure: watch::Receiver<Option<String>>,
    /// Why the listener has ended, once it has.
    pub server_ended: watch::Receiver<Option<String>>,
    pub health: HealthReporter,
    /// Sends clients elsewhere while the node drains.
    pub elsewhere_task: AbortHandle,
    pub elsewhere: watch::Sender<bool>,
    /// Its clients are to hang up.
    pub closing: watch::Sender<bool>,
    /// No more calls are taken.
    pub stop: watch::Sender<bool>,
    pub callers: TaskTracker,
    /// What the node keeps in memory is told for as long as this lives.
    pub _gauging: Gauging,
    /// Its metrics are told for as long as this lives.
    pub _attached: Attached,
    /// A drill's faults end with this.
    pub _faults: Option<Running>,
    pub told: Told,
    pub recorder: Recorder,
}

impl Serving {
    /// Waits for an end: `Ok` for one that clients need not notice, with what [`run`] gives then; `Err`
    /// for one at once.
    pub async fn outcome(
        &mut self,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Result<(), RunError>, RunError> {
        let (mut fatal, mut refused) = (self.raft.fatal(), self.raft.refused());
        tokio::select! {
            biased;
            reason = reason(&mut fatal) => Err(RunError::Fatal(reason)),
            reason = reason(&mut self.log_failure) => Err(RunError::Fatal(reason)),
            refused = reason(&mut refused) => match refused.removed {
                // It holds nothing that anybody counts on, and its clients need not notice.
                true => Ok(Err(RunError::Refused(refused.why))),
                false => Err(RunError::Refused(refused.why)),
            },
            () = shutdown => Ok(Ok(())),
            why = reason(&mut self.server_ended) => {
                Err(RunError::Fatal(format!("the listener: {why}")))
            }
        }
    }

    /// Tells of the end, and has the recorder write it, unless the disk holds it up.
    pub async fn end(&self, event: &Event) {
        self.told.tell(event);
        // What is not written by then is lost.
        let _ = timeout(LAST_WRITE_MAX, self.recorder.flush()).await;
    }

    /// Gives away what the node leads, sends clients elsewhere, lets calls finish, and flushes.
    pub async fn stop(self, end: Result<(), RunError>) -> Result<(), RunError> {
        match &end {
            Ok(()) => tracing::info!("stopping"),
            Err(error) => {
                tracing::error!(%error, "clients are sent elsewhere, and this node stops")
            }
        }
        self.told.tell(&Event::Stopping);
        let left = self.raft.step_aside(STEP_ASIDE_MAX).await;
        if left > 0 {
            tracing::warn!(
                shards = left,
                "what nobody could take over is led until the end"
            );
        }
        self.elsewhere_task.abort();
        set_health(&self.health, ServingStatus::NotServing).await;
        self.closing.send_replace(true);
        self.elsewhere.send_replace(true);
        tokio::time::sleep(NOTICE).await;
        self.stop.send_replace(true);
        let (calls, callers) = (&self.gateway.calls, &self.callers);
        tracing::debug!(
            calls = calls.len(),
            clients = callers.len(),
            "taking no more calls"
        );
        calls.close();
        if timeout(CALLS_MAX, calls.wait()).await.is_err() {
            tracing::warn!(calls = calls.len(), "calls were cut off");
        }
        tracing::debug!(clients = callers.len(), "every call has ended");
        callers.close();
        if timeout(CALLERS_MAX, callers.wait()).await.is_err() {
            tracing::info!(clients = callers.len(), "clients did not hang up in time");
        }
        // Whatever failed until here was no part of stopping.
        let failed = self.raft.fatal().borrow().clone();
        if timeout(SHUTDOWN_MAX, self.raft.shutdown()).await.is_err() {
            tracing::warn!(
                "the groups did not stop in time; the next start replays what was not flushed"
            );
        }
        self.end(&Event::Stopped).await;
        tracing::info!("stopped");
        failed.map_or(end, |reason| Err(RunError::Fatal(reason)))
    }
}

/// Completes when there is a reason; never when nobody is left to give one.
async fn reason<T: Clone>(reasons: &mut watch::Receiver<Option<T>>) -> T {
    let reason = reasons
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|reason| reason.clone());
    match reason {
        Some(reason) => reason,
        None => std::future::pending().await,
    }
}
