//! The operators' calls about drills. They live in the meta shard, so that every node knows them and any
//! node takes them.
//!
//! The messages of the wire have the numbers that the state has: one is read as the other. What only the
//! cluster itself does, and the seed of its key, the wire does not have, and so they do not pass.

use bytes::Bytes;
use model::cluster::ChangeBody;
use model::cluster::access::Role;
use model::cluster::drills::{self, DrillBody, DrillChange, Drills, Seed, State};
use model::command::{Reason, Refusal};
use model::id::NodeId;
use prost::Message as _;
use proto::v1;

use super::admin::Admin;
use crate::deadline::Call;
use crate::drill::check;
use crate::drill::sign::{KEY_BYTES, Key};
use crate::error::Failure;

impl Admin {
    /// The drills as this node knows them.
    pub(super) fn drills(&self) -> Result<v1::GetDrillsResponse, Failure> {
        let view = self.gateway.view();
        Ok(v1::GetDrillsResponse {
            drills: Some(told(view.drills.as_ref())?),
            now_ms: self.local.now_ms(),
            epoch: view.epoch,
            layout_digest: view.layout_digest(),
        })
    }

    pub(crate) async fn change_drill(
        &self,
        request: &v1::ChangeDrillRequest,
        call: &Call,
    ) -> Result<v1::ChangeDrillResponse, Failure> {
        let Some(change) = &request.change else {
            return Err(Failure::field("change", "must be given"));
        };
        if let v1::change_drill_request::Change::Store(store) = change {
            fits(store)?;
        }
        let mut change = read(request)?;
        allowed(&mut change, call)?;
        let changed = self.decide_drill(change, call).await?;
        Ok(v1::ChangeDrillResponse {
            epoch: changed.epoch,
            number: changed.node_id,
        })
    }

    async fn decide_drill(
        &self,
        change: DrillChange,
        call: &Call,
    ) -> Result<model::cluster::Changed, Failure> {
        self.all_know_drills()?;
        self.decide(ChangeBody::Drill(change), call, drill_refused)
            .await
    }

    /// A replica of a version without drills would refuse what the others decide. Once there was a drill,
    /// all of them know.
    fn all_know_drills(&self) -> Result<(), Failure> {
        let view = self.gateway.view();
        if view.drills.is_some() {
            return Ok(());
        }
        let me = self.gateway.raft.identity().node.0;
        let mut others = view.meta_replicas.iter().filter(|id| **id != me);
        match others.find(|id| !self.gateway.raft.knows_drills(NodeId(**id))) {
            Some(id) => {
                let name = view.node(NodeId(*id)).map_or("", |node| &node.name);
                Err(Failure::DrillRefused(format!(
                    "node {name} (n{id}) replicates the meta shard and is of a version without \
                     drills, or has said nothing yet: bring all nodes to one version first"
                )))
            }
            None => Ok(()),
        }
    }

    /// The cluster's key; its seed is drawn when it is first needed.
    pub(super) async fn signing_key(&self, call: &Call) -> Result<Key, Failure> {
        let none = || Failure::Internal("the seed of the signing key has another length".into());
        let held = |drills: &Option<Drills>| {
            let seed = drills.as_ref().map(|all| all.signing_seed.clone());
            seed.filter(|seed| !seed.is_empty())
        };
        if let Some(seed) = held(&self.gateway.view().drills) {
            return Key::of(&seed).ok_or_else(none);
        }
        let mut drawn = [0; drills::SEED_BYTES];
        self.entropy
            .fill(&mut drawn)
            .map_err(|error| Failure::Internal(format!("no random bytes: {error}")))?;
        let body = DrillBody::Seed(Seed {
            seed: Bytes::copy_from_slice(&drawn),
        });
        let change = DrillChange { body: Some(body) };
        let epoch = self.decide_drill(change, call).await?.epoch;
        // Another node may have been first: what counts is what the cluster has now.
        let mut view = self.gateway.raft.view();
        let seen = view.wait_for(|view| view.epoch >= epoch);
        let seen = tokio::time::timeout(call.deadline.remaining(), seen).await;
        let seed = match &seen {
            Ok(Ok(view)) => held(&view.drills),
            Ok(Err(_)) | Err(_) => return Err(Failure::NotReady),
        };
        seed.and_then(|seed| Key::of(&seed)).ok_or_else(none)
    }

    pub(super) async fn sign(
        &self,
        request: &v1::SignDrillRequest,
        call: &Call,
    ) -> Result<v1::SignDrillResponse, Failure> {
        let Ok(digest) = <[u8; KEY_BYTES]>::try_from(&request.digest[..]) else {
            let must = format!("must have {KEY_BYTES} bytes");
            return Err(Failure::field("digest", must));
        };
        let view = self.gateway.view();
        let named = view.drills.as_ref().and_then(|all| all.get(&request.drill));
        let ended = named.is_some_and(|drill| drill.is(State::Ended) && drill.began_ms > 0);
        if !ended {
            return Err(Failure::DrillRefused(format!(
                "{} is no drill that has run and ended",
                request.drill
            )));
        }
        let key = self.signing_key(call).await?;
        Ok(v1::SignDrillResponse {
            signature: key.sign(&digest).into(),
            public_key: key.public().into(),
        })
    }
}

/// What is told of the drills: all but the seed, which the wire does not have.
fn told(drills: Option<&Drills>) -> Result<v1::Drills, Failure> {
    let mut drills = drills.cloned().unwrap_or_default();
    drills.signing_seed = Bytes::new();
    v1::Drills::decode(&drills.encode_to_vec()[..])
        .map_err(|error| Failure::Internal(format!("the drills cannot be told: {error}")))
}

/// Whether the caller has the role that a change needs. Who approves is whose credential it is.
fn allowed(change: &mut DrillChange, call: &Call) -> Result<(), Failure> {
    match &mut change.body {
        Some(DrillBody::Approve(approve) | DrillBody::ApproveStanding(approve)) => {
            call.caller.needs(Role::DrillApprover)?;
            approve.who = call.caller.person(std::mem::take(&mut approve.who));
        }
        _ => call.caller.needs(Role::Operator)?,
    }
    Ok(())
}

fn read(request: &v1::ChangeDrillRequest) -> Result<DrillChange, Failure> {
    DrillChange::decode(&request.encode_to_vec()[..])
        .map_err(|error| Failure::Internal(format!("the change cannot be read: {error}")))
}

/// Whether what is stored is a plan, and the one that it is called.
fn fits(store: &v1::StoreDrill) -> Result<(), Failure> {
    let wrong = |why: String| Failure::field("store.plan", why);
    let plan = check::read(&store.plan).map_err(wrong)?;
    for (field, given, has) in [
        ("store.id", &store.id, &plan.id),
        ("store.scenario", &store.scenario, &plan.scenario),
        ("store.target", &store.target, &plan.target),
    ] {
        if given != has {
            return Err(Failure::field(
                field,
                format!("must be the plan's, {has:?}"),
            ));
        }
    }
    Ok(())
}

/// A change of the drills that the meta shard refuses.
fn drill_refused(refusal: Refusal) -> Failure {
    match refusal.reason() {
        Reason::Invalid | Reason::AlreadyExists => Failure::DrillRefused(refusal.message),
        // Of conversations: the meta shard has none.
        _ => Failure::Refused(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::cluster::drills::{Drill, Lost, Proof, Prove};

    #[test]
    fn all_of_the_drills_is_told_but_for_the_seed() {
        let drills = Drills {
            drills: vec![Drill {
                id: "d".into(),
                state: State::Ended as i32,
                end: drills::End::Broken as i32,
                ended_ms: 7,
                summary: "{}".into(),
                recipe_digest: Bytes::from_static(&[1; 32]),
                ..Drill::default()
            }],
            proofs: vec![Proof {
                promise: "D".into(),
                broken_by: "d".into(),
                ..Proof::default()
            }],
            signing_seed: Bytes::from_static(&[9; 32]),
            controllers: 300,
            ..Drills::default()
        };
        let told = told(Some(&drills)).unwrap();
        let seedless = Drills {
            signing_seed: Bytes::new(),
            ..drills
        };
        assert_eq!(told.encode_to_vec(), seedless.encode_to_vec());
        assert_eq!(told.drills[0].end(), v1::drill::End::Broken);
    }

    #[test]
    fn a_change_of_the_wire_is_the_one_of_the_state_and_what_the_cluster_does_itself_is_none() {
        use v1::change_drill_request::Change;
        let prove = v1::ProvePromise {
            promise: "H".into(),
            held: Some(false),
            by: "verify".into(),
            evidence: "9 replicas".into(),
            limit_ms: Some(0),
        };
        let change = Some(Change::Prove(prove));
        let read_back = read(&v1::ChangeDrillRequest { change }).unwrap();
        let expected = Prove {
            promise: "H".into(),
            held: Some(false),
            by: "verify".into(),
            evidence: "9 replicas".into(),
            limit_ms: Some(0),
        };
        assert_eq!(read_back.body, Some(DrillBody::Prove(expected)));
        for body in [
            DrillBody::Lost(Lost::default()),
            DrillBody::Seed(Seed::default()),
        ] {
            let own = DrillChange { body: Some(body) };
            let foreign = v1::ChangeDrillRequest::decode(&own.encode_to_vec()[..]).unwrap();
            assert_eq!(foreign.change, None);
        }
    }
}
