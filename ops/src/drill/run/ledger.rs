//! The ledger of a drill's canaries, and what a controller that was lost did not write into it any more.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::canary::ROOMS;
use crate::canary::Call;

/// Calls of a sender that a controller may not have written down: it does so between two looks, and a step
/// may take a few seconds.
const IN_FLIGHT_MAX: usize = 1_000;

fn path(dir: &Path) -> PathBuf {
    dir.join("ledger.jsonl")
}

/// The calls of the ledger in a drill's folder; none where there is none.
pub fn read(dir: &Path) -> Vec<Call> {
    let text = std::fs::read_to_string(path(dir)).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Opens it, to write behind what is there.
///
/// # Errors
/// When it cannot be opened.
pub fn open(dir: &Path) -> std::io::Result<File> {
    let half =
        std::fs::read(path(dir)).is_ok_and(|bytes| bytes.last().is_some_and(|end| *end != b'\n'));
    let mut file = File::options().create(true).append(true).open(path(dir))?;
    if half {
        // Its controller died in the middle of a line.
        file.write_all(b"\n")?;
    }
    Ok(file)
}

/// What senders whose controller was lost may have sent, and nobody noted: as calls that failed, since they
/// may have had an effect or not.
pub fn in_flight(calls: &[Call]) -> Vec<Call> {
    let mut last: BTreeMap<(&str, &str), (usize, u64)> = BTreeMap::new();
    for call in calls {
        let room = call.room.rsplit_once('-');
        let count = call.id.rsplit_once('-');
        let count = count.and_then(|(_, count)| count.parse::<usize>().ok());
        if let (Some((rooms, _)), Some(count)) = (room, count) {
            let held = last.entry((&call.sender, rooms)).or_default();
            *held = (count, call.ended_us).max(*held);
        }
    }
    let mut all = Vec::new();
    for ((sender, rooms), (count, us)) in last {
        for next in count + 1..=count + IN_FLIGHT_MAX {
            all.push(Call {
                sender: sender.to_owned(),
                room: format!("{rooms}-{}", next % ROOMS),
                id: format!("{sender}-{next}"),
                sent_us: us,
                ended_us: us,
                outcome: Err("its controller was lost".to_owned()),
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lost_controller_had_on_its_way_follows_what_it_noted() {
        let call = |count: usize| Call {
            sender: "seoul-send-1".into(),
            room: format!("tenants/t/conversations/d-1-seoul-send-1-{}", count % ROOMS),
            id: format!("seoul-send-1-{count}"),
            sent_us: 1,
            ended_us: 2,
            outcome: Ok(1),
        };
        let read = Call {
            room: String::new(),
            ..call(99)
        };
        let all = in_flight(&[call(6), call(7), read]);
        assert_eq!(all.len(), IN_FLIGHT_MAX);
        let first = &all[0];
        assert_eq!(
            (first.id.as_str(), &first.room),
            ("seoul-send-1-8", &call(8).room)
        );
        assert!(first.outcome.is_err());
    }

    #[test]
    fn a_half_line_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(path(dir.path()), "{\"sender\": \"a").unwrap();
        let mut file = open(dir.path()).unwrap();
        let call = Call {
            sender: "a".into(),
            room: String::new(),
            id: "a-1".into(),
            sent_us: 1,
            ended_us: 2,
            outcome: Ok(1),
        };
        writeln!(file, "{}", serde_json::to_string(&call).unwrap()).unwrap();
        drop(file);
        drop(open(dir.path()).unwrap());
        assert_eq!(read(dir.path()), [call]);
    }
}
