//! Versions of clients: three numbers, compared from the left.

use std::fmt;

/// A version, such as 0.2.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub [u32; 3]);

impl Version {
    /// Reads `1`, `1.2` or `1.2.3`; what follows behind `-` or `+` does not count. None when it is neither.
    pub fn parse(text: &str) -> Option<Version> {
        let numbers = text.split(['-', '+']).next()?;
        let mut version = [0; 3];
        for (at, part) in numbers.split('.').enumerate() {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            *version.get_mut(at)? = digits.then(|| part.parse().ok())??;
        }
        Some(Version(version))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_by_their_numbers() {
        for (text, expect) in [
            ("1", Some([1, 0, 0])),
            ("0.10", Some([0, 10, 0])),
            ("0.10.3", Some([0, 10, 3])),
            ("1.2.3-rc.1+x", Some([1, 2, 3])),
            ("", None),
            ("1.", None),
            ("1.2.3.4", None),
            ("v1", None),
            ("1.+2", None),
            ("99999999999", None),
        ] {
            assert_eq!(Version::parse(text), expect.map(Version), "{text:?}");
        }
        assert!(Version::parse("0.10.0") > Version::parse("0.9.9"));
        assert_eq!(Version([1, 2, 3]).to_string(), "1.2.3");
    }
}
