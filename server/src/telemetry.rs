//! Structured logs, set up once by the program that runs a node; the crates below only emit them.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Checks tracing's directives: a level, or levels per target.
///
/// # Errors
/// Text saying what is wrong.
pub fn check_level(level: &str) -> Result<(), String> {
    EnvFilter::builder()
        .parse(level)
        .map(drop)
        .map_err(|error| {
            format!("{error}; use error, warn, info, debug or trace, or info,firebreak_raft=debug")
        })
}

/// What is filtered by: openraft speaks of every heartbeat that fails, in each of thousands of
/// groups, so it is heard only when it is named.
fn directives(level: &str) -> String {
    if level.contains("openraft") {
        return level.to_owned();
    }
    format!("{level},openraft=error")
}

/// Sends all logs of this process to `writer`, which must neither block nor fail. The environment's `FIREBREAK_LOG` wins over `level`.
/// Colours are used when
/// standard error is a terminal, and never when `NO_COLOR` is set.
///
/// # Errors
/// When `level` or `FIREBREAK_LOG` cannot be read, or logs have been set up before.
pub fn install<W>(level: &str, format: Format, writer: W) -> Result<(), String>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let from_environment = std::env::var("FIREBREAK_LOG").ok();
    let level = from_environment.as_deref().unwrap_or(level);
    check_level(level)?;
    let filter = EnvFilter::builder().parse_lossy(directives(level));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        // It would tell them on standard error, where they come from.
        .log_internal_errors(false)
        .with_writer(writer);
    match format {
        Format::Json => lines.json().flatten_event(true).try_init(),
        Format::Text => {
            let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let colour = !plain && io::IsTerminal::is_terminal(&io::stderr());
            lines.with_ansi(colour).try_init()
        }
    }
    .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_checked_before_they_are_used() {
        assert!(check_level("info").is_ok());
        assert!(check_level("info,firebreak_raft=debug").is_ok());
        assert!(check_level("x=y=z").is_err());
    }

    #[test]
    fn openraft_is_quiet_unless_it_is_named() {
        assert_eq!(directives("debug"), "debug,openraft=error");
        assert_eq!(directives("info,openraft=info"), "info,openraft=info");
        assert!(check_level(&directives("info,firebreak_raft=debug")).is_ok());
    }
}
