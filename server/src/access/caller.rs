//! A caller that was let in.

use std::net::IpAddr;
use std::sync::Arc;

use model::cluster::access::{Key, Role};

use super::Book;
use crate::error::{Failure, Forbidden};

/// Roles, and those that they include.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    given: u8,
    all: u8,
}

impl Roles {
    /// Those of a list; what is no role is passed over.
    pub fn of(roles: impl IntoIterator<Item = Role>) -> Roles {
        let mut of = Roles::default();
        for role in roles {
            of.given |= bit(role);
            let included = Role::ALL.into_iter().filter(|other| role.includes(*other));
            of.all |= included.map(bit).fold(0, |all, one| all | one);
        }
        of
    }

    /// Whether this one is among them, or among what they include.
    pub fn has(self, role: Role) -> bool {
        self.all & bit(role) != 0
    }

    /// The names of those that were given.
    pub fn names(self) -> Vec<&'static str> {
        let given = Role::ALL
            .into_iter()
            .filter(|role| self.given & bit(*role) != 0);
        given.map(Role::name).collect()
    }

    /// The name of the one that lets its holder do what `needed` may.
    pub fn for_role(self, needed: Role) -> &'static str {
        let mut given = Role::ALL
            .into_iter()
            .filter(|role| self.given & bit(*role) != 0);
        let role = given.find(|role| role.includes(needed));
        role.unwrap_or(Role::Unspecified).name()
    }
}

fn bit(role: Role) -> u8 {
    match role {
        Role::Unspecified => 0,
        Role::Reader => 1,
        Role::Writer => 2,
        Role::TenantAdmin => 4,
        Role::Viewer => 8,
        Role::Operator => 16,
        Role::DrillApprover => 32,
    }
}

/// How somebody came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through a node that lets everybody in.
    Open,
    /// Over the local socket.
    Local,
    /// From another node.
    Node,
    /// Where nobody is asked.
    Nobody,
    /// With a certificate, over TLS.
    Certificate,
    /// With the API key of this id.
    Key(String),
    /// With a token of this issuer.
    Token(String),
}

/// Who somebody is, by its credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// For people.
    pub name: String,
    /// Whose data it may see; empty = everybody's, as far as its roles go.
    pub tenant: String,
    /// What it may do.
    pub roles: Roles,
    /// As whom alone it may send; none = as anybody.
    pub sender: Option<String>,
    /// When its credential ends, Unix milliseconds; 0 = it does not.
    pub expires_ms: u64,
    /// How it came in.
    pub way: Way,
}

impl Who {
    /// Somebody who may do everything.
    pub fn all(name: &str, way: Way) -> Who {
        Who {
            name: name.to_owned(),
            tenant: String::new(),
            roles: Roles::of(Role::ALL),
            sender: None,
            expires_ms: 0,
            way,
        }
    }

    /// Somebody who may do nothing that a role is needed for.
    pub fn nobody() -> Who {
        Who {
            roles: Roles::default(),
            ..Who::all("unknown", Way::Nobody)
        }
    }

    /// The operator of a certificate.
    pub fn certified(name: &str) -> Who {
        Who {
            roles: Roles::of([Role::Operator, Role::DrillApprover]),
            ..Who::all(&format!("certificate of {name}"), Way::Certificate)
        }
    }

    /// Another node, that passes a call on.
    pub fn node() -> Who {
        Who {
            roles: Roles::of([Role::TenantAdmin, Role::Viewer]),
            ..Who::all("a node", Way::Node)
        }
    }

    /// The holder of an API key.
    pub fn of_key(key: &Key) -> Who {
        let roles = key
            .roles
            .iter()
            .filter_map(|role| Role::try_from(*role).ok());
        Who {
            name: format!("key {} ({})", key.id, key.label),
            tenant: key.tenant.clone(),
            roles: Roles::of(roles),
            sender: None,
            expires_ms: key.expires_ms,
            way: Way::Key(key.id.clone()),
        }
    }

    /// Whether its credential has ended.
    pub fn has_expired(&self, now_ms: u64) -> bool {
        self.expires_ms > 0 && now_ms >= self.expires_ms
    }
}

/// Who makes one call.
#[derive(Clone)]
pub struct Caller {
    /// Who it is.
    pub who: Arc<Who>,
    /// Where it calls from, where that is known.
    pub from: Option<IpAddr>,
    /// The path of what it calls; empty when there is no such method.
    pub method: &'static str,
    book: Option<Arc<Book>>,
}

impl Default for Caller {
    /// Of a call that came past the doors: nobody, who may do nothing.
    fn default() -> Caller {
        Caller::new(Arc::new(Who::nobody()), None, "", None)
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} from {}", self.who.name, self.address())
    }
}

impl Caller {
    /// Somebody who may do everything, for tests and for what the node asks itself.
    pub fn unbounded() -> Caller {
        Caller::new(Arc::new(Who::all("this node", Way::Node)), None, "", None)
    }

    /// Of a call; what is refused goes into `book`.
    pub fn new(
        who: Arc<Who>,
        from: Option<IpAddr>,
        method: &'static str,
        book: Option<Arc<Book>>,
    ) -> Caller {
        Caller {
            who,
            from,
            method,
            book,
        }
    }

    /// Whether it may do what this role may.
    pub fn has(&self, role: Role) -> bool {
        self.who.roles.has(role)
    }

    /// Who acts, where two people must: who has a credential is that one, whatever it calls itself.
    pub fn person(&self, said: String) -> String {
        match &self.who.way {
            Way::Certificate | Way::Key(_) | Way::Token(_) => self.who.name.clone(),
            Way::Open | Way::Local | Way::Node | Way::Nobody => said,
        }
    }

    /// Where it calls from, for people.
    pub fn address(&self) -> String {
        match (&self.who.way, self.from) {
            (Way::Local, _) => "the local socket".to_owned(),
            (_, Some(from)) => from.to_string(),
            (_, None) => String::new(),
        }
    }

    /// Whether it may see the data of this tenant.
    ///
    /// # Errors
    /// [`Failure::Forbidden`], noted.
    pub fn sees(&self, tenant: &str) -> Result<(), Failure> {
        let all = self.who.tenant.is_empty() && self.who.way != Way::Nobody;
        match all || self.who.tenant == tenant {
            true => Ok(()),
            false => {
                let forbidden = Forbidden::Tenant(tenant.to_owned());
                Err(self.refuse(tenant, Failure::Forbidden(forbidden)))
            }
        }
    }

    /// Whether it may send as this user.
    ///
    /// # Errors
    /// [`Failure::Forbidden`], noted.
    pub fn sends_as(&self, sender: &str) -> Result<(), Failure> {
        match self.who.sender.as_ref().is_none_or(|only| only == sender) {
            true => Ok(()),
            false => {
                let forbidden = Forbidden::Sender(sender.to_owned());
                Err(self.refuse(sender, Failure::Forbidden(forbidden)))
            }
        }
    }

    /// Whether it has this role.
    ///
    /// # Errors
    /// [`Failure::Forbidden`], noted.
    pub fn needs(&self, role: Role) -> Result<(), Failure> {
        match self.has(role) {
            true => Ok(()),
            false => {
                let forbidden = Forbidden::Role(role.name().to_owned());
                Err(self.refuse("", Failure::Forbidden(forbidden)))
            }
        }
    }

    /// Notes a refusal, and gives it.
    pub fn refuse(&self, target: &str, failure: Failure) -> Failure {
        if let Some(book) = &self.book {
            book.refused(self, target, failure.reason());
        }
        failure
    }

    /// Notes that it erased a message of a tenant.
    pub fn erased(&self, tenant: &str) {
        if let Some(book) = &self.book {
            book.erased(self, tenant);
        }
    }

    /// Notes something that it did.
    pub fn did(&self, what: &'static str, target: &str) {
        if let Some(book) = &self.book {
            book.did(self, what, target);
        }
    }
}
