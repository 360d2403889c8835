//! Why a scenario file is not taken: every fault of it, each with its line, its key, what was
//! found and what would be right.

use std::fmt;

/// A scenario that cannot be used. [`fmt::Display`] gives one line for each fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The file, as it was named.
    pub file: String,
    /// Everything that is wrong, in the order of the lines.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, 1 being the first; 0 when it is the whole file.
    pub line: usize,
    /// The key's dotted path, as `fault[2].dc`; empty when it is the whole file.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Refused {
    /// With one fault of the file as a whole.
    pub(super) fn whole(file: &str, message: String) -> Refused {
        Refused {
            file: file.to_owned(),
            problems: vec![Problem {
                line: 0,
                key: String::new(),
                message,
            }],
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                writeln!(out)?;
            }
            write!(out, "{}", self.file)?;
            if problem.line > 0 {
                write!(out, ":{}", problem.line)?;
            }
            if !problem.key.is_empty() {
                write!(out, ": {}", problem.key)?;
            }
            write!(out, ": {}", problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}

/// Says that `found` is not `what`, with the nearest of `known` and with all of them.
pub(super) fn unknown<'k>(
    found: &str,
    what: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let meant = nearest(found, &known).map(|near| format!("did you mean \"{near}\"? "));
    let meant = meant.unwrap_or_default();
    if known.is_empty() {
        return format!("\"{found}\" is not {what}; there is none here");
    }
    let known = known.join(", ");
    format!("\"{found}\" is not {what}; {meant}known here: {known}")
}

/// The one of `known` that somebody who wrote `found` most likely meant.
fn nearest<'k>(found: &str, known: &[&'k str]) -> Option<&'k str> {
    let found = found.to_lowercase();
    // A word of which a third is wrong is another word.
    let most = (found.chars().count() / 3).max(1);
    let distances = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&found, name), *name));
    let near = distances.min_by_key(|(distance, _)| *distance);
    near.filter(|(distance, _)| *distance <= most)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_and_nothing_that_is_far() {
        let known = ["seoul", "busan", "tokyo"];
        assert_eq!(nearest("soeul", &known), Some("seoul"));
        assert_eq!(nearest("Busan", &known), Some("busan"));
        assert_eq!(nearest("osaka", &known), None);
        assert_eq!(nearest("", &known), None);
    }
}
