//! The kinds of quotas, and what a call uses of them.

use std::collections::BTreeMap;

use model::cluster::tenants::Tenant;
use model::command::{AppendWith, Body, Command, How};

/// A kind of quota. The numbers are said between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quota {
    /// Messages a second of a tenant.
    Messages = 1,
    /// Bytes a second of a tenant.
    Bytes = 2,
    /// Messages a second of one user.
    UserMessages = 3,
    /// Messages a second in one conversation.
    ConversationMessages = 4,
    /// Conversations of a tenant.
    Conversations = 5,
}

impl Quota {
    /// As its field is called.
    pub fn name(self) -> &'static str {
        match self {
            Quota::Messages => "messages_per_second",
            Quota::Bytes => "bytes_per_second",
            Quota::UserMessages => "user_messages_per_second",
            Quota::ConversationMessages => "conversation_messages_per_second",
            Quota::Conversations => "conversations",
        }
    }

    /// By its number.
    pub fn of(number: u32) -> Option<Quota> {
        let all = [
            Quota::Messages,
            Quota::Bytes,
            Quota::UserMessages,
            Quota::ConversationMessages,
            Quota::Conversations,
        ];
        all.into_iter().find(|quota| *quota as u32 == number)
    }

    /// What a tenant may use of it; 0 = as much as it likes.
    pub fn limit(self, tenant: &Tenant) -> u64 {
        let limits = tenant.limits();
        match self {
            Quota::Messages => limits.messages_per_s,
            Quota::Bytes => limits.bytes_per_s,
            Quota::UserMessages => limits.user_messages_per_s,
            Quota::ConversationMessages => limits.conversation_messages_per_s,
            Quota::Conversations => limits.conversations,
        }
    }
}

/// So much of one quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Take {
    /// Which.
    pub quota: Quota,
    /// Of which user or conversation; empty for the tenant's own.
    pub of: String,
    /// How much.
    pub amount: u64,
    /// How much of it there is a second.
    pub limit: u64,
}

/// Whether anything that a tenant does is counted.
pub fn is_counted(tenant: &Tenant) -> bool {
    tenant.quotas.is_some_and(|quotas| {
        quotas.messages_per_s
            | quotas.bytes_per_s
            | quotas.user_messages_per_s
            | quotas.conversation_messages_per_s
            | quotas.conversations
            > 0
    })
}

/// What a command uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The whole name of its conversation.
    pub conversation: String,
    /// Whether it may create the conversation.
    pub may_create: bool,
    messages: u64,
    bytes: u64,
    users: BTreeMap<String, u64>,
}

impl Cost {
    /// Of a command. What nobody is to be kept from costs nothing: erasing, settings, a conversation's end.
    pub fn of(command: &Command) -> Cost {
        match &command.body {
            Some(Body::Append(append)) => Cost::of_append(append),
            Some(Body::AppendWith(AppendWith { append, .. })) => {
                append.as_ref().map_or_else(Cost::default, Cost::of_append)
            }
            Some(Body::Create(create)) => Cost {
                conversation: create.conversation.clone(),
                may_create: true,
                ..Cost::default()
            },
            Some(Body::Change(change)) => {
                let (bytes, user) = match &change.how {
                    Some(How::Edit(edit)) => {
                        (edit.body.as_ref().map_or(0, |body| body.len()), None)
                    }
                    Some(How::React(react)) => (react.kind.len(), Some(&react.user)),
                    Some(How::Redact(_)) | None => return Cost::default(),
                };
                let mut cost = Cost {
                    conversation: change.conversation.clone(),
                    ..Cost::default()
                };
                cost.add(user.map_or(&[], |user| user), bytes);
                cost
            }
            Some(Body::Configure(_) | Body::Govern(_) | Body::Expire(_) | Body::Meta(_)) | None => {
                Cost::default()
            }
        }
    }

    fn of_append(append: &model::command::Append) -> Cost {
        let mut cost = Cost {
            conversation: append.conversation.clone(),
            may_create: true,
            ..Cost::default()
        };
        for message in &append.messages {
            let attributes = message.attributes.iter();
            let attributes = attributes.map(|one| one.key.len() + one.value.len());
            let fields =
                message.sender.len() + message.client_message_id.len() + message.kind.len();
            let bytes = message.body.len() + fields + attributes.sum::<usize>();
            cost.add(&message.sender, bytes);
        }
        cost
    }

    fn add(&mut self, user: &[u8], bytes: usize) {
        self.messages += 1;
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if !user.is_empty() {
            let user = String::from_utf8_lossy(user).into_owned();
            *self.users.entry(user).or_default() += 1;
        }
    }

    /// What it takes of the quotas that a tenant has.
    pub fn takes(&self, tenant: &Tenant) -> Vec<Take> {
        let mut takes = Vec::new();
        let mut add = |quota: Quota, of: &str, amount: u64| {
            let limit = quota.limit(tenant);
            if limit > 0 && amount > 0 {
                takes.push(Take {
                    quota,
                    of: of.to_owned(),
                    amount,
                    limit,
                });
            }
        };
        add(Quota::Messages, "", self.messages);
        add(Quota::Bytes, "", self.bytes);
        for (user, messages) in &self.users {
            add(Quota::UserMessages, user, *messages);
        }
        add(
            Quota::ConversationMessages,
            &self.conversation,
            self.messages,
        );
        takes
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::cluster::tenants::Quotas;
    use model::command::{Append, ChangeMessage, NewMessage, Redact};

    use super::*;

    #[test]
    fn an_append_uses_what_its_messages_do_and_an_erasure_uses_nothing() {
        let message = |sender: &'static str| NewMessage {
            sender: Bytes::from_static(sender.as_bytes()),
            body: Bytes::from_static(b"hello"),
            ..NewMessage::default()
        };
        let append = Command::append(Append {
            conversation: "tenants/t/conversations/c".into(),
            messages: vec![message("ann"), message("bob"), message("ann")],
            ..Append::default()
        });
        let tenant = Tenant {
            quotas: Some(Quotas {
                messages_per_s: 10,
                bytes_per_s: 100,
                user_messages_per_s: 3,
                ..Quotas::default()
            }),
            ..Tenant::default()
        };
        let takes = Cost::of(&append).takes(&tenant);
        let said: Vec<_> = takes
            .iter()
            .map(|take| (take.quota, take.of.as_str(), take.amount, take.limit))
            .collect();
        assert_eq!(
            said,
            [
                (Quota::Messages, "", 3, 10),
                (Quota::Bytes, "", 24, 100),
                (Quota::UserMessages, "ann", 2, 3),
                (Quota::UserMessages, "bob", 1, 3),
            ]
        );
        let redact = Command::change(ChangeMessage {
            how: Some(How::Redact(Redact::default())),
            ..ChangeMessage::default()
        });
        assert_eq!(Cost::of(&redact), Cost::default());
        for number in 0..10 {
            assert!(Quota::of(number).is_none_or(|quota| quota as u32 == number));
        }
    }
}
