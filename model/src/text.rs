//! The one rule for texts that end up in logs, tables and terminals: senders, ids, types, attributes,
//! names. Bodies are opaque and have no rule.
//!
//! Refused are control characters (C0, DEL and C1: U+0000 to U+001F and U+007F to U+009F), which steer
//! terminals and break lines, and the characters that override the direction of what follows them
//! (U+202A to U+202E, U+2066 to U+2069), which make a text look like another one.

use std::fmt;

/// A character that no text may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forbidden(pub char);

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.0.is_control() {
            "control characters"
        } else {
            "characters that override the direction of text"
        };
        write!(
            f,
            "must not have {what}; it has U+{:04X}",
            u32::from(self.0)
        )
    }
}

/// Whether a text may not hold this character.
pub fn is_forbidden(one: char) -> bool {
    one.is_control() || matches!(one, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The first character of a text that it may not hold. Costs a look at each byte of plain ASCII.
pub fn forbidden(text: &str) -> Option<Forbidden> {
    if text.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
        return None;
    }
    text.chars().find(|one| is_forbidden(*one)).map(Forbidden)
}

/// Text from strangers must not steer the terminal: control characters are replaced.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|one| match one {
            '\n' => '⏎',
            '\t' => ' ',
            one if is_forbidden(one) => '\u{fffd}',
            one => one,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_steers_a_terminal_is_found_and_what_people_write_is_not() {
        for (text, found) in [
            ("", None),
            ("ann", None),
            ("안녕 👩‍👩‍👧 مرحبا\u{200f}", None),
            ("a\u{a0}b", None),
            ("a\0b", Some('\0')),
            ("a\tb", Some('\t')),
            ("a\u{1b}[31m", Some('\u{1b}')),
            ("a\u{7f}", Some('\u{7f}')),
            ("é\u{80}", Some('\u{80}')),
            ("a\u{9b}31m", Some('\u{9b}')),
            ("a\u{85}b", Some('\u{85}')),
            ("a\u{202e}b", Some('\u{202e}')),
            ("a\u{2066}b", Some('\u{2066}')),
        ] {
            assert_eq!(forbidden(text), found.map(Forbidden), "{text:?}");
        }
    }

    #[test]
    fn the_message_names_the_character() {
        assert_eq!(
            Forbidden('\u{1b}').to_string(),
            "must not have control characters; it has U+001B"
        );
        assert!(Forbidden('\u{202e}').to_string().contains("direction"));
    }

    proptest! {
        #[test]
        fn the_short_way_for_ascii_finds_what_the_long_one_finds(text in ".{0,40}") {
            prop_assert_eq!(
                forbidden(&text).map(|found| found.0),
                text.chars().find(|one| is_forbidden(*one))
            );
        }
    }
}
