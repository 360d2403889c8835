//! The pages that are looked at, cut into prose, code between backticks, and fenced blocks.

use std::path::{Path, PathBuf};

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Whether what is stale is to be rewritten instead of told.
pub fn rewriting() -> bool {
    std::env::var_os("README_WRITE").is_some()
}

/// A page: its path below the checkout, and its text.
pub struct Page {
    pub path: String,
    pub text: String,
}

/// A fenced block: its language, and its lines.
pub struct Block<'t> {
    pub language: &'t str,
    pub lines: Vec<&'t str>,
}

/// The pages at the top, all of docs/, and those beside what they speak of.
pub fn all() -> Vec<Page> {
    let mut paths = vec![
        "README.md".to_owned(),
        "ARCHITECTURE.md".to_owned(),
        "CONTRIBUTING.md".to_owned(),
        "examples/README.md".to_owned(),
        "sim/scenarios/README.md".to_owned(),
        "proto/proto/firebreak/v1/errors.md".to_owned(),
        "ops/data/README.md".to_owned(),
    ];
    below("docs", &mut paths);
    assert!(
        paths.len() > 15,
        "the pages of docs/ are not found: {paths:?}"
    );
    let page = |path: String| {
        let text = std::fs::read_to_string(root().join(&path));
        let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
        Page { path, text }
    };
    paths.into_iter().map(page).collect()
}

fn below(folder: &str, paths: &mut Vec<String>) {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in names {
        let path = format!("{folder}/{name}");
        if root().join(&path).is_dir() {
            below(&path, paths);
        } else if path.ends_with(".md") {
            paths.push(path);
        }
    }
}

impl Page {
    /// The lines outside of fenced blocks.
    pub fn prose(&self) -> impl Iterator<Item = &str> {
        let mut fenced = false;
        self.text.lines().filter(move |line| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        })
    }

    /// The fenced blocks.
    pub fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let mut open: Option<Block<'_>> = None;
        for line in self.text.lines() {
            match (line.trim_start().strip_prefix("```"), open.take()) {
                (Some(_), Some(block)) => blocks.push(block),
                (Some(language), None) => {
                    let lines = Vec::new();
                    open = Some(Block { language, lines });
                }
                (None, Some(mut block)) => {
                    block.lines.push(line);
                    open = Some(block);
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", self.path);
        blocks
    }

    /// What stands between backticks in the prose, each on one line.
    pub fn spans(&self) -> impl Iterator<Item = &str> {
        self.prose().flat_map(|line| {
            let cut = line.split('`').count();
            assert!(
                cut % 2 == 1,
                "{}: code that goes over a line's end: {line}",
                self.path
            );
            line.split('`').skip(1).step_by(2)
        })
    }
}

#[test]
fn a_page_is_cut_into_prose_spans_and_blocks() {
    let page = Page {
        path: "test.md".to_owned(),
        text: "one `a b` two\n```sh\nrun `c`\n```\n`d`\n".to_owned(),
    };
    assert_eq!(page.prose().collect::<Vec<_>>(), ["one `a b` two", "`d`"]);
    assert_eq!(page.spans().collect::<Vec<_>>(), ["a b", "d"]);
    let blocks = page.blocks();
    assert_eq!((blocks.len(), blocks[0].language), (1, "sh"));
    assert_eq!(blocks[0].lines, ["run `c`"]);
}
