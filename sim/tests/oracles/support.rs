//! Plans, and what several tests ask of findings.

use firebreak_sim::history::{History, Observed, Page, SeenMessage};
use firebreak_sim::oracle;
use firebreak_sim::outcome::{Broken, Finding};
use firebreak_sim::plan::{
    Dc, DiskKind, Event, Expect, Fault, Link, NodeSpec, Plan, Readers, Site, Tier, Topology,
    Workload,
};

/// The data centers of [`plan`], each with one node, `seoul-1` and so on, and a client site,
/// `client-seoul` and so on.
pub const DCS: [&str; 3] = ["seoul", "busan", "tokyo"];

/// All that is judged.
#[derive(Clone, Debug)]
pub struct Setting {
    pub plan: Plan,
    pub history: History,
    pub observed: Observed,
}

impl Setting {
    pub fn judge(&self) -> Vec<Finding> {
        oracle::judge(&self.plan, &self.history, &self.observed)
    }

    pub fn broken(&self) -> Vec<Broken> {
        let findings = self.judge().into_iter();
        findings.flat_map(|finding| finding.broken).collect()
    }

    /// What one oracle says.
    pub fn of(&self, oracle: &str) -> Finding {
        let findings = self.judge();
        let mut named = findings
            .into_iter()
            .filter(|finding| finding.oracle == oracle);
        named.next().expect("the oracle exists")
    }
}

pub fn plan() -> Plan {
    let link = Link {
        latency_us: (500, 900),
        jitter_us: 100,
        loss_ppm: 0,
        bandwidth_bytes: 0,
    };
    let dc = |name: &&str| Dc {
        name: (*name).to_owned(),
        region: "kr".to_owned(),
        building: (*name).to_owned(),
        nodes: vec![NodeSpec {
            name: format!("{name}-1"),
            rack: "r1".to_owned(),
            joins_at_ms: None,
            read_lease_ms: None,
        }],
    };
    let site = |name: &&str| Site {
        name: format!("client-{name}"),
        dc: (*name).to_owned(),
        inside: true,
    };
    Plan {
        format: firebreak_sim::plan::FORMAT,
        scenario: "test".to_owned(),
        about: "Oracles are tested.".to_owned(),
        seed: 1,
        tier: Tier::Direct,
        disk: DiskKind::Memory,
        control: false,
        topology: Topology {
            dcs: DCS.iter().map(dc).collect(),
            local: link,
            wan: link,
            links: Vec::new(),
            shards: 2,
            replicas: 3,
            replace_after_ms: 0,
            scrub_every_ms: 0,
            prefer: Vec::new(),
        },
        workload: workload(DCS.iter().map(site).collect()),
        events: Vec::new(),
        expect: Expect::default(),
    }
}

fn workload(sites: Vec<Site>) -> Workload {
    Workload {
        duration_ms: 1_000,
        sites,
        rooms: 3,
        zipf_milli: 0,
        own_rooms: false,
        senders: 4,
        pause_ms: (0, 30),
        stream_percent: 0,
        burst: (1, 1),
        body_bytes: (1, 256),
        resend_percent: 15,
        readers: Readers {
            linearizable: 1,
            session: 1,
            bounded: 1,
            local: 1,
            bound_ms: 50,
            pause_ms: (0, 30),
        },
        tails: 1,
        tail_resume_ms: 0,
        changers: 0,
        movers: 0,
        move_every_ms: 0,
        deadline_ms: 5_000,
    }
}

pub fn event(at_ms: u64, fault: Fault) -> Event {
    Event {
        at_ms,
        line: 0,
        fault,
        label: None,
    }
}

/// The page of a conversation that has the first `last_seq` messages of `log`.
pub fn page(
    log: &[SeenMessage],
    last_seq: u64,
    from: u64,
    limit: u32,
    age_ms: Option<u64>,
) -> Page {
    let begin = match from {
        0 => last_seq.saturating_sub(limit.into()),
        from => from - 1,
    };
    let known = log.iter().take(usize::try_from(last_seq).unwrap());
    let messages = known
        .skip(usize::try_from(begin).unwrap())
        .take(limit as usize);
    Page {
        from,
        limit,
        messages: messages.cloned().collect(),
        last_seq,
        age_ms,
        served_by: "n1".to_owned(),
    }
}
