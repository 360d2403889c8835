//! A scenario of the simulator as the steps of a plan. The files are the simulator's own, and it has
//! checked them; what a live cluster cannot be done is refused with the reason.

mod fault;
mod value;

use std::collections::BTreeMap;

use rust_embed::RustEmbed;
use server::drill::plan::{Goals, Step};
use toml::Table;

pub use fault::{Cast, Member};
pub use value::time_ms;

#[derive(RustEmbed)]
#[folder = "../sim/scenarios"]
struct Files;

/// A scenario.
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it is about, one sentence.
    pub about: String,
    table: Table,
}

/// What of it can be done live.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    /// By time, the first at 0.
    pub steps: Vec<Step>,
    /// What is other than in the simulator, for people.
    pub differs: Vec<String>,
    /// What the scenario expects.
    pub goals: Goals,
}

impl Scenario {
    /// All that ship, by name.
    pub fn all() -> Vec<Scenario> {
        let names = Files::iter().filter_map(|file| Some(file.strip_suffix(".toml")?.to_owned()));
        let mut all: Vec<Scenario> = names.filter_map(|name| Scenario::named(&name)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The one of a name.
    pub fn named(name: &str) -> Option<Scenario> {
        let file = Files::get(&format!("{name}.toml"))?;
        let text = std::str::from_utf8(&file.data).ok()?;
        Scenario::read(name, text)
    }

    fn read(name: &str, text: &str) -> Option<Scenario> {
        let mut table: Table = text.parse().ok()?;
        if let Some(toml::Value::Table(parameters)) = table.remove("parameters") {
            let given = |(name, value): (String, toml::Value)| {
                Some((format!("${name}"), value.as_str()?.to_owned()))
            };
            let parameters: BTreeMap<String, String> =
                parameters.into_iter().filter_map(given).collect();
            put_in(&mut table, &parameters);
        }
        Some(Scenario {
            name: name.to_owned(),
            about: table.get("about")?.as_str()?.to_owned(),
            table,
        })
    }

    /// Why it cannot be done to a live cluster, whichever that is; none when it can.
    pub fn not_live(&self) -> Option<String> {
        let faults = self.faults();
        if faults.is_empty() {
            return Some("nothing is done in it".to_owned());
        }
        faults.into_iter().find_map(fault::never_live)
    }

    /// Its steps for a cluster.
    ///
    /// # Errors
    /// Why they cannot be done there.
    pub fn live(&self, cast: &Cast<'_>) -> Result<Live, String> {
        if let Some(why) = self.not_live() {
            return Err(why);
        }
        let mut live = Live {
            goals: self.goals(),
            ..Live::default()
        };
        fault::translate(&self.faults(), cast, &mut live)?;
        let first = live.steps.iter().map(|step| step.at_ms).min().unwrap_or(0);
        for step in &mut live.steps {
            step.at_ms -= first;
        }
        live.steps.sort_by_key(|step| step.at_ms);
        match live.steps.is_empty() {
            true => Err("nothing of it can be done live".to_owned()),
            false => Ok(live),
        }
    }

    fn faults(&self) -> Vec<&Table> {
        let lines = self.table.get("fault").and_then(toml::Value::as_array);
        let lines = lines.into_iter().flatten();
        lines.filter_map(toml::Value::as_table).collect()
    }

    fn goals(&self) -> Goals {
        let expect = self.table.get("expect").and_then(toml::Value::as_table);
        let of = |key: &str| expect.and_then(|expect| expect.get(key));
        let failed = of("failed_calls_max").and_then(toml::Value::as_integer);
        Goals {
            failed: failed.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            gap_ms: of("gap_max").and_then(|value| time_ms(value.as_str()?)),
        }
    }
}

/// Puts what parameters stand for in their place.
fn put_in(table: &mut Table, parameters: &BTreeMap<String, String>) {
    for (_, value) in table.iter_mut() {
        put_in_value(value, parameters);
    }
}

fn put_in_value(value: &mut toml::Value, parameters: &BTreeMap<String, String>) {
    match value {
        toml::Value::String(text) => {
            if let Some(stands_for) = parameters.get(text) {
                text.clone_from(stands_for);
            }
        }
        toml::Value::Array(all) => {
            for one in all {
                put_in_value(one, parameters);
            }
        }
        toml::Value::Table(inner) => put_in(inner, parameters),
        toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use server::drill::plan::Action;

    fn members() -> Vec<Member> {
        let mut all = Vec::new();
        for dc in ["seoul", "busan", "tokyo"] {
            for n in 1..=3 {
                all.push(Member {
                    name: format!("{dc}-{n}"),
                    dc: dc.to_owned(),
                    rack: format!("r{n}"),
                });
            }
        }
        all
    }

    #[track_caller]
    fn live(name: &str, real: bool) -> Result<Live, String> {
        befalling(&["seoul"], name, real)
    }

    fn befalling(dcs: &[&str], name: &str, real: bool) -> Result<Live, String> {
        let (members, dcs) = (members(), dcs.iter().map(|dc| (*dc).to_owned()));
        let cast = Cast {
            members: &members,
            targets: &dcs.collect::<Vec<_>>(),
            real,
        };
        Scenario::named(name).unwrap().live(&cast)
    }

    #[test]
    fn what_befalls_two_data_centers_befalls_them_at_once() {
        let nodes = |name: &str| {
            befalling(&["seoul", "busan"], name, false).unwrap().steps[0]
                .nodes
                .join(" ")
        };
        let mut both: Vec<String> = members().into_iter().map(|one| one.name).collect();
        both.retain(|name| !name.starts_with("tokyo"));
        assert_eq!(nodes("dc-silent"), both.join(" "));
        // The rack of each in which it burns first.
        assert_eq!(nodes("kakao-2022"), "seoul-1 busan-1");
    }

    #[test]
    fn every_scenario_that_ships_is_live_or_says_why_not() {
        let all = Scenario::all();
        assert!(all.len() > 50, "{}", all.len());
        for scenario in all {
            let told = live(&scenario.name, true);
            if let Ok(live) = &told {
                assert!(live.steps.iter().all(|step| !step.nodes.is_empty()));
                assert!(live.steps.iter().all(|step| step.for_ms.is_some()));
                assert_eq!(live.steps[0].at_ms, 0, "{}", scenario.name);
            }
            println!("{}: {told:?}", scenario.name);
        }
    }

    #[test]
    fn a_silence_befalls_the_target_and_the_goals_are_the_scenarios() {
        let live = live("dc-silent", false).unwrap();
        assert_eq!(live.steps.len(), 1);
        let step = &live.steps[0];
        assert_eq!(step.action, Action::Silence);
        assert_eq!((step.at_ms, step.for_ms), (0, Some(12_000)));
        assert_eq!(step.nodes, ["seoul-1", "seoul-2", "seoul-3"]);
        assert_eq!((live.goals.failed, live.goals.gap_ms), (0, Some(1_500)));
    }

    #[test]
    fn what_make_drill_plays_can_be_done_live() {
        for name in crate::drill::course::SCENARIOS {
            live(name, true).unwrap_or_else(|why| panic!("{name}: {why}"));
        }
        let rolling = live("rolling-restart", true).unwrap();
        assert_eq!(rolling.steps.len(), 9);
        assert!(
            rolling
                .steps
                .iter()
                .all(|step| step.action == Action::Restart && step.nodes.len() == 1)
        );
        let why = live("rolling-restart", false).unwrap_err();
        assert!(why.contains("--real"), "{why}");
        assert_eq!(
            live("dc-crash", true).unwrap().steps[0].action,
            Action::Sigkill
        );
        assert_eq!(
            live("dc-crash", false).unwrap().steps[0].action,
            Action::Reset
        );
        let kakao = live("kakao-2022", false).unwrap();
        assert_eq!(kakao.steps[0].nodes, ["seoul-1"], "{kakao:?}");
        assert!(
            kakao.differs.iter().any(|line| line.contains("stampede")),
            "{kakao:?}"
        );
    }

    #[test]
    fn what_the_world_sends_does_not_arrive_at_the_target() {
        let of = |name: &str| live(name, false).unwrap().steps.remove(0);
        let nodes = ["seoul-1", "seoul-2", "seoul-3"];
        for (name, sends, hears) in [
            ("asymmetric-send", true, false),
            ("asymmetric-recv", false, true),
        ] {
            let step = of(name);
            assert_eq!(step.nodes, nodes, "{name}");
            let peers = Vec::new();
            let cut = Action::Cut {
                peers,
                sends,
                hears,
            };
            assert_eq!(step.action, cut, "{name}");
        }
    }

    #[test]
    fn nothing_is_asked_of_a_process_that_is_down() {
        let steps = live("kakao-2022", true).unwrap().steps;
        let of = |action: &Action| {
            let found = steps.iter().filter(|step| step.action == *action);
            found.map(|step| step.nodes.join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(of(&Action::Sigkill), ["seoul-1", "seoul-2 seoul-3"]);
        let slow = Action::SlowSync { sync_ms: Some(30) };
        assert_eq!(of(&slow), ["seoul-2 seoul-3"], "{steps:?}");
    }

    #[test]
    fn what_destroys_or_lies_is_not_live() {
        for (name, says) in [
            ("bitflip", "bit-flip"),
            ("clock-jump-1h", "clock-jump"),
            ("mass-election", "burn"),
            ("calm", "nothing is done"),
        ] {
            let why = Scenario::named(name).unwrap().not_live().unwrap();
            assert!(why.contains(says), "{name}: {why}");
        }
        assert!(Scenario::named("../README").is_none());
    }

    #[test]
    fn without_a_target_who_is_meant_is_asked() {
        let members = members();
        let cast = Cast {
            members: &members,
            targets: &[],
            real: false,
        };
        let why = Scenario::named("dc-silent")
            .unwrap()
            .live(&cast)
            .unwrap_err();
        assert!(
            why.contains("--target dc=NAME") && why.contains("busan"),
            "{why}"
        );
    }
}
