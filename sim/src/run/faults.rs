//! Does to the cluster what the timeline says.

use super::cluster::{Cluster, Member, Wanted, edge};
use super::verdict::Seen;
use crate::outcome::Mark;
use crate::plan::{Event, Fault};
use crate::trace::What;

impl Cluster {
    /// Injects a fault, or ends one; notes it in the timeline.
    pub(super) fn act(
        &mut self,
        event: &Event,
        last_end: bool,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let note = self.inject(&event.fault)?;
        let text = match note {
            Some(note) => format!("{} ({note})", describe(&event.fault)),
            None => describe(&event.fault),
        };
        tracing::info!(at_ms = event.at_ms, event = text);
        self.field.trace(
            What::Fault,
            [event.at_ms, u64::from(event.line)],
            text.as_bytes(),
        );
        self.tell_operator(!event.fault.ends(), last_end);
        seen.timeline.push(Mark {
            at_ms: self.load_ms(),
            kind: event.fault.kind().to_owned(),
            ends: event.fault.ends(),
            line: event.line,
            text,
        });
        Ok(())
    }

    /// Gives what there is to say about it beyond the fault itself.
    fn inject(&mut self, fault: &Fault) -> Result<Option<String>, String> {
        match fault {
            Fault::Cut { from, to, reset } => self.field.cut(from, to, *reset),
            Fault::Heal { from, to } => {
                self.field.heal(from, to);
            }
            Fault::Reset { from, to } => self.field.reset(from, to),
            Fault::Link { from, to, link } => {
                for from in [from.clone(), edge(from)] {
                    self.field.set_link(&from, to, *link);
                }
                self.field.set_link(from, &edge(to), *link);
            }
            Fault::Stampede { hosts } => hosts.iter().for_each(|site| self.stampede(site)),
            Fault::Drain { hosts, drain } => self.order_drain(hosts, *drain),
            Fault::BitFlip { hosts, part } => {
                let hit = |member: &mut Member| member.host.flip_bit(*part);
                let hits = self.on(hosts, hit)?.into_iter().flatten();
                let hits: Vec<String> = hits.collect();
                return Ok(Some(match hits.is_empty() {
                    true => "nothing there to hit".to_owned(),
                    false => hits.join(", "),
                }));
            }
            fault => self.hosts_one_by_one(fault)?,
        }
        Ok(None)
    }

    /// What is done to one host after the other.
    fn hosts_one_by_one(&mut self, fault: &Fault) -> Result<(), String> {
        for name in fault.hosts() {
            if !self.is_site(name) {
                self.node(name, fault)?;
                continue;
            }
            match fault {
                Fault::Burn { .. } | Fault::PowerCut { .. } => self.field.go_dark(name)?,
                Fault::Crash { .. } | Fault::Kill { .. } => self.field.kill(name)?,
                Fault::Start { .. } => self.field.start(name)?,
                Fault::Pause { .. } => self.field.pause(name, true)?,
                Fault::Resume { .. } => self.field.pause(name, false)?,
                // Clients have no disks, and nothing that follows their clocks.
                _ => {}
            }
        }
        Ok(())
    }

    fn node(&mut self, name: &str, fault: &Fault) -> Result<(), String> {
        match fault {
            Fault::Burn { .. } | Fault::PowerCut { .. } => self.field.go_dark(name)?,
            Fault::Crash { .. } | Fault::Kill { .. } => self.field.kill(name)?,
            Fault::Pause { .. } => self.field.pause(name, true)?,
            Fault::Resume { .. } => self.field.pause(name, false)?,
            Fault::ClockJump { by_ms, .. } => self.field.jump(name, *by_ms)?,
            Fault::ClockDrift { ppm, .. } => self.field.drift(name, *ppm)?,
            _ => {}
        }
        let now = self.field.now_us();
        let running = self.field.runs(name);
        let member = self.member(name)?;
        let host = member.host.clone();
        match fault {
            Fault::Burn { .. }
            | Fault::Crash {
                disks_lost: true, ..
            } => {
                member.wanted = Wanted::Down;
                host.destroy()?;
                self.watch.forget(name);
            }
            Fault::PowerCut { .. } | Fault::Crash { .. } => {
                member.wanted = Wanted::Down;
                host.cut_power()?;
            }
            Fault::Kill { .. } => {
                member.wanted = Wanted::Down;
                host.process_killed();
            }
            Fault::Stop { .. } => {
                member.wanted = Wanted::Down;
                host.ask_to_stop();
            }
            Fault::Start { .. } => {
                member.wanted = Wanted::Up;
                member.start_at_us = now;
            }
            Fault::WipeDisk { .. } | Fault::OldDisk { .. } if running => {
                return Err(format!("{name} runs: its disks can not be replaced"));
            }
            Fault::WipeDisk { .. } => {
                member.outcast = true;
                host.wipe()?;
                self.watch.forget(name);
            }
            Fault::ImageDisk { .. } => host.take_image()?,
            Fault::OldDisk { .. } => {
                member.outcast = true;
                host.put_image_back()?;
                self.watch.cast_out(name);
            }
            Fault::SlowSync { sync_ms, .. } => match sync_ms {
                Some(bounds) => host.slow_syncs(*bounds),
                None => host.usual_syncs(),
            },
            Fault::HangSync { hang, .. } => host.hang_syncs(*hang),
            Fault::FailSync { fail, .. } => host.fail_syncs(*fail),
            Fault::DiskRoom { free_percent, .. } => host.leave_room(*free_percent),
            _ => {}
        }
        Ok(())
    }

    fn member(&mut self, name: &str) -> Result<&mut Member, String> {
        let found = self
            .members
            .iter_mut()
            .find(|member| member.host.name == name);
        found.ok_or_else(|| format!("there is no node {name:?}"))
    }

    fn on<T>(
        &mut self,
        names: &[String],
        act: impl Fn(&mut Member) -> T,
    ) -> Result<Vec<T>, String> {
        names
            .iter()
            .map(|name| Ok(act(self.member(name)?)))
            .collect()
    }
}

/// A fault for people: what happens to whom.
fn describe(fault: &Fault) -> String {
    let all = |names: &[String]| match names {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [first, .., last] if names.len() > 3 => format!("{first} … {last} ({})", names.len()),
        names => names.join(", "),
    };
    let whom = all(fault.hosts());
    match fault {
        Fault::Burn { .. } => format!("{whom} burns"),
        Fault::PowerCut { .. } => format!("{whom} loses power"),
        Fault::Crash { disks_lost, .. } => match disks_lost {
            true => format!("{whom} crashes and loses its disks"),
            false => format!("{whom} crashes"),
        },
        Fault::Kill { .. } => format!("{whom} is killed"),
        Fault::Stop { .. } => format!("{whom} is asked to stop"),
        Fault::Start { .. } => format!("{whom} starts"),
        Fault::Pause { .. } => format!("{whom} stands still"),
        Fault::Resume { .. } => format!("{whom} goes on"),
        Fault::Cut { from, to, reset } => {
            let how = if *reset { "resets" } else { "swallows" };
            format!("the way {} → {} {how} everything", all(from), all(to))
        }
        Fault::Heal { from, to } => format!("the way {} → {} is open", all(from), all(to)),
        Fault::Reset { from, to } => format!("connections {} ↔ {} reset", all(from), all(to)),
        Fault::Link { from, to, link } => match link {
            Some(link) => format!(
                "{from} → {to}: {}–{} ms, {:.1} % lost",
                link.latency_us.0 / 1_000,
                link.latency_us.1 / 1_000,
                f64::from(link.loss_ppm) / 10_000.0
            ),
            None => format!("{from} → {to}: as usual"),
        },
        Fault::SlowSync { sync_ms, .. } => match sync_ms {
            Some((least, most)) => format!("fsync at {whom} takes {least}–{most} ms"),
            None => format!("fsync at {whom} as usual"),
        },
        Fault::HangSync { hang, .. } => match hang {
            true => format!("fsync at {whom} hangs"),
            false => format!("fsync at {whom} goes on"),
        },
        Fault::FailSync { fail, .. } => match fail {
            true => format!("fsync at {whom} fails"),
            false => format!("fsync at {whom} succeeds again"),
        },
        Fault::DiskRoom { free_percent, .. } => match free_percent {
            Some(percent) => format!("{percent} % room left at {whom}"),
            None => format!("room again at {whom}"),
        },
        Fault::BitFlip { part, .. } => format!("a bit flips in the {part:?} of {whom}"),
        Fault::WipeDisk { .. } => format!("empty disks for {whom}"),
        Fault::ImageDisk { .. } => format!("an image of the disks of {whom} is taken"),
        Fault::OldDisk { .. } => format!("old disks come back at {whom}"),
        Fault::ClockJump { by_ms, .. } => {
            format!("the wall clock of {whom} jumps {:+} s", by_ms / 1_000)
        }
        Fault::ClockDrift { ppm, .. } => format!("the clocks of {whom} drift {ppm:+} ppm"),
        Fault::Drain { drain, .. } => match drain {
            true => format!("{whom} is to be drained"),
            false => format!("{whom} is to serve again"),
        },
        Fault::Stampede { .. } => format!("all clients of {whom} come back at once"),
    }
}
