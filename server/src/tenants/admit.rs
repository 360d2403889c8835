//! Whether a call is let in, and whether there is enough for what it sends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::cluster::tenants::{RESERVED, Tenant};
use model::command::{Command, Reason, Refusal};
use model::id::ConversationName;
use prost::Message as _;
use tokio::time::Instant;

use super::class::{Class, Turn};
use super::client;
use super::quota::{Cost, Quota, is_counted};
use super::shares::Short;
use crate::check::Wanted;
use crate::deadline::{Call, Deadline};
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::service::conversations;

/// Conversations of one tenant that are known to exist, at most.
const EXISTING_MAX: usize = 10_000;

/// What the keeper of a tenant's quotas says, or that it says nothing.
pub(super) enum Said {
    Granted,
    Short(Short),
    Silent,
}

impl Gateway {
    /// Lets a call in when its tenant may call and it is its turn. `class` is that of its method.
    ///
    /// # Errors
    /// What [`Gateway::may_call`] says, and [`Failure::ClassBusy`].
    pub async fn enter(
        &self,
        tenant: &str,
        class: Class,
        call: &Call,
    ) -> Result<Option<Turn>, Failure> {
        let entered = match self.may_call(tenant, call) {
            Ok(()) => self.tenancy.classes.enter(class, call).await,
            Err(failure) => Err(failure),
        };
        entered.inspect_err(|failure| self.traffic.refused(Some(failure)))
    }

    /// Whether a tenant exists, as far as it must, and takes the client that calls.
    ///
    /// # Errors
    /// [`Reason::TenantUnknown`], [`Reason::TenantDeleting`], or [`Failure::ClientBlocked`].
    pub fn may_call(&self, tenant: &str, call: &Call) -> Result<(), Failure> {
        // Who forwarded it has looked.
        if call.forwarded {
            return Ok(());
        }
        let view = self.view();
        match view.tenant(tenant) {
            None if self.tenancy.implicit || tenant.starts_with(RESERVED) => Ok(()),
            None => {
                let text = format!("there is no tenant {tenant}; an operator creates it");
                Err(Failure::Refused(Refusal::new(Reason::TenantUnknown, text)))
            }
            Some(known) if known.is_deleting() => {
                let text = format!("tenant {tenant} is being deleted with all that is in it");
                Err(Failure::Refused(Refusal::new(Reason::TenantDeleting, text)))
            }
            Some(known) => client::check(known, call.client),
        }
    }

    /// Has an encoded command's tenant pay for it, where it has quotas.
    ///
    /// # Errors
    /// [`Failure::QuotaExceeded`], or [`Failure::ConversationsFull`]; nothing was done.
    pub async fn pay(
        self: &Arc<Self>,
        name: &ConversationName,
        command: &Bytes,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        let view = self.view();
        let tenant = view.tenant(name.tenant());
        let Some(tenant) = tenant.filter(|tenant| is_counted(tenant)) else {
            return Ok(());
        };
        let command = Command::decode(command.clone());
        let command = command.map_err(|error| Failure::Internal(error.to_string()))?;
        let cost = Cost::of(&command);
        if cost.may_create {
            self.may_create(tenant, name, deadline).await?;
        }
        self.pay_for(tenant, &cost, view.nodes.len(), deadline)
            .await
    }

    async fn pay_for(
        self: &Arc<Self>,
        tenant: &Tenant,
        cost: &Cost,
        nodes: usize,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        let takes = cost.takes(tenant);
        if takes.is_empty() {
            return Ok(());
        }
        let parts = u64::try_from(nodes).unwrap_or(1);
        let shares = &self.tenancy.shares;
        let lacks = shares.take(&tenant.id, takes, parts, Instant::now());
        if lacks.takes.is_empty() {
            return Ok(());
        }
        let short = match self.ask_keeper(tenant, &lacks.takes, deadline).await {
            Said::Granted => return Ok(()),
            Said::Short(short) => short,
            Said::Silent => {
                let now = Instant::now();
                match shares.take_alone(&tenant.id, &lacks.takes, parts, now) {
                    Ok(()) => return Ok(()),
                    Err(short) => short,
                }
            }
        };
        shares.give_back(&tenant.id, lacks, parts, Instant::now());
        Err(Failure::QuotaExceeded {
            quota: short.quota.name(),
            limit: short.quota.limit(tenant),
            wait: Duration::from_micros(short.wait_us).max(Duration::from_millis(1)),
        })
    }

    /// Whether an append may create its conversation: where the tenant has as many as it may have, it must
    /// exist.
    async fn may_create(
        self: &Arc<Self>,
        tenant: &Tenant,
        name: &ConversationName,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        let limit = Quota::Conversations.limit(tenant);
        let tenancy = &self.tenancy;
        if limit == 0 || !tenancy.shares.is_full(&tenant.id, Instant::now()) {
            return Ok(());
        }
        let key = name.key();
        let known = |of: &std::collections::BTreeSet<_>| of.contains(&key);
        if tenancy.existing.lock().get(&tenant.id).is_some_and(known) {
            return Ok(());
        }
        let call = Call::within(deadline);
        match conversations::get(self, name, &Wanted::linearizable(), &call).await {
            Ok(_) => {
                let mut existing = tenancy.existing.lock();
                let of = existing.entry(tenant.id.clone()).or_default();
                if of.len() >= EXISTING_MAX {
                    of.clear();
                }
                of.insert(key);
                Ok(())
            }
            Err(Failure::ConversationNotFound(_)) => Err(Failure::ConversationsFull { limit }),
            Err(Failure::Passed(status)) if status.code() == tonic::Code::NotFound => {
                Err(Failure::ConversationsFull { limit })
            }
            Err(other) => Err(other),
        }
    }
}
