//! Classes of calls: live before sync before history before export. A stampede of a lower class waits or is
//! refused, and what is live never stands behind it.
//!
//! ```text
//!   live      appends, edits, tails          no bound here
//!   sync      one message, a head, changes   so many at a time ─► some wait ─► the rest is refused
//!   history   pages                          the same, fewer
//!   export    whatever says so               the same, far fewer
//! ```
//!
//! A call's class is that of its method; its metadata may lower it. What another node forwards here has places
//! of its own: it waits for nobody else, so that two nodes which forward to each other cannot wait in a circle.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::deadline::Call;
use crate::error::Failure;

/// The longest that a call waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Calls that wait for each that goes on; the next is refused.
const WAITING_FACTOR: usize = 4;

/// A class, the first in front.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// What people wait for while they chat.
    #[default]
    Live,
    /// What a device asks for to be up to date.
    Sync,
    /// What is scrolled back to.
    History,
    /// What nobody waits for.
    Export,
}

impl Class {
    /// As metadata says it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Live => "live",
            Class::Sync => "sync",
            Class::History => "history",
            Class::Export => "export",
        }
    }

    /// By its name.
    pub fn of(name: &str) -> Option<Class> {
        let all = [Class::Live, Class::Sync, Class::History, Class::Export];
        all.into_iter().find(|class| class.name() == name)
    }
}

/// How many calls of each class go on at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Of sync.
    pub sync: usize,
    /// Of history.
    pub history: usize,
    /// Of export.
    pub export: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            sync: 256,
            history: 128,
            export: 8,
        }
    }
}

/// The places of a node. Clones share them.
#[derive(Clone, Debug)]
pub struct Classes(Arc<[Places; 3]>);

#[derive(Debug)]
struct Places {
    own: Line,
    forwarded: Line,
}

#[derive(Debug)]
struct Line {
    going: Arc<Semaphore>,
    /// Places of those that wait, and of those that go on.
    all: Arc<Semaphore>,
}

/// A place; the next call has its turn when it is dropped.
#[derive(Debug)]
pub struct Turn {
    _going: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Line {
    fn of(places: usize) -> Line {
        Line {
            going: Arc::new(Semaphore::new(places)),
            all: Arc::new(Semaphore::new(places * (1 + WAITING_FACTOR))),
        }
    }
}

impl Classes {
    /// With these bounds.
    pub fn new(bounds: Bounds) -> Classes {
        let places = [bounds.sync, bounds.history, bounds.export].map(|places| Places {
            own: Line::of(places),
            forwarded: Line::of(places),
        });
        Classes(Arc::new(places))
    }

    /// Waits for a call's turn: at once for what is live. `class` is that of its method.
    ///
    /// # Errors
    /// [`Failure::ClassBusy`] when too many wait, or it has waited too long.
    pub async fn enter(&self, class: Class, call: &Call) -> Result<Option<Turn>, Failure> {
        let class = class.max(call.class);
        let [sync, history, export] = &*self.0;
        let places = match class {
            Class::Live => return Ok(None),
            Class::Sync => sync,
            Class::History => history,
            Class::Export => export,
        };
        let line = match call.forwarded {
            true => &places.forwarded,
            false => &places.own,
        };
        let busy = || Failure::ClassBusy(class.name());
        let all = line.all.clone().try_acquire_owned().map_err(|_| busy())?;
        let wait = call.deadline.remaining().min(WAIT_MAX);
        let going = timeout(wait, line.going.clone().acquire_owned()).await;
        match going {
            Ok(Ok(going)) => Ok(Some(Turn {
                _going: going,
                _all: all,
            })),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataMap;

    use super::*;

    fn call(class: Option<&'static str>) -> Call {
        let mut metadata = MetadataMap::new();
        if let Some(class) = class {
            metadata.insert(proto::CLASS, class.parse().unwrap());
        }
        Call::by(crate::access::Caller::unbounded(), &metadata)
    }

    fn small() -> Classes {
        Classes::new(Bounds {
            sync: 1,
            history: 1,
            export: 1,
        })
    }

    #[test]
    fn metadata_lowers_a_class_and_never_raises_it() {
        assert_eq!(call(Some("export")).class, Class::Export);
        assert_eq!(call(Some("live")).class, Class::Live);
        assert_eq!(call(Some("first!")).class, Class::Live);
        assert_eq!(call(None).class, Class::Live);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stampede_waits_and_is_refused_and_what_is_live_goes_on() {
        let classes = small();
        let first = classes.enter(Class::History, &call(None)).await.unwrap();
        assert!(first.is_some());
        let mut waiting = Vec::new();
        for _ in 0..WAITING_FACTOR {
            let classes = classes.clone();
            waiting.push(tokio::spawn(async move {
                let call = call(Some("live"));
                classes.enter(Class::History, &call).await
            }));
        }
        tokio::task::yield_now().await;
        let more = classes.enter(Class::History, &call(None)).await;
        assert!(matches!(more, Err(Failure::ClassBusy("history"))));
        // Neither what is live nor another class stands behind them, nor what others forward.
        assert!(matches!(
            classes.enter(Class::Live, &call(None)).await,
            Ok(None)
        ));
        assert!(classes.enter(Class::Sync, &call(None)).await.is_ok());
        let forwarded = Call {
            forwarded: true,
            ..call(None)
        };
        assert!(classes.enter(Class::History, &forwarded).await.is_ok());
        // One that is live and says that it can wait does.
        let export = classes.enter(Class::Live, &call(Some("export"))).await;
        assert!(export.unwrap().is_some());
        drop(first);
        let mut served = 0;
        for one in waiting {
            served += usize::from(one.await.unwrap().is_ok());
        }
        assert_eq!(served, WAITING_FACTOR, "each has its turn");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let classes = small();
        let _first = classes.enter(Class::Export, &call(None)).await.unwrap();
        let late = classes.enter(Class::Export, &call(None)).await;
        assert!(matches!(late, Err(Failure::ClassBusy("export"))));
    }
}
