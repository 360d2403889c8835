use std::io::Write as _;

use super::*;

fn given() -> Given {
    Given {
        conversation: Some("room".into()),
        offset_ms: 9 * 3_600_000,
    }
}

/// What a file gives, a line each: time, type, sender, text; or what is wrong.
fn read(name: &str, text: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    File::create(&path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert!(is_title(
        text.trim_start_matches('\u{feff}').lines().next().unwrap()
    ));
    let (source, _) = open(&path, &given(), Arc::new(AtomicU64::new(0))).unwrap();
    source
        .map(|one| match one {
            Ok(Record::Begin(begin)) => format!("{:?}", begin.attributes),
            Ok(Record::Said(said)) => {
                let message = said.message;
                let time = prost_types::Timestamp {
                    seconds: message.original_time_ms.unwrap() / 1_000,
                    nanos: 0,
                };
                let text = String::from_utf8(message.body.to_vec()).unwrap();
                format!(
                    "{time} {} {}: {}",
                    message.kind,
                    message.sender,
                    text.replace('\n', "|")
                )
            }
            Ok(Record::Reacted(_)) => unreachable!("there are none"),
            Err(bad) => format!("{} {}", bad.at.line, bad.reason),
        })
        .collect()
}

#[track_caller]
fn check(name: &str, text: &str, expect: &[&str]) {
    assert_eq!(read(name, text), expect);
}

#[test]
fn android_in_korean_and_in_english() {
    check(
        "KakaoTalkChats.txt",
        "우리 가족 3 카카오톡 대화\n저장한 날짜 : 2022년 10월 15일 오후 3:05\n\n\
         2022년 10월 14일 오후 2:01\n\
         2022년 10월 14일 오후 2:01, 홍길동 : 안녕\n둘째 줄 : 맞아\n\n\
         2022년 10월 14일 오후 2:02, 김영희 : \n\
         2022년 10월 14일 오후 2:03, 홍길동님이 나갔습니다.\n",
        &[
            r#"{"title": "우리 가족 3"}"#,
            "2022-10-14T05:01:00Z text 홍길동: 안녕|둘째 줄 : 맞아",
            "2022-10-14T05:02:00Z text 김영희: ",
            "2022-10-14T05:03:00Z system system: 홍길동님이 나갔습니다.",
        ],
    );
    check(
        "KakaoTalkChats.txt",
        "KakaoTalk Chats with Gildong\nDate Saved : October 15, 2022 at 3:05 PM\n\n\
         October 14, 2022 at 2:01 PM\n\
         October 14, 2022 at 2:01 PM, Gildong : Hello\n\
         October 14, 2022, 11:59 PM, ann : Bye : now\n",
        &[
            r#"{"title": "Gildong"}"#,
            "2022-10-14T05:01:00Z text Gildong: Hello",
            "2022-10-14T14:59:00Z text ann: Bye : now",
        ],
    );
}

#[test]
fn ios_in_korean_and_in_english() {
    check(
        "Talk_2022.10.15 15:05-1.txt",
        "\u{feff}홍길동 님과 카카오톡 대화\r\n저장한 날짜 : 2022. 10. 15. 오후 3:05\r\n\r\n\r\n\
         2022년 10월 14일 금요일\r\n\
         2022. 10. 14. 오후 2:01, 홍길동 : 안녕\r\n\
         2022년 10월 15일 토요일\r\n\
         2022. 10. 15. 오전 12:00, 회원님 : 응\r\n",
        &[
            r#"{"title": "홍길동"}"#,
            "2022-10-14T05:01:00Z text 홍길동: 안녕",
            "2022-10-14T15:00:00Z text 회원님: 응",
        ],
    );
    check(
        "Talk.txt",
        "Gildong Talk Chats\nDate Saved : Oct 15, 2022 at 3:05 PM\n\n\
         Friday, October 14, 2022\n\
         Oct 14, 2022 at 14:01, Gildong : Hello\nOctober 14, 2022\n",
        &[
            r#"{"title": "Gildong"}"#,
            "2022-10-14T05:01:00Z text Gildong: Hello|October 14, 2022",
        ],
    );
}

#[test]
fn windows_in_korean_and_in_english() {
    check(
        "chat.txt",
        "홍길동 님과 카카오톡 대화\r\n저장한 날짜 : 2022-10-15 15:05:22\r\n\r\n\
         --------------- 2022년 10월 14일 금요일 ---------------\r\n\
         [홍길동] [오후 2:01] 안녕\r\n[메모] 이어서\r\n\
         [김 [1]] [오후 2:02] [공지] 내일\r\n\
         홍길동님이 나갔습니다.\r\n",
        &[
            r#"{"title": "홍길동"}"#,
            "2022-10-14T05:01:00Z text 홍길동: 안녕|[메모] 이어서",
            "2022-10-14T05:02:00Z text 김 [1]: [공지] 내일",
            "2022-10-14T05:02:00Z system system: 홍길동님이 나갔습니다.",
        ],
    );
    check(
        "chat.txt",
        "KakaoTalk Chats with Gildong\nDate Saved : 2022-10-15 15:05:22\n\n\
         --------------- Friday, October 14, 2022 ---------------\n\
         [Gildong] [2:01 PM] Hello\n",
        &[
            r#"{"title": "Gildong"}"#,
            "2022-10-14T05:01:00Z text Gildong: Hello",
        ],
    );
}

#[test]
fn macos() {
    check(
        "family.csv",
        "Date,User,Message\n2022-10-14 14:01:22,\"홍길동\",\"안녕, \"\"너\"\"\n둘째\"\nx,\"a\",\"b\"\n1,2\n",
        &[
            r#"{"title": "family"}"#,
            "2022-10-14T05:01:22Z text 홍길동: 안녕, \"너\"|둘째",
            "4 \"x\" is no time of the form 2022-10-14 14:01:22",
            "5 has 2 columns; Date, User and Message are needed",
        ],
    );
}

#[test]
fn what_is_wrong_is_told_and_the_rest_goes_on() {
    let long = "가".repeat(limits::BODY_BYTES_MAX);
    check(
        "chat.txt",
        &format!(
            "홍길동 님과 카카오톡 대화\n저장한 날짜 : 2022-10-15 15:05:22\n\n\
             stray\n[a] [오후 2:01] no day\n\
             --------------- 2022년 13월 14일 금요일 ---------------\n\
             --------------- 2022년 10월 14일 금요일 ---------------\n\
             [a] [오후 25:01] x\n[a] [오후 2:01] {long}\n[b] [오후 2:01] fine\n\
             2022년 2월 30일 오후 2:01, a : x\n"
        ),
        &[
            r#"{"title": "홍길동"}"#,
            "4 belongs to no message: none with a time stands before it",
            "5 has a time and no day: a line of hyphens that names it is missing",
            "6 names a day that there is not",
            "8 \"오후 25:01\" is no time of the form 오후 2:01 or 2:01 PM",
            "9 body must be at most 65536 bytes; it has 196608",
            "2022-10-14T05:01:00Z text b: fine",
            "11 begins with a time that there is not",
        ],
    );
}

#[test]
fn exports_that_overlap_give_the_same_ids_and_repetitions_have_their_own() {
    let ids = |lines: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chat.txt");
        std::fs::write(&path, format!("a 님과 카카오톡 대화\n{lines}")).unwrap();
        let (source, _) = open(&path, &given(), Arc::new(AtomicU64::new(0))).unwrap();
        let said = source.filter_map(|one| match one.unwrap() {
            Record::Said(said) => Some(said.message.client_message_id),
            Record::Begin(_) | Record::Reacted(_) => None,
        });
        said.collect::<Vec<_>>()
    };
    let [one, two] = [
        "2022년 10월 14일 오후 2:01, a : ㅋㅋ\n",
        "2022년 10월 14일 오후 2:02, a : ㅋㅋ\n",
    ];
    let all = ids(&format!("{one}{one}{two}"));
    assert_eq!(all.len(), 3);
    assert_eq!(all[1], format!("{}:2", all[0]));
    assert_ne!(all[0], all[2]);
    assert_eq!(
        ids(&format!("{one}{two}")),
        [all[0].clone(), all[2].clone()]
    );
}
