//! What a fault does, and how a link is, in words for people.

use std::fmt;

use super::{Drill, Fault, Link, Part, Standstill, Starved};

/// Hosts that are named one by one where a text has to be short.
const NAMED_MAX: usize = 3;

/// `seoul-1 and seoul-2 lose power`. More than three hosts are told by the first, the last and their
/// number; with `{:#}` all of them are named.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| list(names, f.alternate());
        let whom = list(self.hosts());
        let many = self.hosts().len() > 1;
        // What one does, and what several do.
        let they = |one: &'static str, several: &'static str| if many { several } else { one };
        match self {
            Fault::Burn { .. } => write!(f, "{whom} {}", they("burns", "burn")),
            Fault::PowerCut { .. } => write!(f, "{whom} {} power", they("loses", "lose")),
            Fault::Crash { disks_lost, .. } => {
                write!(f, "{whom} {}", they("crashes", "crash"))?;
                match disks_lost {
                    true => write!(f, " and {}", they("loses its disks", "lose their disks")),
                    false => Ok(()),
                }
            }
            Fault::Kill { .. } => write!(f, "{whom} {} killed", they("is", "are")),
            Fault::Stop { .. } => write!(f, "{whom} {} asked to stop", they("is", "are")),
            Fault::Start { .. } => write!(f, "{whom} {}", they("starts", "start")),
            Fault::Pause { clocks, .. } => match clocks {
                Standstill::GoOn => write!(f, "{whom} {} still", they("stands", "stand")),
                Standstill::Suspended => {
                    write!(f, "{whom} {} suspended", they("is", "are"))
                }
                Standstill::Unknown => {
                    write!(
                        f,
                        "{whom} {} still with all clocks",
                        they("stands", "stand")
                    )
                }
            },
            Fault::Resume { .. } => write!(f, "{whom} {} on", they("goes", "go")),
            Fault::Starve { starved, .. } => match starved {
                Some(Starved {
                    share_percent,
                    wait_ms: (least, most),
                }) => write!(
                    f,
                    "{whom} {} {share_percent} % of the processor, {least} to {most} ms late",
                    they("gets", "get")
                ),
                None => write!(f, "{whom} {} the processor again", they("has", "have")),
            },
            Fault::Cut { from, to, reset } => {
                let how = if *reset { "resets" } else { "swallows" };
                write!(f, "the way {} → {} {how} everything", list(from), list(to))
            }
            Fault::Block { from, to, block } => {
                let how = if *block { "opens no" } else { "opens" };
                write!(f, "{} {how} connections to {}", list(from), list(to))
            }
            Fault::Heal { from, to } => {
                write!(f, "the way {} → {} is open", list(from), list(to))
            }
            Fault::Reset { from, to } => {
                write!(f, "connections {} ↔ {} reset", list(from), list(to))
            }
            Fault::Link { from, to, link } => match link {
                Some(link) => write!(f, "{from} → {to}: {link}"),
                None => write!(f, "{from} → {to}: as usual"),
            },
            Fault::Drain { drain, .. } => {
                let what = if *drain { "be drained" } else { "serve again" };
                write!(f, "{whom} {} to {what}", they("is", "are"))
            }
            Fault::Move { swap, .. } => {
                let at = match swap {
                    true => "each other's addresses",
                    false => they("a new address", "new addresses"),
                };
                write!(
                    f,
                    "{whom} {} {at} from the next start on",
                    they("has", "have")
                )
            }
            Fault::Remove { .. } => write!(f, "{whom} {} removed", they("is", "are")),
            Fault::Forge { .. } => write!(
                f,
                "{whom} {} of a term out of nowhere",
                they("hears", "hear")
            ),
            Fault::MoveTo { back: false, .. } => write!(f, "a replica moves to {whom}"),
            Fault::MoveTo { back: true, .. } => {
                write!(f, "the move of a replica to {whom} is taken back")
            }
            Fault::Drill { drill, .. } => match drill {
                None => write!(f, "the drill on {whom} is over"),
                Some(Drill { ttl_ms, renews_ms }) => {
                    write!(f, "a drill has {whom} fall silent, {ttl_ms} ms at a time")?;
                    match renews_ms {
                        Some(ms) => write!(f, "; its controller dies after {ms} ms"),
                        None => Ok(()),
                    }
                }
            },
            Fault::Stampede { .. } => write!(f, "all clients of {whom} come back at once"),
            disk_or_clock => disks_and_clocks(f, disk_or_clock, &whom, many),
        }
    }
}

fn disks_and_clocks(
    f: &mut fmt::Formatter<'_>,
    fault: &Fault,
    whom: &str,
    many: bool,
) -> fmt::Result {
    match fault {
        Fault::SlowSync { sync_ms, .. } => match sync_ms {
            Some((least, most)) => write!(f, "fsync at {whom} takes {least} to {most} ms"),
            None => write!(f, "fsync at {whom} is as usual"),
        },
        Fault::HangSync { hang, .. } => match hang {
            true => write!(f, "fsync at {whom} hangs"),
            false => write!(f, "fsync at {whom} goes on"),
        },
        Fault::FailSync { fail, .. } => match fail {
            true => write!(f, "fsync at {whom} fails"),
            false => write!(f, "fsync at {whom} succeeds again"),
        },
        Fault::DiskRoom { free_percent, .. } => match free_percent {
            Some(percent) => write!(f, "{percent} % room left at {whom}"),
            None => write!(f, "room again at {whom}"),
        },
        Fault::SmallDisk { left_bytes, .. } => match left_bytes {
            Some(bytes) => write!(f, "{} KiB are left at {whom}", bytes / 1_024),
            None => write!(f, "room again at {whom}"),
        },
        Fault::BitFlip { part, .. } => {
            let part = match part {
                Part::Log => "the log",
                Part::Vote => "a vote",
                Part::State => "the state",
                Part::Snapshot => "a snapshot",
            };
            let of = if many { "of each of" } else { "of" };
            write!(f, "a bit flips in {part} {of} {whom}")
        }
        Fault::LoseRecord { .. } => write!(f, "a record vanishes from the state of {whom}"),
        Fault::Compact { .. } => write!(f, "the state of {whom} is compacted"),
        Fault::WipeDisk { .. } => write!(f, "empty disks for {whom}"),
        Fault::ImageDisk { .. } => write!(f, "an image of the disks of {whom} is taken"),
        Fault::OldDisk { .. } => write!(f, "old disks come back at {whom}"),
        Fault::ClockJump { by_ms, .. } => {
            let clocks = if many { "clocks" } else { "clock" };
            let jump = if many { "jump" } else { "jumps" };
            let s = *by_ms as f64 / 1e3;
            write!(f, "the wall {clocks} of {whom} {jump} {s:+} s")
        }
        Fault::ClockDrift { ppm: 0, .. } => write!(f, "the clocks of {whom} run true"),
        Fault::ClockDrift { ppm, .. } => write!(f, "the clocks of {whom} drift {ppm:+} ppm"),
        // Told above.
        _ => Ok(()),
    }
}

fn list(names: &[String], whole: bool) -> String {
    match names {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [first, .., last] if names.len() > NAMED_MAX && !whole => {
            format!("{first} … {last} ({})", names.len())
        }
        [names @ .., last] => format!("{} and {last}", names.join(", ")),
    }
}

/// `15 ms one way, jitter 0.5 ms, 5 % lost`.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = self.latency_us;
        let ms = |us: u64| us as f64 / 1e3;
        match least == most {
            true => write!(f, "{} ms one way", ms(least))?,
            false => write!(f, "{} to {} ms one way", ms(least), ms(most))?,
        }
        if self.jitter_us > 0 {
            write!(f, ", jitter {} ms", ms(self.jitter_us))?;
        }
        if self.loss_ppm > 0 {
            write!(f, ", {} % lost", f64::from(self.loss_ppm) / 1e4)?;
        }
        if self.bandwidth_bytes > 0 {
            write!(f, ", {} kB/s", self.bandwidth_bytes / 1_000)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn check(fault: &Fault, short: &str, whole: &str) {
        assert_eq!(fault.to_string(), short);
        assert_eq!(format!("{fault:#}"), whole);
    }

    #[test]
    fn one_host_loses_power_and_several_lose_it() {
        let cut = |names: &[&str]| Fault::PowerCut {
            hosts: hosts(names),
        };
        let alike = |names: &[&str], text| check(&cut(names), text, text);
        alike(&["n1"], "n1 loses power");
        alike(&["n1", "n2"], "n1 and n2 lose power");
        alike(&["n1", "n2", "n3"], "n1, n2 and n3 lose power");
        check(
            &cut(&["n1", "n2", "n3", "n4"]),
            "n1 … n4 (4) lose power",
            "n1, n2, n3 and n4 lose power",
        );
    }

    #[test]
    fn a_link_tells_all_that_is_unusual_of_it() {
        let link = Link {
            latency_us: (15_000, 150_000),
            jitter_us: 500,
            loss_ppm: 50_000,
            bandwidth_bytes: 20_000,
        };
        let text = "15 to 150 ms one way, jitter 0.5 ms, 5 % lost, 20 kB/s";
        assert_eq!(link.to_string(), text);
        let (from, to) = ("seoul".to_owned(), "busan".to_owned());
        let link = Some(link);
        let text = format!("seoul → busan: {text}");
        check(&Fault::Link { from, to, link }, &text, &text);
    }

    #[test]
    fn a_jump_of_a_clock_keeps_its_sign_and_its_milliseconds() {
        let jump = |by_ms| Fault::ClockJump {
            hosts: hosts(&["n1", "n2"]),
            by_ms,
        };
        let text = "the wall clocks of n1 and n2 jump -3600 s";
        check(&jump(-3_600_000), text, text);
        let text = "the wall clocks of n1 and n2 jump +0.25 s";
        check(&jump(250), text, text);
    }
}
