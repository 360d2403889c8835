//! The pages as they are drawn, in three states and at three sizes. FIREBREAK_WRITE_GOLDEN=1 writes them
//! anew; look at what changed before it is committed.

use std::path::Path;
use std::time::Duration;

use client::v1;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

const DCS: [(&str, &str); 3] = [("kr", "busan"), ("kr", "seoul"), ("jp", "tokyo")];
const SHARDS: u32 = 12;

/// The node of a number from 1 on: three in each data center.
fn name(id: u64) -> (String, &'static str, &'static str) {
    let at = usize::try_from(id - 1).unwrap();
    let (region, dc) = DCS[at / 3];
    (format!("{dc}-{}", at % 3 + 1), region, dc)
}

/// A replica in each data center; the first leads where it lives.
fn replicas(shard: u32) -> Vec<u64> {
    let shard = u64::from(shard);
    let in_dc = |dc: u64| dc * 3 + shard / 3 % 3 + 1;
    (0..3).map(|n| in_dc((shard + n) % 3)).collect()
}

/// Nine nodes, of which those in `dead` data centers do not answer.
struct Cluster {
    dead: Vec<&'static str>,
}

impl Cluster {
    fn is_dead(&self, id: u64) -> bool {
        self.dead.contains(&name(id).2)
    }

    fn leader(&self, shard: u32) -> Option<u64> {
        let alive = replicas(shard).into_iter().filter(|id| !self.is_dead(*id));
        let alive: Vec<u64> = alive.collect();
        (alive.len() >= 2).then(|| alive[0])
    }

    fn listed(&self, id: u64) -> v1::NodeStatus {
        let (name, region, dc) = name(id);
        v1::NodeStatus {
            node_id: id,
            address: format!("{name}:7001"),
            name,
            region: region.to_owned(),
            dc: dc.to_owned(),
            reachable: !self.is_dead(id),
            gone_ms: if self.is_dead(id) { 72_000 } else { 0 },
            ..v1::NodeStatus::default()
        }
    }

    fn replica(&self, id: u64, shard: u32) -> v1::ReplicaStatus {
        let leader = self.leader(shard);
        let term = 4 + u64::from(leader != Some(replicas(shard)[0]));
        let state = match leader {
            Some(leader) if leader == id => "leader",
            Some(_) => "follower",
            None => "candidate",
        };
        v1::ReplicaStatus {
            shard,
            state: state.to_owned(),
            leader: leader.unwrap_or(0),
            term,
            committed_index: 1_000,
            applied_index: 1_000 - id % 3,
            asleep: shard == 9,
            ..v1::ReplicaStatus::default()
        }
    }

    fn links(&self, id: u64) -> Vec<v1::LinkStatus> {
        let others = (1..=9).filter(|other| *other != id);
        let link = |other| v1::LinkStatus {
            node_id: other,
            state: if self.is_dead(other) { "silent" } else { "up" }.to_owned(),
            round_us: 400 + id * 30 + other * 7,
            silent_us: if self.is_dead(other) {
                72_000_000
            } else {
                80_000
            },
            limit_us: 450_000,
        };
        others.map(link).collect()
    }

    fn status(&self, id: u64) -> v1::GetStatusResponse {
        let shards = (0..=SHARDS).map(|shard| v1::ShardStatus {
            shard,
            slot_first: shard.saturating_sub(1) * 65_536 / SHARDS,
            slot_last: (shard * 65_536 / SHARDS).saturating_sub(1),
            replicas: replicas(shard),
            leader: self.leader(shard).unwrap_or(0),
            term: 4,
            ..v1::ShardStatus::default()
        });
        let own = (0..=SHARDS).filter(|shard| replicas(*shard).contains(&id));
        let hurt = !self.dead.is_empty();
        let number = f64::from(u32::try_from(id).unwrap());
        v1::GetStatusResponse {
            cluster_id: "5f0c1a2b".to_owned(),
            node_id: id,
            node_name: name(id).0,
            map_epoch: 17,
            nodes: (1..=9).map(|id| self.listed(id)).collect(),
            shards: shards.collect(),
            replicas: own.map(|shard| self.replica(id, shard)).collect(),
            nodes_expected: 9,
            stats: Some(v1::NodeStats {
                disk_free_bytes: (40 + id) << 30,
                disk_total_bytes: 64 << 30,
                stored_bytes: 8 << 30,
                uptime_ms: 86_400_000,
                ..v1::NodeStats::default()
            }),
            moves: match hurt {
                true => Vec::new(),
                false => vec![v1::ReplicaMove {
                    shard: 3,
                    from: 2,
                    to: 1,
                    changing: false,
                }],
            },
            figures: Some(v1::Figures {
                acks_per_s: 40.5 + number,
                reads_per_s: number,
                p50_us: 2_100,
                p99_us: 7_000 + id * 150,
                gap_5m_us: if hurt { 612_000 } else { 41_000 } + id * 1_000,
                gap_5m_whose: "tenant chat, shard 3".to_owned(),
                failed_5m: u64::from(hurt) * id,
                sync_us: 410,
                lateness_us: 90,
                shards: (1..=SHARDS)
                    .filter(|shard| self.leader(*shard) == Some(id))
                    .map(|shard| v1::ShardRate {
                        shard,
                        changes_per_s: f64::from(shard) * 3.5,
                    })
                    .collect(),
                ..v1::Figures::default()
            }),
            links: self.links(id),
            health: Some(v1::Health {
                ok: self.dead.len() < 2,
                why: match self.dead.len() {
                    0 | 1 => String::new(),
                    _ => "no quorum".to_owned(),
                },
            }),
            version: "0.1.0".to_owned(),
            heat: (0..20)
                .map(|half| v1::HeatCell {
                    at_ms: 1_796_000_000_000 + half * 30_000,
                    shards: vec![1, 2],
                    changes: vec![half * 10, 200 - half * 10],
                })
                .collect(),
            ..v1::GetStatusResponse::default()
        }
    }

    fn seen(&self) -> PagesSeen {
        let report = |id: u64| Report {
            address: self.listed(id).address,
            listed: Some(self.listed(id)),
            status: match self.is_dead(id) {
                true => Err("cannot connect: connection refused".to_owned()),
                false => Ok(self.status(id)),
            },
            took: Duration::from_millis(12),
        };
        let reports = (1..=9).map(report).collect();
        PagesSeen::of(reports, 1_796_095_800_000, Instant::now())
    }
}

fn drawn(app: &App, (columns, rows): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| app.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let lines = (0..rows).map(|y| {
        let line: String = (0..columns).map(|x| buffer[(x, y)].symbol()).collect();
        line.trim_end().to_owned() + "\n"
    });
    lines.collect()
}

fn app(cluster: &Cluster, page: Page) -> App {
    let mut app = App::new(page, "asked seoul-1:7001".to_owned(), Style::of(false));
    app.at = "2026-12-01T03:30:00Z".to_owned();
    let mut seen = cluster.seen();
    // A look takes what it takes.
    for by in [
        &mut seen.now.seen_by,
        &mut seen.shards.seen_by,
        &mut seen.jobs.seen_by,
    ] {
        by.age_ms = 12;
    }
    app.take(Looked::Seen(Box::new(seen), Instant::now()));
    app
}

/// Compares a drawing with the one that was looked at.
#[track_caller]
fn check(name: &str, drawing: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/top/snapshots");
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("FIREBREAK_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, drawing).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == drawing,
        "{} is drawn otherwise now:\n{drawing}\nwas:\n{golden}",
        path.display()
    );
}

const STATES: [(&str, &[&str]); 3] = [
    ("whole", &[]),
    ("one_dc_dead", &["seoul"]),
    ("two_dcs_dead", &["seoul", "tokyo"]),
];
const SIZES: [(&str, (u16, u16)); 3] = [
    ("80x24", (80, 24)),
    ("120x50", (120, 50)),
    ("44x30", (44, 30)),
];

#[test]
fn every_page_is_drawn_as_it_was_looked_at() {
    for (state, dead) in STATES {
        let cluster = Cluster {
            dead: dead.to_vec(),
        };
        for (size, area) in SIZES {
            let pages = [
                (Page::Now, "now"),
                (Page::Shards, "shards"),
                (Page::Jobs, "jobs"),
            ];
            for (page, named) in pages {
                if page == Page::Jobs && state != "whole" {
                    continue;
                }
                let drawing = drawn(&app(&cluster, page), area);
                check(&format!("{named}_{state}_{size}"), &drawing);
            }
        }
    }
}

#[test]
fn what_stops_calls_is_on_the_first_screen_of_a_small_terminal() {
    let cluster = Cluster {
        dead: vec!["seoul", "tokyo"],
    };
    for (size, area) in SIZES {
        let drawing = drawn(&app(&cluster, Page::Now), area);
        for says in [
            "NOT SERVING",
            "stops calls",
            "runbook no-quorum",
            "told by 3 of 9",
        ] {
            assert!(drawing.contains(says), "{size}: {says}:\n{drawing}");
        }
    }
}

#[test]
fn when_nobody_answers_what_was_seen_stays_and_is_told_to_be_old() {
    let cluster = Cluster { dead: vec![] };
    let mut app = app(&cluster, Page::Now);
    app.take(Looked::Silent);
    let drawing = drawn(&app, (80, 24));
    assert!(
        drawing.contains("NO NODE ANSWERS; asked seoul-1:7001."),
        "{drawing}"
    );
    assert!(drawing.contains("DATA CENTERS"), "{drawing}");
    let mut app = App::new(Page::Now, "asked a:1".to_owned(), Style::of(true));
    assert!(drawn(&app, (80, 24)).contains("asking the nodes; asked a:1"));
    app.take(Looked::Silent);
    assert!(drawn(&app, (80, 24)).contains("NOT SERVING: no node answers; asked a:1"));
}

#[test]
fn keys_turn_pages_sort_scroll_and_leave() {
    let cluster = Cluster {
        dead: vec!["seoul"],
    };
    let mut app = app(&cluster, Page::Now);
    let press =
        |app: &mut App, code| heed(app, &Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    let area = (80, 24);
    let first = drawn(&app, area);
    assert!(press(&mut app, KeyCode::Down));
    let down = drawn(&app, area);
    assert!(first != down && down.contains("lines 2-"), "{down}");
    press(&mut app, KeyCode::End);
    let end = drawn(&app, area);
    press(&mut app, KeyCode::PageDown);
    assert_eq!(drawn(&app, area), end);
    press(&mut app, KeyCode::Home);
    assert_eq!(drawn(&app, area), first);
    press(&mut app, KeyCode::Char('s'));
    assert!(drawn(&app, area).contains("s sort: name"));
    press(&mut app, KeyCode::Tab);
    assert!(drawn(&app, area).contains("[2 Shards]"));
    press(&mut app, KeyCode::Left);
    assert_eq!(app.page(), Page::Now);
    assert!(!press(&mut app, KeyCode::Char('q')));
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(!heed(&mut app, &Event::Key(interrupt)));
}

#[test]
fn a_screen_of_any_size_is_drawn_without_a_panic() {
    for (_, dead) in STATES {
        let cluster = Cluster {
            dead: dead.to_vec(),
        };
        for page in [Page::Now, Page::Shards, Page::Jobs] {
            let app = app(&cluster, page);
            for area in [(1, 1), (2, 30), (10, 3), (20, 10), (300, 100)] {
                drawn(&app, area);
            }
        }
    }
}

#[test]
fn without_colours_nothing_is_coloured_and_with_them_words_are_the_same() {
    use ratatui::style::Color;
    let cluster = Cluster {
        dead: vec!["seoul"],
    };
    let mut plain = app(&cluster, Page::Now);
    let coloured = |app: &App| {
        let mut terminal = Terminal::new(TestBackend::new(80, 40)).unwrap();
        terminal.draw(|frame| app.draw(frame)).unwrap();
        let cells = terminal.backend().buffer().content().iter();
        cells
            .filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
            .count()
    };
    assert_eq!(coloured(&plain), 0);
    let words = drawn(&plain, (80, 40));
    plain.style = Style::of(true);
    assert!(coloured(&plain) > 0);
    assert_eq!(drawn(&plain, (80, 40)), words);
}
