//! Links lead to a file and a heading that exist, and so do paths between backticks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::pages::{self, Page};

/// What README.md may have, in words.
const README_WORDS: std::ops::RangeInclusive<usize> = 700..=1_000;
/// The folders whose files pages name by their path.
const FOLDERS: [&str; 12] = [
    "model", "proto", "store", "raft", "server", "client", "sim", "ops", "tests", "examples",
    "docs", ".ci",
];

/// The targets of a line's links and pictures.
fn targets(line: &str) -> Vec<&str> {
    let outside = line.split('`').step_by(2);
    let links = outside.flat_map(|text| text.split("](").skip(1));
    links
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .collect()
}

/// The anchor that a heading gets where Markdown is shown.
fn anchor(heading: &str) -> String {
    let words = heading.trim().to_lowercase();
    let kept = words
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(page: &Page) -> BTreeSet<String> {
    let mut counts = BTreeMap::new();
    let mut all = BTreeSet::new();
    for line in page.prose().filter(|line| line.starts_with('#')) {
        let anchor = anchor(line.trim_start_matches('#'));
        let before: &mut usize = counts.entry(anchor.clone()).or_insert(0);
        all.insert(match *before {
            0 => anchor,
            times => format!("{anchor}-{times}"),
        });
        *before += 1;
    }
    all
}

/// `a/b/../c` without its dots.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            Component::Normal(_) | Component::RootDir | Component::Prefix(_) => plain.push(part),
        }
    }
    plain
}

/// Why a link of the page at `from` leads nowhere.
fn broken(from: &str, target: &str, pages: &[Page]) -> Option<String> {
    if target.contains("://") {
        return None;
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let folder = Path::new(from).parent().unwrap_or(Path::new(""));
    let path = match file {
        "" => PathBuf::from(from),
        file => plain(&folder.join(file)),
    };
    if !pages::root().join(&path).exists() {
        return Some(format!("{from}: there is no {}", path.display()));
    }
    if heading.is_empty() {
        return None;
    }
    let page = pages.iter().find(|page| Path::new(&page.path) == path);
    match page {
        Some(page) if anchors(page).contains(heading) => None,
        Some(_) => Some(format!(
            "{from}: {} has no heading #{heading}",
            path.display()
        )),
        None => Some(format!(
            "{from}: the headings of {} are not known",
            path.display()
        )),
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_exist() {
    let pages = pages::all();
    let mut problems = Vec::new();
    let mut links = 0;
    for page in &pages {
        for target in page.prose().flat_map(targets) {
            links += 1;
            problems.extend(broken(&page.path, target, &pages));
        }
    }
    assert!(links > 100, "only {links} links were found");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Whether it is meant as a path below the checkout.
fn is_path(span: &str) -> bool {
    let folder = span.split_once('/').map(|(folder, _)| folder);
    let whole = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    folder.is_some_and(|folder| FOLDERS.contains(&folder)) && span.chars().all(whole)
}

/// The files below a folder that have this name.
fn called(name: &str, folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(folder)];
    while let Some(folder) = open.pop() {
        let entries = std::fs::read_dir(pages::root().join(&folder))
            .into_iter()
            .flatten();
        for entry in entries.flatten() {
            let path = folder.join(entry.file_name());
            let whole = pages::root().join(&path);
            // Sources of others that are kept here have names of their own.
            if whole.join("Cargo.toml").exists() {
                continue;
            }
            if whole.is_dir() {
                open.push(path);
            } else if entry.file_name() == name {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// The files of its crate that may be the one that has moved from `path`: those of its name.
fn moved_to(path: &str) -> Vec<String> {
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    let folder = path.split('/').next();
    name.zip(folder)
        .map_or_else(Vec::new, |(name, folder)| called(name, folder))
}

#[test]
fn every_path_between_backticks_exists() {
    let mut problems = Vec::new();
    let mut paths = 0;
    for page in pages::all() {
        let mut text = page.text.clone();
        for path in page.spans().filter(|span| is_path(span)) {
            paths += 1;
            if pages::root().join(path).exists() {
                continue;
            }
            let problem = format!("{}: there is no {path}", page.path);
            match moved_to(path).as_slice() {
                [new] if pages::rewriting() => {
                    text = text.replace(&format!("`{path}`"), &format!("`{new}`"));
                }
                [new] => problems.push(format!(
                    "{problem}; it is {new}, and README_WRITE=1 says so"
                )),
                [] => problems.push(problem),
                several => problems.push(format!("{problem}; it may be {}", several.join(" or "))),
            }
        }
        if text != page.text {
            std::fs::write(pages::root().join(&page.path), text).unwrap();
        }
    }
    assert!(paths > 100, "only {paths} paths were found");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_readme_is_read_in_a_few_minutes() {
    let pages = pages::all();
    let readme = pages.iter().find(|page| page.path == "README.md").unwrap();
    let words = readme.text.split_whitespace().count();
    assert!(
        README_WORDS.contains(&words),
        "README.md has {words} words, not {README_WORDS:?}"
    );
}

#[test]
fn links_anchors_and_paths_are_found() {
    let line = "see [a](b.md), ![c](d.png) and `[no](x)` or [e](f.md#g)";
    assert_eq!(targets(line), ["b.md", "d.png", "f.md#g"]);
    assert_eq!(anchor(" What it's for: `a b` "), "what-its-for-a-b");
    assert_eq!(
        plain(Path::new("docs/internals/../api.md")),
        Path::new("docs/api.md")
    );
    assert!(is_path("raft/src/lib.rs") && is_path("client/"));
    assert!(!is_path("target/sim") && !is_path("sim/src/{a,b}") && !is_path("raft"));
    let pages = pages::all();
    let nowhere = broken("docs/api.md", "nowhere.md", &pages);
    assert_eq!(
        nowhere.as_deref(),
        Some("docs/api.md: there is no docs/nowhere.md")
    );
    let unheard = broken("README.md", "docs/api.md#unheard-of", &pages);
    assert_eq!(
        unheard.as_deref(),
        Some("README.md: docs/api.md has no heading #unheard-of")
    );
    assert_eq!(broken("docs/api.md", "#ids-and-retries", &pages), None);
    assert_eq!(
        moved_to("sim/src/elsewhere/interpose.rs"),
        ["sim/src/interpose.rs"]
    );
    assert!(moved_to("sim/src/elsewhere/nowhere.rs").is_empty());
}
