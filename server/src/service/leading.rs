//! The operators' calls about who leads: policies and drains. Both live in the meta shard, so that
//! every node knows them and any node takes them.

use model::cluster::{ChangeBody, Policy, SetDraining, SetPolicy, Survive};
use proto::v1;

use super::admin::Admin;
use crate::deadline::Call;
use crate::error::Failure;

/// What a policy may ask to survive, as the wire has it.
const SURVIVE: [(&str, Survive); 2] = [("dc", Survive::Dc), ("region", Survive::Region)];

impl Admin {
    /// The policies as this node knows them.
    pub(super) fn policies(&self) -> v1::GetPoliciesResponse {
        let view = self.gateway.view();
        let policies = view.policies.clone().unwrap_or_default();
        let own = policies.shards.into_iter().map(|own| v1::ShardPolicy {
            shard: own.shard,
            policy: own.policy.map(to_wire),
        });
        v1::GetPoliciesResponse {
            default: policies.default.map(to_wire),
            shards: own.collect(),
            map_epoch: view.epoch,
        }
    }

    pub(super) async fn set_policy(
        &self,
        request: v1::SetPolicyRequest,
        call: Call,
    ) -> Result<v1::SetPolicyResponse, Failure> {
        let change = ChangeBody::Policy(SetPolicy {
            shard: request.shard,
            policy: request.policy.map(from_wire).transpose()?,
        });
        let map_epoch = self.change(change, &call).await?;
        Ok(v1::SetPolicyResponse { map_epoch })
    }

    pub(super) async fn set_draining(
        &self,
        request: v1::SetDrainingRequest,
        call: Call,
    ) -> Result<v1::SetDrainingResponse, Failure> {
        if request.node.is_empty() == request.dc.is_empty() {
            return Err(Failure::field("node", "must be given, or dc; not both"));
        }
        let change = ChangeBody::Draining(SetDraining {
            node: request.node,
            dc: request.dc,
            draining: request.draining,
        });
        let map_epoch = self.change(change, &call).await?;
        Ok(v1::SetDrainingResponse { map_epoch })
    }
}

fn to_wire(policy: Policy) -> v1::Policy {
    let is = |(_, survive): &&(&str, Survive)| *survive as i32 == policy.survive;
    let survive = SURVIVE.iter().find(is).map_or("", |(name, _)| name);
    v1::Policy {
        survive: survive.to_owned(),
        prefer: policy.prefer,
        replicas: policy.replicas,
    }
}

fn from_wire(policy: v1::Policy) -> Result<Policy, Failure> {
    let wanted = match policy.survive.as_str() {
        "" => "dc",
        named => named,
    };
    let survive = SURVIVE.iter().find(|(name, _)| *name == wanted);
    let (_, survive) =
        survive.ok_or_else(|| Failure::field("policy.survive", "must be dc or region"))?;
    Ok(Policy {
        prefer: policy.prefer,
        replicas: policy.replicas,
        survive: *survive as i32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_the_same_on_both_sides_of_the_wire_and_surviving_a_data_center_is_the_default() {
        for survive in ["dc", "region"] {
            let policy = v1::Policy {
                prefer: vec!["seoul".into(), "busan".into()],
                replicas: 5,
                survive: survive.into(),
            };
            assert_eq!(to_wire(from_wire(policy.clone()).unwrap()), policy);
        }
        let plain = from_wire(v1::Policy::default()).unwrap();
        assert_eq!(plain, Policy::default());
        let planet = v1::Policy {
            survive: "planet".into(),
            ..v1::Policy::default()
        };
        assert!(matches!(from_wire(planet), Err(Failure::Invalid(_))));
    }
}
