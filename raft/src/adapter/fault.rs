//! Remembers what the disk did to a replica, since openraft's errors lose the type: a corrupt
//! record stops that shard's replica, anything else stops the node.

use std::sync::Arc;

use store::Error;
use tokio::sync::watch;

/// The first error of one replica's store; shared by its log, its state machine and its group.
#[derive(Clone)]
pub(crate) struct Fault {
    first: Arc<watch::Sender<Option<Error>>>,
}

impl Fault {
    pub(crate) fn new() -> Fault {
        Fault {
            first: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Passes a result on, remembering its error if it is the first.
    pub(crate) fn note<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result {
            self.first.send_if_modified(|first| {
                let new = first.is_none();
                if new {
                    *first = Some(error.clone());
                }
                new
            });
        }
        result
    }

    /// Changes once, when there is a fault.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Error>> {
        self.first.subscribe()
    }
}
