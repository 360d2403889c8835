//! Building a client, and what all its calls share.

use std::sync::Arc;
use std::time::Duration;

use proto::IMPORT;
use proto::net::{Dial, Dialer, Tcp};
use tokio::task::JoinHandle;
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::budget::{Budget, Latencies};
use crate::credential::Authorized;
use crate::error::Error;
use crate::maintain::maintain;
use crate::nodes::{NodeHealth, Nodes};
use crate::options::{ATTEMPT_TIMEOUT_DEFAULT, DEADLINE_DEFAULT};
use crate::random::Random;
use crate::retry::named;
use crate::stats::{Counters, Stats};

/// A client of one cluster. Cheap to clone; clones share connections and counts.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
    pub(crate) deadline: Duration,
}

pub(crate) struct Inner {
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) random: Arc<Random>,
    pub(crate) counters: Counters,
    pub(crate) budget: Budget,
    pub(crate) read_latencies: Latencies,
    pub(crate) attempt_timeout: Duration,
    pub(crate) imports: bool,
    pub(crate) class: Option<Class>,
    maintenance: JoinHandle<()>,
}

impl Inner {
    /// A request that writes, marked as an import's if the client is for one.
    pub(crate) fn marked<T>(&self, mut request: Request<T>) -> Request<T> {
        if self.imports {
            let any = MetadataValue::from_static("1");
            request.metadata_mut().insert(IMPORT, any);
        }
        named(request)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.maintenance.abort();
    }
}

/// Sets up a [`Client`].
pub struct Builder {
    endpoints: Vec<String>,
    dialer: Dialer,
    deadline: Duration,
    attempt_timeout: Duration,
    seed: Option<u64>,
    discover: bool,
    imports: bool,
    class: Option<Class>,
    credential: Option<String>,
}

/// How long what a client asks for can wait, where a node has too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// As what a device asks for to be up to date.
    Sync,
    /// As what is scrolled back to.
    History,
    /// Longest: nobody waits for it.
    Export,
}

impl Class {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Class::Sync => "sync",
            Class::History => "history",
            Class::Export => "export",
        }
    }
}

impl Builder {
    /// Nodes to begin with, as `host:port`: name one of each data center.
    #[must_use]
    pub fn endpoints<T: Into<String>>(mut self, endpoints: impl IntoIterator<Item = T>) -> Builder {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// How connections are opened. Default: TCP.
    #[must_use]
    pub fn dialer(mut self, dialer: Arc<dyn Dial>) -> Builder {
        self.dialer = dialer;
        self
    }

    /// How long a call may take, all attempts together. Default [`DEADLINE_DEFAULT`], 10 s.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Builder {
        self.deadline = deadline;
        self
    }

    /// How long a node may be silent before another is asked. Default 1 s; half as much again with each
    /// silent node of a call.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Builder {
        self.attempt_timeout = timeout;
        self
    }

    /// Seeds the jitter of waits, the spreading over nodes and the ids that the client draws.
    /// Default: from the operating system. Two clients of one cluster must not share a seed, or
    /// they draw the same client message ids.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Builder {
        self.seed = Some(seed);
        self
    }

    /// Whether to use nodes that the endpoints tell of. Default true; false keeps to the
    /// endpoints, for asking one node in particular.
    #[must_use]
    pub fn discover(mut self, discover: bool) -> Builder {
        self.discover = discover;
        self
    }

    /// Whether the client's appends belong to an import: their ids may begin with `import:`, and those that
    /// do are remembered for ever. Default false.
    #[must_use]
    pub fn imports(mut self, imports: bool) -> Builder {
        self.imports = imports;
        self
    }

    /// What the client's calls are behind, where they are not behind it by themselves. Default: each call is of
    /// the class of its method.
    #[must_use]
    pub fn class(mut self, class: Class) -> Builder {
        self.class = Some(class);
        self
    }

    /// An API key or a token, for nodes that let in nobody without. Default: none.
    #[must_use]
    pub fn api_key(mut self, credential: impl Into<String>) -> Builder {
        self.credential = Some(credential.into());
        self
    }

    /// The client. Connects when first used. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Config`] when an endpoint is not `host:port`, or there is none; or when the API key cannot be
    /// sent.
    pub fn build(self) -> Result<Client, Error> {
        let random = Arc::new(Random::new(self.seed));
        let dialer = match &self.credential {
            Some(credential) => Authorized::new(self.dialer, credential)?,
            None => self.dialer,
        };
        let nodes = Nodes::new(&self.endpoints, dialer, random.clone(), self.discover)?;
        let maintenance = tokio::spawn(maintain(nodes.clone()));
        let inner = Inner {
            nodes,
            random,
            counters: Counters::default(),
            budget: Budget::default(),
            read_latencies: Latencies::default(),
            attempt_timeout: self.attempt_timeout,
            imports: self.imports,
            class: self.class,
            maintenance,
        };
        Ok(Client {
            inner: Arc::new(inner),
            deadline: self.deadline,
        })
    }
}

impl Client {
    /// Begins to set up a client.
    pub fn builder() -> Builder {
        Builder {
            endpoints: Vec::new(),
            dialer: Arc::new(Tcp),
            deadline: DEADLINE_DEFAULT,
            attempt_timeout: ATTEMPT_TIMEOUT_DEFAULT,
            seed: None,
            discover: true,
            imports: false,
            class: None,
            credential: None,
        }
    }

    /// Begins to set up another client, which calls in the same way: over TLS, and as the same caller, if
    /// this one does. Nothing else is shared.
    pub fn another(&self) -> Builder {
        Builder {
            dialer: self.inner.nodes.dialer(),
            ..Client::builder()
        }
    }

    /// The same client, whose calls may take `deadline`.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Client {
        Client {
            inner: self.inner.clone(),
            deadline,
        }
    }

    /// How long a call may take.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// What this client and its clones have counted.
    pub fn stats(&self) -> Stats {
        self.inner.counters.snapshot()
    }

    /// The nodes that the client knows, by address, and how they are doing.
    pub fn nodes(&self) -> Vec<NodeHealth> {
        self.inner.nodes.health()
    }
}
