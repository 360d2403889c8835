//! Walks a TOML file and notes every fault with its line and key, so that a file's author sees
//! all of them at once.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::refused::{Problem, unknown};

/// The most of a wrong value that is quoted back, characters.
const QUOTED_MAX: usize = 60;

/// Collects problems.
pub(super) struct Reader<'t> {
    text: &'t str,
    parameters: BTreeMap<String, String>,
    used: BTreeSet<String>,
    problems: Vec<Problem>,
}

/// A table of the file, or the lack of it.
#[derive(Clone)]
pub(super) struct Section<'a> {
    path: String,
    at: Option<usize>,
    table: Option<&'a DeTable<'a>>,
}

/// A value, as far as scenario files have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A text.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// Another number, as it is written.
    Float(String),
    /// true or false.
    Bool(bool),
    /// A list.
    List(Vec<Found>),
    /// A date, or a table.
    Other,
}

impl Found {
    fn of(value: &DeValue<'_>) -> Found {
        match value {
            DeValue::String(text) => Found::Text(text.to_string()),
            DeValue::Integer(number) => {
                let number = i64::from_str_radix(number.as_str(), number.radix());
                number.map_or(Found::Other, Found::Whole)
            }
            DeValue::Float(number) => Found::Float(number.as_str().to_owned()),
            DeValue::Boolean(yes) => Found::Bool(*yes),
            DeValue::Array(items) => {
                let items = items.iter().map(|item| Found::of(item.get_ref()));
                Found::List(items.collect())
            }
            DeValue::Datetime(_) | DeValue::Table(_) => Found::Other,
        }
    }
}

impl<'a> Section<'a> {
    /// The whole file.
    pub fn root(table: &'a DeTable<'a>) -> Section<'a> {
        Section {
            path: String::new(),
            at: None,
            table: Some(table),
        }
    }

    /// Whether the file has it.
    pub fn exists(&self) -> bool {
        self.table.is_some()
    }

    /// Whether it has this key.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Its keys.
    pub fn keys(&self) -> Vec<String> {
        let keys = self.table.into_iter().flatten();
        keys.map(|(key, _)| key.get_ref().to_string()).collect()
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        let mut pairs = self.table?.iter();
        let pair = pairs.find(|(name, _)| name.get_ref() == key);
        pair.map(|(_, value)| value)
    }

    fn path_of(&self, key: &str) -> String {
        match (self.path.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (false, true) => self.path.clone(),
            (false, false) => format!("{}.{key}", self.path),
        }
    }
}

impl<'t> Reader<'t> {
    /// For a file with this text.
    pub fn new(text: &'t str) -> Reader<'t> {
        Reader {
            text,
            parameters: BTreeMap::new(),
            used: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// Whether anything is wrong.
    pub fn failed(&self) -> bool {
        !self.problems.is_empty()
    }

    /// All that is wrong, in the order of the lines.
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems
            .sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
        self.problems
    }

    /// Notes an error of the TOML parser.
    pub fn syntax(&mut self, error: &toml::de::Error) {
        let line = error.span().map_or(0, |span| self.line(span.start));
        let said = error.message().lines().collect::<Vec<_>>().join("; ");
        let found = error.span().and_then(|span| self.text.get(span));
        let found = found
            .map(str::trim)
            .filter(|found| (1..=40).contains(&found.len()));
        let found = found.filter(|found| found.lines().count() == 1);
        let found = found
            .map(|found| format!("; found {found}"))
            .unwrap_or_default();
        self.problems.push(Problem {
            line,
            key: String::new(),
            message: format!("not TOML: {said}{found}"),
        });
    }

    /// Notes a problem with a key, or with the section when the key is empty or missing.
    pub fn add(&mut self, section: &Section<'_>, key: &str, message: impl Into<String>) {
        let value = section.get(key).map(|value| value.span().start);
        let line = value.or(section.at).map_or(0, |at| self.line(at));
        self.problems.push(Problem {
            line,
            key: section.path_of(key),
            message: message.into(),
        });
    }

    /// The line where a section begins; 0 for the whole file.
    pub fn line_of(&self, section: &Section<'_>) -> usize {
        section.at.map_or(0, |at| self.line(at))
    }

    /// Notes a problem of a place that was noted before.
    pub fn add_at(&mut self, line: usize, key: String, message: String) {
        self.problems.push(Problem { line, key, message });
    }

    /// Notes every key that is not one of `keys`.
    pub fn known(&mut self, section: &Section<'_>, keys: &[&str]) {
        for (key, _) in section.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if !keys.contains(&name) {
                let line = self.line(key.span().start);
                let message = unknown(name, "a key", keys.iter().copied());
                let key = section.path_of(name);
                self.problems.push(Problem { line, key, message });
            }
        }
    }

    /// Takes the values that `"$name"` stands for; `set` come from outside and go before.
    pub fn parameters(&mut self, section: &Section<'_>, set: &[(String, String)]) {
        for key in section.keys() {
            if let Some(value) = self.get(section, &key, super::values::text) {
                self.parameters.insert(key, value);
            }
        }
        for (name, value) in set {
            let known: Vec<String> = self.parameters.keys().cloned().collect();
            if let Some(parameter) = self.parameters.get_mut(name) {
                parameter.clone_from(value);
            } else {
                let known = known.iter().map(String::as_str);
                let message = unknown(name, "a parameter of this scenario", known);
                self.add_at(0, String::new(), message);
            }
        }
    }

    /// Notes every parameter that nothing used.
    pub fn unused(&mut self, section: &Section<'_>) {
        for key in section.keys() {
            if !self.used.contains(&key) {
                let message = format!("nothing uses it; write \"${key}\" where it belongs");
                self.add(section, &key, message);
            }
        }
    }

    /// A table of `section`; an empty one when there is none.
    pub fn section<'a>(&mut self, section: &Section<'a>, key: &str) -> Section<'a> {
        let value = section.get(key);
        let table = value.and_then(|value| value.get_ref().as_table());
        let path = section.path_of(key);
        if value.is_some() && table.is_none() {
            self.add(section, key, format!("must be a section: [{path}]"));
        }
        Section {
            at: value.map(|value| value.span().start).or(section.at),
            table,
            path,
        }
    }

    /// The tables of `[[key]]`.
    pub fn sections<'a>(&mut self, section: &Section<'a>, key: &str) -> Vec<Section<'a>> {
        let Some(value) = section.get(key) else {
            return Vec::new();
        };
        let path = section.path_of(key);
        let items = value.get_ref().as_array().into_iter();
        let items: Vec<_> = items.flat_map(|items| items.iter()).collect();
        let tables = items.iter().enumerate().map(|(at, item)| Section {
            path: format!("{path}[{at}]"),
            at: Some(item.span().start),
            table: item.get_ref().as_table(),
        });
        let tables: Vec<Section<'a>> = tables.collect();
        if value.get_ref().as_array().is_none() || tables.iter().any(|table| !table.exists()) {
            self.add(section, key, format!("must be sections: [[{path}]]"));
            return Vec::new();
        }
        tables
    }

    /// A value, read by `parse`; its error says what the value must be.
    pub fn get<T>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        parse: impl FnOnce(&Found) -> Result<T, String>,
    ) -> Option<T> {
        let value = section.get(key)?;
        let mut found = Found::of(value.get_ref());
        let mut written = self.written(value);
        if let Found::Text(text) = &found
            && let Some(name) = text.strip_prefix('$')
        {
            let Some(stands) = self.parameters.get(name) else {
                let known = self.parameters.keys().map(String::as_str);
                let message = unknown(name, "in [parameters]", known);
                self.add(section, key, message);
                return None;
            };
            self.used.insert(name.to_owned());
            written = format!("{written} = \"{stands}\"");
            found = Found::Text(stands.clone());
        }
        match parse(&found) {
            Ok(value) => Some(value),
            Err(must) => {
                // A wrong word is in the message already.
                let message = match must.starts_with('"') {
                    true => must,
                    false => format!("{must}; found {written}"),
                };
                self.add(section, key, message);
                None
            }
        }
    }

    /// As [`Reader::get`]; the lack of it is a problem.
    pub fn need<T>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        parse: impl Fn(&Found) -> Result<T, String>,
    ) -> Option<T> {
        if section.exists()
            && !section.has(key)
            && let Err(must) = parse(&Found::Other)
        {
            self.add(section, key, format!("is missing; it {must}"));
        }
        self.get(section, key, parse)
    }

    fn written(&self, value: &Spanned<DeValue<'_>>) -> String {
        let written = self.text.get(value.span()).unwrap_or("that");
        let mut line: String = written.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.chars().count() > QUOTED_MAX {
            line = line.chars().take(QUOTED_MAX).chain(['…']).collect();
        }
        line
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().iter().take(at);
        1 + before.filter(|byte| **byte == b'\n').count()
    }
}
