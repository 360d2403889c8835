//! What a step of a drill is in the simulator.

use std::collections::BTreeSet;

use server::drill::plan::{Action, Step};

use crate::plan::{Fault, Link, Standstill, Topology};

/// Where steps are taken.
pub(super) struct Place<'a> {
    /// Of the run.
    pub topology: &'a Topology,
    /// Its client sites.
    pub sites: &'a [String],
}

/// What begins something, what ends it, and what of it is otherwise than planned.
#[derive(Default)]
pub(super) struct Acts {
    /// At its begin.
    pub begins: Vec<Fault>,
    /// At its end.
    pub ends: Vec<Fault>,
    /// For people.
    pub otherwise: Vec<String>,
}

impl Place<'_> {
    /// Of a step.
    pub fn acts(&self, step: &Step) -> Acts {
        let hosts = || step.nodes.clone();
        let pair = |begin, end| Acts {
            begins: vec![begin],
            ends: vec![end],
            otherwise: Vec::new(),
        };
        match &step.action {
            Action::Silence => self.lonely(&step.nodes, false),
            Action::Reset => self.lonely(&step.nodes, true),
            Action::Cut {
                peers,
                sends,
                hears,
            } => {
                let others = self.others(&step.nodes, peers);
                cut(
                    &ways(&step.nodes, &others, *sends, *hears)
                        .into_iter()
                        .collect::<Vec<_>>(),
                    false,
                )
            }
            Action::Slow {
                peers,
                delay_ms,
                jitter_ms,
                loss_ppm,
            } => self.slow(&step.nodes, peers, (*delay_ms, *jitter_ms, *loss_ppm)),
            Action::Refuse => {
                let (from, to) = (self.others(&step.nodes, &[]), hosts());
                let block = |block| Fault::Block {
                    from: from.clone(),
                    to: to.clone(),
                    block,
                };
                pair(block(true), block(false))
            }
            Action::SlowSync { sync_ms: Some(ms) } => {
                let slow = |sync_ms| Fault::SlowSync {
                    hosts: hosts(),
                    sync_ms,
                };
                pair(slow(Some((*ms, *ms))), slow(None))
            }
            Action::SlowSync { sync_ms: None } => {
                let hang = |hang| Fault::HangSync {
                    hosts: hosts(),
                    hang,
                };
                pair(hang(true), hang(false))
            }
            Action::FullDisk => {
                let room = |free_percent| Fault::DiskRoom {
                    hosts: hosts(),
                    free_percent,
                };
                pair(room(Some(0)), room(None))
            }
            Action::StandStill | Action::Sigstop => pair(
                Fault::Pause {
                    hosts: hosts(),
                    clocks: Standstill::GoOn,
                },
                Fault::Resume { hosts: hosts() },
            ),
            Action::Sigkill => pair(
                Fault::Kill { hosts: hosts() },
                Fault::Start { hosts: hosts() },
            ),
            Action::Restart => pair(
                Fault::Stop { hosts: hosts() },
                Fault::Start { hosts: hosts() },
            ),
            Action::Drain => {
                let drain = |drain| Fault::Drain {
                    hosts: hosts(),
                    drain,
                };
                pair(drain(true), drain(false))
            }
        }
    }

    /// Each of the nodes by itself: its neighbours do not hear it either.
    fn lonely(&self, nodes: &[String], reset: bool) -> Acts {
        let ways: Vec<_> = nodes
            .iter()
            .flat_map(|node| {
                let alone = [node.clone()];
                let everybody = self.everybody().filter(|one| *one != node);
                let everybody: Vec<String> = everybody.cloned().collect();
                ways(&alone, &everybody, true, true)
            })
            .collect();
        cut(&ways, reset)
    }

    fn everybody(&self) -> impl Iterator<Item = &String> {
        let nodes = self.topology.nodes().map(|(_, node)| &node.name);
        nodes.chain(self.sites)
    }

    /// Those at the other ends: the peers, or all that are not among the nodes.
    fn others(&self, nodes: &[String], peers: &[String]) -> Vec<String> {
        match peers.is_empty() {
            false => peers.to_vec(),
            true => {
                let others = self.everybody().filter(|one| !nodes.contains(one));
                others.cloned().collect()
            }
        }
    }

    /// The simulator's ways lie between data centers, so that all of their nodes are on a slow one.
    fn slow(&self, nodes: &[String], peers: &[String], how: (u64, u64, u32)) -> Acts {
        let to = self.dcs(nodes);
        let others = self.others(nodes, peers);
        let from = self.dcs(&others);
        let mut acts = Acts::default();
        for part in self.parts(nodes, &to) {
            acts.otherwise.push(format!(
                "all ways to {part} are slow, not those of {nodes:?} only"
            ));
        }
        for to in &to {
            for from in from
                .iter()
                .filter(|from| *from != to || to_itself(nodes, &others, self, to))
            {
                let link = |link| Fault::Link {
                    from: from.clone(),
                    to: to.clone(),
                    link,
                };
                acts.begins
                    .push(link(Some(slower(self.usual(from, to), how))));
                acts.ends.push(link(None));
            }
        }
        acts
    }

    /// The data centers of these hosts.
    fn dcs(&self, hosts: &[String]) -> BTreeSet<String> {
        let nodes = self.topology.nodes();
        let among = nodes.filter(|(_, node)| hosts.contains(&node.name));
        among.map(|(dc, _)| dc.name.clone()).collect()
    }

    /// Of these data centers, those of which some nodes are not among the nodes.
    fn parts(&self, nodes: &[String], dcs: &BTreeSet<String>) -> Vec<String> {
        let of = self.topology.dcs.iter();
        let of = of.filter(|dc| dcs.contains(&dc.name));
        let partly = of.filter(|dc| dc.nodes.iter().any(|node| !nodes.contains(&node.name)));
        partly.map(|dc| dc.name.clone()).collect()
    }

    fn usual(&self, from: &str, to: &str) -> Link {
        let links = &self.topology.links;
        let said = links.iter().find(|one| one.from == from && one.to == to);
        match said {
            Some(said) => said.link,
            None if from == to => self.topology.local,
            None => self.topology.wan,
        }
    }
}

/// Whether some of the others are in that very data center, and none of the nodes' own only.
fn to_itself(nodes: &[String], others: &[String], place: &Place<'_>, dc: &str) -> bool {
    let of = place.topology.dcs.iter().find(|one| one.name == dc);
    of.is_some_and(|dc| {
        let mut names = dc.nodes.iter().map(|node| &node.name);
        names.any(|name| others.contains(name) && !nodes.contains(name))
    })
}

fn slower(usual: Link, (delay_ms, jitter_ms, loss_ppm): (u64, u64, u32)) -> Link {
    let (least, most) = usual.latency_us;
    let more_us = delay_ms.saturating_mul(1_000);
    Link {
        latency_us: (least.saturating_add(more_us), most.saturating_add(more_us)),
        jitter_us: usual
            .jitter_us
            .saturating_add(jitter_ms.saturating_mul(1_000)),
        loss_ppm: usual.loss_ppm.saturating_add(loss_ppm).min(900_000),
        bandwidth_bytes: usual.bandwidth_bytes,
    }
}

type WayTo = (Vec<String>, Vec<String>);

fn ways(nodes: &[String], others: &[String], sends: bool, hears: bool) -> Vec<WayTo> {
    let mut ways = Vec::new();
    if sends {
        ways.push((nodes.to_vec(), others.to_vec()));
    }
    if hears {
        ways.push((others.to_vec(), nodes.to_vec()));
    }
    ways
}

fn cut(ways: &[WayTo], reset: bool) -> Acts {
    let cut = |(from, to): &WayTo| Fault::Cut {
        from: from.clone(),
        to: to.clone(),
        reset,
    };
    let heal = |(from, to): &WayTo| Fault::Heal {
        from: from.clone(),
        to: to.clone(),
    };
    Acts {
        begins: ways.iter().map(cut).collect(),
        ends: ways.iter().map(heal).collect(),
        otherwise: Vec::new(),
    }
}
