//! Does to the cluster what the timeline says.

// A fault that nobody injects would silently do nothing.
#![warn(clippy::wildcard_enum_match_arm)]

use super::cluster::{Cluster, Member, Wanted, edge};
use super::verdict::RunEvidence;
use crate::outcome::Mark;
use crate::plan::{Event, Fault};
use crate::trace::What;

impl Cluster {
    /// Injects a fault, or ends one; notes it in the timeline.
    pub(super) fn act(
        &mut self,
        event: &Event,
        last_end: bool,
        seen: &mut RunEvidence,
    ) -> Result<(), String> {
        let note = self.inject(&event.fault)?;
        let text = match note {
            Some(note) => format!("{} ({note})", event.fault),
            None => event.fault.to_string(),
        };
        tracing::info!(at_ms = event.at_ms, event = text);
        self.field.trace(
            What::Fault,
            [event.at_ms, u64::from(event.line)],
            text.as_bytes(),
        );
        self.tell_operator(!event.fault.ends(), last_end);
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        let (one, other) = event.fault.whom();
        seen.timeline.push(Mark {
            at_ms: self.load_ms(),
            kind: event.fault.kind().to_owned(),
            ends: event.fault.ends(),
            line: event.line,
            hosts: event.fault.hosts().to_vec(),
            between: (!other.is_empty()).then(|| (owned(one), owned(other))),
            story: event.label.clone(),
            text,
        });
        Ok(())
    }

    /// Gives what there is to say about it beyond the fault itself.
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "those of single hosts are matched whole where they are injected"
    )]
    fn inject(&mut self, fault: &Fault) -> Result<Option<String>, String> {
        match fault {
            Fault::Cut { from, to, reset } => {
                let (from, to) = (self.with_trainee(from), self.with_trainee(to));
                self.field.cut(&from, &to, *reset);
            }
            Fault::Block { from, to, block } => {
                let (from, to) = (self.with_trainee(from), self.with_trainee(to));
                self.field.block(&from, &to, *block);
            }
            Fault::Heal { from, to } => {
                let (from, to) = (self.with_trainee(from), self.with_trainee(to));
                self.field.heal(&from, &to);
            }
            Fault::Reset { from, to } => {
                let (from, to) = (self.with_trainee(from), self.with_trainee(to));
                self.field.reset(&from, &to);
            }
            Fault::Link { from, to, link } => {
                for from in [from.clone(), edge(from)] {
                    self.field.set_link(&from, to, *link);
                }
                self.field.set_link(from, &edge(to), *link);
            }
            Fault::Stampede { hosts } => hosts.iter().for_each(|site| self.stampede(site)),
            Fault::Drill { hosts, drill } => self.order_drill(hosts, *drill),
            Fault::Drain { hosts, drain } => self.order_drain(hosts, *drain),
            Fault::Remove { hosts } => self.order_removal(hosts),
            Fault::Move { hosts, swap } => self.move_nodes(hosts, *swap),
            Fault::Forge { hosts } => hosts.iter().for_each(|host| self.order_forgery(host)),
            Fault::MoveTo { hosts, back } => self.order_moves(hosts, *back),
            Fault::BitFlip { hosts, part } => {
                let hit = |member: &mut Member| member.host.flip_bit(*part);
                let hits = self.on(hosts, hit)?.into_iter().flatten();
                let hits: Vec<String> = hits.collect();
                return Ok(Some(match hits.is_empty() {
                    true => "nothing there to hit".to_owned(),
                    false => hits.join(", "),
                }));
            }
            Fault::LoseRecord { hosts } => {
                let hit = |member: &mut Member| member.host.lose_record();
                let hits = self.on(hosts, hit)?.into_iter().flatten();
                return Ok(Some(hits.collect::<Vec<_>>().join(", ")));
            }
            Fault::Compact { hosts } => {
                self.on(hosts, |member: &mut Member| member.host.compact())?;
            }
            fault => self.hosts_one_by_one(fault)?,
        }
        Ok(None)
    }

    /// What is done to one host after the other.
    fn hosts_one_by_one(&mut self, fault: &Fault) -> Result<(), String> {
        for name in fault.hosts() {
            let is_site = self.is_site(name);
            self.process(name, is_site, fault)?;
            if !is_site {
                self.node(name, fault)?;
            }
        }
        Ok(())
    }

    /// What is done to the process of a node, or of a client site, and to its clocks.
    fn process(&mut self, name: &str, is_site: bool, fault: &Fault) -> Result<(), String> {
        match fault {
            Fault::Burn { .. } | Fault::PowerCut { .. } => self.field.go_dark(name)?,
            Fault::Crash { .. } | Fault::Kill { .. } => self.field.kill(name)?,
            Fault::Pause { clocks, .. } => self.field.pause(name, *clocks)?,
            Fault::Resume { .. } => self.field.resume(name)?,
            Fault::Starve { starved, .. } => self.field.starve(name, *starved)?,
            Fault::Start { .. } if is_site => self.field.start(name)?,
            Fault::ClockJump { by_ms, .. } if !is_site => self.field.jump(name, *by_ms)?,
            Fault::ClockDrift { ppm, .. } if !is_site => self.field.drift(name, *ppm)?,
            // A node's host sees to these. Clients have no disks, and nothing that follows their clocks.
            Fault::Stop { .. }
            | Fault::Start { .. }
            | Fault::ClockJump { .. }
            | Fault::ClockDrift { .. }
            | Fault::WipeDisk { .. }
            | Fault::ImageDisk { .. }
            | Fault::OldDisk { .. }
            | Fault::SlowSync { .. }
            | Fault::HangSync { .. }
            | Fault::FailSync { .. }
            | Fault::DiskRoom { .. }
            | Fault::SmallDisk { .. } => {}
            Fault::Cut { .. }
            | Fault::Block { .. }
            | Fault::Heal { .. }
            | Fault::Reset { .. }
            | Fault::Link { .. }
            | Fault::Stampede { .. }
            | Fault::Drain { .. }
            | Fault::Drill { .. }
            | Fault::Remove { .. }
            | Fault::Move { .. }
            | Fault::MoveTo { .. }
            | Fault::Forge { .. }
            | Fault::BitFlip { .. }
            | Fault::LoseRecord { .. }
            | Fault::Compact { .. } => {
                return Err(format!("{} is not a fault of one host", fault.kind()));
            }
        }
        Ok(())
    }

    /// What is done to a node's disks, and whether it is to run; its process has been seen to.
    fn node(&mut self, name: &str, fault: &Fault) -> Result<(), String> {
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
            Fault::SmallDisk { left_bytes, .. } => host.leave_bytes(*left_bytes),
            // Nothing more is to be done.
            Fault::Pause { .. }
            | Fault::Resume { .. }
            | Fault::Starve { .. }
            | Fault::ClockJump { .. }
            | Fault::ClockDrift { .. }
            | Fault::Cut { .. }
            | Fault::Block { .. }
            | Fault::Heal { .. }
            | Fault::Reset { .. }
            | Fault::Link { .. }
            | Fault::Stampede { .. }
            | Fault::Drain { .. }
            | Fault::Drill { .. }
            | Fault::Remove { .. }
            | Fault::Move { .. }
            | Fault::MoveTo { .. }
            | Fault::Forge { .. }
            | Fault::BitFlip { .. }
            | Fault::LoseRecord { .. }
            | Fault::Compact { .. } => {}
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
