//! Changes that the meta shard decides.

use bytes::Bytes;
use model::cluster::access::Role;
use model::cluster::audit::Actor;
use model::cluster::drills::{DrillBody, DrillChange};
use model::cluster::{Change, ChangeBody, Changed, Move, MoveStep};
use model::command::{Answer, Command, Reason, Refusal};
use model::id::ShardId;
use prost::Message as _;
use proto::v1;

use super::Admin;
use crate::access::{self, book};
use crate::deadline::Call;
use crate::error::Failure;
use crate::gateway::Target;

/// A change that the meta shard refuses.
pub(super) fn change_refused(refusal: Refusal) -> Failure {
    match refusal.reason() == Reason::Invalid {
        true => Failure::ChangeRefused(refusal.message),
        false => Failure::Refused(refusal),
    }
}

impl Admin {
    /// Has the meta shard decide a change; its epoch.
    pub(crate) async fn change(&self, body: ChangeBody, call: &Call) -> Result<u64, Failure> {
        Ok(self.decide(body, call, change_refused).await?.epoch)
    }

    /// Has the meta shard decide a change; what it refuses is for `refused` to word.
    pub(crate) async fn decide(
        &self,
        body: ChangeBody,
        call: &Call,
        refused: impl FnOnce(Refusal) -> Failure,
    ) -> Result<Changed, Failure> {
        let command = Command::meta(Change {
            actor: self.actor(&body, call),
            body: Some(body),
        });
        let command = Bytes::from(command.encode_to_vec());
        let target = Target::Shard(ShardId::META);
        let gateway = self.gateway.clone();
        let reply = gateway.propose(target, command, call.deadline).await?;
        match reply.answer {
            Some(Answer::Meta(changed)) => Ok(changed),
            Some(Answer::Refused(refusal)) => Err(refused(refusal)),
            Some(
                Answer::Appended(_)
                | Answer::Created(_)
                | Answer::Changed(_)
                | Answer::Configured(_)
                | Answer::Expired(_),
            )
            | None => Err(Failure::Internal(
                "the answer to a change is of another kind".into(),
            )),
        }
    }

    /// Who asks for a change, for the audit; none while a replica of the meta shard may be of a version that
    /// would not note it.
    fn actor(&self, body: &ChangeBody, call: &Call) -> Option<Actor> {
        if !book::all_know(&self.gateway) {
            return None;
        }
        let approves = |change: &DrillChange| {
            let approval = |body: &DrillBody| {
                matches!(body, DrillBody::Approve(_) | DrillBody::ApproveStanding(_))
            };
            change.body.as_ref().is_some_and(approval)
        };
        let role = match body {
            ChangeBody::Drill(change) if approves(change) => Role::DrillApprover,
            _ => Role::Operator,
        };
        Some(access::actor(&call.caller, role))
    }

    /// A replica of a version without keys and issuers would refuse what the others decide.
    pub(crate) fn all_know_access(&self) -> Result<(), Failure> {
        let Some(id) = book::unknowing(&self.gateway) else {
            return Ok(());
        };
        let view = self.gateway.view();
        let name = view.node(id).map_or("", |node| &node.name);
        Err(Failure::ChangeRefused(format!(
            "node {name} ({id}) replicates the meta shard and is of a version without keys and issuers, or \
             has said nothing yet: bring all nodes to one version first"
        )))
    }

    /// The move that a request names.
    pub(super) fn move_step(&self, request: &v1::MoveReplicaRequest) -> Result<MoveStep, Failure> {
        let view = self.gateway.view();
        let going = view.move_of(ShardId(request.shard));
        let named = |going: &&Move| (going.from, going.to) == (request.from, request.to);
        let v1::MoveReplicaRequest {
            shard, from, to, ..
        } = request;
        let step = going.filter(named).map(Move::step);
        step.ok_or_else(|| {
            Failure::ChangeRefused(format!(
                "no replica of s{shard} is on its way from n{from} to n{to}"
            ))
        })
    }
}
