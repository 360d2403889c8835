//! Drills: their list, what is decided of them, and their signatures.

use std::sync::Arc;

use proto::v1;

use super::admin;
use crate::builder::Client;
use crate::error::Error;
use crate::retry::Effect;

impl Client {
    /// The drills as any node knows them.
    ///
    /// # Errors
    /// [`Error::Deadline`] when no node answers.
    pub async fn drills(&self) -> Result<v1::GetDrillsResponse, Error> {
        let answer = self
            .call(Effect::None, |attempt| {
                let request = attempt.request(v1::GetDrillsRequest {});
                async move { admin(attempt.channel).get_drills(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// Changes the drills. Asking again is safe.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason, or [`Error::Deadline`].
    pub async fn change_drill(
        &self,
        change: v1::change_drill_request::Change,
    ) -> Result<v1::ChangeDrillResponse, Error> {
        let change = Some(change);
        let request = Arc::new(v1::ChangeDrillRequest { change });
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request((*request).clone());
                async move { admin(attempt.channel).change_drill(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// Has the certificate of a drill that has ended signed by the cluster's key.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no such drill, or [`Error::Deadline`].
    pub async fn sign_drill(
        &self,
        request: v1::SignDrillRequest,
    ) -> Result<v1::SignDrillResponse, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(request.clone());
                async move { admin(attempt.channel).sign_drill(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// The public part of the key that signs certificates, 32 bytes.
    ///
    /// # Errors
    /// [`Error::Refused`], or [`Error::Deadline`].
    pub async fn drill_key(&self) -> Result<Vec<u8>, Error> {
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = attempt.request(v1::GetDrillKeyRequest {});
                async move { admin(attempt.channel).get_drill_key(request).await }
            })
            .await?;
        Ok(answer.value.public_key.to_vec())
    }
}
