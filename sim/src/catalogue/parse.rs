//! The whole file: its sections in turn, and then whether what they say together can be kept.

use std::path::Path;

use toml::de::DeTable;

use super::file::ScenarioFile;
use super::reader::{Found, Reader, Section};
use super::refused::Refused;
use super::{draw, expect, fault, topology, trainer, values, workload};
use crate::plan::DiskKind;

/// Seeds that are tried when a file is read.
const TRIED: u64 = 4;

const DISKS: &[(&str, DiskKind)] = &[("memory", DiskKind::Memory), ("rocksdb", DiskKind::Rocksdb)];

/// Reads a file's text.
pub(super) fn file(
    text: &str,
    path: &str,
    parameters: &[(String, String)],
) -> Result<ScenarioFile, Refused> {
    let mut reader = Reader::new(text);
    let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str());
    let name = stem.unwrap_or_default().to_owned();
    if values::name(&Found::Text(name.clone())).is_err() {
        let message = "its name must be 1 to 32 lower-case letters, digits and hyphens, and \
                       .toml: it is the scenario's";
        reader.add_at(0, String::new(), message.to_owned());
    }
    let (root, syntax) = DeTable::parse_recoverable(text);
    for error in syntax {
        reader.syntax(&error);
    }
    // Behind an error of syntax keys seem missing that are not.
    let mut read = None;
    if !reader.failed() {
        read = Some(sections(&mut reader, root.get_ref(), (name, parameters)));
    }
    if let Some((file, lines)) = &read
        && !reader.failed()
    {
        survivable(&mut reader, file, lines);
    }
    match read {
        Some((file, _)) if !reader.failed() => Ok(file),
        _ => Err(Refused {
            file: path.to_owned(),
            problems: reader.into_problems(),
        }),
    }
}

fn sections(
    reader: &mut Reader<'_>,
    root: &DeTable<'_>,
    (name, parameters): (String, &[(String, String)]),
) -> (ScenarioFile, Vec<usize>) {
    let top = Section::root(root);
    let keys = [
        "about",
        "disk",
        "parameters",
        "topology",
        "draw",
        "workload",
        "fault",
        "expect",
        "control",
        "swarm",
        "trainer",
    ];
    reader.known(&top, &keys);
    let named = reader.section(&top, "parameters");
    reader.parameters(&named, parameters);
    let about = reader.need(&top, "about", values::text);
    let disk = reader.get(&top, "disk", values::word("a kind of disk", DISKS));
    let work = reader.section(&top, "workload");
    let load_ms = workload::load_ms(reader, &work);
    let drawn = reader.section(&top, "draw");
    let aliases = expect::aliases(reader, &drawn);
    let topology = topology::read(reader, &top, &aliases.dcs, load_ms);
    expect::check_aliases(reader, &drawn, &aliases, &topology);
    let workload = workload::read(reader, &work, &topology, load_ms);
    let context = fault::Context {
        topology: &topology,
        sites: &workload.sites,
        aliases: &aliases,
        load_ms,
    };
    let (at, lines) = fault::read(reader, &top, &context).into_iter().unzip();
    let expect = expect::read(reader, &top);
    let control = topology::control(reader, &top, &topology);
    let swarm = expect::swarm(reader, &top, load_ms);
    let trainer = trainer::read(reader, &top, &topology, load_ms);
    reader.unused(&named);
    let file = ScenarioFile {
        name,
        about: about.unwrap_or_default(),
        disk: disk.unwrap_or_default(),
        topology,
        workload,
        aliases,
        lines,
        expect,
        control,
        swarm,
        trainer,
    };
    (file, at)
}

/// Whether the timeline leaves what is promised, for a few seeds.
fn survivable(reader: &mut Reader<'_>, file: &ScenarioFile, lines: &[usize]) {
    for seed in 0..TRIED {
        if let Err(why) = draw::settle(file, seed) {
            let line = lines.get(why.line as usize).copied().unwrap_or(0);
            let key = format!("fault[{}]", why.line);
            let what = match why.promise {
                Some(_) => "cannot be survived",
                None => "makes no sense",
            };
            let message = format!("{what}: {why} (with seed {seed}, however it is drawn)");
            reader.add_at(line, key, message);
            return;
        }
    }
}
