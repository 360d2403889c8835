//! The faults of a node that starts.

use std::sync::Arc;

use raft::Node;

use super::control::Parts;
use super::{Control, DiskSwitch, Running};
use crate::World;
use crate::access::Doors;
use crate::config::{Config, Drill};
use crate::events::Told;
use crate::node::RunError;

/// Lets drills put faults on a node, where they may.
///
/// # Errors
/// When [`Drill::listen`] cannot be listened on.
pub fn open(
    world: &World,
    config: &Config,
    raft: &Arc<Node>,
    told: &Told,
    (disk, doors): (DiskSwitch, Arc<Doors>),
) -> Result<Option<Running>, RunError> {
    let Drill {
        allowed,
        listen,
        local,
    } = &config.drill;
    if !allowed {
        return Ok(None);
    }
    // The control has a thread of its own, which may outlive the node for a moment: were it the last to hold the
    // databases, they would be closed while the process ends, and with it what they lock with.
    let reached = Arc::downgrade(raft);
    let control = Control::new(Parts {
        stage: world.stage.clone(),
        disk,
        told: told.clone(),
        view: raft.view(),
        own: raft.identity().node,
        doors,
        reached: Box::new(move |node| reached.upgrade()?.address(node)),
    });
    let opened = world.stage.open(control.clone(), listen);
    let address = opened.map_err(|error| RunError::Listen {
        address: listen.clone(),
        error,
    })?;
    let address = address.map(|bound| Drill::reached(&bound, &config.advertise));
    if !local {
        tracing::warn!(
            listens_at = address,
            "DRILLS ARE ALLOWED HERE: whoever reaches that port can have this node fall silent, slow or \
             stand still, for a minute at a time; set drill.allowed = false where that is not wanted"
        );
    }
    Ok(Some(Running { control, address }))
}
