//! What is ordered of the operator, the sites and the nodes while a run goes on.

use client::Drain;

use super::{Cluster, Member};
use crate::plan;
use crate::run::driller::Drill;
use crate::run::forger::Forgery;
use crate::run::operator::Order;

impl Cluster {
    /// Drops every client connection of a site at once.
    pub(crate) fn stampede(&self, site: &str) {
        if let Some(stampede) = self.stampedes.get(site) {
            stampede.send_modify(|count| *count += 1);
        }
    }

    /// Something begins that operators would look into, or the last fault ends.
    pub(crate) fn tell_operator(&self, begins: bool, last_end: bool) {
        self.told.happened(self.field.now_us(), begins, last_end);
    }

    /// Gives nodes other addresses, from their next start on.
    pub(crate) fn move_nodes(&self, names: &[String], swap: bool) {
        let named = |name: &String| {
            let mut members = self.members.iter();
            members.find(|member| member.host.name == *name)
        };
        let moving: Vec<&Member> = names.iter().filter_map(named).collect();
        let addresses: Vec<String> = match swap {
            true => moving.iter().map(|member| member.host.address()).collect(),
            false => moving
                .iter()
                .map(|member| member.host.fresh_address())
                .collect(),
        };
        let shift = usize::from(swap);
        let addresses = addresses.iter().cycle().skip(shift);
        for (member, address) in moving.iter().zip(addresses) {
            member.host.move_to(address.clone());
        }
        let firsts = self
            .plan
            .topology
            .dcs
            .iter()
            .filter_map(|dc| dc.nodes.first());
        let firsts = firsts.filter_map(|node| named(&node.name));
        let peers: Vec<String> = firsts.map(|member| member.host.address()).collect();
        for member in moving {
            member.host.ask(&peers);
        }
    }

    /// Has the operator drain nodes, or take them back: a whole data center as such.
    pub(crate) fn order_drain(&self, hosts: &[String], drain: bool) {
        let whole = self.plan.topology.dcs.iter().find(|dc| {
            let nodes = dc.nodes.iter();
            nodes.clone().count() == hosts.len() && nodes.clone().all(|n| hosts.contains(&n.name))
        });
        let whom = match whole {
            Some(dc) => vec![Drain::Dc(dc.name.clone())],
            None => hosts.iter().cloned().map(Drain::Node).collect(),
        };
        for one in whom {
            self.told.order(Order::Drain(one, drain));
        }
    }

    /// Has a controller begin a drill, or end the one that goes on.
    pub(crate) fn order_drill(&self, hosts: &[String], drill: Option<plan::Drill>) {
        self.told.order_drill(drill.map(|drill| Drill {
            hosts: hosts.to_vec(),
            ttl_ms: drill.ttl_ms,
            renews_ms: drill.renews_ms,
        }));
    }

    /// Has the operator remove nodes, which run on until they hear of it.
    pub(crate) fn order_removal(&mut self, hosts: &[String]) {
        for member in &mut self.members {
            if hosts.contains(&member.host.name) {
                member.outcast = true;
                member.removed = true;
                self.told.order(Order::Remove(member.host.name.clone()));
            }
        }
    }

    /// Has somebody tell a node of a term out of nowhere, in the name of another member.
    pub(crate) fn order_forgery(&self, host: &str) {
        let runs = |member: &&Member| !member.outcast && self.field.runs(&member.host.name);
        let others = self.members.iter().filter(runs);
        let mut others = others.filter(|member| member.host.name != host);
        let peer = others.find_map(|member| self.watch.identity(&member.host.name));
        let victim = self.members.iter().find(|one| one.host.name == host);
        let victim = victim.zip(self.watch.identity(host));
        if let Some((peer, (victim, record))) = peer.zip(victim) {
            self.told.forge(Forgery {
                victim: victim.host.address(),
                node: record.node,
                peer,
                shards: self.plan.topology.shards.max(1),
            });
        }
    }

    /// Has the operator send a replica to each of these nodes, or take that back.
    pub(crate) fn order_moves(&self, hosts: &[String], back: bool) {
        for to in hosts.iter().cloned() {
            self.told.order(Order::Move { to, back });
        }
    }
}
