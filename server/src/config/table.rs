//! Reads values out of TOML tables and notes every problem with its line.

use std::fmt::Display;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problem;

/// Collects problems.
pub struct Reader<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

/// A table of the file, or the lack of it.
pub struct Section<'a> {
    path: String,
    line_at: Option<usize>,
    table: Option<&'a DeTable<'a>>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub fn root(table: &'a DeTable<'a>) -> Section<'a> {
        Section {
            path: String::new(),
            line_at: None,
            table: Some(table),
        }
    }

    /// Whether it has this key.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Its keys, in their order.
    pub fn keys(&self) -> Vec<&'a str> {
        let keys = self.table.into_iter().flatten();
        keys.map(|(key, _)| key.get_ref().as_ref()).collect()
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?
            .iter()
            .find(|(k, _)| k.get_ref() == key)
            .map(|(_, value)| value)
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

impl<'t> Reader<'t> {
    /// For a file with this text.
    pub fn new(text: &'t str) -> Reader<'t> {
        Reader {
            text,
            problems: Vec::new(),
        }
    }

    /// Whether anything is wrong.
    pub fn failed(&self) -> bool {
        !self.problems.is_empty()
    }

    /// All that is wrong, in the order of the lines.
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line);
        self.problems
    }

    /// Notes an error of the parser.
    pub fn syntax(&mut self, error: &toml::de::Error) {
        let line = error.span().map_or(0, |span| self.line(span.start));
        let message = format!("not TOML: {}", error.message());
        self.problems.push(Problem {
            line,
            key: String::new(),
            message,
        });
    }

    /// Notes a problem with a key.
    pub fn add(&mut self, section: &Section<'_>, key: &str, message: impl Display) {
        let at = section
            .get(key)
            .map(|value| value.span().start)
            .or(section.line_at);
        let line = at.map_or(0, |at| self.line(at));
        let key = section.path_of(key);
        self.problems.push(Problem {
            line,
            key,
            message: message.to_string(),
        });
    }

    /// Notes an error, unless the key is missing, which has been noted.
    pub fn verify<E: Display>(&mut self, section: &Section<'_>, key: &str, result: Result<(), E>) {
        if let Err(error) = result
            && (section.has(key) || key == "advertise")
            && !self.noted(&section.path_of(key))
        {
            self.add(section, key, error);
        }
    }

    /// Notes every key that is not one of `keys`.
    pub fn known(&mut self, section: &Section<'_>, keys: &[&str]) {
        for (key, _) in section.table.into_iter().flatten() {
            if !keys.contains(&key.get_ref().as_ref()) {
                let line = self.line(key.span().start);
                let message = format!("is not a key; known here: {}", keys.join(", "));
                let key = section.path_of(key.get_ref());
                self.problems.push(Problem { line, key, message });
            }
        }
    }

    /// A table of `section`; an empty one when there is none.
    pub fn section<'a>(&mut self, section: &Section<'a>, key: &str) -> Section<'a> {
        let value = section.get(key);
        let table = value.and_then(|value| value.get_ref().as_table());
        let path = section.path_of(key);
        if value.is_some() && table.is_none() {
            self.add(section, key, format_args!("must be a section: [{path}]"));
        }
        Section {
            path,
            line_at: value.map(|value| value.span().start),
            table,
        }
    }

    /// A text; required when there is no default.
    pub fn string(&mut self, section: &Section<'_>, key: &str, default: Option<&str>) -> String {
        match section.get(key).map(Spanned::get_ref) {
            Some(DeValue::String(text)) => return text.to_string(),
            Some(other) => {
                let kind = other.type_str();
                self.add(
                    section,
                    key,
                    format_args!("must be a text in quotes; it is of type {kind}"),
                );
            }
            None if default.is_none() => self.add(section, key, "is required"),
            None => {}
        }
        default.unwrap_or_default().to_owned()
    }

    /// true or false.
    pub fn boolean(&mut self, section: &Section<'_>, key: &str, default: bool) -> bool {
        match section.get(key).map(Spanned::get_ref) {
            Some(DeValue::Boolean(value)) => *value,
            Some(other) => {
                let kind = other.type_str();
                let wrong = format_args!("must be true or false; it is of type {kind}");
                self.add(section, key, wrong);
                default
            }
            None => default,
        }
    }

    /// A list of texts, empty when missing.
    pub fn strings(&mut self, section: &Section<'_>, key: &str, max: usize) -> Vec<String> {
        let Some(value) = section.get(key) else {
            return Vec::new();
        };
        let texts = value.get_ref().as_array().map(|array| {
            array
                .iter()
                .map(|item| item.get_ref().as_str().map(str::to_owned))
                .collect()
        });
        let Some(Some(texts)): Option<Option<Vec<String>>> = texts else {
            self.add(section, key, "must be a list of texts: [\"…\", \"…\"]");
            return Vec::new();
        };
        if texts.len() > max {
            let has = texts.len();
            self.add(
                section,
                key,
                format_args!("must have at most {max} entries; it has {has}"),
            );
        }
        texts
    }

    /// A whole number within bounds.
    pub fn number(
        &mut self,
        section: &Section<'_>,
        key: &str,
        default: u64,
        bounds: RangeInclusive<u64>,
        unit: &str,
    ) -> u64 {
        let Some(value) = section.get(key) else {
            return default;
        };
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
        if let Some(number) = number.filter(|number| bounds.contains(number)) {
            return number;
        }
        let written = self.text.get(value.span()).unwrap_or("that");
        let (min, max) = (bounds.start(), bounds.end());
        let message = format!("must be a whole number of {unit}, {min} to {max}; it is {written}");
        self.add(section, key, message);
        default
    }

    fn noted(&self, path: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == path)
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().iter().take(at);
        1 + before.filter(|byte| **byte == b'\n').count()
    }
}
