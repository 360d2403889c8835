//! Tenants: creating, looking at, changing and deleting them.

use std::collections::BTreeMap;
use std::time::Duration;

use prost_types::FieldMask;
use proto::net::Channel;
use proto::v1;
use proto::v1::tenants_client::TenantsClient;

use crate::builder::Client;
use crate::error::Error;
use crate::message::duration;
use crate::retry::Effect;

/// What is to be set of a tenant; what is not set stays, or is as a new tenant has it.
///
/// ```
/// use std::time::Duration;
/// use firebreak_client::Tenant;
/// let tenant = Tenant::default()
///     .display_name("Acme")
///     .messages_per_second(1_000)
///     .ttl(Duration::from_secs(90 * 86_400))
///     .min_client_version("rust", "0.2.0")
///     .upgrade_url("https://acme.example/upgrade");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tenant {
    request_id: String,
    tenant: v1::Tenant,
    paths: Vec<&'static str>,
    expected_revision: Option<u64>,
}

impl Tenant {
    /// Under this request id, 1 to 128 bytes, so that a program that starts again can send it again. The client
    /// draws one otherwise.
    #[must_use]
    pub fn id(mut self, request_id: impl Into<String>) -> Tenant {
        self.request_id = request_id.into();
        self
    }

    /// What people call it, at most 256 bytes.
    #[must_use]
    pub fn display_name(mut self, name: impl Into<String>) -> Tenant {
        self.tenant.display_name = name.into();
        self.set("display_name")
    }

    /// Messages a second of all its users; 0 = as many as they like.
    #[must_use]
    pub fn messages_per_second(mut self, messages: u64) -> Tenant {
        self.quotas().messages_per_second = messages;
        self.set("quotas.messages_per_second")
    }

    /// Bytes of messages a second; 0 = as many as they like.
    #[must_use]
    pub fn bytes_per_second(mut self, bytes: u64) -> Tenant {
        self.quotas().bytes_per_second = bytes;
        self.set("quotas.bytes_per_second")
    }

    /// Conversations at a time; 0 = as many as they like.
    #[must_use]
    pub fn conversations(mut self, conversations: u64) -> Tenant {
        self.quotas().conversations = conversations;
        self.set("quotas.conversations")
    }

    /// Messages a second of each sender; 0 = as many as they like.
    #[must_use]
    pub fn user_messages_per_second(mut self, messages: u64) -> Tenant {
        self.quotas().user_messages_per_second = messages;
        self.set("quotas.user_messages_per_second")
    }

    /// Messages a second in each conversation; 0 = as many as they like.
    #[must_use]
    pub fn conversation_messages_per_second(mut self, messages: u64) -> Tenant {
        self.quotas().conversation_messages_per_second = messages;
        self.set("quotas.conversation_messages_per_second")
    }

    /// Messages without a time to live of their own, or of their conversation, expire so long after their
    /// append: 1 s to 100 years; zero = they do not.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Tenant {
        self.tenant.ttl = Some(duration(ttl));
        self.set("ttl")
    }

    /// Clients of this kind, such as `rust`, are refused when they are older than `version`.
    #[must_use]
    pub fn min_client_version(
        mut self,
        client: impl Into<String>,
        version: impl Into<String>,
    ) -> Tenant {
        let versions = &mut self.tenant.min_client_versions;
        versions.insert(client.into(), version.into());
        self.set("min_client_versions")
    }

    /// These versions, in place of all that there are.
    #[must_use]
    pub fn min_client_versions(mut self, versions: BTreeMap<String, String>) -> Tenant {
        self.tenant.min_client_versions = versions;
        self.set("min_client_versions")
    }

    /// Where newer clients are, at most 256 bytes.
    #[must_use]
    pub fn upgrade_url(mut self, url: impl Into<String>) -> Tenant {
        self.tenant.upgrade_url = url.into();
        self.set("upgrade_url")
    }

    /// Only if the tenant's revision is still this one; else `REVISION_MISMATCH`. Of changes only.
    #[must_use]
    pub fn expected_revision(mut self, revision: u64) -> Tenant {
        self.expected_revision = Some(revision);
        self
    }

    /// Whether anything is set.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    fn quotas(&mut self) -> &mut v1::Quotas {
        self.tenant.quotas.get_or_insert_default()
    }

    fn set(mut self, path: &'static str) -> Tenant {
        if !self.paths.contains(&path) {
            self.paths.push(path);
        }
        self
    }
}

fn tenants(channel: Channel) -> TenantsClient<Channel> {
    TenantsClient::new(channel).max_decoding_message_size(model::limits::FRAME_BYTES_MAX)
}

impl Client {
    /// Creates the tenant `id`.
    ///
    /// # Errors
    /// [`Error::Refused`] (`TENANT_EXISTS`, `TENANT_DELETING`, `TENANTS_FULL`) or [`Error::Deadline`].
    pub async fn create_tenant(
        &self,
        id: &str,
        tenant: Tenant,
    ) -> Result<v1::TenantResponse, Error> {
        let request = v1::CreateTenantRequest {
            tenant_id: id.to_owned(),
            tenant: Some(tenant.tenant),
            request_id: self.request_id(tenant.request_id),
        };
        let answer = self.call(Effect::Perhaps, |attempt| {
            let request = attempt.request(request.clone());
            async move { tenants(attempt.channel).create_tenant(request).await }
        });
        Ok(answer.await?.value)
    }

    /// The tenant `id`, and while it is being deleted how far that is.
    ///
    /// # Errors
    /// [`Error::Refused`] (`TENANT_UNKNOWN`) or [`Error::Deadline`].
    pub async fn get_tenant(&self, id: &str) -> Result<v1::Tenant, Error> {
        let request = v1::GetTenantRequest {
            name: format!("tenants/{id}"),
        };
        let answer = self.call(Effect::None, |attempt| {
            let request = attempt.request(request.clone());
            async move { tenants(attempt.channel).get_tenant(request).await }
        });
        Ok(answer.await?.value)
    }

    /// Tenants that were created, in the order of their names: a page, and the token of the next one; empty
    /// behind the last.
    ///
    /// # Errors
    /// [`Error::Refused`] or [`Error::Deadline`].
    pub async fn list_tenants(
        &self,
        page_size: i32,
        page_token: &str,
    ) -> Result<(Vec<v1::Tenant>, String), Error> {
        let request = v1::ListTenantsRequest {
            page_size,
            page_token: page_token.to_owned(),
        };
        let answer = self.call(Effect::None, |attempt| {
            let request = attempt.request(request.clone());
            async move { tenants(attempt.channel).list_tenants(request).await }
        });
        let page = answer.await?.value;
        Ok((page.tenants, page.next_page_token))
    }

    /// Sets what `tenant` gives of the tenant `id`; the rest stays.
    ///
    /// # Errors
    /// [`Error::Refused`] (`TENANT_UNKNOWN`, `TENANT_DELETING`, `REVISION_MISMATCH`) or [`Error::Deadline`].
    pub async fn update_tenant(
        &self,
        id: &str,
        tenant: Tenant,
    ) -> Result<v1::TenantResponse, Error> {
        let paths = tenant.paths.iter().map(|path| (*path).to_owned());
        let request = v1::UpdateTenantRequest {
            tenant: Some(v1::Tenant {
                name: format!("tenants/{id}"),
                ..tenant.tenant
            }),
            update_mask: Some(FieldMask {
                paths: paths.collect(),
            }),
            request_id: self.request_id(tenant.request_id),
            expected_revision: tenant.expected_revision,
        };
        let answer = self.call(Effect::Perhaps, |attempt| {
            let request = attempt.request(request.clone());
            async move { tenants(attempt.channel).update_tenant(request).await }
        });
        Ok(answer.await?.value)
    }

    /// Begins to remove the tenant `id` with everything in it; [`Client::get_tenant`] says how far that is, and
    /// does not find it any more once it is done. `allow_missing`: also where it was never created. `request_id`
    /// may be empty; a program that starts again can give the one it has used.
    ///
    /// # Errors
    /// [`Error::Refused`] (`TENANT_UNKNOWN`) or [`Error::Deadline`].
    pub async fn delete_tenant(
        &self,
        id: &str,
        allow_missing: bool,
        request_id: &str,
    ) -> Result<v1::TenantResponse, Error> {
        let request = v1::DeleteTenantRequest {
            name: format!("tenants/{id}"),
            request_id: self.request_id(request_id.to_owned()),
            expected_revision: None,
            allow_missing,
        };
        let answer = self.call(Effect::Perhaps, |attempt| {
            let request = attempt.request(request.clone());
            async move { tenants(attempt.channel).delete_tenant(request).await }
        });
        Ok(answer.await?.value)
    }
}
