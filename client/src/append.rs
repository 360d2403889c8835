//! Appending, one call for one answer. Many messages go cheaper through [`crate::AppendStream`].

use std::time::Duration;

use model::limits;
use proto::net::Channel;
use proto::v1;
use proto::v1::messages_client::MessagesClient;
use tokio::time::Instant;

use crate::builder::Client;
use crate::error::Error;
use crate::message::{Appended, Message, unix_ms};
use crate::retry::Effect;
use crate::stats::add;

/// What an append asks for beside the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendOptions {
    /// Refuse (`SEQ_MISMATCH`) unless this is the conversation's last seq.
    pub expected_last_seq: Option<u64>,
    /// The message counts as the last of this key, at most 64 bytes; empty = of none.
    pub key: String,
    /// Refuse (`KEY_SEQ_MISMATCH`) unless this is the last seq of `key`; 0 = there is none yet.
    pub expected_last_seq_of_key: Option<u64>,
    /// The conversation's fence token; an append without it is refused (`FENCED`) once there is one.
    pub fence_token: String,
}

pub(crate) fn messages(channel: Channel) -> MessagesClient<Channel> {
    MessagesClient::new(channel)
        .max_decoding_message_size(limits::FRAME_BYTES_MAX)
        .max_encoding_message_size(limits::FRAME_BYTES_MAX)
}

impl Client {
    /// Appends one message to `parent`, `tenants/{t}/conversations/{c}`, creating the conversation
    /// with its first. However often it is sent on the way, it has one effect.
    ///
    /// # Errors
    /// [`Error::Refused`] when a rule forbids it, [`Error::Deadline`] when the time is up, which
    /// says whether it may have been appended all the same.
    pub async fn append(&self, parent: &str, message: Message) -> Result<Appended, Error> {
        self.append_with(parent, message, AppendOptions::default())
            .await
    }

    /// [`Client::append`] under conditions.
    ///
    /// # Errors
    /// As [`Client::append`].
    pub async fn append_with(
        &self,
        parent: &str,
        mut message: Message,
        mut options: AppendOptions,
    ) -> Result<Appended, Error> {
        if options.fence_token.is_empty() {
            options.fence_token = std::mem::take(&mut message.fence_token);
        }
        let conditions = options != AppendOptions::default() || message.reply_to_seq > 0;
        let effect = match conditions {
            true => Effect::Perhaps,
            false => Effect::Unconditional,
        };
        let request = v1::AppendMessageRequest {
            parent: parent.to_owned(),
            message: Some(self.wire(message)),
            precondition: precondition(options),
            return_body: false,
        };
        let answer = self
            .call(effect, |attempt| {
                let request = self.inner.marked(attempt.request(request.clone()));
                async move { messages(attempt.channel).append_message(request).await }
            })
            .await?;
        let response = answer.value;
        let appended = appended(
            &response.message.unwrap_or_default(),
            response.deduplicated,
            answer.at,
            answer.latency,
            answer.attempts,
        );
        self.count(1, appended.deduplicated);
        Ok(appended)
    }

    /// Appends up to [`limits::BATCH_MESSAGES_MAX`] messages (1 MiB) to one conversation: all of
    /// them, next to each other and in order, or none.
    ///
    /// # Errors
    /// As [`Client::append`]; also `MIXED_BATCH` when some of the ids were appended before and
    /// others were not.
    pub async fn append_batch(
        &self,
        parent: &str,
        batch: Vec<Message>,
        options: AppendOptions,
    ) -> Result<Vec<Appended>, Error> {
        let request = v1::BatchAppendMessagesRequest {
            parent: parent.to_owned(),
            messages: batch
                .into_iter()
                .map(|message| self.wire(message))
                .collect(),
            precondition: precondition(options),
        };
        let answer = self
            .call(Effect::Perhaps, |attempt| {
                let request = self.inner.marked(attempt.request(request.clone()));
                async move {
                    messages(attempt.channel)
                        .batch_append_messages(request)
                        .await
                }
            })
            .await?;
        let deduplicated = answer.value.deduplicated;
        self.count(answer.value.messages.len(), deduplicated);
        let one = |message: &v1::Message| {
            appended(
                message,
                deduplicated,
                answer.at,
                answer.latency,
                answer.attempts,
            )
        };
        Ok(answer.value.messages.iter().map(one).collect())
    }

    /// The message as it goes over the wire, with an id.
    pub(crate) fn wire(&self, mut message: Message) -> v1::Message {
        if message.client_message_id.is_empty() {
            message.client_message_id = self.inner.random.id();
        }
        message.into_wire()
    }

    fn count(&self, messages: usize, deduplicated: bool) {
        add(&self.inner.counters.acked, messages);
        if deduplicated {
            add(&self.inner.counters.deduplicated, messages);
        }
    }
}

fn precondition(options: AppendOptions) -> Option<v1::Precondition> {
    (options != AppendOptions::default()).then_some(v1::Precondition {
        expected_last_seq: options.expected_last_seq,
        key: options.key,
        expected_last_seq_of_key: options.expected_last_seq_of_key,
        fence_token: options.fence_token,
    })
}

fn appended(
    message: &v1::Message,
    deduplicated: bool,
    acked_at: Instant,
    latency: Duration,
    attempts: u32,
) -> Appended {
    Appended {
        seq: message.seq,
        revision: message.revision,
        create_time_ms: message.create_time.as_ref().map_or(0, unix_ms),
        deduplicated,
        acked_at,
        latency,
        attempts,
    }
}
