//! What ends a long command: Ctrl-C, or the SIGTERM of whoever manages it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for both, from now on: neither ends the process by itself any more.
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// Begins to listen; must be called on a tokio runtime.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn listen() -> io::Result<Stop> {
        Ok(Stop {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Completes at the next of the two.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
