//! Known bugs behind a switch, so that the simulator can prove that it would see them.
//!
//! A mutant is one `mutant!("name")` at the decision that it changes. Without the feature
//! `mutants` that is the constant `false` and nothing of it is compiled; with it, the one mutant
//! that the process was started for says `true`. A name that is not listed here does not compile.
//!
//! ```text
//!   firebreak-sim mutants ─► activate("ack-before-fsync") ─► mutant!("ack-before-fsync") == true
//!                                  once in a process             at its sites, all others false
//! ```

#[cfg(feature = "mutants")]
use std::sync::atomic::{AtomicUsize, Ordering};

use thiserror::Error;

mod catalogue;

pub use catalogue::ALL;

/// A known bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// What [`mutant!`](crate::mutant) and the command line call it.
    pub name: &'static str,
    /// What is wrong.
    pub bug: &'static str,
    /// The letter of the promise that it breaks.
    pub promise: char,
    /// The simulator's oracles that are to catch it: first the one that states the promise, then
    /// those that say the same in other words. No other counts.
    pub oracles: &'static [&'static str],
    /// Scenarios in which it shows, the likeliest first.
    pub scenarios: &'static [&'static str],
    /// What must happen for anybody to see it.
    pub hint: &'static str,
    /// At how many places the sources ask for it.
    pub sites: usize,
    /// Why it cannot be switched on yet; it has no site then.
    pub pending: Option<&'static str>,
}

/// Why a mutant was not switched on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// There is none of this name.
    #[error("{name:?} is no mutant; known: {}", names())]
    Unknown {
        /// As it was asked for.
        name: String,
    },
    /// What it would change does not exist yet.
    #[error("{name} is pending: {why}")]
    Pending {
        /// Its name.
        name: &'static str,
        /// What is missing.
        why: &'static str,
    },
    /// This build has none.
    #[error("this build has no mutants: build with the feature `mutants`")]
    NotBuilt,
    /// A process has one mutant at most.
    #[error("this process runs another mutant: {0}")]
    Another(&'static str),
}

/// The names of those that can be switched on.
fn names() -> String {
    let ready = ALL.iter().filter(|mutant| mutant.pending.is_none());
    ready
        .map(|mutant| mutant.name)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Whether the mutant of this name, a literal, is switched on.
#[macro_export]
macro_rules! mutant {
    ($name:literal) => {
        $crate::mutants::active(const { $crate::mutants::number($name) })
    };
}

/// Where a name stands in [`ALL`]. For [`mutant!`](crate::mutant), when compiling.
///
/// # Panics
/// When it is not there, or is pending.
pub const fn number(name: &str) -> usize {
    let mut at = 0;
    while at < ALL.len() {
        if equal(ALL[at].name.as_bytes(), name.as_bytes()) {
            assert!(ALL[at].pending.is_none(), "a pending mutant has no site");
            return at;
        }
        at += 1;
    }
    panic!("no mutant of this name is in the catalogue")
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// The number of the mutant of this process.
#[cfg(feature = "mutants")]
static ACTIVE: AtomicUsize = AtomicUsize::new(NONE);
#[cfg(feature = "mutants")]
const NONE: usize = usize::MAX;

/// Whether the mutant of this [`number`] is switched on.
#[cfg(feature = "mutants")]
#[inline]
pub fn active(number: usize) -> bool {
    ACTIVE.load(Ordering::Relaxed) == number
}

/// Whether the mutant of this [`number`] is switched on: never, in this build.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn active(_: usize) -> bool {
    false
}

/// Whether this build has mutants to switch on.
pub const fn are_built() -> bool {
    cfg!(feature = "mutants")
}

/// The mutant of this name.
///
/// # Errors
/// [`Refused::Unknown`].
pub fn named(name: &str) -> Result<&'static Mutant, Refused> {
    let found = ALL.iter().find(|mutant| mutant.name == name);
    found.ok_or_else(|| Refused::Unknown {
        name: name.to_owned(),
    })
}

/// Switches the mutant of this name on, for the rest of the process.
///
/// # Errors
/// [`Refused`]; none is switched on that was not before.
pub fn activate(name: &str) -> Result<(), Refused> {
    let mutant = named(name)?;
    match mutant.pending {
        Some(why) => Err(Refused::Pending {
            name: mutant.name,
            why,
        }),
        None => switch_on(mutant),
    }
}

#[cfg(feature = "mutants")]
fn switch_on(mutant: &Mutant) -> Result<(), Refused> {
    let new = number(mutant.name);
    match ACTIVE.compare_exchange(NONE, new, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => Ok(()),
        Err(before) if before == new => Ok(()),
        Err(before) => Err(Refused::Another(
            ALL.get(before).map_or("", |mutant| mutant.name),
        )),
    }
}

#[cfg(not(feature = "mutants"))]
fn switch_on(_: &Mutant) -> Result<(), Refused> {
    Err(Refused::NotBuilt)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::{Path, PathBuf};

    use super::*;

    /// Where sites may be.
    const CRATES: [&str; 6] = ["model", "store", "raft", "server", "client", "sim"];

    fn sources(under: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(under).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                found.push(path);
            }
        }
    }

    /// The files in which each name is asked for, once for each time.
    fn sites() -> BTreeMap<String, Vec<PathBuf>> {
        let root = Path::new("..");
        let mut files = Vec::new();
        for name in CRATES {
            sources(&root.join(name).join("src"), &mut files);
        }
        files.retain(|path| !path.ends_with("model/src/mutants.rs"));
        let mut sites = BTreeMap::<String, Vec<PathBuf>>::new();
        for path in files {
            let text = std::fs::read_to_string(&path).unwrap();
            for after in text.split("mutant!(\"").skip(1) {
                let name = after.split('"').next().unwrap();
                sites.entry(name.to_owned()).or_default().push(path.clone());
            }
        }
        sites
    }

    #[test]
    fn every_mutant_is_asked_for_at_as_many_places_as_it_says_and_no_other_is() {
        let mut sites = sites();
        for mutant in ALL {
            let found = sites.remove(mutant.name).unwrap_or_default();
            assert_eq!(found.len(), mutant.sites, "{}: {found:?}", mutant.name);
            assert_eq!(mutant.pending.is_none(), mutant.sites > 0, "{mutant:?}");
        }
        assert!(sites.is_empty(), "not in the catalogue: {sites:?}");
    }

    #[test]
    fn the_catalogue_is_complete_and_names_each_once() {
        let ready = ALL.iter().filter(|mutant| mutant.pending.is_none());
        assert!(ready.count() >= 20);
        let names: BTreeSet<&str> = ALL.iter().map(|mutant| mutant.name).collect();
        assert_eq!(names.len(), ALL.len());
        for mutant in ALL {
            let plain = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(mutant.name.chars().all(plain), "{}", mutant.name);
            assert!("DOELSUHGPA".contains(mutant.promise), "{}", mutant.name);
            assert!(!mutant.scenarios.is_empty(), "{}", mutant.name);
            assert!(!mutant.bug.is_empty(), "{}", mutant.name);
            assert!(!mutant.hint.is_empty(), "{}", mutant.name);
            // Which oracles there are the simulator knows; its tests look there.
            assert!(!mutant.oracles.is_empty(), "{}", mutant.name);
        }
    }

    #[test]
    fn what_cannot_be_switched_on_is_refused_with_the_reason() {
        let unknown = activate("ack-before-breakfast").unwrap_err().to_string();
        assert!(unknown.contains("ack-before-fsync"), "{unknown}");
        let pending = ALL.iter().find(|mutant| mutant.pending.is_some()).unwrap();
        let refused = activate(pending.name).unwrap_err();
        assert!(matches!(refused, Refused::Pending { .. }), "{refused}");
        assert!(!unknown.contains(pending.name), "{unknown}");
    }

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn without_the_feature_no_mutant_is_ever_on() {
        assert_eq!(activate("ack-before-fsync"), Err(Refused::NotBuilt));
        const { assert!(!crate::mutant!("ack-before-fsync")) };
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_process_has_one_mutant_and_keeps_it() {
        assert!(!crate::mutant!("page-boundary-skips-one"));
        assert_eq!(activate("page-boundary-skips-one"), Ok(()));
        assert_eq!(activate("page-boundary-skips-one"), Ok(()));
        assert!(crate::mutant!("page-boundary-skips-one"));
        assert!(!crate::mutant!("ack-before-fsync"));
        assert_eq!(
            activate("ack-before-fsync"),
            Err(Refused::Another("page-boundary-skips-one"))
        );
    }
}
