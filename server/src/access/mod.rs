//! Who callers are, and what they may do.
//!
//! ```text
//!   request ─► layer ─► Doors::enter: the row of its path (table), its credential (an API key, a token,
//!                 │                    a session of the console, the local socket, another node)
//!                 ├─► refused: UNAUTHENTICATED or PERMISSION_DENIED, and a note for the audit (book)
//!                 └─► Caller ─► Call ─► Checker: each name and each sender of the request meets it there
//! ```
//!
//! With `auth.mode = "required"` what has no row in the table is refused, and so is a name whose tenant is not
//! the caller's. With `"open"` everybody may do everything; a credential then only names its caller.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use model::cluster::ClusterState;
use model::cluster::access::{self, Role};
use model::cluster::audit::Actor;
use parking_lot::Mutex;
use proto::{CERTIFIED, FORWARDED};
use tokio::sync::watch;

use crate::error::{Failure, Forbidden, Unknown};

pub mod book;
mod caller;
pub mod layer;
pub mod session;
pub mod table;
mod token;

pub use book::Book;
pub use caller::{Caller, Roles, Way, Who};
pub use token::check_key;

use table::{Need, Row};
use token::Tokens;

/// Tokens that were verified and are remembered.
const TOKENS_MAX: usize = 4_096;

/// Says whether a node of this cluster makes a request with these headers: by its certificate, or by the
/// proof that nodes give each other.
pub type Vouches = Arc<dyn Fn(&HeaderMap) -> bool + Send + Sync>;

/// The operator whose certificate a request's connection came with.
fn certified(headers: &HeaderMap) -> Option<&str> {
    let who = headers.get(CERTIFIED)?.to_str().ok()?;
    who.strip_prefix("operator/")
}

/// Marks requests that came over the local socket of the node.
#[derive(Clone, Copy, Debug)]
pub struct Local;

/// Lets callers in.
pub struct Doors {
    required: bool,
    view: watch::Receiver<Arc<ClusterState>>,
    clock: Arc<dyn raft::Clock>,
    cluster_id: String,
    vouches: Vouches,
    book: Option<Arc<Book>>,
    sessions: session::Sessions,
    tokens: Mutex<Verified>,
    open: Arc<Who>,
    nobody: Arc<Who>,
    node: Arc<Who>,
    local: Arc<Who>,
}

/// Tokens that were verified, as long as nothing changes about issuers.
#[derive(Default)]
struct Verified {
    epoch: u64,
    tokens: Option<Arc<Tokens>>,
    known: BTreeMap<[u8; 32], Arc<Who>>,
}

/// What doors are made of.
pub struct Parts {
    /// Whether who has no credential is refused.
    pub required: bool,
    /// The cluster, as the node knows it.
    pub view: watch::Receiver<Arc<ClusterState>>,
    /// What credentials expire by.
    pub clock: Arc<dyn raft::Clock>,
    /// Of this cluster.
    pub cluster_id: String,
    /// Who passes calls on, having checked them.
    pub vouches: Vouches,
    /// Where refusals are noted; none where nobody reads them.
    pub book: Option<Arc<Book>>,
    /// Seals the sessions of the console: drawn at each start.
    pub session_key: [u8; 32],
}

/// A request as the doors see it.
#[derive(Clone, Copy)]
pub struct Asks<'r> {
    /// The path.
    pub path: &'r str,
    /// The metadata.
    pub headers: &'r HeaderMap,
    /// Who calls, where that is known.
    pub from: Option<IpAddr>,
    /// Whether it came over the local socket.
    pub local: bool,
}

impl Doors {
    /// Of a node.
    pub fn new(parts: Parts) -> Arc<Doors> {
        Arc::new(Doors {
            required: parts.required,
            view: parts.view,
            clock: parts.clock,
            cluster_id: parts.cluster_id,
            vouches: parts.vouches,
            book: parts.book,
            sessions: session::Sessions::new(parts.session_key),
            tokens: Mutex::default(),
            open: Arc::new(Who::all("anyone", Way::Open)),
            nobody: Arc::new(Who::nobody()),
            node: Arc::new(Who::node()),
            local: Arc::new(Who::all("local operator", Way::Local)),
        })
    }

    /// Whether who has no credential is refused.
    pub fn required(&self) -> bool {
        self.required
    }

    /// The sessions of the console.
    pub fn sessions(&self) -> &session::Sessions {
        &self.sessions
    }

    /// Where what happens is noted.
    pub fn book(&self) -> Option<&Arc<Book>> {
        self.book.as_ref()
    }

    /// Now, Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.clock.unix_ms()
    }

    /// Lets a request in, or says why not; what is refused is noted.
    ///
    /// # Errors
    /// [`Failure::Credentials`], [`Failure::Forbidden`], [`Failure::NotReady`].
    pub fn enter(&self, asks: Asks<'_>) -> Result<Caller, Failure> {
        let row = table::of(asks.path);
        let method = row.map_or("", |row| row.path);
        let caller = |who: Arc<Who>| Caller::new(who, asks.from, method, self.noting());
        if !self.required {
            return Ok(caller(self.named(&asks)));
        }
        if asks.local {
            return Ok(caller(self.local.clone()));
        }
        match row.map(|row| row.need) {
            Some(Need::Open | Need::Peer) => return Ok(caller(self.nobody.clone())),
            Some(Need::Any | Need::OneOf(_)) | None => {}
        }
        if row.is_some_and(|row| row.forwarded) && self.is_node(asks.headers) {
            return Ok(caller(self.node.clone()));
        }
        // Who does not know its cluster yet knows no keys: others do.
        if self.view.borrow().epoch == 0 {
            return Err(Failure::NotReady);
        }
        let who = match self.identify(asks.headers) {
            Ok(who) => who,
            Err(unknown) => {
                let nobody = caller(self.nobody.clone());
                return Err(nobody.refuse("", Failure::Credentials(unknown)));
            }
        };
        let caller = caller(who);
        self.may(&caller, row.unwrap_or(&table::UNKNOWN))?;
        Ok(caller)
    }

    /// Whether another node has checked a request, and passes it on. On the rows of the table that nodes
    /// forward, and on no others, that is enough.
    fn is_node(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(FORWARDED) && (self.vouches)(headers)
    }

    fn noting(&self) -> Option<Arc<Book>> {
        self.book.clone().filter(|_| self.required)
    }

    fn may(&self, caller: &Caller, row: &Row) -> Result<(), Failure> {
        let Need::OneOf(roles) = row.need else {
            return Ok(());
        };
        match roles.iter().any(|role| caller.has(*role)) {
            true => Ok(()),
            false => {
                let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
                let needed = names.join(" or ");
                Err(caller.refuse("", Failure::Forbidden(Forbidden::Role(needed))))
            }
        }
    }

    /// Who calls an open node. It may do everything; a credential only names it.
    fn named(&self, asks: &Asks<'_>) -> Arc<Who> {
        if asks.local {
            return self.local.clone();
        }
        // Most callers of an open node bring none.
        if !asks.headers.contains_key(header::AUTHORIZATION) {
            return self.open.clone();
        }
        match self.identify(asks.headers) {
            Ok(who) => Arc::new(Who::all(&who.name, Way::Open)),
            Err(_) => self.open.clone(),
        }
    }

    /// Who brings these headers.
    ///
    /// # Errors
    /// [`Unknown`]: what is wrong with the credential.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Arc<Who>, Unknown> {
        let Some(given) = headers.get(header::AUTHORIZATION) else {
            return match (session::cookie(headers), certified(headers)) {
                (Some(cookie), _) => self.of_session(cookie),
                (None, Some(name)) => Ok(Arc::new(Who::certified(name))),
                (None, None) => Err(Unknown::Missing),
            };
        };
        let given = given.to_str().ok();
        let bearer = given.and_then(|given| {
            let (scheme, credential) = given.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then(|| credential.trim())
        });
        match bearer {
            Some(credential) => self.of_credential(credential),
            None => Err(Unknown::Invalid("it is no Bearer credential")),
        }
    }

    /// Whose credential this is: an API key, or a token.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn of_credential(&self, text: &str) -> Result<Arc<Who>, Unknown> {
        match text.starts_with(access::KEY_PREFIX) {
            true => self.of_key(text),
            false => self.of_token(text),
        }
    }

    fn of_key(&self, text: &str) -> Result<Arc<Who>, Unknown> {
        // The same answer whether there is no such key or its secret is wrong.
        let wrong = Unknown::Invalid("the API key is not one of this cluster");
        let Some(id) = access::key_id(text) else {
            return Err(wrong);
        };
        let view = self.view.borrow();
        let key = view.access.as_ref().and_then(|access| access.key(id));
        let given = access::key_hash(&self.cluster_id, text);
        match key {
            Some(key) if access::same_hash(&key.hash, &given) => self.lives(key),
            Some(_) | None => Err(wrong),
        }
    }

    fn lives(&self, key: &access::Key) -> Result<Arc<Who>, Unknown> {
        if key.revoked_ms > 0 {
            return Err(Unknown::Revoked);
        }
        if key.has_expired(self.clock.unix_ms()) {
            return Err(Unknown::Expired);
        }
        Ok(Arc::new(Who::of_key(key)))
    }

    fn of_token(&self, text: &str) -> Result<Arc<Who>, Unknown> {
        let digest = *blake3::hash(text.as_bytes()).as_bytes();
        let view = self.view.borrow().clone();
        let tokens = {
            let mut verified = self.tokens.lock();
            let stale = verified.epoch != view.epoch || verified.tokens.is_none();
            if stale {
                let none = access::Access::default();
                let issuers = &view.access.as_ref().unwrap_or(&none).issuers;
                *verified = Verified {
                    epoch: view.epoch,
                    tokens: Some(Arc::new(Tokens::of(issuers))),
                    known: BTreeMap::new(),
                };
            }
            if let Some(who) = verified.known.get(&digest) {
                return match who.has_expired(self.clock.unix_ms()) {
                    true => Err(Unknown::Expired),
                    false => Ok(who.clone()),
                };
            }
            verified.tokens.clone().unwrap_or_default()
        };
        let who = Arc::new(tokens.verify(text, self.clock.unix_ms())?);
        let mut verified = self.tokens.lock();
        if verified.epoch == view.epoch {
            if verified.known.len() >= TOKENS_MAX {
                verified.known.clear();
            }
            verified.known.insert(digest, who.clone());
        }
        Ok(who)
    }

    fn of_session(&self, cookie: &str) -> Result<Arc<Who>, Unknown> {
        let id = self.sessions.open(cookie, self.clock.unix_ms())?;
        let view = self.view.borrow();
        let key = view.access.as_ref().and_then(|access| access.key(&id));
        match key {
            Some(key) => self.lives(key),
            None => Err(Unknown::Revoked),
        }
    }

    /// Whether a caller that was let in would be let in still.
    ///
    /// # Errors
    /// Why not.
    pub fn still(&self, who: &Who) -> Result<(), Unknown> {
        match &who.way {
            Way::Key(id) => {
                let view = self.view.borrow();
                let key = view.access.as_ref().and_then(|access| access.key(id));
                key.map_or(Err(Unknown::Revoked), |key| self.lives(key).map(drop))
            }
            Way::Token(issuer) => {
                if who.has_expired(self.clock.unix_ms()) {
                    return Err(Unknown::Expired);
                }
                let view = self.view.borrow();
                let access = view.access.as_ref();
                let issuer = access.and_then(|access| access.issuer(issuer));
                issuer.map_or(Err(Unknown::Revoked), |_| Ok(()))
            }
            // That of a connection that is open holds until its end.
            Way::Certificate | Way::Open | Way::Local | Way::Node | Way::Nobody => Ok(()),
        }
    }

    /// Completes when a caller would not be let in any more: why.
    pub async fn ended(self: Arc<Self>, who: Arc<Who>) -> Unknown {
        const CREDENTIAL_CHECK_EVERY: std::time::Duration = std::time::Duration::from_secs(1);
        let mut view = self.view.clone();
        loop {
            if let Err(unknown) = self.still(&who) {
                return unknown;
            }
            if who.expires_ms == 0 {
                if view.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            } else {
                // Its end is by the wall clock, which may jump.
                tokio::select! {
                    Ok(()) = view.changed() => {}
                    () = tokio::time::sleep(CREDENTIAL_CHECK_EVERY) => {}
                }
            }
        }
    }
}

/// Who is named in the audit as asking for a change.
pub fn actor(caller: &Caller, role: Role) -> Actor {
    Actor {
        who: caller.who.name.clone(),
        role: caller.who.roles.for_role(role).to_owned(),
        from: caller.address(),
    }
}
