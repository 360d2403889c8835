//! How connections begin: listening, and the three ways of a handshake. Both ways must be open.

use std::io::{self, ErrorKind};
use std::task::{Context, Poll, Waker};

use super::conn::{Conn, End, Side, Stage};
use super::time::Due;
use super::{Fabric, HostId, HostState, Listener, Way, backoff_us};
use crate::trace::What;

impl Fabric {
    /// A host's node is at this address from now on.
    pub(in crate::net) fn settle(&mut self, host: HostId, name: &str, port: u16) {
        self.hosts[host].at = Some((name.to_owned(), port));
    }

    /// Who is at an address, and the port there. A node that has moved is not where it was, for other
    /// nodes; clients, which listen to nobody, know it by a name that goes along.
    fn resolve(&self, from: HostId, name: &str, port: u16) -> Option<(HostId, u16)> {
        let is_there = |(there, at): (&str, u16)| there == name && at == port;
        let mut hosts = (0..).zip(&self.hosts);
        let moved = |host: &HostState| host.at.as_ref().is_some_and(|(at, p)| is_there((at, *p)));
        if let Some((id, _)) = hosts.find(|(_, host)| moved(host)) {
            return Some((id, port));
        }
        let id = *self.by_name.get(name)?;
        match &self.hosts[id].at {
            Some((_, now)) if self.hosts[from].listeners.is_empty() => Some((id, *now)),
            _ => Some((id, port)),
        }
    }

    /// The host of a node's address.
    pub(in crate::net) fn whose(&self, from: HostId, name: &str, port: u16) -> Option<HostId> {
        self.resolve(from, name, port).map(|(host, _)| host)
    }

    /// Begins to open a connection.
    ///
    /// # Errors
    /// When there is no such host.
    pub(in crate::net) fn connect(&mut self, from: HostId, to: &str, port: u16) -> io::Result<End> {
        let (to, port) = self.resolve(from, to, port).ok_or_else(|| {
            io::Error::new(ErrorKind::NotFound, format!("there is no host {to:?}"))
        })?;
        self.conn_last += 1;
        let conn = self.conn_last;
        let sides = [
            Side::new(from, Stage::Opening),
            Side::new(to, Stage::Opening),
        ];
        self.conns.insert(conn, Conn { sides, port });
        let end = End { conn, side: 0 };
        let due = self.arrival_us(from, to, 0);
        self.at(due, Due::Syn { end, attempt: 0 });
        Ok(end)
    }

    pub(in crate::net) fn poll_connected(
        &mut self,
        end: End,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(side) = self.side(end) else {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        };
        if let Some(kind) = side.error {
            return Poll::Ready(Err(kind.into()));
        }
        if side.stage == Stage::Open {
            return Poll::Ready(Ok(()));
        }
        side.reader = Some(context.waker().clone());
        Poll::Pending
    }

    pub(in crate::net) fn listen(&mut self, host: HostId, port: u16) -> io::Result<()> {
        let listeners = &mut self.hosts[host].listeners;
        if listeners.contains_key(&port) {
            return Err(ErrorKind::AddrInUse.into());
        }
        listeners.insert(port, Listener::default());
        Ok(())
    }

    pub(in crate::net) fn unlisten(&mut self, host: HostId, port: u16) {
        let listener = self.hosts[host].listeners.remove(&port);
        for end in listener.into_iter().flat_map(|listener| listener.waiting) {
            self.close(end);
        }
    }

    pub(in crate::net) fn poll_accept(
        &mut self,
        host: HostId,
        port: u16,
        context: &mut Context<'_>,
    ) -> Poll<Option<End>> {
        let Some(listener) = self.hosts[host].listeners.get_mut(&port) else {
            return Poll::Ready(None);
        };
        if let Some(end) = listener.waiting.pop_front() {
            return Poll::Ready(Some(end));
        }
        listener.waker = Some(context.waker().clone());
        Poll::Pending
    }

    pub(super) fn syn(&mut self, end: End, attempt: u32) {
        let Some((from, to)) = self.sides(end) else {
            return;
        };
        let way = match self.blocked.contains(&(from, to)) {
            true => Way::Silent,
            false => self.way(from, to),
        };
        match way {
            Way::Silent => {
                let again = self.now_us + 5 * backoff_us(attempt);
                let attempt = attempt + 1;
                return self.at(again, Due::Syn { end, attempt });
            }
            Way::Reset => return self.fail(end, ErrorKind::ConnectionRefused),
            Way::Open => {}
        }
        let port = self.conns[&end.conn].port;
        let Some(listener) = self.hosts[to].listeners.get_mut(&port) else {
            if let Some(side) = self.side(end.other()) {
                side.stage = Stage::Gone;
            }
            return self.answer_reset(end, ErrorKind::ConnectionRefused);
        };
        listener.waiting.push_back(end.other());
        let waker = listener.waker.take();
        waker.into_iter().for_each(Waker::wake);
        if let Some(side) = self.side(end.other()) {
            side.stage = Stage::Open;
        }
        let due = self.arrival_us(to, from, 0);
        self.at(due, Due::SynAck { end, attempt: 0 });
    }

    pub(super) fn syn_ack(&mut self, end: End, attempt: u32) {
        let Some((from, to)) = self.sides(end) else {
            return;
        };
        match self.way(to, from) {
            Way::Silent => {
                let again = self.now_us + 5 * backoff_us(attempt);
                let attempt = attempt + 1;
                return self.at(again, Due::SynAck { end, attempt });
            }
            Way::Reset => return self.fail(end, ErrorKind::ConnectionReset),
            Way::Open => {}
        }
        let now = self.now_us;
        let pair = [from as u64, to as u64];
        self.trace.add(now, What::Connection, pair, b"open");
        match self.side(end) {
            Some(side) if side.stage == Stage::Opening => {
                side.stage = Stage::Open;
                side.wake();
            }
            // The caller has given up, or its host has ended.
            _ => self.answer_reset(end.other(), ErrorKind::ConnectionReset),
        }
    }
}
