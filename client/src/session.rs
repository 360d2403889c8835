//! Sessions: whoever writes and reads through one reads what it has written, and never less than it
//! has read, through any node and in any data center.

use model::mutant;
use model::session;
use parking_lot::Mutex;
use proto::v1;

use crate::append::AppendOptions;
use crate::builder::Client;
use crate::error::Error;
use crate::message::{Appended, Message};
use crate::read::{Level, ListOptions, Page};

/// Calls that keep what they have seen. What another device of the same person has seen is handed on
/// as a token, a short text: [`Session::token`] there, [`Session::saw`] here.
pub struct Session {
    client: Client,
    seen: Mutex<session::Token>,
}

impl Client {
    /// A session that has seen nothing yet.
    pub fn session(&self) -> Session {
        Session {
            client: self.clone(),
            seen: Mutex::default(),
        }
    }

    /// A session that goes on where the one of `token` was.
    ///
    /// # Errors
    /// [`Error::Config`] when it is not a session token.
    pub fn resume(&self, token: &str) -> Result<Session, Error> {
        let session = self.session();
        if !mutant!("session-token-dropped-on-data-center-switch") {
            session.saw(token)?;
        }
        Ok(session)
    }
}

impl Session {
    /// What was seen so far: for this session elsewhere, through any client.
    pub fn token(&self) -> String {
        self.seen.lock().encode()
    }

    /// Takes in what another session has seen, or any answer that carried a token.
    ///
    /// # Errors
    /// [`Error::Config`] when it is not a session token.
    pub fn saw(&self, token: &str) -> Result<(), Error> {
        let token = session::Token::decode(token)
            .map_err(|error| Error::Config(format!("the session token {error}")))?;
        self.seen.lock().merge(&token);
        Ok(())
    }

    /// Takes in an acknowledgement that came another way, of a stream, say.
    pub fn wrote(&self, parent: &str, appended: &Appended) {
        if let Some(token) = session::Token::of_conversation(parent, appended.revision) {
            self.seen.lock().merge(&token);
        }
    }

    /// [`Client::append`]; reads of this session see it from then on.
    ///
    /// # Errors
    /// As [`Client::append`].
    pub async fn append(&self, parent: &str, message: Message) -> Result<Appended, Error> {
        let appended = self.client.append(parent, message).await?;
        self.wrote(parent, &appended);
        Ok(appended)
    }

    /// [`Client::append_batch`]; reads of this session see it from then on.
    ///
    /// # Errors
    /// As [`Client::append_batch`].
    pub async fn append_batch(
        &self,
        parent: &str,
        batch: Vec<Message>,
        options: AppendOptions,
    ) -> Result<Vec<Appended>, Error> {
        let all = self.client.append_batch(parent, batch, options).await?;
        for appended in &all {
            self.wrote(parent, appended);
        }
        Ok(all)
    }

    /// [`Client::list`] at the level [`Level::Session`], whatever `options` say of it.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn list(&self, parent: &str, options: &ListOptions) -> Result<Page, Error> {
        let options = ListOptions {
            level: Level::Session(self.token()),
            ..options.clone()
        };
        let page = self.client.list(parent, &options).await?;
        self.answered(&page.session_token);
        Ok(page)
    }

    /// [`Client::get_conversation`] at the level [`Level::Session`].
    ///
    /// # Errors
    /// As [`Client::get_conversation`].
    pub async fn get_conversation(&self, name: &str) -> Result<v1::Conversation, Error> {
        let level = Level::Session(self.token());
        let conversation = self.client.get_conversation(name, &level).await?;
        if let Some(info) = &conversation.info {
            self.answered(&info.session_token);
        }
        Ok(conversation)
    }

    fn answered(&self, token: &str) {
        // A node of a later version may write what this one cannot read; it has kept to what it
        // was given all the same.
        if let Err(error) = self.saw(token) {
            tracing::warn!(%error, "an answer's session token is not understood");
        }
    }
}
