//! Ranges of seeds as the command line has them.

use std::fmt;
use std::str::FromStr;

/// Seeds from `from` up to `to`, which is not one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seeds {
    /// The first.
    pub from: u64,
    /// Behind the last.
    pub to: u64,
}

impl Seeds {
    /// All of them, in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = u64> + Send {
        self.from..self.to
    }

    /// How many, where that was said: `A..` is as many as there is time for.
    pub(crate) fn bounded(self) -> Option<u64> {
        (self.to != u64::MAX).then(|| self.count())
    }

    /// How many.
    pub(crate) fn count(self) -> u64 {
        self.to - self.from
    }
}

impl FromStr for Seeds {
    type Err = String;

    /// `A..B` is A up to B without B, `A..=B` is with B, `A` is one seed, `A..` goes on for ever.
    fn from_str(text: &str) -> Result<Seeds, String> {
        let number = |text: &str| {
            let seed = text.trim().parse::<u64>();
            seed.map_err(|_| format!("{text:?} is not a seed; one is 0 to {}", u64::MAX))
        };
        let behind = |last: u64| last.checked_add(1).ok_or("the last seed is too large");
        let (from, to) = match text.split_once("..") {
            None => (number(text)?, behind(number(text)?)?),
            Some((from, to)) => match to.strip_prefix('=') {
                Some(last) => (number(from)?, behind(number(last)?)?),
                None if to.is_empty() => (number(from)?, u64::MAX),
                None => (number(from)?, number(to)?),
            },
        };
        if from >= to {
            return Err(format!(
                "{text} has no seeds in it; A..B goes from A up to B, without B"
            ));
        }
        Ok(Seeds { from, to })
    }
}

impl fmt::Display for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to {
            u64::MAX => write!(f, "{}..", self.from),
            to => write!(f, "{}..{to}", self.from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<(u64, u64), &str>) {
        match (text.parse::<Seeds>(), expect) {
            (Ok(seeds), Ok((from, to))) => assert_eq!(seeds, Seeds { from, to }, "{text}"),
            (Err(why), Err(part)) => assert!(why.contains(part), "{text}: {why}"),
            (found, expect) => panic!("{text}: {found:?}, not {expect:?}"),
        }
    }

    #[test]
    fn ranges_end_before_their_end_unless_they_say_otherwise() {
        check("3..7", Ok((3, 7)));
        check("3..=7", Ok((3, 8)));
        check("3", Ok((3, 4)));
        check("3..", Ok((3, u64::MAX)));
        check("0..18446744073709551615", Ok((0, u64::MAX)));
    }

    #[test]
    fn what_holds_no_seed_is_refused() {
        check("9..1", Err("no seeds"));
        check("4..4", Err("no seeds"));
        check("9..=1", Err("no seeds"));
        check("..4", Err("not a seed"));
        check("a..4", Err("not a seed"));
        check("-1..4", Err("not a seed"));
        check("0..=18446744073709551615", Err("too large"));
        check("", Err("not a seed"));
        check("..", Err("not a seed"));
    }

    #[test]
    fn a_range_is_written_as_it_is_read() {
        for text in ["3..7", "3.."] {
            assert_eq!(text.parse::<Seeds>().unwrap().to_string(), text);
        }
    }
}
