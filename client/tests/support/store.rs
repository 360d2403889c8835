//! The one store behind all nodes of a test cluster: what the promises E and O ask of a real one.

use std::collections::BTreeMap;

use proto::v1;

#[derive(Default)]
pub struct Store {
    pub conversations: BTreeMap<String, Conversation>,
    pub created: BTreeMap<String, String>,
    revision: u64,
}

#[derive(Default)]
pub struct Conversation {
    pub messages: Vec<v1::Message>,
    by_id: BTreeMap<(String, String), usize>,
}

impl Store {
    pub fn append(
        &mut self,
        parent: &str,
        message: &v1::Message,
    ) -> Result<v1::Appended, &'static str> {
        self.revision += 1;
        let conversation = self.conversations.entry(parent.to_owned()).or_default();
        let id = (message.sender.clone(), message.client_message_id.clone());
        if let Some(at) = conversation.by_id.get(&id) {
            let first = &conversation.messages[*at];
            if first.body != message.body {
                return Err("CLIENT_MESSAGE_ID_REUSED");
            }
            return Ok(answer(first, true));
        }
        let seq = conversation.messages.len() as u64 + 1;
        let stored = v1::Message {
            name: format!("{parent}/messages/{seq}"),
            seq,
            revision: self.revision,
            create_time: Some(prost_types::Timestamp {
                seconds: 1_700_000_000,
                nanos: 0,
            }),
            ..message.clone()
        };
        let answer = answer(&stored, false);
        conversation.by_id.insert(id, conversation.messages.len());
        conversation.messages.push(stored);
        Ok(answer)
    }

    pub fn last_seq(&self, parent: &str) -> Option<u64> {
        Some(self.conversations.get(parent)?.messages.len() as u64)
    }

    pub fn bodies(&self, parent: &str) -> Vec<String> {
        self.conversations
            .get(parent)
            .map_or_else(Vec::new, |conversation| {
                let text =
                    |message: &v1::Message| String::from_utf8_lossy(&message.body).into_owned();
                conversation.messages.iter().map(text).collect()
            })
    }
}

fn answer(message: &v1::Message, deduplicated: bool) -> v1::Appended {
    v1::Appended {
        seq: message.seq,
        revision: message.revision,
        create_time_ms: 1_700_000_000_000,
        deduplicated,
    }
}
