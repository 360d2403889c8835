//! A run in this process, on a thread of its own: what a thread draws once, it draws from the seed
//! then, whatever the command did before.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use firebreak_sim::train::{Moment, Training};
use firebreak_sim::{Outcome, Plan, Verdict, interpose, net};
use model::mutants;
use serde::{Deserialize, Serialize};
use server::telemetry;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use super::Failure;

/// The name of a thread that makes a run.
const RUN: &str = "run";
/// Its stack, bytes: the same for all, so that depth is no difference between machines.
const STACK_BYTES: usize = 64 << 20;
/// Exit code when whoever read the output has gone away, as of a command that SIGPIPE ended.
const OUTPUT_CLOSED: i32 = 128 + 13;

/// A run that was made.
#[derive(Serialize, Deserialize)]
pub(crate) struct Made {
    /// What it came to.
    pub outcome: Outcome,
    /// What it took of a core.
    pub cpu_seconds: f64,
}

/// Log lines carry virtual time: seconds since the run began.
struct Virtual;

impl FormatTime for Virtual {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{:10.3}", net::now_us() as f64 / 1e6)
    }
}

/// Shows what nodes log, when the variable that nodes heed asks for it.
pub(crate) fn log() -> Result<(), Failure> {
    let Some(level) = telemetry::from_environment().map_err(Failure::Usage)? else {
        return Ok(());
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(level))
        .with_timer(Virtual)
        .with_writer(std::io::stderr);
    // Somebody else's subscriber would be as good.
    let _ = subscriber.try_init();
    Ok(())
}

/// Makes the run of a plan, with a mutant switched on if one is named.
pub(crate) fn make(plan: &Plan, mutant: Option<&str>) -> Result<Made, Failure> {
    if let Some(name) = mutant {
        mutants::activate(name).map_err(|refused| Failure::Usage(refused.to_string()))?;
    }
    on_a_thread(|| {
        let began = interpose::cpu_elapsed();
        let mut outcome = firebreak_sim::run(plan);
        let cpu = interpose::cpu_elapsed().saturating_sub(began);
        note_panics(&mut outcome);
        Made {
            outcome,
            cpu_seconds: cpu.as_secs_f64(),
        }
    })
}

/// Makes the run of a plan that somebody outside takes part in.
pub(crate) fn take_part(
    plan: &Plan,
    training: Training,
    pace: &mut (dyn FnMut(Moment) + Send),
) -> Result<Outcome, Failure> {
    on_a_thread(|| {
        let mut outcome = firebreak_sim::run_training(plan, training, pace);
        note_panics(&mut outcome);
        outcome
    })
}

/// Does something on a thread of its own, as every run does.
pub(crate) fn on_a_thread<T: Send>(act: impl FnOnce() -> T + Send) -> Result<T, Failure> {
    if !interpose::works() {
        let why = "chance and clocks of this program are the real ones: it was linked wrongly";
        return Err(Failure::Failed(why.to_owned()));
    }
    let made = thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name(RUN.to_owned())
            .stack_size(STACK_BYTES);
        let running = thread.spawn_scoped(scope, act);
        running.map(thread::ScopedJoinHandle::join)
    });
    match made {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(_)) => Err(Failure::Failed(
            "the simulator itself panicked behind the run; --verbose shows where".to_owned(),
        )),
        Err(error) => Err(Failure::Failed(format!("no thread for the run: {error}"))),
    }
}

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

static VERBOSE: AtomicBool = AtomicBool::new(false);

/// Panics of the product are printed from now on, with where they came from.
pub(crate) fn be_verbose() {
    VERBOSE.store(true, Ordering::Relaxed);
}

/// A panic in a run belongs into its report and not on the terminal; a closed pipe is no panic.
pub(crate) fn set_panic_hook() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or_default();
        if text.starts_with("failed printing to std") && text.contains("Broken pipe") {
            process::exit(OUTPUT_CLOSED);
        }
        let in_run = thread::current().name() == Some(RUN);
        if in_run {
            keep(info);
        }
        if !in_run || VERBOSE.load(Ordering::Relaxed) {
            default(info);
        }
    }));
}

fn keep(info: &PanicHookInfo<'_>) {
    let text = info.payload_as_str().unwrap_or("no text");
    let place = info.location().map(ToString::to_string);
    let place = place.unwrap_or_else(|| "nobody knows where".to_owned());
    // A panic while panics are looked at is not worth another one.
    let _ = PANICS.try_with(|panics| {
        if let Ok(mut panics) = panics.try_borrow_mut() {
            panics.push(format!("panic: {text} ({place})"));
        }
    });
}

/// A panic says where it was. One that a task of the product swallowed is a panic, too.
fn note_panics(outcome: &mut Outcome) {
    let panics = PANICS.take();
    let Some(first) = panics.first() else {
        return;
    };
    outcome.verdict = Verdict::Broken;
    match &mut outcome.stopped {
        Some(stopped) if stopped.starts_with("panic: ") => stopped.clone_from(first),
        Some(stopped) => *stopped = format!("{first}; {stopped}"),
        stopped => *stopped = Some(first.clone()),
    }
}
