//! `train`: a run at the pace of real time, whose nodes are called from real ports; then the debrief.

mod pace;
mod port;
mod words;

use std::path::Path;
use std::process::ExitCode;

use firebreak_sim::plan::{Event, Fault, Tier};
use firebreak_sim::train::debrief::{self, Best, Ended as TrainingEnded, Felt};
use firebreak_sim::train::notes::What;
use firebreak_sim::train::{Debrief, Moment, Notes, Training};
use firebreak_sim::{Outcome, Plan};
use server::sight::console;
use tokio::sync::{mpsc, watch};

use super::cases::{Scenario, parameter};
use super::files::{self, Console};
use super::here;
use super::stop::Stop;
use super::worker::{LIMIT_SECONDS, Workers};
use super::{Ended, Failure, pool};
use pace::{Done, Pace};
use port::{Ports, State};

/// Seeds that `?` is drawn from: such as can be typed.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=999_999;
/// What the run is called in which nobody does anything.
const ALONE: &str = "left alone";

const EXAMPLES: &str = "\
Examples:
  firebreak train kakao-2022 --seed ?            a fire that nobody knows beforehand
  firebreak train kakao-2022 --seed 7 --speed 0.5    the same fire for everybody, at half the pace
  firebreak train dc-silent --seed ? --json debrief.json

Nodes are simulated; the ports are real: firebreak status, top and dc drain work against them, and so does a
browser. It says which ports when the cluster serves. `done` and Enter, or Ctrl-C, end it early: the rest of the
scenario then runs by itself, and the debrief follows. A second Ctrl-C ends it without one.

Exit codes: 0 every promise held and the fire was seen, 1 a goal was missed or the fire was not seen, 2 unusable
input, 3 a promise of safety was broken.";

/// Trains an operator in a simulated fire, with the real command and the real console
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A name that `list` shows, or the path of a file that ends in .toml
    scenario: String,
    /// Which run of it; ? draws one, and tells it at the end
    #[arg(long, default_value = "?", value_parser = seed)]
    seed: Seed,
    /// Virtual seconds to a real one
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// The first of the ports, one for each node on 127.0.0.1; 0 takes free ones
    #[arg(long, default_value_t = 7_401)]
    port: u16,
    /// Another value for one of the scenario's parameters
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
    set: Vec<(String, String)>,
    /// Writes the debrief there for machines; - is stdout
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = files::STDOUT)]
    json: Option<String>,
}

/// Which run.
#[derive(Clone, Copy, Debug)]
enum Seed {
    Drawn,
    Given(u64),
}

fn seed(text: &str) -> Result<Seed, String> {
    match text {
        "?" => Ok(Seed::Drawn),
        text => text
            .parse()
            .map(Seed::Given)
            .map_err(|_| "say a number, or ? for one that is drawn".to_owned()),
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text
        .parse()
        .map_err(|_| "say a number, as 0.5".to_owned())?;
    match (0.05..=100.0).contains(&speed) {
        true => Ok(speed),
        false => Err("0.05 to 100 would be right".to_owned()),
    }
}

impl Args {
    /// Trains.
    pub(crate) fn run(self) -> Ended {
        let scenario = Scenario::load(&self.scenario, &self.set, None)?;
        files::ready(self.json.as_deref())?;
        let console = Console::beside(&[self.json.as_deref()]);
        here::log()?;
        let seed = match self.seed {
            Seed::Given(seed) => seed,
            Seed::Drawn => rand::random_range(SEEDS),
        };
        let plan = scenario.plan(seed, Tier::Grpc);
        refuse(&plan)?;
        let ports = Ports::take(self.port, plan.topology.nodes().count())?;
        console.say("The cluster is being founded.");
        let debrief = self.train(&scenario, &plan, ports, console)?;
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&debrief);
            let text = text.map_err(|error| Failure::Failed(format!("as JSON: {error}")))?;
            files::write(Path::new(path), &format!("{text}\n"))?;
        }
        console.say(&words::debrief(&debrief));
        Ok(ExitCode::from(debrief.exit_code()))
    }

    fn train(
        &self,
        scenario: &Scenario,
        plan: &Plan,
        ports: Ports,
        console: Console,
    ) -> Result<Debrief, Failure> {
        let notes = Notes::default();
        let mut pace = Pace::new(self.speed, Done::listen());
        let outcome = played(plan, ports, &notes, &mut pace, console)?;
        console.say("Other runs of this seed are made, to be held against.");
        let (others, best) = others(scenario, plan)?;
        let notes = notes.all();
        let asked = notes.iter().filter(|note| {
            let looks = matches!(note.what, What::Looked { .. } | What::Silent { .. });
            !looks
        });
        Ok(Debrief {
            scenario: plan.scenario.clone(),
            seed: plan.seed,
            speed: self.speed,
            late_ms: u64::try_from(pace.late.as_millis()).unwrap_or(u64::MAX),
            ended: match pace.done_at_us {
                None => TrainingEnded::Over,
                Some(_) => TrainingEnded::Done,
            },
            ended_at_ms: pace.done_at_us.unwrap_or(pace.at_us) / 1_000,
            steps: debrief::steps(&debrief::events(plan), &notes),
            asked: asked.cloned().collect(),
            felt: Felt::of("yours", &outcome),
            others,
            best,
        })
    }
}

/// A scenario in which nodes get new ports has none for them on this machine.
fn refuse(plan: &Plan) -> Result<(), Failure> {
    let moves = |event: &Event| matches!(event.fault, Fault::Move { .. });
    match plan.events.iter().any(moves) {
        false => Ok(()),
        true => Err(Failure::Usage(format!(
            "{}: its nodes change their addresses, and nobody outside could follow them",
            plan.scenario
        ))),
    }
}

/// The run itself, until its end.
fn played(
    plan: &Plan,
    ports: Ports,
    notes: &Notes,
    pace: &mut Pace,
    console: Console,
) -> Result<Outcome, Failure> {
    let (wires, coming) = mpsc::unbounded_channel();
    let (state, states) = watch::channel(State::Waiting);
    let addresses = ports.addresses.clone();
    ports.serve(wires, states)?;
    let training = Training {
        addresses: addresses.clone(),
        wires: coming,
        notes: notes.clone(),
        console: console::router(),
    };
    let speed = pace.speed();
    here::take_part(plan, training, &mut |moment| match moment {
        Moment::Load(us) => {
            if us == 0 {
                console.say(&words::welcome(plan, &addresses, speed));
                state.send_replace(State::Open);
            }
            let was_done = pace.done_at_us.is_some();
            pace.wait(us);
            if !was_done && pace.done_at_us.is_some() {
                state.send_replace(State::Over);
                console.say("The rest of the scenario runs by itself.");
            }
        }
        Moment::Rest => {
            state.send_replace(State::Over);
        }
    })
}

/// The same seed without anybody, and with what is right where the scenario says so; and the best of them.
fn others(scenario: &Scenario, plan: &Plan) -> Result<(Vec<Felt>, Option<Best>), Failure> {
    let workers = Workers::new(LIMIT_SECONDS, Stop::after(None))?;
    let alone = scenario.plan(plan.seed, Tier::Direct);
    let mut runs = vec![(ALONE.to_owned(), alone.clone())];
    let act = scenario.file.right_act(&alone);
    if let Some(act) = &act {
        let mut right = alone;
        right.events.push(act.event.clone());
        right.events.sort_by_key(|event| event.at_ms);
        runs.push((act.what.clone(), right));
    }
    let mut felt = Vec::new();
    let work = |(run, plan): (String, Plan)| Ok((run, workers.run(&plan, None)?));
    pool::each(pool::cores(), runs.into_iter(), work, |(run, done)| {
        felt.extend(done.map(|done| Felt::of(run, &done.outcome)));
        Ok(())
    })?;
    felt.sort_by_key(|felt| felt.run != ALONE);
    let best = debrief::least(&felt).map(|felt| {
        let act = act.filter(|act| act.what == felt.run);
        Best {
            run: felt.run.clone(),
            acts_at_ms: act.as_ref().map(|act| act.event.at_ms),
            why: act.map_or_else(
                || {
                    "the cluster needs nobody here; who watches and changes nothing does right"
                        .to_owned()
                },
                |act| act.why,
            ),
        }
    });
    Ok((felt, best))
}
