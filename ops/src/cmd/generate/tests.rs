//! What is generated can be read by those for whom it is, and says nothing that is not so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use clap::Parser as _;
use saphyr_parser::{Event, Parser, SpannedEventReceiver};
use server::sight::alerts::{self, ALERTS};
use server::sight::verdict;

use super::{File, Generate, dashboards, runbooks};

/// What YAML says.
#[derive(Clone, Debug, PartialEq)]
enum Yaml {
    Scalar(String),
    List(Vec<Yaml>),
    Map(Vec<(Yaml, Yaml)>),
}

/// Puts the parser's events together.
#[derive(Default)]
struct Tree {
    open: Vec<(Yaml, Option<Yaml>)>,
    done: Option<Yaml>,
}

impl Tree {
    fn add(&mut self, value: Yaml) {
        match self.open.last_mut() {
            None => self.done = Some(value),
            Some((Yaml::List(list), _)) => list.push(value),
            Some((Yaml::Map(map), key)) => match key.take() {
                None => *key = Some(value),
                Some(key) => map.push((key, value)),
            },
            Some((Yaml::Scalar(_), _)) => unreachable!("scalars hold nothing"),
        }
    }
}

impl<'input> SpannedEventReceiver<'input> for Tree {
    fn on_event(&mut self, event: Event<'input>, _: saphyr_parser::Span) {
        match event {
            Event::Scalar(text, ..) => self.add(Yaml::Scalar(text.into_owned())),
            Event::SequenceStart(..) => self.open.push((Yaml::List(Vec::new()), None)),
            Event::MappingStart(..) => self.open.push((Yaml::Map(Vec::new()), None)),
            Event::SequenceEnd | Event::MappingEnd => {
                let (value, _) = self.open.pop().unwrap();
                self.add(value);
            }
            Event::Alias(_) => self.add(Yaml::Scalar("*".to_owned())),
            _ => {}
        }
    }
}

fn yaml(text: &str) -> Yaml {
    let mut tree = Tree::default();
    let parsed = Parser::new_from_str(text).load(&mut tree, false);
    parsed.unwrap_or_else(|error| panic!("{error}:\n{text}"));
    tree.done.expect("a document")
}

impl Yaml {
    fn get(&self, key: &str) -> &Yaml {
        let Yaml::Map(map) = self else {
            panic!("no map: {self:?}")
        };
        let found = map.iter().find(|(k, _)| *k == Yaml::Scalar(key.to_owned()));
        &found.unwrap_or_else(|| panic!("no {key} in {self:?}")).1
    }

    fn list(&self) -> &[Yaml] {
        let Yaml::List(list) = self else {
            panic!("no list: {self:?}")
        };
        list
    }

    fn text(&self) -> &str {
        let Yaml::Scalar(text) = self else {
            panic!("no scalar: {self:?}")
        };
        text
    }
}

/// What a command line makes.
fn made(args: &str) -> Vec<File> {
    let words = format!("firebreak generate {args}");
    let cli =
        crate::Cli::try_parse_from(words.split(' ')).unwrap_or_else(|error| panic!("{error}"));
    let crate::Command::Generate(command) = cli.command else {
        panic!("{args}")
    };
    let made = match command {
        Generate::Alerts(args) => Ok(args.files()),
        Generate::Runbooks(args) => args.files(),
        Generate::Dashboards(args) => args.files(),
        Generate::Systemd(args) => args.files(),
        Generate::Compose(args) => args.files(),
        Generate::Completions(args) => Ok(args.files()),
        Generate::Man(args) => args.files(),
    };
    made.unwrap_or_else(|error| panic!("{args}: {error}")).0
}

/// Runs a checker on a file when this machine has it. What is not looked at is said.
fn checked(program: &str, args: &[&str], file: &File) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(&file.name);
    std::fs::write(&path, &file.text).unwrap();
    let mut command = Command::new(program);
    let Ok(output) = command.args(args).arg(&path).output() else {
        println!(
            "{program} is not installed: {} was not checked by it",
            file.name
        );
        return;
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{program} {args:?}: {said}");
}

#[test]
fn every_alert_and_every_problem_has_a_runbook() {
    let known: BTreeSet<&str> = runbooks::ALL.iter().map(|(name, _)| *name).collect();
    let named: BTreeSet<&str> = verdict::runbooks()
        .chain(ALERTS.iter().map(|alert| alert.runbook))
        .collect();
    assert_eq!(
        known, named,
        "runbooks that are there, and those that are named"
    );
}

#[test]
fn a_runbook_says_symptom_check_act_and_verify() {
    for (name, text) in runbooks::ALL {
        let heads: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
        assert!(heads[0].starts_with("# "), "{name}");
        let rest = ["## Symptom", "## Check", "## Act", "## Verify"];
        assert_eq!(heads[1..], rest, "{name}");
        // Runbooks that are named in one are there.
        let named = text
            .split("see `")
            .skip(1)
            .chain(text.split("and `").skip(1));
        for other in named.filter_map(|rest| rest.split('`').next()) {
            let is_name = other.contains('-') && !other.contains([' ', '_', '.', '/']);
            let known = runbooks::ALL.iter().any(|(known, _)| *known == other);
            assert!(!is_name || known, "{name} names {other}");
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cmd/generate/runbooks");
        let on_disk = std::fs::read_to_string(folder.join(format!("{name}.md"))).unwrap();
        assert_eq!(*text, on_disk, "{name} is another file");
    }
    assert_eq!(made("runbooks --out x").len(), runbooks::ALL.len() + 1);
    let one = &made("runbooks no-quorum")[0];
    assert!(
        one.text.contains("Alerts: FirebreakShardsWithoutQuorum."),
        "{}",
        one.text
    );
}

#[test]
fn the_rules_are_what_the_alerts_say() {
    let file = &made("alerts --runbook-url https://wiki/")[0];
    let rules = yaml(&file.text);
    let mut seen = BTreeMap::new();
    for group in rules.get("groups").list() {
        for rule in group.get("rules").list() {
            seen.insert(rule.get("alert").text().to_owned(), rule.clone());
        }
    }
    assert_eq!(seen.len(), ALERTS.len());
    for alert in ALERTS {
        let rule = &seen[alert.name];
        assert_eq!(rule.get("expr").text(), alert.expr, "{}", alert.name);
        let severity = rule.get("labels").get("severity").text();
        assert_eq!(severity, alert.severity.name(), "{}", alert.name);
        let annotations = rule.get("annotations");
        assert_eq!(annotations.get("summary").text(), alert.summary);
        assert_eq!(annotations.get("description").text(), alert.description);
        assert_eq!(annotations.get("runbook").text(), alert.runbook);
        let url = format!("https://wiki/{}", alert.runbook);
        assert_eq!(annotations.get("runbook_url").text(), url);
        if alert.for_s > 0 {
            let text = rule.get("for").text();
            let (number, unit) = text.split_at(text.len() - 1);
            let unit = BTreeMap::from([("s", 1), ("m", 60), ("h", 3_600)])[unit];
            assert_eq!(number.parse::<u64>().unwrap() * unit, alert.for_s);
        }
    }
    checked("promtool", &["check", "rules"], file);
}

#[test]
fn dashboards_ask_only_what_nodes_tell() {
    let mut rules = String::from("groups:\n  - name: dashboards\n    rules:\n");
    for (at, file) in made("dashboards --out x").iter().enumerate() {
        let board: serde_json::Value = serde_json::from_str(&file.text).unwrap();
        assert_eq!(
            file.name,
            format!("{}.json", board["uid"].as_str().unwrap())
        );
        let mut ids = BTreeSet::new();
        for panel in board["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", file.name);
            assert!(!panel["description"].as_str().unwrap().is_empty());
            let place = &panel["gridPos"];
            let right = place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap();
            assert!(right <= 24, "{}: {panel}", file.name);
            for (n, target) in panel["targets"].as_array().unwrap().iter().enumerate() {
                let expr = target["expr"].as_str().unwrap();
                let found = alerts::check(expr);
                assert_eq!(found, Ok(()), "{}: {expr}", file.name);
                let expr = super::alerts::quoted(expr);
                let id = panel["id"].as_u64().unwrap();
                rules.push_str(&format!(
                    "      - record: d{at}:p{id}:q{n}\n        expr: {expr}\n"
                ));
            }
        }
    }
    assert_eq!(dashboards::ALL.len(), 4);
    // The expressions are read as Prometheus reads them.
    checked(
        "promtool",
        &["check", "rules"],
        &File::new("dashboards.yml", rules),
    );
}

#[test]
fn the_unit_restarts_what_a_restart_helps() {
    let file = &made("systemd --binary /bin/true --user root")[0];
    for line in [
        "Restart=on-failure",
        "RestartPreventExitStatus=2 77",
        "LimitNOFILE=1048576",
        "ExecStart=/bin/true serve --config /etc/firebreak/node.toml",
    ] {
        assert!(file.text.lines().any(|other| other == line), "{line}");
    }
    checked("systemd-analyze", &["verify"], file);
    let args = "firebreak generate systemd --config".split(' ');
    let cli = crate::Cli::try_parse_from(args.chain(["/a b"])).unwrap();
    let crate::Command::Generate(Generate::Systemd(args)) = cli.command else {
        panic!("another command")
    };
    let refused = args.files().unwrap_err();
    assert!(refused.to_string().contains("--config"), "{refused}");
}

#[test]
fn the_compose_file_founds_three_data_centers() {
    let file = &made("compose --nodes 2")[0];
    let compose = yaml(&file.text);
    let Yaml::Map(services) = compose.get("services") else {
        panic!("no services")
    };
    let names: Vec<&str> = services.iter().map(|(name, _)| name.text()).collect();
    let all = [
        "seoul-1", "busan-1", "tokyo-1", "seoul-2", "busan-2", "tokyo-2",
    ];
    assert_eq!(names, all);
    for (name, service) in services {
        let script = service.get("command").list()[2].text().replace("$$", "$");
        let founds = script.contains("init --config /etc/node.toml --nodes 6");
        assert_eq!(founds, name.text() == "seoul-1", "{script}");
        checked("sh", &["-n"], &File::new("script", script));
        let config = compose
            .get("configs")
            .get(name.text())
            .get("content")
            .text();
        let config = server::Config::parse(config, "compose").unwrap();
        assert_eq!(config.name, name.text());
    }
}

#[test]
fn every_verb_has_a_man_page_and_is_completed() {
    let pages = made("man --out x");
    let names: BTreeSet<&str> = pages.iter().map(|page| page.name.as_str()).collect();
    for name in [
        "firebreak.1",
        "firebreak-node-drain.1",
        "firebreak-generate-man.1",
    ] {
        assert!(names.contains(name), "{name} is not in {names:?}");
    }
    for page in &pages {
        assert!(page.text.contains(".SH SYNOPSIS"), "{}", page.name);
    }
    let drain = &made("man node drain")[0];
    assert!(drain.text.contains("firebreak"), "{}", drain.text);
    for (shell, name) in [
        ("bash", "firebreak"),
        ("zsh", "_firebreak"),
        ("fish", "firebreak.fish"),
    ] {
        let file = &made(&format!("completions {shell}"))[0];
        assert_eq!(file.name, name);
        assert!(file.text.contains("undrain"), "{shell}");
    }
    checked("bash", &["-n"], &made("completions bash")[0]);
}
