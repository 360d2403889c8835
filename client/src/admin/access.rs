//! Keys, issuers, the join token and the audit.

use model::limits;
use proto::net::Channel;
use proto::v1;
use proto::v1::access_client::AccessClient;

use super::admin;
use crate::builder::Client;
use crate::error::Error;
use crate::retry::Effect;

fn access(channel: Channel) -> AccessClient<Channel> {
    AccessClient::new(channel).max_decoding_message_size(limits::FRAME_BYTES_MAX)
}

impl Client {
    /// What nodes join with, as any node knows it.
    ///
    /// # Errors
    /// [`Error::Refused`] where the cluster keeps only its hash, or [`Error::Deadline`].
    pub async fn join_token(&self) -> Result<v1::JoinToken, Error> {
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(v1::GetJoinTokenRequest {});
                async move { admin(attempt.channel).get_join_token(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// Has nodes join with a new token. Asking again gives yet another.
    ///
    /// # Errors
    /// [`Error::Refused`], or [`Error::Deadline`].
    pub async fn rotate_join_token(
        &self,
        request: v1::RotateJoinTokenRequest,
    ) -> Result<v1::JoinToken, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(request);
                async move { admin(attempt.channel).rotate_join_token(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// Has nodes join with another token, too. Its text is in the answer alone. When the outcome is not known
    /// there may be a token that nobody has: it is in the list, to be revoked.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn create_join_token(
        &self,
        request: v1::CreateJoinTokenRequest,
    ) -> Result<v1::JoinToken, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(request.clone());
                async move { admin(attempt.channel).create_join_token(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// The tokens that nodes join with, without their texts.
    ///
    /// # Errors
    /// [`Error::Refused`], or [`Error::Deadline`].
    pub async fn join_tokens(&self) -> Result<Vec<v1::JoinToken>, Error> {
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(v1::ListJoinTokensRequest {});
                async move { admin(attempt.channel).list_join_tokens(request).await }
            })
            .await?;
        Ok(answer.value.tokens)
    }

    /// Has nodes join with a token no more. Gives the epoch of the map in which it is gone.
    ///
    /// # Errors
    /// [`Error::Refused`] for one that there is not, or [`Error::Deadline`].
    pub async fn revoke_join_token(&self, id: &str) -> Result<u64, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(v1::RevokeJoinTokenRequest { id: id.to_owned() });
                async move { admin(attempt.channel).revoke_join_token(request).await }
            })
            .await?;
        Ok(answer.value.epoch)
    }

    /// Who the client is to the node that answers.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is nobody, or [`Error::Deadline`].
    pub async fn who_am_i(&self) -> Result<v1::WhoAmIResponse, Error> {
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(v1::WhoAmIRequest {});
                async move { access(attempt.channel).who_am_i(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// Makes an API key. Its text is in the answer alone. When the outcome is not known there may be a key
    /// that nobody has: it is in the list, to be revoked.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn create_key(
        &self,
        request: v1::CreateKeyRequest,
    ) -> Result<v1::CreateKeyResponse, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(request.clone());
                async move { access(attempt.channel).create_key(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// The API keys there are, without their texts.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn keys(&self) -> Result<Vec<v1::ApiKey>, Error> {
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(v1::ListKeysRequest {});
                async move { access(attempt.channel).list_keys(request).await }
            })
            .await?;
        Ok(answer.value.keys)
    }

    /// Has an API key open nothing any more. Doing so again is safe.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn revoke_key(&self, id: &str) -> Result<u64, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(v1::RevokeKeyRequest { id: id.to_owned() });
                async move { access(attempt.channel).revoke_key(request).await }
            })
            .await?;
        Ok(answer.value.epoch)
    }

    /// Has the tokens of an issuer believed, in place of what was said of it before.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn set_issuer(&self, issuer: v1::Issuer) -> Result<u64, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let issuer = Some(issuer.clone());
                let request = attempt.request(v1::SetIssuerRequest { issuer });
                async move { access(attempt.channel).set_issuer(request).await }
            })
            .await?;
        Ok(answer.value.epoch)
    }

    /// The issuers whose tokens are believed.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn issuers(&self) -> Result<Vec<v1::Issuer>, Error> {
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(v1::ListIssuersRequest {});
                async move { access(attempt.channel).list_issuers(request).await }
            })
            .await?;
        Ok(answer.value.issuers)
    }

    /// Has the tokens of an issuer believed no more. Doing so again is safe.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn remove_issuer(&self, name: &str) -> Result<u64, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let name = name.to_owned();
                let request = attempt.request(v1::RemoveIssuerRequest { name });
                async move { access(attempt.channel).remove_issuer(request).await }
            })
            .await?;
        Ok(answer.value.epoch)
    }

    /// A page of the audit, from a number on; 0 = from the first record that is kept.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn audit(&self, from: u64) -> Result<v1::ReadAuditResponse, Error> {
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(v1::ReadAuditRequest { from, page_size: 0 });
                async move { access(attempt.channel).read_audit(request).await }
            })
            .await?;
        Ok(answer.value)
    }
}
