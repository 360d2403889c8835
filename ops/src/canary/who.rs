//! What a canary's name tells of it: `seoul-send-1`, `busan-python-kept-2`, `node-any-3`.

/// What a canary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who<'a> {
    /// The data center that it is in; empty where it is in none.
    pub dc: &'a str,
    /// send, stream, read-linearizable, read-session, read-bounded, read-local, tail, kept, any.
    pub kind: &'a str,
    /// rust, python, node.
    pub language: &'static str,
}

/// Kinds of the Rust client's.
const RUST: [&str; 7] = [
    "send",
    "stream",
    "read-linearizable",
    "read-session",
    "read-bounded",
    "read-local",
    "tail",
];
/// A plain client that is told one node, which the plan leaves alone.
pub const KEPT: &str = "kept";
/// A plain client that is told one node of each data center.
pub const ANY: &str = "any";

impl<'a> Who<'a> {
    /// Of a name. One that is none of a canary's is all kind.
    pub fn of(name: &'a str) -> Who<'a> {
        let plain = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let plain = plain.strip_suffix('-').unwrap_or(name);
        let before = |rest: &'a str, end: &str| match rest.strip_suffix(end) {
            Some("") => Some(""),
            Some(dc) => dc.strip_suffix('-'),
            None => None,
        };
        for language in ["python", "node"] {
            for kind in [KEPT, ANY] {
                if let Some(dc) = before(plain, &format!("{language}-{kind}")) {
                    return Who { dc, kind, language };
                }
            }
        }
        for kind in RUST {
            if let Some(dc) = before(plain, kind) {
                return Who {
                    dc,
                    kind,
                    language: "rust",
                };
            }
        }
        Who {
            dc: "",
            kind: name,
            language: "rust",
        }
    }

    /// Whether it sends.
    pub fn sends(&self) -> bool {
        self.is_judged() || self.kind == ANY
    }

    /// Whether goals and caps on waits are about it. A plain client that is told one node of each data
    /// center finds out by itself that its gateway is gone, and how long that takes is its library's.
    pub fn is_judged(&self) -> bool {
        matches!(self.kind, "send" | "stream" | KEPT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_tells_its_data_center_its_kind_and_its_language() {
        for (name, dc, kind, language, judged) in [
            ("seoul-send-1", "seoul", "send", "rust", true),
            ("eu-west-1-stream-3", "eu-west-1", "stream", "rust", true),
            (
                "a-read-linearizable",
                "a",
                "read-linearizable",
                "rust",
                false,
            ),
            ("tokyo-tail", "tokyo", "tail", "rust", false),
            ("node-1-python-kept-2", "node-1", "kept", "python", true),
            ("python-send-1", "python", "send", "rust", true),
            ("node-any-3", "", "any", "node", false),
            ("somebody", "", "somebody", "rust", false),
        ] {
            let who = Who::of(name);
            assert_eq!((who.dc, who.kind), (dc, kind), "{name}");
            assert_eq!(
                (who.language, who.is_judged()),
                (language, judged),
                "{name}"
            );
        }
        assert!(Who::of("node-any-3").sends() && !Who::of("a-tail").sends());
    }
}
