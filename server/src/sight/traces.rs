//! Traces: where one call spent its time, over the gateway, the leader and the followers.
//!
//! A caller names its trace in the metadata `traceparent` (W3C Trace Context); of other calls a share
//! begins a trace of its own. Nodes carry it along, and each tells its own pieces as they end. Spans name
//! no conversation, no user and no body.

use std::sync::Arc;

use model::id::ShardId;
use model::trace::Context;
use raft::Span;
use tokio::time::Instant;

use crate::error::Failure;

/// Takes spans where they end: must be cheap, never wait, never panic.
pub trait Spans: Send + Sync + 'static {
    /// Notes a span.
    fn ended(&self, span: Span);
}

/// The traces of a node. Clones share where they go to.
#[derive(Clone, Default)]
pub struct Traces {
    to: Option<Arc<dyn Spans>>,
    /// Of a million calls without a trace, so many begin one.
    sample_ppm: u32,
}

/// A span that goes on.
pub struct Open {
    to: Arc<dyn Spans>,
    context: Context,
    parent: u64,
    name: &'static str,
    began: Instant,
}

impl Traces {
    /// To `to`; of a million calls that bring no trace `sample_ppm` begin one.
    pub fn new(to: Arc<dyn Spans>, sample_ppm: u32) -> Traces {
        Traces {
            to: Some(to),
            sample_ppm,
        }
    }

    /// Whether anything is traced.
    pub fn are_on(&self) -> bool {
        self.to.is_some()
    }

    /// A call begins on `node`: it goes on with the trace that it brings, or perhaps begins one.
    pub fn begin(
        &self,
        name: &'static str,
        (node, brings): (u64, Option<Context>),
        mut random: impl FnMut() -> u64,
    ) -> Option<Open> {
        let to = self.to.clone()?;
        let (context, parent) = match brings {
            Some(brought) => (brought.child(node, random()), brought.span),
            None if self.sample_ppm > 0 && random() % 1_000_000 < u64::from(self.sample_ppm) => {
                (Context::root([random(), random()]), 0)
            }
            None => return None,
        };
        Some(Open {
            to,
            context,
            parent,
            name,
            began: Instant::now(),
        })
    }

    /// A span of raft's has ended.
    pub fn tell(&self, span: Span) {
        if let Some(to) = &self.to {
            to.ended(span);
        }
    }
}

impl Open {
    /// What is done for it is below this.
    pub fn context(&self) -> Context {
        self.context
    }

    /// A part of it begins, the `number`th of its kind.
    pub fn part(&self, name: &'static str, node: u64, number: u64) -> Open {
        Open {
            to: self.to.clone(),
            // Beside those of raft's pieces.
            context: self.context.child(node, (1 << 32) + number),
            parent: self.context.span,
            name,
            began: Instant::now(),
        }
    }

    /// It ends.
    pub fn end(self, shard: Option<ShardId>, failed: Option<&Failure>) {
        self.end_with(shard, failed.map(|failure| failure.reason().to_owned()));
    }

    /// It ends, for a reason in words where it failed.
    pub fn end_with(self, shard: Option<ShardId>, failed: Option<String>) {
        let Open {
            to,
            context,
            parent,
            name,
            began,
        } = self;
        to.ended(Span {
            context,
            parent,
            name,
            began,
            took: began.elapsed(),
            shard,
            peer: None,
            failed,
        });
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<Span>>);

    impl Spans for Kept {
        fn ended(&self, span: Span) {
            self.0.lock().push(span);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_goes_on_with_the_trace_it_brings_and_others_begin_one_as_often_as_asked() {
        let kept = Arc::new(Kept::default());
        let brought = Context::root([1, 2]);
        let mut next = 0;
        let mut random = || {
            next += 1;
            next * 100_000
        };
        assert!(
            Traces::default()
                .begin("append", (1, Some(brought)), &mut random)
                .is_none()
        );
        let traces = Traces::new(kept.clone(), 0);
        assert!(traces.begin("append", (1, None), &mut random).is_none());
        let open = traces
            .begin("append", (1, Some(brought)), &mut random)
            .expect("traced");
        let part = open.part("attempt", 1, 0);
        let (root, below) = (open.context(), part.context());
        tokio::time::advance(std::time::Duration::from_millis(7)).await;
        part.end_with(Some(ShardId(3)), Some("it broke".to_owned()));
        open.end(Some(ShardId(3)), None);
        let spans = std::mem::take(&mut *kept.0.lock());
        assert_eq!((spans[0].parent, spans[0].context), (root.span, below));
        assert_eq!((spans[1].parent, spans[1].context), (brought.span, root));
        assert_eq!(spans[1].took.as_millis(), 7);
        assert_eq!(spans[0].failed.as_deref(), Some("it broke"));
        let half = Traces::new(kept, 500_000);
        let begun = (0..10).filter(|_| half.begin("append", (1, None), &mut random).is_some());
        assert!((1..10).contains(&begun.count()));
    }
}
