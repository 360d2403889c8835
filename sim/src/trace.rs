//! The running hash of everything that happens in a run, with a checkpoint for each simulated
//! second. Two runs of a plan are the same run when their hashes are equal; where they are not, the
//! first differing checkpoint names the second.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What happened, as the hash tells it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    /// Bytes or a frame reached a host.
    Delivery = 1,
    /// A connection was opened, refused, reset or closed.
    Connection = 2,
    /// A batch became durable.
    Disk = 3,
    /// A client's call ended.
    Answer = 4,
    /// A fault was injected.
    Fault = 5,
    /// A host started or stopped.
    Host = 6,
}

/// The running hash.
pub struct Trace {
    hash: Xxh3,
    events: u64,
    checkpoints: Vec<u64>,
}

impl Default for Trace {
    fn default() -> Self {
        Trace {
            hash: Xxh3::new(),
            events: 0,
            checkpoints: Vec::new(),
        }
    }
}

impl Trace {
    /// Adds something that happened at `at_us`; `what` says it in two numbers and bytes.
    pub fn add(&mut self, at_us: u64, what: What, numbers: [u64; 2], bytes: &[u8]) {
        self.events += 1;
        let mut line = [0; 33];
        line[0] = what as u8;
        line[1..9].copy_from_slice(&at_us.to_le_bytes());
        line[9..17].copy_from_slice(&numbers[0].to_le_bytes());
        line[17..25].copy_from_slice(&numbers[1].to_le_bytes());
        line[25..33].copy_from_slice(&xxh3_64(bytes).to_le_bytes());
        self.hash.update(&line);
    }

    /// Ends a simulated second.
    pub fn checkpoint(&mut self) {
        self.checkpoints.push(self.hash.digest());
    }

    /// How much was added.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The hash so far, hex.
    pub fn hash(&self) -> String {
        format!("{:016x}", self.hash.digest())
    }

    /// The hash at the end of each second, hex.
    pub fn checkpoints(&self) -> Vec<String> {
        let hex = |hash: &u64| format!("{hash:016x}");
        self.checkpoints.iter().map(hex).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_from_its_second_on() {
        let run = |third: &[u8]| {
            let mut trace = Trace::default();
            for (second, bytes) in [&b"a"[..], b"b", third, b"d"].into_iter().enumerate() {
                trace.add(second as u64, What::Delivery, [1, 2], bytes);
                trace.checkpoint();
            }
            trace
        };
        let (one, same, other) = (run(b"c"), run(b"c"), run(b"x"));
        assert_eq!(one.checkpoints(), same.checkpoints());
        assert_eq!(one.checkpoints()[..2], other.checkpoints()[..2]);
        assert_ne!(one.checkpoints()[2..], other.checkpoints()[2..]);
        assert_ne!(one.hash(), other.hash());
        assert_eq!(one.events(), 4);
    }
}
