//! What ends what, and whom it concerns: the one table for shrinking, charts and coverage.

use super::Fault;

/// Whether what ends something, of kind `end`, ends faults of kind `begin`, as [`Fault::kind`]
/// names them; whom either concerns is another question.
pub fn closes(end: &str, begin: &str) -> bool {
    match end {
        "start" => matches!(begin, "burn" | "power-cut" | "crash" | "kill" | "stop"),
        "resume" => begin == "pause",
        "heal" => begin == "cut",
        same => same == begin,
    }
}

impl Fault {
    /// Whether it is what ends faults like `begin`.
    pub fn closes(&self, begin: &Fault) -> bool {
        self.ends() && !begin.ends() && closes(self.kind(), begin.kind())
    }

    /// Whom it befalls: hosts one by one, or one side and the other.
    pub fn whom(&self) -> (Vec<&str>, Vec<&str>) {
        fn names(hosts: &[String]) -> Vec<&str> {
            hosts.iter().map(String::as_str).collect()
        }
        match self {
            Fault::Cut { from, to, .. }
            | Fault::Block { from, to, .. }
            | Fault::Heal { from, to }
            | Fault::Reset { from, to } => (names(from), names(to)),
            Fault::Link { from, to, .. } => (vec![from], vec![to]),
            one_by_one => (names(one_by_one.hosts()), Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_fault_is_of_its_kind_or_brings_back_what_it_took() {
        let cut = |to: &str| Fault::Cut {
            from: vec!["a".into()],
            to: vec![to.into()],
            reset: false,
        };
        let heal = Fault::Heal {
            from: vec!["a".into()],
            to: vec!["b".into()],
        };
        let hosts = || vec!["a".to_owned()];
        let slow = |sync_ms| Fault::SlowSync {
            hosts: hosts(),
            sync_ms,
        };
        let start = Fault::Start { hosts: hosts() };
        assert!(heal.closes(&cut("b")) && !cut("b").closes(&heal));
        assert!(slow(None).closes(&slow(Some((1, 2)))));
        assert!(
            !slow(Some((3, 4))).closes(&slow(Some((1, 2)))),
            "it goes on"
        );
        assert!(start.closes(&Fault::Kill { hosts: hosts() }));
        assert!(!start.closes(&Fault::Pause {
            hosts: hosts(),
            clocks: super::super::Standstill::GoOn,
        }));
        assert!(!start.closes(&start));
    }
}
