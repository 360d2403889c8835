//! The rooms of this crate stand one above the other: what a file imports lies in its own room or below.

#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up.
const ROOMS: [&str; 8] = [
    "api", "time", "link", "adapter", "replica", "shared", "tasks", "node",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// The room of a file: its top folder, or the file of that name.
fn room_of(file: &Path) -> &str {
    let top = file.components().next().unwrap();
    let top = Path::new(top.as_os_str()).file_stem();
    top.and_then(|name| name.to_str()).unwrap()
}

/// The rooms that a source names outside of comments and tests.
fn named(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = source.lines().enumerate();
    let code = code.take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    let code = code.filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.flat_map(|(at, line)| {
        let paths = line.split("crate::").skip(1);
        paths.map(move |path| {
            let end = path.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            (at + 1, &path[..end.unwrap_or(path.len())])
        })
    })
}

fn rank(room: &str) -> Option<usize> {
    ROOMS.iter().position(|one| *one == room)
}

#[test]
fn no_room_imports_from_one_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let (mut upward, mut looked_at) = (Vec::new(), 0);
    for path in files {
        let file = path.strip_prefix(&src).unwrap();
        if file == Path::new("lib.rs") || file.ends_with("tests.rs") {
            continue;
        }
        let own = room_of(file);
        let own = rank(own).unwrap_or_else(|| panic!("{} is in no room", file.display()));
        let source = fs::read_to_string(&path).unwrap();
        for (line, room) in named(&source) {
            let Some(named) = rank(room) else {
                panic!("{}:{line}: {room:?} is no room", file.display());
            };
            looked_at += 1;
            if named > own {
                upward.push(format!("{}:{line} imports from {room}", file.display()));
            }
        }
    }
    assert!(
        looked_at > 100,
        "imports are written otherwise: {looked_at}"
    );
    assert!(upward.is_empty(), "upward imports:\n{}", upward.join("\n"));
}

#[test]
fn what_is_looked_at_is_code() {
    let source = "//! [`crate::tasks`]\nuse crate::link::Link;\n    crate::node::f();\n\
                  #[cfg(test)]\nuse crate::tasks::x;\n";
    let found: Vec<_> = named(source).collect();
    assert_eq!(found, [(2, "link"), (3, "node")]);
    assert_eq!(room_of(Path::new("link/hello/tests.rs")), "link");
    assert_eq!(room_of(Path::new("api.rs")), "api");
}
