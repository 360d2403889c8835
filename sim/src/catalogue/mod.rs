//! Scenarios are files: what a run is made of, read from TOML, checked, and drawn with a seed.
//!
//! ```text
//!  sim/scenarios/*.toml ─► reader ─► ScenarioFile ─┬─ seed ─► draw ─► atlas ─► Plan
//!  (or a path)               │                     └─ swarm: faults added and left out
//!                            └─► Refused: file, line, key, what would be right
//! ```
//!
//! The same scenario, seed and version make the same plan. `sim/scenarios/README.md` is the format
//! for those who write scenarios.

mod action;
pub mod atlas;
mod choices;
mod damage;
mod deed;
mod draw;
mod expand;
mod expect;
mod fault;
mod file;
mod links;
mod parse;
mod reader;
mod refused;
mod shipped;
mod stage;
mod swarm;
mod target;
mod topology;
mod trainer;
mod units;
mod values;
mod workload;

use std::path::Path;

pub use file::ScenarioFile;
pub use refused::{Problem, Refused};
pub use shipped::{Shipped, all};
pub use trainer::RightAct;

use crate::plan::{Plan, Tier};

/// The largest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Which layout of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The one that must keep the promises.
    Ours,
    /// The one of `[control]`, which must visibly fail. Of a scenario without one, as [`Self::Ours`].
    Control,
}

/// A scenario by its name among [`all`], or from a path that ends in `.toml`.
///
/// # Errors
/// [`Refused`] with everything that is wrong with it.
pub fn load(name_or_path: &str) -> Result<ScenarioFile, Refused> {
    load_with(name_or_path, &[])
}

/// As [`load`], with other values for the scenario's `[parameters]`: names and values.
///
/// # Errors
/// As [`load`]; also for a parameter that the scenario does not have.
pub fn load_with(
    name_or_path: &str,
    parameters: &[(String, String)],
) -> Result<ScenarioFile, Refused> {
    if Path::new(name_or_path)
        .extension()
        .is_some_and(|end| end == "toml")
    {
        let text = on_disk(name_or_path)?;
        return parse::file(&text, name_or_path, parameters);
    }
    let Some(shipped) = all().iter().find(|shipped| shipped.name == name_or_path) else {
        let names = all().iter().map(|shipped| shipped.name);
        let mut message = refused::unknown(name_or_path, "a scenario", names);
        message.push_str("; or the path of a file that ends in .toml");
        return Err(Refused::whole(name_or_path, message));
    };
    let file = format!("{}.toml", shipped.name);
    parse::file(shipped.text, &file, parameters)
}

/// A scenario from the text of a file; `file` is its name, for messages.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, file: &str) -> Result<ScenarioFile, Refused> {
    parse::file(text, file, &[])
}

fn on_disk(path: &str) -> Result<String, Refused> {
    let unread = |error: std::io::Error| Refused::whole(path, format!("cannot be read: {error}"));
    let size = std::fs::metadata(path).map_err(unread)?.len();
    if size > FILE_BYTES_MAX {
        let message = format!("has {size} bytes; a scenario has at most {FILE_BYTES_MAX}");
        return Err(Refused::whole(path, message));
    }
    std::fs::read_to_string(path).map_err(unread)
}

impl ScenarioFile {
    /// The run of a seed. The same scenario and seed always make the same one.
    pub fn plan(&self, seed: u64, variant: Variant, tier: Tier) -> Plan {
        if self.swarm.always {
            return Plan {
                tier,
                ..swarm(self, seed)
            };
        }
        draw::settled(self, seed, variant, tier)
    }

    /// Whether it has a layout that must visibly fail.
    pub fn has_control(&self) -> bool {
        self.control.is_some()
    }

    /// How long its load lasts, ms.
    pub fn load_ms(&self) -> u64 {
        self.workload.duration_ms
    }
}

/// A plan of `base` with a random subset of its faults, and random ones of its `[swarm]` kinds
/// besides, as far as they leave what is promised.
pub fn swarm(base: &ScenarioFile, seed: u64) -> Plan {
    swarm::plan(base, seed)
}
