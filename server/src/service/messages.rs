//! Appending messages, paging through them, following them.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use model::command::{Answer, Append, AppendWith, Outcome, Reply};
use model::id::ConversationName;
use model::limits;
use model::session;
use prost::Message as _;
use proto::net::guard::{self, Weight};
use proto::v1::messages_client::MessagesClient;
use proto::v1::messages_server::Messages as Service;
use proto::{IMPORT, v1};
use store::engine::Order;
use store::state::{self, ShardState};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::conversations::options;
use super::history::{self, HistoryQuery, Pages};
use super::{changes, reactions};
use crate::access::Caller;
use crate::check::{At, Checker, Level};
use crate::convert::Moment;
use crate::deadline::{Call, forward_traced};
use crate::error::Failure;
use crate::gateway::{Gateway, Target};
use crate::read::{Found, read};
use crate::sight::traces::Open;
use crate::sight::traffic::Way;
use crate::stream::lanes::Lanes;
use crate::tenants::class::Class;
use crate::{convert, follow, stream, tail};

/// The service.
pub struct Messages {
    /// What all services share.
    pub gateway: Arc<Gateway>,
    /// Largest body, bytes.
    pub body_bytes_max: usize,
    /// Pages that are being read.
    pub pages: Pages,
}

#[tonic::async_trait]
impl Service for Messages {
    async fn append_message(
        &self,
        request: Request<v1::AppendMessageRequest>,
    ) -> Result<Response<v1::AppendMessageResponse>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let appended = self.append(request.into_inner(), call).await?;
        Ok(self.gateway.answer(appended))
    }

    async fn batch_append_messages(
        &self,
        request: Request<v1::BatchAppendMessagesRequest>,
    ) -> Result<Response<v1::BatchAppendMessagesResponse>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let appended = self.append_batch(request.into_inner(), call).await?;
        Ok(self.gateway.answer(appended))
    }

    type AppendStreamStream = stream::Answers;

    async fn append_stream(
        &self,
        request: Request<Streaming<v1::AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let call = request.extensions().get::<Arc<guard::Call>>().cloned();
        let caller = request.extensions().get::<Caller>().cloned();
        let imports = request.metadata().contains_key(IMPORT);
        let opened = Call::of(&request);
        let traffic = self.gateway.traffic.clone();
        let lanes = Lanes::new(
            self.body_bytes_max,
            imports,
            traffic,
            caller.unwrap_or_default(),
        );
        let gateway = self.gateway.clone();
        let answers = stream::serve(gateway, request.into_inner(), lanes, (opened, call));
        Ok(Response::new(answers))
    }

    async fn list_messages(
        &self,
        request: Request<v1::ListMessagesRequest>,
    ) -> Result<Response<v1::ListMessagesResponse>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let page = self.list(request.into_inner(), call).await?;
        let weight = Weight(page.encoded_len());
        let mut answer = self.gateway.answer(page);
        answer.extensions_mut().insert(weight);
        Ok(answer)
    }

    async fn get_message(
        &self,
        request: Request<v1::GetMessageRequest>,
    ) -> Result<Response<v1::GetMessageResponse>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let found = self.get(request.into_inner(), call).await?;
        let weight = Weight(found.encoded_len());
        let mut answer = self.gateway.answer(found);
        answer.extensions_mut().insert(weight);
        Ok(answer)
    }

    async fn edit_message(
        &self,
        request: Request<v1::EditMessageRequest>,
    ) -> Result<Response<v1::EditMessageResponse>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let request = request.into_inner();
        let edited = changes::edit(&self.gateway, request, self.body_bytes_max, call).await?;
        Ok(self.gateway.answer(edited))
    }

    async fn redact_message(
        &self,
        request: Request<v1::RedactMessageRequest>,
    ) -> Result<Response<v1::RedactMessageResponse>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let redacted = changes::redact(&self.gateway, request.into_inner(), call).await?;
        Ok(self.gateway.answer(redacted))
    }

    async fn react(
        &self,
        request: Request<v1::ReactRequest>,
    ) -> Result<Response<v1::ReactResponse>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let reacted = changes::react(&self.gateway, request.into_inner(), call).await?;
        Ok(self.gateway.answer(reacted))
    }

    type FollowStream = follow::Answers;

    async fn follow(
        &self,
        request: Request<Streaming<v1::FollowRequest>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let call = Call::of(&request);
        let gateway = self.gateway.clone();
        if *gateway.stopping.borrow() {
            return Err(Failure::Stopping.into());
        }
        let open = (!call.forwarded).then(|| gateway.traffic.open_tail());
        let answers = follow::open(gateway, request.into_inner(), call);
        let counted = answers.inspect(move |_| {
            // It is open for as long as its events are asked for.
            let _ = &open;
        });
        Ok(Response::new(counted.boxed()))
    }

    async fn list_reactions(
        &self,
        request: Request<v1::ListReactionsRequest>,
    ) -> Result<Response<v1::ListReactionsResponse>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let page = reactions::list(&self.gateway, request.into_inner(), call).await?;
        let weight = Weight(page.encoded_len());
        let mut answer = self.gateway.answer(page);
        answer.extensions_mut().insert(weight);
        Ok(answer)
    }

    type TailStream = tail::Events;

    async fn tail(
        &self,
        request: Request<v1::TailRequest>,
    ) -> Result<Response<Self::TailStream>, Status> {
        let _call = self.gateway.calls.token();
        let call = Call::of(&request);
        let request = request.into_inner();
        let name = ConversationName::parse(&request.parent).ok();
        let forwarded = call.forwarded;
        let may = name
            .as_ref()
            .map_or(Ok(()), |name| self.gateway.may_call(name.tenant(), &call));
        let opened = match may {
            Ok(()) => tail::open(self.gateway.clone(), request, call).await,
            Err(failure) => Err(failure),
        };
        if forwarded {
            return Ok(Response::new(opened?));
        }
        let traffic = &self.gateway.traffic;
        match &name {
            Some(name) => traffic.tail(name.tenant(), opened.as_ref().err()),
            None => traffic.refused(opened.as_ref().err()),
        }
        let open = traffic.open_tail();
        let counted = opened?.inspect(move |_| {
            // It is open for as long as its events are asked for.
            let _ = &open;
        });
        Ok(Response::new(counted.boxed()))
    }
}

impl Messages {
    async fn append(
        &self,
        request: v1::AppendMessageRequest,
        call: Call,
    ) -> Result<v1::AppendMessageResponse, Failure> {
        let mut check = Checker::of(&call, self.body_bytes_max);
        let name = check.conversation("parent", &request.parent);
        check.message(At("message", None), request.message.as_ref());
        check.precondition(request.precondition.as_ref());
        let name = self.checked(check.or(name))?;
        let _turn = self
            .gateway
            .enter(name.tenant(), Class::Live, &call)
            .await?;
        let given = request.message.unwrap_or_default();
        let one = std::slice::from_ref(&given);
        let outcomes = self.send(&name, one, false, request.precondition, call);
        let outcome = outcomes.await?.pop().unwrap_or_default();
        Ok(v1::AppendMessageResponse {
            deduplicated: outcome.deduplicated,
            message: Some(convert::appended(
                &name,
                given,
                &outcome,
                request.return_body,
            )),
            info: Some(info(&self.gateway, &name, outcome.revision)),
        })
    }

    async fn append_batch(
        &self,
        request: v1::BatchAppendMessagesRequest,
        call: Call,
    ) -> Result<v1::BatchAppendMessagesResponse, Failure> {
        let mut check = Checker::of(&call, self.body_bytes_max);
        let name = check.conversation("parent", &request.parent);
        check.batch(&request.messages);
        check.precondition(request.precondition.as_ref());
        let name = self.checked(check.or(name))?;
        let _turn = self
            .gateway
            .enter(name.tenant(), Class::Live, &call)
            .await?;
        let given = request.messages;
        let outcomes = self.send(&name, &given, true, request.precondition, call);
        let outcomes = outcomes.await?;
        let revision = outcomes.iter().map(|outcome| outcome.revision).max();
        let revision = revision.unwrap_or_default();
        Ok(v1::BatchAppendMessagesResponse {
            deduplicated: outcomes.iter().all(|outcome| outcome.deduplicated),
            messages: given
                .into_iter()
                .zip(&outcomes)
                .map(|(given, outcome)| convert::appended(&name, given, outcome, false))
                .collect(),
            info: Some(info(&self.gateway, &name, revision)),
        })
    }

    /// Counts what was wrong.
    fn checked<T>(&self, checked: Result<T, Failure>) -> Result<T, Failure> {
        super::decided::checked(&self.gateway, checked)
    }

    /// Has messages that were checked decided by the leader: an outcome for each.
    async fn send(
        &self,
        name: &ConversationName,
        given: &[v1::Message],
        atomic: bool,
        precondition: Option<v1::Precondition>,
        call: Call,
    ) -> Result<Vec<Outcome>, Failure> {
        let precondition = precondition.unwrap_or_default();
        let append = Append {
            conversation: name.to_string(),
            messages: given.iter().cloned().map(convert::new_message).collect(),
            atomic,
            expected_last_seq: precondition.expected_last_seq,
            ..Append::default()
        };
        let command = convert::append_with(AppendWith {
            append: Some(append),
            key: Bytes::from(precondition.key),
            expected_last_seq_of_key: precondition.expected_last_seq_of_key,
            fence_token: Bytes::from(precondition.fence_token),
        });
        let slot = name.key().slot();
        let traffic = &self.gateway.traffic;
        let tenant = traffic.tenant(name.tenant());
        let appending = traffic.append(tenant, slot, Way::Unary, Instant::now());
        let gateway = self.gateway.clone();
        let open = gateway.trace("append", &call);
        let (target, open_at) = (Target::Slot(slot), open.as_ref());
        let paid = gateway.pay(name, &command, call.deadline).await;
        let decided = match paid {
            Ok(()) => {
                let proposed = gateway.propose_traced(target, command, call.deadline, open_at);
                proposed.await
            }
            Err(failure) => Err(failure),
        };
        let settled = decided.and_then(|reply| outcomes(reply, given.len()));
        if let Some(open) = open {
            open.end(self.gateway.shard_of(slot), settled.as_ref().err());
        }
        let all = u64::try_from(given.len()).unwrap_or(u64::MAX);
        match &settled {
            Ok(outcomes) => {
                let old = outcomes.iter().filter(|one| one.deduplicated).count();
                let old = u64::try_from(old).unwrap_or(u64::MAX);
                appending.decided(all - old, old, 0);
            }
            Err(failure) => appending.failed(failure, all),
        }
        settled
    }

    async fn list(
        &self,
        request: v1::ListMessagesRequest,
        call: Call,
    ) -> Result<v1::ListMessagesResponse, Failure> {
        let (name, plan) = self.checked(HistoryQuery::of(&request, &call))?;
        let _turn = self
            .gateway
            .enter(name.tenant(), Class::History, &call)
            .await?;
        let began = Instant::now();
        let open = self.gateway.trace("list", &call);
        let trace = open.as_ref().map(Open::context);
        let page = self
            .planned(&request, &name, &plan, Call { trace, ..call })
            .await;
        if let Some(open) = open {
            let shard = self.gateway.shard_of(name.key().slot());
            open.end(shard, page.as_ref().err());
        }
        // Whoever forwarded it counts it.
        if !call.forwarded {
            let level = plan.wanted.level.place();
            let traffic = &self.gateway.traffic;
            traffic.read(name.tenant(), level, began, page.as_ref().err());
        }
        page
    }

    async fn get(
        &self,
        request: v1::GetMessageRequest,
        call: Call,
    ) -> Result<v1::GetMessageResponse, Failure> {
        let mut check = Checker::of(&call, 0);
        let name = check.message_name("name", &request.name);
        let wanted = check.read(request.read.as_ref());
        check.reader(&request.reader);
        let (name, seq) = self.checked(check.or(name))?;
        let _turn = self
            .gateway
            .enter(name.tenant(), Class::Sync, &call)
            .await?;
        let began = Instant::now();
        let found = read(
            &self.gateway,
            name.key().slot(),
            &wanted,
            &call,
            |_, state| {
                let moment = self.gateway.moment(name.tenant());
                message(state, &name, (seq, &request.reader), moment)
            },
            |channel, timeout| {
                let request = v1::GetMessageRequest {
                    read: Some(options(&wanted)),
                    ..request.clone()
                };
                let request = forward_traced(request, Some(timeout), &call);
                async move {
                    let mut client = MessagesClient::new(channel)
                        .max_decoding_message_size(limits::FRAME_BYTES_MAX);
                    Ok(client.get_message(request).await?.into_inner())
                }
            },
        );
        let found = found.await;
        if !call.forwarded {
            let level = wanted.level.place();
            let traffic = &self.gateway.traffic;
            traffic.read(name.tenant(), level, began, found.as_ref().err());
        }
        found
    }

    async fn planned(
        &self,
        request: &v1::ListMessagesRequest,
        name: &ConversationName,
        plan: &HistoryQuery,
        call: Call,
    ) -> Result<v1::ListMessagesResponse, Failure> {
        // A session's answer is its own.
        if plan.wanted.level == Level::Session || !plan.wanted.token.is_empty() {
            return self.page(request, name, plan, call).await;
        }
        let key = plan.key(name, call.forwarded);
        let limit = call.deadline.remaining();
        let page = self.page(request, name, plan, call);
        self.pages.ask(key, limit, page).await
    }

    async fn page(
        &self,
        request: &v1::ListMessagesRequest,
        name: &ConversationName,
        plan: &HistoryQuery,
        call: Call,
    ) -> Result<v1::ListMessagesResponse, Failure> {
        read(
            &self.gateway,
            name.key().slot(),
            &plan.wanted,
            &call,
            |_, state| history::page(state, name, plan, self.gateway.moment(name.tenant())),
            |channel, timeout| {
                let request = v1::ListMessagesRequest {
                    read: Some(options(&plan.wanted)),
                    ..request.clone()
                };
                let request = forward_traced(request, Some(timeout), &call);
                async move {
                    let mut client = MessagesClient::new(channel)
                        .max_decoding_message_size(limits::FRAME_BYTES_MAX);
                    Ok(client.list_messages(request).await?.into_inner())
                }
            },
        )
        .await
    }
}

/// What became of the messages of an append; the first refusal when there is one.
fn outcomes(reply: Reply, expected: usize) -> Result<Vec<Outcome>, Failure> {
    match reply.answer {
        Some(Answer::Appended(appended)) if appended.outcomes.len() == expected => {
            match appended
                .outcomes
                .iter()
                .find_map(|outcome| outcome.refusal.clone())
            {
                Some(refusal) => Err(Failure::Refused(refusal)),
                None => Ok(appended.outcomes),
            }
        }
        Some(Answer::Refused(refusal)) => Err(Failure::Refused(refusal)),
        Some(
            Answer::Appended(_)
            | Answer::Created(_)
            | Answer::Changed(_)
            | Answer::Configured(_)
            | Answer::Expired(_)
            | Answer::Meta(_),
        )
        | None => Err(Failure::Internal(
            "the answer to an append is of another kind".into(),
        )),
    }
}

/// Whose reactions are told from others'; nobody's where no user is named.
pub fn reader(reader: &str) -> Option<&[u8]> {
    (!reader.is_empty()).then_some(reader.as_bytes())
}

/// A message of this node's replica, and its revision.
fn message(
    state: &ShardState,
    name: &ConversationName,
    (seq, of): (u64, &str),
    moment: Moment,
) -> Result<Found<v1::GetMessageResponse>, Failure> {
    let wanted = state::Wanted {
        start_seq: seq,
        order: Order::Ascending,
        limit: 1,
        bytes_max: limits::PAGE_BYTES_MAX,
        reader: reader(of),
        changed_after: None,
    };
    let Some(page) = state.page(name, &wanted)? else {
        return Err(Failure::ConversationNotFound(name.to_string()));
    };
    let revision = page.head.revision;
    let found = page.messages.into_iter().next();
    let Some(shown) = found.filter(|shown| shown.stored.seq == seq) else {
        return Err(Failure::MessageNotFound(format!("{name}/messages/{seq}")));
    };
    let message = convert::shown(name, &page.head, shown, moment).map_err(Failure::Corrupt)?;
    let response = v1::GetMessageResponse {
        message: Some(message),
        info: None,
    };
    Ok((response, revision))
}

/// Of the answer to a write.
pub fn info(gateway: &Gateway, name: &ConversationName, revision: u64) -> v1::ResponseInfo {
    v1::ResponseInfo {
        served_by: gateway.served_by().to_owned(),
        session_token: session::Token::of(name.key().slot(), revision).encode(),
        staleness: None,
    }
}

#[cfg(test)]
mod tests {
    use model::command::{Appended, Reason, Refusal};

    use super::*;

    #[test]
    fn an_append_is_answered_by_all_its_outcomes_or_by_its_first_refusal() {
        let reply = |outcomes| Reply::new(Answer::Appended(Appended { outcomes }));
        assert_eq!(
            outcomes(reply(vec![Outcome::default()]), 1)
                .map(|o| o.len())
                .ok(),
            Some(1)
        );
        assert!(matches!(
            outcomes(reply(vec![]), 1),
            Err(Failure::Internal(_))
        ));
        assert!(matches!(
            outcomes(Reply::default(), 1),
            Err(Failure::Internal(_))
        ));
        let refusal = Refusal::new(Reason::ClientMessageIdReused, "no");
        let refused = Outcome {
            refusal: Some(refusal),
            ..Outcome::default()
        };
        assert!(matches!(
            outcomes(reply(vec![refused]), 1),
            Err(Failure::Refused(_))
        ));
        let whole = Reply::refused(Reason::SeqMismatch, "no");
        assert!(matches!(outcomes(whole, 1), Err(Failure::Refused(_))));
    }
}
