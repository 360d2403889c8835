//! The faults that are on, and until when. No clock in it: each call brings the time.

use std::time::Duration;

use proto::v1;
use tokio::time::Instant;

use super::kind::{FAULTS_MAX, Kind};
use super::{Refused, peers};

/// A fault that is on.
#[derive(Clone, Debug)]
pub struct On {
    /// As it was asked for.
    pub fault: v1::Fault,
    /// What it does.
    pub kind: Kind,
    /// With whom; none = with everyone.
    pub peers: Option<peers::Resolved>,
    /// It ends then, unless it is renewed.
    lives: Instant,
    /// It ends then, renewed or not.
    lasts: Option<Instant>,
}

impl On {
    fn ends(&self) -> Instant {
        self.lasts.map_or(self.lives, |lasts| lasts.min(self.lives))
    }
}

/// Faults of one drill.
#[derive(Debug, Default)]
pub struct Set {
    drill: String,
    on: Vec<On>,
}

/// A fault to be put on.
pub type Wanted = (v1::Fault, Kind, Option<peers::Resolved>);

impl Set {
    /// Whose faults are on; empty = none are.
    pub fn drill(&self) -> &str {
        &self.drill
    }

    /// Those that are on.
    pub fn on(&self) -> &[On] {
        &self.on
    }

    /// Puts faults on, or renews those that are on already; gives the new ones. All or none.
    ///
    /// # Errors
    /// [`Refused`] while those of another drill are on, for an id that is another fault, and for too many.
    pub fn start(
        &mut self,
        drill: &str,
        wanted: Vec<Wanted>,
        ttl: Duration,
        now: Instant,
    ) -> Result<Vec<v1::Fault>, Refused> {
        if !self.on.is_empty() && self.drill != drill {
            let other = &self.drill;
            return Err(Refused::Not(format!("faults of drill {other:?} are on")));
        }
        let is_on = |fault: &v1::Fault| self.on.iter().find(|one| one.fault.id == fault.id);
        let mut more = 0;
        for (fault, ..) in &wanted {
            match is_on(fault) {
                None => more += 1,
                Some(one) if one.fault == *fault => {}
                Some(_) => {
                    let id = &fault.id;
                    return Err(Refused::Not(format!(
                        "fault {id:?} is on, and is another one"
                    )));
                }
            }
        }
        if self.on.len() + more > FAULTS_MAX {
            return Err(Refused::Bad(format!(
                "a node has at most {FAULTS_MAX} faults"
            )));
        }
        drill.clone_into(&mut self.drill);
        let mut new = Vec::new();
        for (fault, kind, peers) in wanted {
            let lives = now + ttl;
            if let Some(one) = self.on.iter_mut().find(|one| one.fault.id == fault.id) {
                one.lives = lives;
                continue;
            }
            new.push(fault.clone());
            let lasts = fault.lasts_ms;
            self.on.push(On {
                kind,
                peers,
                lives,
                lasts: (lasts > 0).then(|| now + Duration::from_millis(lasts)),
                fault,
            });
        }
        Ok(new)
    }

    /// Lets faults of a drill live until `ttl` from now; all of it, where no ids are named.
    ///
    /// # Errors
    /// [`Refused::Gone`] naming one that has ended; the others are renewed all the same.
    pub fn renew(
        &mut self,
        drill: &str,
        ids: &[String],
        ttl: Duration,
        now: Instant,
    ) -> Result<(), Refused> {
        let own = self.drill == drill;
        for one in self.on.iter_mut().filter(|_| own) {
            if ids.is_empty() || ids.contains(&one.fault.id) {
                one.lives = now + ttl;
            }
        }
        let is_on = |id: &String| own && self.on.iter().any(|one| one.fault.id == *id);
        match ids.iter().find(|id| !is_on(id)) {
            Some(gone) => Err(Refused::Gone(format!("fault {gone:?} has ended"))),
            None => Ok(()),
        }
    }

    /// Ends faults of a drill, or of whichever is on; those named, or all. Gives them.
    pub fn end(&mut self, drill: &str, ids: &[String]) -> Vec<v1::Fault> {
        if !drill.is_empty() && self.drill != drill {
            return Vec::new();
        }
        self.take(|one| ids.is_empty() || ids.contains(&one.fault.id))
    }

    /// Ends those whose time has come; gives them.
    pub fn expire(&mut self, now: Instant) -> Vec<v1::Fault> {
        self.take(|one| one.ends() <= now)
    }

    /// When the next ends, unless it is renewed.
    pub fn next_end(&self) -> Option<Instant> {
        self.on.iter().map(On::ends).min()
    }

    /// Until when the process stands still; none = it does not.
    pub fn still_until(&self) -> Option<Instant> {
        let still = self.on.iter().filter(|one| one.kind == Kind::StandStill);
        still.map(On::ends).max()
    }

    /// Those that are on, with how long they live unless they are renewed.
    pub fn told(&self, now: Instant) -> Vec<v1::Fault> {
        let left = |one: &On| one.ends().saturating_duration_since(now).as_millis();
        let tell = |one: &On| v1::Fault {
            left_ms: u64::try_from(left(one)).unwrap_or(u64::MAX),
            ..one.fault.clone()
        };
        self.on.iter().map(tell).collect()
    }

    fn take(&mut self, ends: impl Fn(&On) -> bool) -> Vec<v1::Fault> {
        let (gone, on) = std::mem::take(&mut self.on).into_iter().partition(ends);
        self.on = on;
        if self.on.is_empty() {
            self.drill.clear();
        }
        gone.into_iter().map(|one: On| one.fault).collect()
    }
}
