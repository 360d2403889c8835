use std::io::Write as _;

use super::*;
use crate::import::record::Change;

fn export(files: &[(&str, &str)]) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("slack.zip");
    let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
    for (name, text) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
    (dir, path)
}

fn records(files: &[(&str, &str)]) -> Vec<Result<Record, Bad>> {
    let (_dir, path) = export(files);
    let (slack, _) = Slack::open(&path, Arc::new(AtomicU64::new(0))).unwrap();
    slack.collect()
}

const CHANNELS: &str = r#"[{"id":"C1","name":"general","topic":{"value":"All"}},{"name":"no id"}]"#;
const USERS: &str = r#"[{"id":"U1","name":"ann","profile":{"display_name":"Ann 앤"}}]"#;

#[test]
fn messages_threads_edits_reactions_and_deletions() {
    let first = r#"[
 {"type":"message","user":"U1","text":"second","ts":"1665705661.000200","thread_ts":"1665705660.000100"},
 {"type":"message","user":"U1","text":"안녕","ts":"1665705660.000100","thread_ts":"1665705660.000100",
  "edited":{"user":"U1","ts":"1665705700.000000"},"reactions":[{"name":"+1","users":["U1","U2"],"count":2}]},
 {"type":"message","text":"no ts"},
 {"type":"message","subtype":"channel_join","user":"U2","text":"joined","ts":"1665705662.000000"}
]"#;
    let second = r#"[{"type":"message","subtype":"tombstone","text":"deleted","ts":"1665800000.000000"},
{"subtype":"bot_message","bot_id":"B1","username":"robot","text":"beep","files":[{"name":"a.png"}],"ts":"1665800001.0"}]"#;
    let all = records(&[
        ("channels.json", CHANNELS),
        ("users.json", USERS),
        ("general/2022-10-15.json", second),
        ("general/2022-10-14.json", first),
        ("general/canvas.json", "{}"),
    ]);
    let bad: Vec<_> = all.iter().filter_map(|one| one.as_ref().err()).collect();
    let told = |bad: &Bad| (bad.at.file.to_string(), bad.at.line);
    assert_eq!(bad.len(), 2, "{bad:?}");
    assert_eq!(told(bad[0]), ("channels.json".to_owned(), 2));
    assert_eq!(told(bad[1]), ("general/2022-10-14.json".to_owned(), 5));
    let good: Vec<Record> = all.into_iter().filter_map(Result::ok).collect();
    let Record::Begin(begin) = &good[0] else {
        panic!("{:?}", good[0])
    };
    assert_eq!(
        (
            begin.conversation.as_str(),
            begin.attributes["title"].as_str()
        ),
        ("C1", "general")
    );
    let said: Vec<_> = good[1..]
        .iter()
        .map(|one| match one {
            Record::Said(said) => said,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(said.len(), 5);
    assert!(said[0].is_spoken_of && said[0].reply_to.is_none());
    assert_eq!(said[0].change, Change::Edited(1_665_705_700_000));
    assert_eq!(said[0].reactions.len(), 2);
    assert_eq!(said[0].message.attributes["sender_name"], "Ann 앤");
    assert_eq!(said[1].reply_to, Some(said[0].key));
    assert_eq!(
        (said[2].message.kind.as_str(), said[2].message.silent),
        ("channel_join", true)
    );
    assert_eq!(said[3].change, Change::Erased(None));
    assert_eq!(said[4].message.attributes["files"], "a.png");
    assert_eq!(said[4].message.sender, "B1");
}

#[test]
fn conversations_without_a_list_and_with_other_names_get_valid_ids() {
    let day = r#"[{"user":"U1","text":"x","ts":"1.0"}]"#;
    let all = records(&[("잡담/2022-10-14.json", day), ("x/D1/2022-10-14.json", day)]);
    let ids: BTreeSet<_> = all
        .into_iter()
        .map(|one| one.unwrap().conversation().to_owned())
        .collect();
    assert_eq!(ids.len(), 2);
    for id in &ids {
        assert!(model::id::segment("conversation", id).is_ok(), "{id}");
    }
    assert!(ids.contains("D1"));
}

#[test]
fn what_is_no_export_is_told_and_broken_days_leave_the_rest() {
    let (_dir, path) = export(&[("readme.txt", "x")]);
    let error = Slack::open(&path, Arc::default()).err().unwrap();
    assert!(error.is::<Usage>(), "{error}");
    std::fs::write(&path, "PK\x03\x04 and no more").unwrap();
    assert!(
        Slack::open(&path, Arc::default())
            .err()
            .unwrap()
            .is::<Usage>()
    );
    let all = records(&[
        ("a/2022-10-14.json", "{"),
        (
            "a/2022-10-15.json",
            r#"[{"user":"U1","text":"x","ts":"1.0"}]"#,
        ),
    ]);
    assert_eq!(all.iter().filter(|one| one.is_err()).count(), 1);
    assert!(all.iter().any(|one| matches!(one, Ok(Record::Said(_)))));
}
