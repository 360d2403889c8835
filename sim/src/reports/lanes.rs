//! When which fault was on, in rows that a chart can draw.

use std::collections::BTreeMap;

use super::coverage::momentary;
use crate::outcome::Mark;
use crate::plan::closes;

/// A fault from its begin to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// ms after the load began.
    pub from_ms: u64,
    /// When it ended; none when it did not while the run lasted.
    pub to_ms: Option<u64>,
    /// Whether it was over in the moment that it happened.
    pub momentary: bool,
    /// For people.
    pub text: String,
    /// What ended it, for people.
    pub end_text: Option<String>,
    /// Whether there is room for `text` beside it.
    pub labelled: bool,
    /// Whether it is an end that stands alone.
    ends: bool,
    /// The hosts that it hit and that nothing has brought back.
    hosts: Vec<String>,
}

/// Faults of one kind that are drawn in one row: they do not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultLane {
    /// Their kind.
    pub kind: String,
    /// In the order of time.
    pub bars: Vec<Bar>,
}

/// The kind of the rows that tell the scenario's story.
pub const STORY: &str = "story";

/// Rows that one kind of fault gets before its labels are given up.
const LANES_MAX: usize = 5;
/// Of a narrow plot, and of a label's letter: what decides whether a label fits.
const PLOT_PX: u64 = 540;
const LETTER_PX: u64 = 6;
/// Of the plot on a telephone.
const PHONE_PX: u64 = 230;

/// The faults of a timeline in rows, for a time axis of `end_ms`, below the scenario's story where
/// it tells one. Marks of one line belong together; an end of another line ends what it undoes. A
/// fault that never ended has no end.
pub fn faults(marks: &[Mark], end_ms: u64) -> Vec<FaultLane> {
    let mut kinds: Vec<(String, Vec<Bar>)> = Vec::new();
    let mut lines: BTreeMap<u32, Vec<&Mark>> = BTreeMap::new();
    for mark in marks {
        let line = lines.entry(mark.line).or_default();
        if !line.contains(&mark) {
            line.push(mark);
        }
    }
    let mut bars: Vec<(String, Bar)> = lines.values().flat_map(|line| bars(line)).collect();
    bars.sort_by_key(|(_, bar)| bar.from_ms);
    for (kind, bar) in told(marks).into_iter().chain(undone(bars)) {
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, bars)) => bars.push(bar),
            None => kinds.push((kind, vec![bar])),
        }
    }
    let lanes = kinds.into_iter().flat_map(|(kind, bars)| {
        let roomy = pack(&bars, end_ms, true);
        let lanes = match roomy.len() <= LANES_MAX {
            true => roomy,
            false => pack(&bars, end_ms, false),
        };
        let named = lanes.into_iter().map(move |bars| FaultLane {
            kind: kind.clone(),
            bars,
        });
        named.collect::<Vec<_>>()
    });
    lanes.collect()
}

/// What the scenario's story says of each mark, where it does.
fn told(marks: &[Mark]) -> Vec<(String, Bar)> {
    let told = marks.iter().filter_map(|mark| {
        let text = mark.story.clone()?;
        let moment = Bar {
            text,
            momentary: true,
            ..bar(mark, None)
        };
        Some((STORY.to_owned(), moment))
    });
    told.collect()
}

/// Bars in the order of time, without the ends that stood alone and brought back all that an earlier
/// fault had taken away: that one's bar ends there.
fn undone(bars: Vec<(String, Bar)>) -> Vec<(String, Bar)> {
    let mut left: Vec<(String, Bar)> = Vec::new();
    for (kind, end) in bars {
        let mut ended = false;
        for (begun, open) in &mut left {
            let lasts = !open.momentary && open.to_ms.is_none() && !open.hosts.is_empty();
            if !lasts || !end.ends || !closes(&kind, begun) {
                continue;
            }
            open.hosts.retain(|host| !end.hosts.contains(host));
            if open.hosts.is_empty() {
                open.to_ms = Some(end.from_ms);
                open.end_text = Some(end.text.clone());
                ended = true;
            }
        }
        if !ended {
            left.push((kind, end));
        }
    }
    left
}

/// A line's bars. Where begins and ends are equally many, the first end ends the first begin;
/// otherwise what began together is one bar until the last end before the next begin.
fn bars(line: &[&Mark]) -> Vec<(String, Bar)> {
    let begins: Vec<&&Mark> = line.iter().filter(|mark| !mark.ends).collect();
    let ends: Vec<&&Mark> = line.iter().filter(|mark| mark.ends).collect();
    let Some(first) = begins.first() else {
        // An end alone, as a start of what another line stopped: a moment of its own.
        let alone = ends.iter().map(|mark| (mark.kind.clone(), bar(mark, None)));
        return alone.collect();
    };
    if momentary(&first.kind) {
        let moments = begins.iter().chain(&ends);
        return moments
            .map(|mark| (mark.kind.clone(), bar(mark, None)))
            .collect();
    }
    if begins.len() == ends.len() {
        let pairs = begins.iter().zip(&ends);
        return pairs
            .map(|(begin, end)| (begin.kind.clone(), bar(begin, Some(end))))
            .collect();
    }
    let mut merged: Vec<(String, Bar)> = Vec::new();
    let mut ended = true;
    for mark in line {
        match (mark.ends, merged.last_mut()) {
            (true, Some((_, open))) => {
                open.to_ms = Some(mark.at_ms);
                open.end_text = Some(mark.text.clone());
            }
            (false, Some((_, open))) if !ended => {
                if !open.text.contains(&mark.text) {
                    open.text = format!("{}, {}", open.text, mark.text);
                }
                open.hosts.extend(mark.hosts.iter().cloned());
            }
            (false, _) => merged.push((mark.kind.clone(), bar(mark, None))),
            (true, None) => {}
        }
        ended = mark.ends;
    }
    merged
}

fn bar(begin: &Mark, end: Option<&Mark>) -> Bar {
    Bar {
        from_ms: begin.at_ms,
        to_ms: end.map(|end| end.at_ms),
        momentary: begin.ends || momentary(&begin.kind),
        text: begin.text.clone(),
        end_text: end.map(|end| end.text.clone()),
        labelled: false,
        ends: begin.ends,
        hosts: begin.hosts.clone(),
    }
}

impl Bar {
    /// Whether its label stands before it, for lack of room behind.
    pub fn label_before(&self, end_ms: u64) -> bool {
        self.from_ms + self.label_ms(end_ms) > end_ms && self.from_ms > end_ms / 2
    }

    /// Whether its label has room on a telephone. Where it has not, it is left out there: what was done
    /// stands in words below the chart.
    pub fn label_fits_phone(&self, end_ms: u64) -> bool {
        let room_ms = match self.label_before(end_ms) {
            true => self.from_ms,
            false => end_ms.saturating_sub(self.from_ms),
        };
        self.label_ms(end_ms).saturating_mul(PLOT_PX) <= room_ms.saturating_mul(PHONE_PX)
    }

    fn label_ms(&self, end_ms: u64) -> u64 {
        let letters = u64::try_from(self.text.chars().count()).unwrap_or(u64::MAX);
        letters
            .saturating_mul(LETTER_PX)
            .saturating_add(14)
            .saturating_mul(end_ms)
            / PLOT_PX
    }

    /// What it takes of a row.
    fn takes(&self, end_ms: u64, with_label: bool) -> (u64, u64) {
        let sliver = end_ms / 200;
        let to = match (self.momentary, self.to_ms) {
            (true, _) => self.from_ms + 2 * sliver,
            (false, to) => to.unwrap_or(end_ms).max(self.from_ms + sliver),
        };
        let label = self.label_ms(end_ms);
        match (with_label, self.label_before(end_ms)) {
            (false, _) => (self.from_ms, to),
            (true, true) => (self.from_ms.saturating_sub(label), to),
            (true, false) => (self.from_ms, to.max(self.from_ms + label)),
        }
    }
}

/// Puts each bar into the first row that has room for it, in the order of time.
fn pack(bars: &[Bar], end_ms: u64, with_labels: bool) -> Vec<Vec<Bar>> {
    let mut lanes: Vec<Vec<Bar>> = Vec::new();
    for bar in bars {
        let (from, _) = bar.takes(end_ms, with_labels);
        let free = lanes.iter_mut().find(|lane| {
            let taken = lane.last().map(|last| last.takes(end_ms, with_labels).1);
            taken.is_none_or(|taken| taken <= from)
        });
        let mut bar = bar.clone();
        bar.labelled = with_labels;
        match free {
            Some(lane) => lane.push(bar),
            None => lanes.push(vec![bar]),
        }
    }
    if !with_labels {
        lanes
            .iter_mut()
            .for_each(|lane| label_where_room(lane, end_ms));
    }
    lanes
}

fn label_where_room(lane: &mut [Bar], end_ms: u64) {
    for at in 0..lane.len() {
        let next = lane.get(at + 1).map_or(end_ms, |next| next.from_ms);
        let bar = &mut lane[at];
        bar.labelled = bar.from_ms + bar.label_ms(end_ms) <= next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(at_ms: u64, kind: &str, ends: bool, line: u32) -> Mark {
        let (kind, text) = (kind.to_owned(), format!("{kind} at {at_ms}"));
        Mark {
            at_ms,
            kind,
            ends,
            line,
            hosts: Vec::new(),
            between: None,
            story: None,
            text,
        }
    }

    /// Begin and end of each bar of a row.
    type Times = Vec<(u64, Option<u64>)>;

    fn check(marks: &[Mark], expect: &[(&str, Times)]) {
        let lanes = faults(marks, 60_000);
        let times = |lane: &FaultLane| lane.bars.iter().map(|b| (b.from_ms, b.to_ms)).collect();
        let seen: Vec<(&str, Times)> = lanes.iter().map(|l| (l.kind.as_str(), times(l))).collect();
        assert_eq!(seen, expect);
    }

    #[test]
    fn a_fault_lasts_from_its_begin_to_the_end_of_its_line() {
        check(
            &[
                mark(20_000, "burn", false, 0),
                mark(25_000, "cut", false, 1),
                mark(30_000, "start", true, 0),
            ],
            &[
                ("burn", vec![(20_000, Some(30_000))]),
                ("cut", vec![(25_000, None)]),
            ],
        );
    }

    #[test]
    fn what_began_together_and_ends_one_by_one_is_one_bar() {
        check(
            &[
                mark(1_000, "stop", false, 0),
                mark(2_000, "start", true, 0),
                mark(3_000, "start", true, 0),
                mark(30_000, "stop", false, 0),
                mark(30_500, "start", true, 0),
            ],
            &[("stop", vec![(1_000, Some(3_000)), (30_000, Some(30_500))])],
        );
    }

    #[test]
    fn a_start_of_another_line_ends_what_it_brings_back_and_is_no_row_of_its_own() {
        let of = |mut mark: Mark, hosts: &[&str]| {
            mark.hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            mark
        };
        check(
            &[
                of(mark(10_000, "power-cut", false, 0), &["a"]),
                of(mark(24_000, "power-cut", false, 1), &["a", "b", "c"]),
                of(mark(30_000, "burn", false, 2), &["d"]),
                of(mark(40_000, "start", true, 3), &["a", "b"]),
                of(mark(50_000, "start", true, 4), &["c"]),
            ],
            &[
                ("power-cut", vec![(10_000, Some(40_000))]),
                ("power-cut", vec![(24_000, Some(50_000))]),
                ("burn", vec![(30_000, None)]),
            ],
        );
    }

    #[test]
    fn a_start_that_brings_back_a_part_stays_a_moment() {
        let mut cut = mark(10_000, "power-cut", false, 0);
        cut.hosts = vec!["a".to_owned(), "b".to_owned()];
        let mut start = mark(40_000, "start", true, 1);
        start.hosts = vec!["a".to_owned()];
        check(
            &[cut, start],
            &[
                ("power-cut", vec![(10_000, None)]),
                ("start", vec![(40_000, None)]),
            ],
        );
    }

    #[test]
    fn the_story_stands_above_what_was_done() {
        let mut fire = mark(10_000, "power-cut", false, 0);
        fire.story = Some("15:19 fire".to_owned());
        let burn = mark(5_000, "burn", false, 1);
        let lanes = faults(&[burn, fire], 60_000);
        let kinds: Vec<&str> = lanes.iter().map(|lane| lane.kind.as_str()).collect();
        assert_eq!(kinds, [STORY, "burn", "power-cut"]);
        assert_eq!(lanes[0].bars[0].text, "15:19 fire");
        assert!(lanes[0].bars[0].momentary && lanes[0].bars[0].labelled);
    }

    #[test]
    fn flapping_takes_few_rows_and_rows_never_overlap() {
        let marks: Vec<Mark> = (0..30)
            .flat_map(|n| {
                let at = 1_000 + n * 1_800;
                let line = u32::try_from(n).unwrap();
                [
                    mark(at, "cut", false, line),
                    mark(at + 900, "heal", true, line),
                ]
            })
            .collect();
        let lanes = faults(&marks, 60_000);
        assert_eq!(lanes.len(), 1);
        assert_eq!(lanes[0].bars.len(), 30);
        for pair in lanes[0].bars.windows(2) {
            assert!(pair[0].to_ms.unwrap() <= pair[1].from_ms);
        }
    }
}
