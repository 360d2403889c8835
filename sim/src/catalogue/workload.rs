//! `[workload]`: who sends and reads what, and from where.

use super::file::Topology;
use super::reader::{Reader, Section};
use super::refused::unknown;
use super::values;
use crate::plan::{Readers, Site, Workload};

/// The longest load, ms.
pub(super) const LOAD_MS_MAX: u64 = 3_600_000;
/// Bounds of a pause, ms.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 1..=600_000;
/// The largest body, bytes: the product's bound.
const BODY_BYTES_MAX: u64 = model::limits::BODY_BYTES_MAX as u64;

/// How long the load goes on, ms: what the bounds of other sections hang on.
pub(super) fn load_ms(reader: &mut Reader<'_>, section: &Section<'_>) -> u64 {
    let load = reader.get(section, "duration", values::ms(1_000..=LOAD_MS_MAX));
    load.unwrap_or(30_000)
}

/// Reads it.
pub(super) fn read(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    topology: &Topology,
    duration_ms: u64,
) -> Workload {
    let keys = [
        "duration",
        "sites",
        "site",
        "rooms",
        "zipf",
        "own_rooms",
        "senders",
        "pause",
        "streams",
        "burst",
        "body",
        "resends",
        "readers",
        "tails",
        "tail_resume",
        "movers",
        "move_every",
        "changers",
        "deadline",
    ];
    reader.known(section, &keys);
    let mut count = |key, what, bounds, or| {
        let count = reader.get(section, key, values::count(what, bounds));
        count.unwrap_or(or)
    };
    let rooms = count("rooms", "rooms", 1..=10_000, 24);
    let senders = count("senders", "senders", 1..=10_000, 40);
    let tails = count("tails", "tails", 0..=1_000, 4);
    let movers = count("movers", "movers", 0..=1_000, 3);
    let changers = count("changers", "changers", 0..=1_000, 0);
    let zipf = reader.get(section, "zipf", values::thousandths);
    let own_rooms = reader
        .get(section, "own_rooms", values::yes)
        .unwrap_or(false);
    let pause = reader.get(section, "pause", values::window_ms(PAUSE_MS));
    let streams = reader.get(section, "streams", values::percent(0..=100));
    let burst = values::counts("messages in flight", 1..=64);
    let burst = reader.get(section, "burst", burst);
    let body = reader.get(section, "body", values::window_bytes(1..=BODY_BYTES_MAX));
    let resends = reader.get(section, "resends", values::percent(0..=100));
    let resume = reader.get(section, "tail_resume", values::ms(0..=LOAD_MS_MAX));
    let stay = reader.get(section, "move_every", values::ms(100..=LOAD_MS_MAX));
    let deadline = reader.get(section, "deadline", values::ms(100..=60_000));
    let workload = Workload {
        duration_ms,
        sites: sites(reader, section, topology),
        rooms,
        zipf_milli: zipf.unwrap_or(800),
        own_rooms,
        senders,
        pause_ms: pause.unwrap_or((200, 600)),
        stream_percent: streams.unwrap_or(50),
        burst: burst.unwrap_or((1, 1)),
        body_bytes: body.unwrap_or((16, 256)),
        resend_percent: resends.unwrap_or(5),
        readers: readers(reader, section),
        tails,
        tail_resume_ms: resume.unwrap_or(5_000),
        movers,
        move_every_ms: stay.unwrap_or(6_000),
        changers,
        deadline_ms: deadline.unwrap_or(5_000),
    };
    let (rooms, needed) = (workload.rooms, workload.rooms_needed());
    if rooms < needed {
        let wrong = format!(
            "{senders} senders and {movers} movers need as many rooms; rooms is {rooms}, must be at \
             least {needed}"
        );
        reader.add(section, "own_rooms", wrong);
    }
    workload
}

fn readers(reader: &mut Reader<'_>, workload: &Section<'_>) -> Readers {
    let section = reader.section(workload, "readers");
    let levels = ["linearizable", "session", "bounded", "local"];
    reader.known(&section, &[&levels[..], &["bound", "pause"]].concat());
    let mut count = |key| {
        let count = reader.get(&section, key, values::count("readers", 0..=1_000));
        count.unwrap_or(2)
    };
    let [linearizable, session, bounded, local] = levels.map(&mut count);
    let bound = reader.get(&section, "bound", values::ms(1..=600_000));
    let pause = reader.get(&section, "pause", values::window_ms(PAUSE_MS));
    Readers {
        linearizable,
        session,
        bounded,
        local,
        bound_ms: bound.unwrap_or(2_000),
        pause_ms: pause.unwrap_or((300, 900)),
    }
}

#[derive(Clone, Copy)]
enum Where {
    Outside,
    Inside,
    Both,
}

const WHERE: &[(&str, Where)] = &[
    ("outside", Where::Outside),
    ("inside", Where::Inside),
    ("both", Where::Both),
];

/// One site of a kind for each data center, or those that the file names.
fn sites(reader: &mut Reader<'_>, section: &Section<'_>, topology: &Topology) -> Vec<Site> {
    let shared = reader.get(section, "sites", values::word("where clients are", WHERE));
    let tables = reader.sections(section, "site");
    if section.has("sites") && section.has("site") {
        let message = "is said twice: by sites for every data center, and by [[workload.site]]";
        reader.add(section, "sites", message);
    }
    let named = |dc: &str, inside: bool| Site {
        name: format!("{}-{dc}", if inside { "inside" } else { "client" }),
        dc: dc.to_owned(),
        inside,
    };
    if !section.has("site") {
        let kinds: &[bool] = match shared.unwrap_or(Where::Outside) {
            Where::Outside => &[false],
            Where::Inside => &[true],
            Where::Both => &[false, true],
        };
        let each = |inside: &bool| {
            let inside = *inside;
            topology.dcs.iter().map(move |dc| named(&dc.name, inside))
        };
        return kinds.iter().flat_map(each).collect();
    }
    let mut sites: Vec<Site> = Vec::new();
    for table in &tables {
        reader.known(table, &["dc", "inside", "name"]);
        let dc = reader.need(table, "dc", values::text);
        let inside = reader.get(table, "inside", values::yes).unwrap_or(false);
        let name = reader.get(table, "name", values::name);
        let Some(dc) = dc else { continue };
        let known = topology.dcs.iter().map(|dc| dc.name.as_str());
        if !known.clone().any(|name| name == dc) {
            let message = unknown(&dc, "a data center", known);
            reader.add(table, "dc", message);
        }
        let mut site = named(&dc, inside);
        site.name = name.unwrap_or(site.name);
        let node = topology.dcs.iter().any(|dc| is_node(&site.name, &dc.name));
        if node || sites.iter().any(|other| other.name == site.name) {
            let message = format!("there are two hosts \"{}\"; names must differ", site.name);
            reader.add(
                table,
                if table.has("name") { "name" } else { "dc" },
                message,
            );
        }
        sites.push(site);
    }
    sites
}

/// Whether a host's name is one that nodes of this data center have.
pub(super) fn is_node(name: &str, dc: &str) -> bool {
    let number = name
        .strip_prefix(dc)
        .and_then(|rest| rest.strip_prefix('-'));
    number.is_some_and(|number| number.chars().all(|c| c.is_ascii_digit()) && !number.is_empty())
}
