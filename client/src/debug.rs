//! What a node gives of itself for a support archive: files, and what its flight recorder has.

use futures::stream::{BoxStream, StreamExt as _};
use model::limits;
use proto::v1;
use proto::v1::admin_client::AdminClient;

use crate::builder::Client;
use crate::error::{Error, Refusal};

fn refused(status: &tonic::Status) -> Error {
    Error::Refused(Refusal::from_status(status))
}

impl Client {
    /// The files that the node at `address` gives of itself, piece by piece; none named are all. Asked
    /// once. The caller sets the limit.
    ///
    /// # Errors
    /// [`Error::Refused`] when the node refuses or does not answer; a stream that breaks off ends with one.
    pub async fn debug_of(
        &self,
        address: &str,
        files: Vec<String>,
    ) -> Result<BoxStream<'static, Result<v1::GetDebugPart, Error>>, Error> {
        let channel = self.inner.nodes.channel(address)?;
        let mut client =
            AdminClient::new(channel).max_decoding_message_size(limits::FRAME_BYTES_MAX);
        let asked = client.get_debug(v1::GetDebugRequest { files }).await;
        let parts = asked.map_err(|status| refused(&status))?.into_inner();
        Ok(parts
            .map(|part| part.map_err(|status| refused(&status)))
            .boxed())
    }

    /// One call of what the flight recorder of the node at `address` has, page by page: behind the last
    /// one there may be more. Asked once. The caller sets the limit.
    ///
    /// # Errors
    /// As [`Client::debug_of`].
    pub async fn recorded_of(
        &self,
        address: &str,
        request: v1::GetEventsRequest,
    ) -> Result<BoxStream<'static, Result<v1::GetEventsResponse, Error>>, Error> {
        let channel = self.inner.nodes.channel(address)?;
        let mut client =
            AdminClient::new(channel).max_decoding_message_size(limits::FRAME_BYTES_MAX);
        let asked = client.get_events(request).await;
        let pages = asked.map_err(|status| refused(&status))?.into_inner();
        Ok(pages
            .map(|page| page.map_err(|status| refused(&status)))
            .boxed())
    }
}
