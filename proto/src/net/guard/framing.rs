//! Where messages begin and end in the body of a gRPC request: a byte, a length of four bytes, and the
//! message.

use super::Refused;

const HEAD: usize = 5;

/// How far a body has come.
#[derive(Debug)]
pub(super) struct Framing {
    /// The most that a message may have, bytes.
    max: usize,
    /// Bytes of a head that is not whole.
    head: [u8; HEAD],
    head_has: usize,
    /// Bytes of the message that are still to come, once its head is whole.
    missing: usize,
    /// Bytes of the message that is not whole, with its head.
    unfinished: usize,
}

impl Framing {
    pub(super) fn new(max: usize) -> Framing {
        Framing {
            max,
            head: [0; HEAD],
            head_has: 0,
            missing: 0,
            unfinished: 0,
        }
    }

    /// Bytes of a message that has begun and is not whole.
    pub(super) fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Takes in what comes next.
    ///
    /// # Errors
    /// When a message says that it is too large.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) -> Result<(), Refused> {
        while !bytes.is_empty() {
            if self.head_has < HEAD {
                let (part, rest) = bytes.split_at(bytes.len().min(HEAD - self.head_has));
                for byte in part {
                    self.head[self.head_has] = *byte;
                    self.head_has += 1;
                }
                self.unfinished += part.len();
                bytes = rest;
                if self.head_has == HEAD {
                    let [_, a, b, c, d] = self.head;
                    let has = u32::from_be_bytes([a, b, c, d]) as usize;
                    let max = self.max;
                    if has > max {
                        return Err(Refused::TooLarge { max, has });
                    }
                    self.missing = has;
                }
            } else {
                let here = bytes.len().min(self.missing);
                self.missing -= here;
                self.unfinished += here;
                bytes = &bytes[here..];
            }
            if self.head_has == HEAD && self.missing == 0 {
                (self.head_has, self.unfinished) = (0, 0);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        let whole = [
            &[0, 0, 0, 0, 3, 1, 2, 3][..],
            &[0, 0, 0, 0, 0],
            &[1, 0, 0, 1, 0],
            &[7; 256],
        ]
        .concat();
        for cut in 1..whole.len() {
            let mut framing = Framing::new(256);
            for part in whole.chunks(cut) {
                framing.advance(part).unwrap();
            }
            assert_eq!(framing.unfinished(), 0, "{cut}");
            framing.advance(&[0, 0, 0, 0, 9, 1]).unwrap();
            assert_eq!(framing.unfinished(), 6);
        }
    }

    #[test]
    fn one_that_says_it_is_too_large_is_refused_before_it_comes() {
        let mut framing = Framing::new(256);
        framing.advance(&[0, 0, 0]).unwrap();
        let refused = framing.advance(&[1, 1]).unwrap_err();
        assert_eq!(refused, Refused::TooLarge { max: 256, has: 257 });
    }
}
