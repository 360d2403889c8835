use std::io::Write as _;

use super::*;

fn read(bytes: impl Into<Vec<u8>>) -> Vec<Result<Line, BadLine>> {
    Reader::new(Cursor::new(bytes.into())).unwrap().collect()
}

fn line(conversation: &str, text: &str) -> String {
    format!(
        r#"{{"conversation":"{conversation}","sender":"s","timestamp":"2018-05-02T19:38:15Z","text":"{text}"}}"#
    )
}

/// Reads one line and expects it to be bad for a reason that contains `expect`.
#[track_caller]
fn check_bad(text: &str, expect: &str) {
    let all = read(text);
    assert_eq!(all.len(), 1, "{text}");
    let bad = all[0].as_ref().unwrap_err();
    assert_eq!(bad.number, 1);
    assert!(!bad.fatal);
    assert!(bad.reason.contains(expect), "{text}: {}", bad.reason);
}

fn gz(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_line_becomes_a_message_with_its_time_and_a_lasting_id() {
    let line = read(line("room-1", "hi")).remove(0).unwrap();
    assert_eq!(
        (line.number, line.ordinal, line.time_ms),
        (1, 1, 1_525_289_895_000)
    );
    let message = line.into_message();
    assert_eq!(message.client_message_id, "import:room-1:1");
    assert_eq!(message.original_time_ms, Some(1_525_289_895_000));
    assert_eq!(
        (message.kind.as_str(), &message.body[..]),
        ("text", &b"hi"[..])
    );
}

#[test]
fn a_wrong_line_says_what_is_wrong_and_what_would_be_right() {
    check_bad("{", "is not JSON");
    check_bad("[1]", "is an array, not an object");
    check_bad(
        r#"{"conversation":"a","sender":"s","text":"x"}"#,
        "timestamp is missing",
    );
    check_bad(
        r#"{"conversation":"a","sender":7,"timestamp":"2018-05-02T19:38:15Z","text":"x"}"#,
        "sender is a number, a string is needed",
    );
    check_bad(
        &line("a b", "x"),
        "conversation \"a b\" must be 1 to 128 characters",
    );
    check_bad(
        &line("a", "x").replace("\"s\"", "\"\""),
        "sender has 0 bytes",
    );
    check_bad(
        &line("a", &"x".repeat(limits::BODY_BYTES_MAX + 1)),
        "at most 65536",
    );
    check_bad(&"x".repeat(LINE_BYTES_MAX + 10), "is longer than");
    for time in [
        "yesterday",
        "2018-05-02",
        "2018-13-02T19:38:15Z",
        "2018-05-02T19:38:15",
        "",
    ] {
        check_bad(
            &line("a", "x").replace("2018-05-02T19:38:15Z", time),
            "of the form 2018-",
        );
    }
    // What a server would refuse is known here.
    for time in ["0000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"] {
        check_bad(
            &line("a", "x").replace("2018-05-02T19:38:15Z", time),
            "years 1 to 9999",
        );
    }
    for (sender, what) in [("a\\u0001b", "U+0001"), ("a\\u202eb", "direction")] {
        let sender = format!("\"sender\":\"{sender}\"");
        check_bad(&line("a", "x").replace("\"sender\":\"s\"", &sender), what);
    }
}

#[test]
fn bytes_that_are_not_utf8_are_a_bad_line_and_the_rest_goes_on() {
    let mut bytes = line("a", "?").into_bytes();
    let at = bytes.iter().position(|byte| *byte == b'?').unwrap();
    bytes[at] = 0xff;
    bytes.push(b'\n');
    bytes.extend(line("a", "y").bytes());
    let all = read(bytes);
    assert!(all[0].is_err());
    assert_eq!(all[1].as_ref().unwrap().ordinal, 2);
}

#[test]
fn times_with_a_zone_and_a_fraction_are_read() {
    assert_eq!(
        parse_time("2018-05-03T04:38:15.250+09:00"),
        Ok(1_525_289_895_250)
    );
    assert_eq!(parse_time("1969-12-31T23:59:59.999Z"), Ok(-1));
}

#[test]
fn blank_text_is_a_message_and_an_empty_line_is_nothing() {
    let text = format!("{}\r\n\r\n   \n{}\n", line("a", ""), line("a", "  "));
    let all: Vec<Line> = read(text).into_iter().map(Result::unwrap).collect();
    assert_eq!(
        all.iter().map(|line| line.number).collect::<Vec<_>>(),
        [1, 4]
    );
    assert_eq!(all[1].text, "  ");
    assert_eq!(all[1].ordinal, 2);
}

#[test]
fn a_broken_line_that_names_its_conversation_keeps_its_ordinal() {
    let broken = r#"{"conversation": "a", "sender":"#;
    let text = [line("a", "1"), broken.to_owned(), line("a", "3")].join("\n");
    let all = read(text);
    assert!(all[1].is_err());
    assert_eq!(all[2].as_ref().unwrap().id(), "import:a:3");
}

#[test]
fn repeated_lines_get_ids_of_their_own() {
    let text = [line("a", "x"), line("b", "x"), line("a", "x")].join("\n");
    let ids: Vec<String> = read(text)
        .into_iter()
        .map(|line| line.unwrap().id())
        .collect();
    assert_eq!(ids, ["import:a:1", "import:b:1", "import:a:2"]);
}

#[test]
fn the_id_of_the_longest_conversation_fits() {
    let conversation = "c".repeat(limits::NAME_SEGMENT_BYTES_MAX);
    let mut line = read(line(&conversation, "x")).remove(0).unwrap();
    line.ordinal = u64::MAX;
    assert!(line.id().len() <= limits::CLIENT_MESSAGE_ID_BYTES_MAX);
    line.conversation = "c".repeat(100);
    assert!(line.id().len() <= limits::CLIENT_MESSAGE_ID_BYTES_MAX);
}

#[test]
fn plain_gzip_and_zstd_read_alike() {
    let text = [line("a", "1"), line("b", "2")].join("\n");
    let plain = read(text.clone());
    assert_eq!(plain.len(), 2);
    assert_eq!(read(gz(&text)), plain);
    assert_eq!(read(zstd::encode_all(text.as_bytes(), 3).unwrap()), plain);
    // Two gzip files put together are one.
    let two = [gz(&line("a", "1")), gz("\n"), gz(&line("b", "2"))].concat();
    assert_eq!(read(two), plain);
    assert_eq!(read(""), []);
}

#[test]
fn a_file_that_breaks_off_gives_its_lines_and_then_says_so() {
    let text: String = (0..20_000)
        .map(|i| line("a", &(i * 7_919).to_string()) + "\n")
        .collect();
    for mut whole in [gz(&text), zstd::encode_all(text.as_bytes(), 3).unwrap()] {
        whole.truncate(whole.len() / 2);
        let all = read(whole);
        let (last, lines) = all.split_last().unwrap();
        assert!(lines.len() > 1_000 && lines.iter().all(Result::is_ok));
        let bad = last.as_ref().unwrap_err();
        assert!(bad.fatal && bad.reason.contains("is it whole"));
    }
}

#[test]
fn the_bundled_sample_is_whole_and_holds_blank_and_repeated_messages() {
    let all: Vec<Line> = bundled().map(Result::unwrap).collect();
    assert_eq!(all.len(), 14_827);
    let conversations: std::collections::BTreeSet<_> =
        all.iter().map(|line| &line.conversation).collect();
    assert_eq!(conversations.len(), 396);
    assert_eq!(
        all.iter()
            .filter(|line| line.text.trim().is_empty())
            .count(),
        3
    );
    let distinct: std::collections::BTreeSet<_> = all
        .iter()
        .map(|line| (&line.conversation, &line.sender, line.time_ms, &line.text))
        .collect();
    assert_eq!(all.len() - distinct.len(), 77);
}

#[test]
fn what_read_prints_as_json_is_a_line_and_what_is_left_out_of_it_is_named() {
    let printed = r#"{"conversation":"room","seq":7,"sender":"ann","client_message_id":"x","type":"image",
        "create_time":"2020-01-01T00:00:00Z","original_time":"2018-05-02T19:38:15Z","body_base64":"/wA=",
        "attributes":{"k":"v"},"reply_to_seq":3,"silent":true}"#;
    let line = read(printed.replace('\n', "")).remove(0).unwrap();
    let dropped = ["seq", "client_message_id", "reply_to_seq", "create_time"];
    assert_eq!(line.dropped, dropped);
    let message = line.into_message();
    assert_eq!(
        (message.kind.as_str(), &message.body[..]),
        ("image", &[0xff, 0][..])
    );
    assert_eq!(
        message.attributes,
        [("k".to_owned(), "v".to_owned())].into()
    );
    assert_eq!(
        (message.silent, message.original_time_ms),
        (true, Some(1_525_289_895_000))
    );
    // Without an original time, when it was appended counts.
    let own = r#"{"conversation":"a","sender":"s","create_time":"2018-05-02T19:38:15Z","text":"x","original_time":null}"#;
    let line = read(own).remove(0).unwrap();
    assert_eq!((line.time_ms, line.dropped.len()), (1_525_289_895_000, 0));
}

#[test]
fn a_field_of_the_wrong_kind_is_a_bad_line() {
    let with = |field: &str| line("a", "x").replace("\"text\"", &format!("{field},\"text\""));
    check_bad(
        &with(r#""attributes":{"k":1}"#),
        "attributes is an object, an object of strings",
    );
    check_bad(
        &with(r#""silent":"yes""#),
        "silent is a string, true or false is needed",
    );
    check_bad(&with(r#""type":7"#), "type is a number, a string is needed");
    check_bad(&with(r#""body_base64":"?""#), "is not base64");
    check_bad(&with(r#""attributes":{"":"v"}"#), "no empty name");
    check_bad(
        r#"{"conversation":"a","sender":"s","timestamp":"2018-05-02T19:38:15Z"}"#,
        "text is missing",
    );
}
