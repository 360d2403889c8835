//! Times as KakaoTalk writes them, read from the beginning of a line.

/// A day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    year: i64,
    month: u8,
    day: u8,
}

/// What stands at the beginning of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// It, and where the rest begins, bytes.
    Here(T, usize),
    /// Something of its form that is none, such as the 13th month.
    Wrong,
    /// Something else.
    Nothing,
}

impl Day {
    /// Unix milliseconds of its beginning and so much more, by a clock of UTC; none where there is no such day.
    pub fn ms(self, of_day_ms: i64) -> Option<i64> {
        let (month, day) = (self.month, self.day);
        let start = prost_types::Timestamp::date(self.year, month, day).ok()?;
        Some(start.seconds * 1_000 + of_day_ms)
    }
}

/// What is left of a line.
struct Rest<'l> {
    line: &'l str,
    at: usize,
}

impl<'l> Rest<'l> {
    fn new(line: &'l str) -> Rest<'l> {
        Rest { line, at: 0 }
    }

    fn left(&self) -> &'l str {
        &self.line[self.at..]
    }

    /// Passes over blanks, those that do not break among them.
    fn blanks(&mut self) -> &mut Self {
        let blank = |c: char| matches!(c, ' ' | '\t' | '\u{a0}' | '\u{202f}');
        let left = self.left();
        self.at += left.len() - left.trim_start_matches(blank).len();
        self
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let begins = self.left().get(..word.len())?.eq_ignore_ascii_case(word);
        self.at += if begins { word.len() } else { 0 };
        begins.then_some(())
    }

    fn number(&mut self, digits_max: usize) -> Option<u32> {
        let digits = self.left().bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > digits_max {
            return None;
        }
        let number = self.left()[..digits].parse().ok()?;
        self.at += digits;
        Some(number)
    }

    /// `2022년 10월 14일`, `2022. 10. 14.`, `October 14, 2022`.
    fn day(&mut self) -> Option<(u32, u32, u32)> {
        let start = self.at;
        let found = self.korean_day();
        if found.is_some() {
            return found;
        }
        self.at = start;
        self.english_day()
    }

    fn korean_day(&mut self) -> Option<(u32, u32, u32)> {
        let year = self.number(4)?;
        let ends = match self.left().starts_with('년') {
            true => ["년", "월", "일"],
            false => [".", ".", "."],
        };
        self.word(ends[0])?;
        let month = self.blanks().number(2)?;
        self.word(ends[1])?;
        let day = self.blanks().number(2)?;
        self.word(ends[2])?;
        Some((year, month, day))
    }

    fn english_day(&mut self) -> Option<(u32, u32, u32)> {
        const MONTHS: [&str; 12] = [
            "january",
            "february",
            "march",
            "april",
            "may",
            "june",
            "july",
            "august",
            "september",
            "october",
            "november",
            "december",
        ];
        let letters = self
            .left()
            .bytes()
            .take_while(u8::is_ascii_alphabetic)
            .count();
        let name = self.left()[..letters].to_ascii_lowercase();
        let names = |month: &&str| *month == name || (letters >= 3 && month.starts_with(&name));
        let month = MONTHS.iter().position(names)?;
        self.at += letters;
        let _ = self.word(".");
        let day = self.blanks().number(2)?;
        let _ = self.word(",");
        let year = self.blanks().number(4)?;
        Some((year, u32::try_from(month).ok()? + 1, day))
    }

    /// `오후 2:01`, `2:01 PM`, `14:01`, perhaps with seconds.
    fn time(&mut self) -> Option<(u32, u32, u32, Option<bool>)> {
        let mut is_pm = self.half(&["오전"], &["오후"]);
        self.blanks();
        let hour = self.number(2)?;
        self.word(":")?;
        let minute = self.number(2)?;
        let start = self.at;
        let second = self.word(":").and_then(|()| self.number(2));
        if second.is_none() {
            self.at = start;
        }
        if is_pm.is_none() {
            let start = self.at;
            self.blanks();
            is_pm = self.half(&["am", "a.m."], &["pm", "p.m."]);
            if is_pm.is_none() {
                self.at = start;
            }
        }
        Some((hour, minute, second.unwrap_or(0), is_pm))
    }

    fn half(&mut self, am: &[&str], pm: &[&str]) -> Option<bool> {
        if am.iter().any(|word| self.word(word).is_some()) {
            return Some(false);
        }
        pm.iter()
            .any(|word| self.word(word).is_some())
            .then_some(true)
    }
}

fn day_of((year, month, day): (u32, u32, u32)) -> Option<Day> {
    let day = Day {
        year: i64::from(year),
        month: u8::try_from(month).ok()?,
        day: u8::try_from(day).ok()?,
    };
    day.ms(0).map(|_| day)
}

fn of_day_ms((hour, minute, second, is_pm): (u32, u32, u32, Option<bool>)) -> Option<i64> {
    let hour = match is_pm {
        Some(is_pm) if (1..=12).contains(&hour) => hour % 12 + 12 * u32::from(is_pm),
        Some(_) => return None,
        None => hour,
    };
    let fits = hour < 24 && minute < 60 && second < 60;
    fits.then(|| i64::from(hour * 3_600 + minute * 60 + second) * 1_000)
}

/// A day at the beginning of a line, the name of its weekday before or behind it.
pub fn day(line: &str) -> Found<Day> {
    let mut rest = Rest::new(line);
    if let Some((word, behind)) = line.split_once(", ")
        && word.to_ascii_lowercase().ends_with("day")
        && !word.contains(' ')
    {
        rest.at = line.len() - behind.len();
    }
    let Some(given) = rest.day() else {
        return Found::Nothing;
    };
    let Some(day) = day_of(given) else {
        return Found::Wrong;
    };
    let start = rest.at;
    rest.blanks();
    let left = rest.left();
    let mut chars = left.chars();
    match (chars.next(), chars.as_str().starts_with("요일")) {
        (Some(c), true) => rest.at += c.len_utf8() + "요일".len(),
        _ => rest.at = start,
    }
    Found::Here(day, rest.at)
}

/// A day and a time at the beginning of a line: milliseconds, as the clock showed it.
pub fn moment(line: &str) -> Found<i64> {
    let mut rest = Rest::new(line);
    let Some(given) = rest.day() else {
        return Found::Nothing;
    };
    let _ = rest.word(",");
    let _ = rest.blanks().word("at");
    let Some(time) = rest.blanks().time() else {
        return Found::Nothing;
    };
    let ms = day_of(given).and_then(|day| day.ms(of_day_ms(time)?));
    ms.map_or(Found::Wrong, |ms| Found::Here(ms, rest.at))
}

/// A time alone: milliseconds since the day began.
pub fn time(text: &str) -> Option<i64> {
    let mut rest = Rest::new(text.trim());
    let time = rest.time()?;
    of_day_ms(time).filter(|_| rest.left().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expect: &str) {
        let Found::Here(ms, at) = moment(line) else {
            panic!("{line}: {:?}", moment(line))
        };
        let time = prost_types::Timestamp {
            seconds: ms / 1_000,
            nanos: 0,
        };
        assert_eq!((time.to_string().as_str(), &line[at..]), (expect, ", x"));
    }

    #[test]
    fn moments_are_read_in_korean_and_in_english() {
        check("2022년 10월 14일 오후 2:01, x", "2022-10-14T14:01:00Z");
        check("2022년 1월 4일 오전 12:05, x", "2022-01-04T00:05:00Z");
        check("2022년 1월 4일 14:05, x", "2022-01-04T14:05:00Z");
        check("2022. 10. 14. 오후 12:01, x", "2022-10-14T12:01:00Z");
        check("2022. 10. 14. 23:59, x", "2022-10-14T23:59:00Z");
        check("2022. 10. 14. 오후 2:01:09, x", "2022-10-14T14:01:09Z");
        check("October 14, 2022 at 2:01 PM, x", "2022-10-14T14:01:00Z");
        check("October 14, 2022, 2:01 PM, x", "2022-10-14T14:01:00Z");
        check(
            "Oct 14, 2022 at 2:01\u{202f}p.m., x",
            "2022-10-14T14:01:00Z",
        );
        check("Sept. 1, 2022 14:01, x", "2022-09-01T14:01:00Z");
        check("May 1, 2022 at 9:00 am, x", "2022-05-01T09:00:00Z");
    }

    #[test]
    fn what_is_no_moment_is_told_from_what_only_looks_like_one() {
        assert_eq!(moment("2022년 13월 14일 오후 2:01, x"), Found::Wrong);
        assert_eq!(moment("2022년 2월 30일 오후 2:01, x"), Found::Wrong);
        assert_eq!(moment("2022년 2월 3일 오후 14:01, x"), Found::Wrong);
        for line in [
            "",
            "hello",
            "2022",
            "Ma 1, 2022 at 1:00",
            "2022년 10월 14일",
            "ㅋㅋ",
        ] {
            assert_eq!(moment(line), Found::Nothing, "{line}");
        }
    }

    #[test]
    fn days_are_read_with_their_weekdays() {
        for line in [
            "2022년 10월 14일 금요일",
            "2022. 10. 14. 금요일",
            "Friday, October 14, 2022",
            "October 14, 2022",
        ] {
            let Found::Here(day, at) = day(line) else {
                panic!("{line}")
            };
            assert_eq!(
                (day.ms(0), at),
                (Some(1_665_705_600_000), line.len()),
                "{line}"
            );
        }
    }

    #[test]
    fn times_alone_are_read_whole_or_not() {
        assert_eq!(time("오후 2:01"), Some(50_460_000));
        assert_eq!(time("2:01 PM"), Some(50_460_000));
        assert_eq!(time("14:01"), Some(50_460_000));
        assert_eq!(time("14:01 x"), None);
        assert_eq!(time("25:01"), None);
    }
}
