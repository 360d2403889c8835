//! The sections `tenants` and `classes`: which tenants may call, and how many calls that can wait go on at a
//! time.

use super::table::{Reader, Section};
use crate::tenants::Settings;
use crate::tenants::class::Bounds;

/// Calls of one class that go on at a time, at most.
const CALLS_MAX: u64 = 100_000;

/// Reads them.
pub(super) fn read(reader: &mut Reader<'_>, top: &Section<'_>) -> Settings {
    let section = reader.section(top, "tenants");
    reader.known(&section, &["implicit"]);
    let implicit = reader.boolean(&section, "implicit", true);
    let classes = reader.section(top, "classes");
    reader.known(
        &classes,
        &["sync_calls_max", "history_calls_max", "export_calls_max"],
    );
    let usual = Bounds::default();
    let mut calls = |key, default: usize| {
        let default = u64::try_from(default).unwrap_or(CALLS_MAX);
        let calls = reader.number(&classes, key, default, 1..=CALLS_MAX, "calls");
        usize::try_from(calls).unwrap_or(usize::MAX)
    };
    Settings {
        implicit,
        classes: Bounds {
            sync: calls("sync_calls_max", usual.sync),
            history: calls("history_calls_max", usual.history),
            export: calls("export_calls_max", usual.export),
        },
    }
}
