//! What says who the client is: an API key or a token, sent along with every call of every connection.

use std::io;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderValue};
use proto::net::{Channel, Dial, Dialer, Transport};
use tonic::codegen::Service as _;

use crate::error::Error;

/// `dialer`, whose calls carry an API key or a token; for who calls nodes without a [`crate::Client`].
///
/// # Errors
/// [`Error::Config`] when it cannot be sent.
pub fn authorized(dialer: Dialer, credential: &str) -> Result<Dialer, Error> {
    Ok(Authorized::new(dialer, credential)?)
}

/// Dials as another does, and has calls carry the credential.
pub(crate) struct Authorized {
    dialer: Dialer,
    header: HeaderValue,
}

impl Authorized {
    /// Of a credential's text.
    ///
    /// # Errors
    /// [`Error::Config`] when it cannot stand in a header.
    pub(crate) fn new(dialer: Dialer, credential: &str) -> Result<Arc<Authorized>, Error> {
        let header = HeaderValue::try_from(format!("Bearer {}", credential.trim()));
        let mut header = header.map_err(|_| {
            // Not what it is: that would be in logs.
            Error::Config("the API key or token has characters that no such text has".to_owned())
        })?;
        header.set_sensitive(true);
        Ok(Arc::new(Authorized { dialer, header }))
    }
}

impl Dial for Authorized {
    fn dial(&self, address: &str) -> io::Result<Channel> {
        Ok(Channel::over(Arc::new(Signed {
            channel: self.dialer.dial(address)?,
            header: self.header.clone(),
        })))
    }
}

/// A channel whose calls carry the credential.
struct Signed {
    channel: Channel,
    header: HeaderValue,
}

impl Transport for Signed {
    fn call(
        &self,
        mut request: http::Request<tonic::body::Body>,
    ) -> std::pin::Pin<
        Box<
            dyn Future<
                    Output = Result<
                        http::Response<tonic::body::Body>,
                        Box<dyn std::error::Error + Send + Sync>,
                    >,
                > + Send,
        >,
    > {
        request
            .headers_mut()
            .insert(AUTHORIZATION, self.header.clone());
        let mut channel = self.channel.clone();
        Box::pin(async move {
            std::future::poll_fn(|context| channel.poll_ready(context)).await?;
            channel.call(request).await
        })
    }
}
