//! Drawing on a shared time axis. Shapes are placed in percent of the plot, so that a chart is as
//! wide as its page while its letters keep their size; curves live in nested `svg`s that stretch.

use std::fmt::{Display, Write as _};

use super::words::{escape, thousands};

/// Units of a nested, stretched `svg` across the whole time.
pub(crate) const WIDE: f64 = 1_000.0;

/// The time that all panels of a chart share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    /// Its end, ms after the load began; at least 1.
    pub(crate) end_ms: u64,
}

impl Axis {
    /// Where `ms` is, 0 to 1.
    pub(crate) fn part(self, ms: u64) -> f64 {
        ms.min(self.end_ms) as f64 / self.end_ms as f64
    }

    /// Where `ms` is, in percent.
    pub(crate) fn x(self, ms: u64) -> String {
        percent(self.part(ms))
    }

    /// How wide `from..to` is, in percent.
    pub(crate) fn width(self, from: u64, to: u64) -> String {
        percent((self.part(to) - self.part(from)).max(0.0))
    }

    /// Where `ms` is, in units of a stretched `svg`.
    pub(crate) fn wide(self, ms: u64) -> String {
        format!("{:.2}", self.part(ms) * WIDE)
    }

    /// Moments to mark: 4 to 12, at round times.
    pub(crate) fn ticks(self) -> Vec<u64> {
        const STEPS_S: [u64; 14] = [
            1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600, 21_600, 86_400,
        ];
        let fits = |step: &&u64| self.end_ms / (**step * 1_000) <= 12;
        let day = 86_400;
        let step_s = STEPS_S.iter().find(fits).copied().unwrap_or(day);
        let step_ms = match self.end_ms {
            0..4_000 => (self.end_ms / 4).max(1),
            _ => step_s * 1_000,
        };
        (0..=self.end_ms / step_ms)
            .map(|n| n * step_ms)
            .take(64)
            .collect()
    }
}

fn percent(part: f64) -> String {
    format!("{:.3}%", part * 100.0)
}

/// A tick's words, alike for all of an axis: `20 s`, `3:05`, `2:00:00`.
pub(crate) fn tick_text(axis: Axis, ms: u64) -> String {
    let s = ms / 1_000;
    match axis.end_ms {
        0..4_000 => format!("{:.2} s", ms as f64 / 1_000.0),
        4_000..120_000 => format!("{s} s"),
        120_000..7_200_000 => format!("{}:{:02}", s / 60, s % 60),
        _ => format!("{}:{:02}:{:02}", s / 3_600, s % 3_600 / 60, s % 60),
    }
}

/// A rectangle over `from..to`, with a tooltip unless `title` is empty.
pub(crate) fn bar(
    axis: Axis,
    class: &str,
    (from, to): (u64, u64),
    (y, height): (impl Display, impl Display),
    title: &str,
) -> String {
    let title = match title.is_empty() {
        true => String::new(),
        false => format!("<title>{}</title>", escape(title)),
    };
    format!(
        "<rect class=\"{class}\" x=\"{}\" width=\"{}\" y=\"{y}\" height=\"{height}\">\
         {title}</rect>",
        axis.x(from),
        axis.width(from, to),
    )
}

/// One series of a step chart: a value, or none, per second.
pub(crate) type Steps = Vec<Option<f64>>;

/// The outline of `steps`, one second wide each, in a stretched `svg` whose y goes down to
/// `height`; breaks where there is no value.
pub(crate) fn step_line(axis: Axis, steps: &Steps, y: impl Fn(f64) -> f64) -> String {
    let mut path = String::new();
    let mut pen_down = false;
    for (second, value) in (0_u64..).zip(steps) {
        let Some(value) = value else {
            pen_down = false;
            continue;
        };
        let (from, to) = (axis.wide(second * 1_000), axis.wide((second + 1) * 1_000));
        let pen = if pen_down { "L" } else { "M" };
        let y = y(*value);
        // Writing to a String cannot fail.
        let _ = write!(path, "{pen}{from} {y:.1}H{to}");
        pen_down = true;
    }
    path
}

/// The area between `low` and `high`, one second wide each; nothing where either has no value.
pub(crate) fn step_area(axis: Axis, low: &Steps, high: &Steps, y: impl Fn(f64) -> f64) -> String {
    let mut path = String::new();
    let mut run: Vec<(u64, f64, f64)> = Vec::new();
    let mut flush = |run: &mut Vec<(u64, f64, f64)>| {
        let Some((first, _, _)) = run.first() else {
            return;
        };
        let _ = write!(path, "M{}", axis.wide(first * 1_000));
        for (n, (second, _, high)) in run.iter().enumerate() {
            let (pen, y) = (if n == 0 { " " } else { "V" }, y(*high));
            let _ = write!(path, "{pen}{y:.1}H{}", axis.wide((second + 1) * 1_000));
        }
        for (second, low, _) in run.iter().rev() {
            let _ = write!(path, "V{:.1}H{}", y(*low), axis.wide(second * 1_000));
        }
        path.push('Z');
        run.clear();
    };
    for ((second, low), high) in (0_u64..).zip(low).zip(high) {
        match (low, high) {
            (Some(low), Some(high)) => run.push((second, *low, *high)),
            (None, _) | (_, None) => flush(&mut run),
        }
    }
    flush(&mut run);
    path
}

/// A stretched `svg` with `body`, as high as its plot.
pub(crate) fn stretched(height: u32, body: &str) -> String {
    format!(
        "<svg x=\"0\" y=\"0\" width=\"100%\" height=\"{height}\" viewBox=\"0 0 1000 {height}\" \
         preserveAspectRatio=\"none\">{body}</svg>"
    )
}

/// The least of 1, 2, 2.5, 5 × a power of ten that is at least `most`.
pub(crate) fn round_up(most: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for step in [
            power,
            power * 2,
            power.saturating_mul(5) / 2,
            power.saturating_mul(5),
        ] {
            if step >= most.max(4) && step.is_multiple_of(2) {
                return step;
            }
        }
        match power.checked_mul(10) {
            Some(next) if next < u64::MAX / 10 => power = next,
            _ => return most,
        }
    }
}

/// A row of a chart: a heading with its legend, and below it the plot with its rows' names or the
/// ticks of its y axis to the left.
#[derive(Default)]
pub(crate) struct Panel {
    /// Its heading; none when empty.
    pub(crate) title: String,
    /// What stands beside the heading, HTML.
    pub(crate) legend: String,
    /// Names of rows: text, y of the middle in px.
    pub(crate) rows: Vec<(String, f64)>,
    /// Ticks of the y axis: text, y in px.
    pub(crate) ticks: Vec<(String, f64)>,
    /// Height of the plot, px.
    pub(crate) height: u32,
    /// SVG.
    pub(crate) plot: String,
}

impl Panel {
    /// As HTML.
    pub(crate) fn html(&self) -> String {
        let Panel {
            legend,
            height,
            plot,
            ..
        } = self;
        let title = escape(&self.title);
        let heading = match title.is_empty() {
            true => String::new(),
            false => format!("<div class=\"head\"><h3>{title}</h3>{legend}</div>"),
        };
        let (mut gutter, mut lines) = (String::new(), String::new());
        for (text, y) in &self.rows {
            let text = escape(text);
            let _ = write!(
                gutter,
                "<span class=\"row\" style=\"top:{y:.1}px\" title=\"{text}\">{text}</span>"
            );
        }
        for (text, y) in &self.ticks {
            let text = escape(text);
            let _ = write!(
                gutter,
                "<span class=\"y\" style=\"top:{y:.1}px\">{text}</span>"
            );
            let _ = write!(
                lines,
                "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
            );
        }
        format!(
            "{heading}<div class=\"panel\"><div class=\"gut\">{gutter}</div>\
             <svg class=\"plot\" height=\"{height}\" role=\"img\" aria-label=\"{title}\">\
             {lines}{plot}</svg></div>\n"
        )
    }
}

/// A legend's entry.
pub(crate) fn key(class: &str, text: &str, total: Option<u64>) -> String {
    let total = total.map_or_else(String::new, |n| format!(" <b>{}</b>", thousands(n)));
    let text = escape(text);
    format!("<span class=\"key\"><i class=\"{class}\"></i>{text}{total}</span>")
}
