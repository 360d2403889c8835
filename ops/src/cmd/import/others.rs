//! `firebreak import` of what other programs exported.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use model::id::segment;

use super::{Args, INTERRUPTED, SOME_BAD, SOME_FAILED, watch_interrupts, write_report};
use crate::exit::Usage;
use crate::import::{self, Given, Kind, Report, kakao};

impl Args {
    /// Imports what is no file of JSON lines.
    pub(super) async fn others(&self, kind: Kind) -> anyhow::Result<ExitCode> {
        if let Some(id) = &self.conversation {
            segment("conversation", id)
                .map_err(|error| anyhow!(Usage(format!("--conversation: {error}"))))?;
        }
        if let Some(report) = &self.report {
            // Found out before the import, not after it.
            write_report(report, &Report::default())?;
        }
        let given = Given {
            kind,
            path: self.file.clone(),
            tenant: self.tenant.tenant.clone(),
            windows: self.windows().collect(),
            chat: kakao::Given {
                conversation: self.conversation.clone(),
                offset_ms: self.utc_offset,
            },
        };
        let client = self.client().await?;
        let stop = Arc::new(AtomicBool::new(false));
        tokio::spawn(watch_interrupts(stop.clone()));
        let bar = self.bytes_bar();
        let done = import::run(client, given, bar.clone(), stop).await;
        bar.finish_and_clear();
        let report = done?;
        if let Some(path) = &self.report {
            write_report(path, &report)?;
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            println!("{}", report.table());
            for line in report.named() {
                eprintln!("{line}");
            }
        }
        if report.interrupted {
            eprintln!("interrupted; run the same command again to go on, nothing goes in twice");
            return Ok(ExitCode::from(INTERRUPTED));
        }
        Ok(ExitCode::from(match (report.failed, report.bad) {
            (0, 0) => 0,
            (0, _) => SOME_BAD,
            _ => SOME_FAILED,
        }))
    }

    fn bytes_bar(&self) -> ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        }
        let bar = ProgressBar::new(1);
        let style = ProgressStyle::with_template(
            "{spinner} [{bar:32}] {bytes} of {total_bytes}  {msg}  {elapsed}",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }
}

/// `+09:00` as milliseconds.
pub(super) fn offset_ms(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is not of the form +09:00");
    let (sign, rest) = match text.split_at_checked(1) {
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        _ => return Err(wrong()),
    };
    let (hours, minutes) = rest.split_once(':').ok_or_else(wrong)?;
    let part = |text: &str, max: i64| {
        let part = text.parse().ok().filter(|part| (0..=max).contains(part));
        part.filter(|_| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let hours = part(hours, 14).ok_or_else(wrong)?;
    let minutes = part(minutes, 59).ok_or_else(wrong)?;
    Ok(sign * (hours * 60 + minutes) * 60_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_of_one_form() {
        assert_eq!(offset_ms("+09:00"), Ok(32_400_000));
        assert_eq!(offset_ms("-03:30"), Ok(-12_600_000));
        for wrong in [
            "", "9", "09:00", "+9:00", "+15:00", "+09:60", "+0900", "é09:00",
        ] {
            assert!(offset_ms(wrong).is_err(), "{wrong}");
        }
    }
}
