//! Which call a piece of work belongs to, as W3C Trace Context names it (<https://www.w3.org/TR/trace-context/>).

/// A span of a trace that is recorded; one that is not has none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Of all spans of one call; not 0.
    pub trace: u128,
    /// Of this one; not 0.
    pub span: u64,
}

/// Bytes of a [`Context`] between nodes.
pub const CONTEXT_BYTES: usize = 24;

impl Context {
    /// Reads a `traceparent`; `None` where its caller does not record it, or it cannot be read.
    pub fn parse(header: &str) -> Option<Context> {
        let mut parts = header.split('-');
        let (version, trace) = (parts.next()?, parts.next()?);
        let (span, flags) = (parts.next()?, parts.next()?);
        // Version 0 has nothing behind the flags; later ones may have.
        let lengths = version.len() == 2 && trace.len() == 32 && span.len() == 16;
        if !lengths || flags.len() != 2 || version == "ff" {
            return None;
        }
        if version == "00" && parts.next().is_some() {
            return None;
        }
        let hex = |text: &str| {
            let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            text.bytes().all(digits)
        };
        if ![version, trace, span, flags].into_iter().all(hex) {
            return None;
        }
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        let context = Context {
            trace: u128::from_str_radix(trace, 16).ok()?,
            span: u64::from_str_radix(span, 16).ok()?,
        };
        (sampled && context.trace != 0 && context.span != 0).then_some(context)
    }

    /// As a `traceparent`.
    pub fn header(self) -> String {
        format!("00-{:032x}-{:016x}-01", self.trace, self.span)
    }

    /// A span below this one. Its number follows from where it was made, so that no chance is needed:
    /// `node`, and what tells it from other children there.
    #[must_use]
    pub fn child(self, node: u64, what: u64) -> Context {
        let seed = self.span ^ mixed(node.wrapping_add(1)) ^ mixed(mixed(what.wrapping_add(1)));
        Context {
            span: mixed(seed).max(1),
            ..self
        }
    }

    /// A trace that begins here, from two random numbers.
    pub fn root(random: [u64; 2]) -> Context {
        let [high, low] = random;
        Context {
            trace: (u128::from(high) << 64 | u128::from(low)).max(1),
            span: mixed(high ^ low).max(1),
        }
    }

    /// As nodes tell each other.
    pub fn to_bytes(self) -> [u8; CONTEXT_BYTES] {
        let mut bytes = [0; CONTEXT_BYTES];
        bytes[..16].copy_from_slice(&self.trace.to_be_bytes());
        bytes[16..].copy_from_slice(&self.span.to_be_bytes());
        bytes
    }

    /// What a node told; `None` where it is not a context.
    pub fn from_bytes(bytes: &[u8]) -> Option<Context> {
        let (trace, span) = bytes.split_first_chunk::<16>()?;
        let context = Context {
            trace: u128::from_be_bytes(*trace),
            span: u64::from_be_bytes(span.try_into().ok()?),
        };
        (context.trace != 0 && context.span != 0).then_some(context)
    }
}

/// The finalizer of splitmix64.
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_is_read_and_written_alike_and_nonsense_is_not_read() {
        let context = Context::parse(GIVEN).expect("the example of the specification");
        assert_eq!(context.header(), GIVEN);
        assert_eq!(Context::from_bytes(&context.to_bytes()), Some(context));
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert_eq!(Context::parse(later), Some(context));
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
        ] {
            assert_eq!(Context::parse(wrong), None, "{wrong:?}");
        }
        for wrong in [&[][..], &[1; 23], &[1; 25], &[0; 24]] {
            assert_eq!(Context::from_bytes(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn children_of_one_span_are_told_apart_by_where_and_what() {
        let parent = Context::root([7, 9]);
        let mut spans: Vec<u64> = (0..9_u64)
            .flat_map(|node| (0..9_u64).map(move |what| parent.child(node, what).span))
            .collect();
        spans.push(parent.span);
        spans.sort_unstable();
        spans.dedup();
        assert_eq!(spans.len(), 82);
        assert_eq!(parent.child(1, 2), parent.child(1, 2));
        assert_eq!(parent.child(1, 2).trace, parent.trace);
    }
}
