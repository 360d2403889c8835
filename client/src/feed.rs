//! Following what is changed in a tenant.

use std::time::Duration;

use model::limits;
use proto::v1;
use proto::v1::changes_client::ChangesClient;

use crate::builder::Client;
use crate::error::Error;
use crate::read::{Level, read_options};
use crate::retry::Effect;

/// Between two questions while nothing is changed.
const POLL: Duration = Duration::from_millis(200);
/// How old what is read may be: any replica answers that is younger.
const STALENESS: Duration = Duration::from_secs(2);

/// The changes of a tenant, from a cursor on.
///
/// Keep [`Changes::cursor`] when what came was dealt with, and begin there again after a restart: then nothing is
/// missing, and what was on its way may come again, under the same id.
///
/// ```no_run
/// # async fn follow(client: firebreak_client::Client) -> Result<(), firebreak_client::Error> {
/// let mut changes = client.changes("acme", "");
/// loop {
///     for change in changes.next().await? {
///         println!("{} {}", change.conversation, change.revision);
///     }
///     println!("go on at {}", changes.cursor());
/// }
/// # }
/// ```
pub struct Changes {
    client: Client,
    tenant: String,
    cursor: String,
    caught_up: bool,
}

impl Client {
    /// Changes of `tenant` behind a cursor; with an empty one all that there is.
    pub fn changes(&self, tenant: &str, cursor: &str) -> Changes {
        Changes {
            client: self.clone(),
            tenant: tenant.to_owned(),
            cursor: cursor.to_owned(),
            caught_up: false,
        }
    }
}

impl Changes {
    /// Where to go on behind what came last.
    pub fn cursor(&self) -> &str {
        &self.cursor
    }

    /// Whether there was nothing else when the last ones were read.
    pub fn caught_up(&self) -> bool {
        self.caught_up
    }

    /// What comes next; empty when there is nothing now.
    ///
    /// # Errors
    /// [`Error::Refused`], such as `SESSION_AHEAD` when the cursor is of another cluster, or
    /// [`Error::Deadline`]; the same can be asked for again.
    pub async fn poll(&mut self, level: &Level) -> Result<Vec<v1::Change>, Error> {
        let request = v1::ReadChangesRequest {
            parent: format!("tenants/{}", self.tenant),
            cursor: self.cursor.clone(),
            page_size: i32::try_from(limits::PAGE_SIZE_MAX).unwrap_or(i32::MAX),
            read: Some(read_options(level)),
        };
        let client = &self.client;
        let answer = client.call(Effect::None, |attempt| {
            let mut service = ChangesClient::new(attempt.channel.clone())
                .max_decoding_message_size(limits::FRAME_BYTES_MAX);
            let request = attempt.request(request.clone());
            async move { service.read_changes(request).await }
        });
        let answer = answer.await?.value;
        self.cursor = answer.cursor;
        self.caught_up = answer.caught_up;
        Ok(answer.changes)
    }

    /// What comes next; waits for it.
    ///
    /// # Errors
    /// As [`Changes::poll`].
    pub async fn next(&mut self) -> Result<Vec<v1::Change>, Error> {
        loop {
            let changes = self.poll(&Level::Bounded(STALENESS)).await?;
            if !changes.is_empty() {
                return Ok(changes);
            }
            if self.caught_up {
                tokio::time::sleep(POLL).await;
            }
        }
    }
}
