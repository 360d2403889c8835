//! Loopback ports that stay one node's while its cluster lives, however often it is killed.
//!
//! They are taken below the kernel's range for outgoing connections: inside it, somebody who
//! dials a node that is down can be given the node's own port, connect to himself and keep the
//! node from ever listening there again.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt as _;

/// First port tried.
const FIRST: u16 = 20_000;
/// One past the last port tried; Linux hands out 32,768 and up by itself.
const END: u16 = 32_000;

/// A port that no other harness on this machine uses until this is dropped.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    _lock: File,
}

impl PortLease {
    /// Takes a port that nobody listens on at `host`, an address of the loopback.
    ///
    /// # Errors
    /// When the lock files cannot be made, or every port is taken.
    pub fn take(host: Ipv4Addr) -> io::Result<PortLease> {
        let start: u16 = rand::random();
        let span = END - FIRST;
        for step in 0..span {
            let port = FIRST + (start % span + step) % span;
            if let Some(lease) = PortLease::of(host, port)? {
                return Ok(lease);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("no free port in {FIRST}–{}", END - 1),
        ))
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn of(host: Ipv4Addr, port: u16) -> io::Result<Option<PortLease>> {
        // Each user has a folder of his own: in another's he could make no file.
        let user = fs::metadata("/proc/self")?.uid();
        let directory = std::env::temp_dir().join(format!("firebreak-ports-{user}"));
        fs::create_dir_all(&directory)?;
        let lock = File::create(directory.join(port.to_string()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        if TcpListener::bind((host, port)).is_err() {
            return Ok(None);
        }
        Ok(Some(PortLease { port, _lock: lock }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_leased_once_until_it_is_given_back() {
        let lease = PortLease::take(Ipv4Addr::LOCALHOST).unwrap();
        assert!(
            PortLease::of(Ipv4Addr::LOCALHOST, lease.port())
                .unwrap()
                .is_none()
        );
        let port = lease.port();
        drop(lease);
        assert!(PortLease::of(Ipv4Addr::LOCALHOST, port).unwrap().is_some());
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_leased() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(
            PortLease::of(Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port())
                .unwrap()
                .is_none()
        );
    }
}
