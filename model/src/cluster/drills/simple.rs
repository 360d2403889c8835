//! Drills against a simple model.

use proptest::prelude::*;

use super::tests::{abort, approve, beat, begin, claim, cluster, conclude, make, store};
use super::*;

/// What somebody tries in the proptest.
#[derive(Clone, Debug)]
enum Try {
    Store(u8),
    Approve(u8, u8),
    Begin(u8, u8),
    Claim(u8, u8),
    Beat(u8, u64),
    Conclude(u8, u64),
    Abort(u8),
    Lost(u8, u64),
    Pull,
    Release,
}

fn tries() -> impl Strategy<Value = (Try, u64)> {
    let what = prop_oneof![
        (0..3_u8).prop_map(Try::Store),
        (0..3_u8, 0..3_u8).prop_map(|(d, who)| Try::Approve(d, who)),
        (0..3_u8, 0..3_u8).prop_map(|(d, who)| Try::Begin(d, who)),
        (0..3_u8, 0..3_u8).prop_map(|(d, who)| Try::Claim(d, who)),
        (0..3_u8, 0..5_u64).prop_map(|(d, number)| Try::Beat(d, number)),
        (0..3_u8, 0..5_u64).prop_map(|(d, number)| Try::Conclude(d, number)),
        (0..3_u8).prop_map(Try::Abort),
        (0..3_u8, 0..5_u64).prop_map(|(d, number)| Try::Lost(d, number)),
        Just(Try::Pull),
        Just(Try::Release),
    ];
    (what, 0..30_000_u64)
}

/// What a drill is, in the simple model: how far it is, its approvals, and its controller with the time
/// when it was heard.
#[derive(Clone, Debug, Default)]
struct Simple {
    far: u8,
    approved: Vec<(u8, u64)>,
    controller: (u64, u8, u64),
}

/// All of the simple model.
#[derive(Default)]
struct Book {
    drills: [Simple; 3],
    lever: bool,
    last: u64,
}

impl Book {
    /// Whether it may be done, and does it.
    fn make(&mut self, what: &Try, now: u64) -> bool {
        let one_runs = self.drills.iter().position(|one| one.far == 3);
        let far = |far: &[u8], one: &Simple| far.contains(&one.far);
        match *what {
            Try::Store(d) => {
                let one = &mut self.drills[usize::from(d)];
                one.far = one.far.max(1);
                true
            }
            Try::Approve(d, who) => {
                let one = &mut self.drills[usize::from(d)];
                one.approved.retain(|(_, at)| now - at < APPROVAL_MS);
                let fine = far(&[1, 2], one) && one.approved.iter().all(|(by, _)| *by != who);
                if fine {
                    one.approved.push((who, now));
                    one.far = if one.approved.len() >= 2 { 2 } else { one.far };
                }
                fine
            }
            Try::Begin(d, who) => {
                let at = usize::from(d);
                if one_runs.is_some() {
                    return one_runs == Some(at) && self.drills[at].controller.1 == who;
                }
                let one = &mut self.drills[at];
                let valid = one.approved.iter().filter(|(_, at)| now - at < APPROVAL_MS);
                let fine = far(&[1, 2], one) && valid.count() >= 2 && !self.lever;
                if fine {
                    self.last += 1;
                    one.far = 3;
                    one.controller = (self.last, who, now);
                }
                fine
            }
            Try::Claim(d, who) => {
                let one = &mut self.drills[usize::from(d)];
                let own = one.controller.1 == who;
                let fine = one.far == 3 && (own || now - one.controller.2 >= TAKEOVER_MS);
                if fine && !own {
                    self.last += 1;
                    one.controller.0 = self.last;
                }
                if fine {
                    one.controller = (one.controller.0, who, now);
                }
                fine
            }
            Try::Beat(d, number) | Try::Conclude(d, number) | Try::Lost(d, number) => {
                let one = &mut self.drills[usize::from(d)];
                let holds = one.controller.0 == number && number > 0;
                let ends = match what {
                    Try::Beat(..) => {
                        let fine = holds && one.far == 3;
                        one.controller.2 = if fine { now } else { one.controller.2 };
                        return fine;
                    }
                    Try::Lost(..) => one.far == 4 || now - one.controller.2 >= LOST_MS,
                    Try::Conclude(..) => true,
                    other => unreachable!("{other:?}"),
                };
                one.far = if holds && ends { 4 } else { one.far };
                holds && ends
            }
            Try::Abort(d) => {
                let one = &mut self.drills[usize::from(d)];
                let fine = one.far > 0;
                one.far = if fine { 4 } else { 0 };
                fine
            }
            Try::Pull => {
                self.lever = true;
                for one in &mut self.drills {
                    one.far = if one.far == 3 { 4 } else { one.far };
                }
                true
            }
            Try::Release => {
                self.lever = false;
                true
            }
        }
    }
}

fn body_of(what: &Try) -> DrillBody {
    let id = |d: &u8| format!("d{d}");
    match what {
        Try::Store(d) => store(&id(d)),
        Try::Approve(d, who) => approve(&id(d), &format!("w{who}")),
        Try::Begin(d, who) => begin(&id(d), &format!("c{who}")),
        Try::Claim(d, who) => claim(&id(d), &format!("c{who}")),
        Try::Beat(d, number) => beat(&id(d), *number, ""),
        Try::Conclude(d, number) => conclude(&id(d), *number, End::Passed),
        Try::Abort(d) => abort(&id(d)),
        Try::Lost(d, number) => DrillBody::Lost(Lost {
            id: id(d),
            number: *number,
        }),
        Try::Pull => DrillBody::Pull(Pull {
            who: "ann".into(),
            why: String::new(),
        }),
        Try::Release => DrillBody::Release(Release { who: "ann".into() }),
    }
}

proptest! {
    /// What is done and what is refused is as in the simple model; a drill never goes back.
    #[test]
    fn drills_are_as_the_simple_model_says(tried in proptest::collection::vec(tries(), 1..120)) {
        let (mut state, mut book, mut now) = (cluster(), Book::default(), 1);
        for (what, later) in tried {
            now += later;
            let fine = book.make(&what, now);
            let made = make(&mut state, body_of(&what), now);
            prop_assert_eq!(made.is_ok(), fine, "{:?} at {}: {:?}", what, now, made);
            let drills = state.drills.clone().unwrap_or_default();
            for (d, simple) in book.drills.iter().enumerate() {
                let held = drills.get(&format!("d{d}"));
                prop_assert_eq!(held.map_or(0, |one| one.state), i32::from(simple.far));
            }
            prop_assert_eq!(drills.lever.is_some(), book.lever);
            prop_assert!(drills.drills.iter().filter(|one| one.is(State::Running)).count() <= 1);
        }
    }
}
