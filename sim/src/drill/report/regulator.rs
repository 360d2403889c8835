//! The form for a regulator: the same facts under the headings that are asked for, in Korean and English.

use std::fmt::Write as _;

use server::drill::paper::{End, Moment, Paper};
use server::drill::plan::{Action, Step};

use super::facts::Standing;
use super::markdown::{one_line, step, table};
use super::{Facts, when};
use crate::reports::words::thousands;

/// The words of a form.
struct Words {
    title: &'static str,
    heads: [&'static str; 10],
    who: [&'static str; 4],
    when: [&'static str; 3],
    scope: [&'static str; 4],
    method: &'static str,
    result: [&'static str; 3],
    figures: [&'static str; 5],
    rows: [&'static str; 3],
    step: fn(&Step) -> String,
    blast: [&'static str; 4],
    recovery: [&'static str; 4],
    corrective: [&'static str; 3],
    sign: [&'static str; 4],
    roles: [&'static str; 3],
    none: &'static str,
    worse: &'static str,
    twin: &'static str,
}

/// In English.
pub(super) fn english(paper: &Paper, facts: &Facts) -> String {
    form(paper, facts, &ENGLISH, end_english, moment_english)
}

/// In Korean.
pub(super) fn korean(paper: &Paper, facts: &Facts) -> String {
    form(paper, facts, &KOREAN, end_korean, moment_korean)
}

const ENGLISH: Words = Words {
    title: "Report of a disaster recovery exercise",
    heads: [
        "Who",
        "When",
        "Hypothesis",
        "Scope",
        "Method",
        "Result",
        "Blast radius",
        "Recovery point and recovery time",
        "Corrective actions",
        "Signatures",
    ],
    who: ["Cluster", "Exercise", "Approved by", "Software"],
    when: ["Begin", "End", "Timeline"],
    scope: [
        "Scenario",
        "Data center",
        "Nodes that something was done to",
        "of",
    ],
    method: "Faults were put on the live service and ended by themselves. Clients outside of it wrote and \
             read all the time, and kept a ledger of every answer. The same plan was run in a simulator \
             before, from the map of that moment.",
    result: ["Verdict", "Reason", "Promises"],
    figures: ["", "predicted", "simulated (p99)", "measured", "goal"],
    rows: ["longest gap", "failed calls", "replicas that moved"],
    step,
    blast: [
        "Clients that waited longer than 0.5 s",
        "Clients with a failed call",
        "Calls",
        "Calls that failed",
    ],
    recovery: [
        "RPO: acknowledged messages lost",
        "RTO: from the first fault until all was served",
        "Longest wait of a client",
        "Messages stored twice",
    ],
    corrective: ["No.", "Action", "Responsible, due"],
    sign: ["Role", "Name", "Signature", "Date"],
    roles: [
        "Operator of the exercise",
        "Approver",
        "Head of service continuity",
    ],
    none: "none",
    worse: "The exercise was worse than 99 of 100 simulated runs. Find out whether the model or the machine is \
            wrong.",
    twin: "For comparison, all data centers in one building (simulated)",
};

const KOREAN: Words = Words {
    title: "재난 복구 훈련 결과 보고서",
    heads: [
        "수행자",
        "일시",
        "가설",
        "범위",
        "방법",
        "결과",
        "영향 범위",
        "복구 시점(RPO)과 복구 시간(RTO)",
        "시정 조치",
        "서명",
    ],
    who: ["클러스터", "훈련 번호", "승인자", "소프트웨어"],
    when: ["시작", "종료", "진행 경과"],
    scope: ["시나리오", "데이터센터", "장애를 준 노드", "/ 전체"],
    method: "운영 중인 서비스에 장애를 실제로 주입하였으며, 주입한 장애는 정해진 시간이 지나면 스스로 해제됩니다. \
             클러스터 밖의 클라이언트가 훈련 내내 쓰기와 읽기를 계속하고 모든 응답을 별도 원장에 기록하였습니다. \
             훈련 전에 당시의 배치도를 바탕으로 같은 계획을 시뮬레이터에서 실행하였습니다.",
    result: ["판정", "사유", "보장 항목"],
    figures: ["", "예측", "시뮬레이션(p99)", "측정", "목표"],
    rows: ["최장 대기 시간", "실패한 호출", "이동한 복제본"],
    step: step_korean,
    blast: [
        "0.5초를 넘게 기다린 클라이언트",
        "실패한 호출이 있는 클라이언트",
        "호출 수",
        "실패한 호출 수",
    ],
    recovery: [
        "RPO: 승인 후 유실된 메시지",
        "RTO: 첫 장애부터 전체 서비스 재개까지",
        "클라이언트의 최장 대기 시간",
        "중복 저장된 메시지",
    ],
    corrective: ["번호", "조치 내용", "담당자, 기한"],
    sign: ["직책", "성명", "서명", "날짜"],
    roles: ["훈련 수행자", "승인자", "서비스 연속성 책임자"],
    none: "없음",
    worse: "훈련 결과가 시뮬레이션 100회 중 99회보다 나빴습니다. 모델과 실제 장비 중 어느 쪽이 잘못되었는지 확인해야 \
            합니다.",
    twin: "비교: 모든 데이터센터가 한 건물에 있는 경우(시뮬레이션)",
};

fn end_english(end: End) -> &'static str {
    end.word()
}

fn end_korean(end: End) -> &'static str {
    match end {
        End::Passed => "통과",
        End::Missed => "목표 미달",
        End::Broken => "보장 위반",
        End::Aborted => "중단",
        End::Inconclusive => "판정 불가",
    }
}

fn moment_english(moment: Moment) -> &'static str {
    super::markdown::name(moment)
}

fn moment_korean(moment: Moment) -> &'static str {
    match moment {
        Moment::Begin => "시작",
        Moment::Inject => "장애 주입",
        Moment::Detect => "감지",
        Moment::FirstLeader => "첫 리더 선출",
        Moment::LastLeader => "마지막 리더 선출",
        Moment::FirstAck => "첫 응답 재개",
        Moment::Heal => "장애 해제",
        Moment::FullyReplicated => "복제 완료",
        Moment::Abort => "훈련 중단",
        Moment::End => "종료",
    }
}

fn step_korean(step: &Step) -> String {
    let what = match step.action {
        Action::Silence => "송수신 차단",
        Action::Cut { .. } => "단방향 차단",
        Action::Slow { .. } => "지연과 손실",
        Action::Refuse => "새 연결 거부",
        Action::Reset => "연결 재설정",
        Action::SlowSync { .. } => "디스크 동기화 지연",
        Action::FullDisk => "디스크 가득 참",
        Action::StandStill | Action::Sigstop => "프로세스 정지",
        Action::Sigkill => "프로세스 강제 종료",
        Action::Restart => "프로세스 재시작",
        Action::Drain => "트래픽 비우기",
    };
    let seconds = |ms: u64| format!("{}.{}초", ms / 1_000, ms % 1_000 / 100);
    let lasts = step
        .for_ms
        .map_or_else(String::new, |ms| format!(" {} 동안", seconds(ms)));
    format!(
        "{} 후{lasts} {what}({}): {}",
        seconds(step.at_ms),
        step.action.name(),
        one_line(&step.nodes.join(", "))
    )
}

fn form(
    paper: &Paper,
    facts: &Facts,
    words: &Words,
    end: fn(End) -> &'static str,
    moment: fn(Moment) -> &'static str,
) -> String {
    let parts = [
        who(paper, words),
        when(paper, facts, words, moment),
        format!("{}\n", one_line(&paper.plan.hypothesis)),
        scope(paper, facts, words),
        method(paper, words),
        result(paper, facts, words, end(paper.end)),
        blast(paper, facts, words),
        recovery(paper, facts, words),
        corrective(paper, facts, words),
        signatures(words),
    ];
    let mut text = format!("# {}\n", words.title);
    for ((number, head), part) in (1..).zip(words.heads).zip(parts) {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n## {number}. {head}\n\n{part}");
    }
    text
}

/// Lines of a name and what belongs to it.
fn lines(lines: &[(&str, String)]) -> String {
    let lines = lines.iter();
    lines
        .map(|(name, said)| format!("- **{name}:** {said}\n"))
        .collect()
}

fn or_none(text: String, words: &Words) -> String {
    match text.is_empty() {
        true => words.none.to_owned(),
        false => text,
    }
}

fn who(paper: &Paper, words: &Words) -> String {
    let [cluster, exercise, approved, software] = words.who;
    let approvals = paper.approvals.iter().map(|approval| {
        format!(
            "{} ({} KST)",
            one_line(&approval.who),
            when::kst(approval.at_ms)
        )
    });
    let approvals: Vec<String> = approvals.collect();
    let mut versions: Vec<&str> = paper
        .cluster
        .nodes
        .iter()
        .map(|n| n.version.as_str())
        .collect();
    versions.sort_unstable();
    versions.dedup();
    lines(&[
        (cluster, one_line(&paper.cluster.cluster_id)),
        (exercise, one_line(&paper.plan.id)),
        (approved, or_none(approvals.join(", "), words)),
        (
            software,
            format!("Firebreak {}", one_line(&versions.join(", "))),
        ),
    ])
}

fn when(paper: &Paper, facts: &Facts, words: &Words, moment: fn(Moment) -> &'static str) -> String {
    let [begin, end, timeline] = words.when;
    let both = |ms| format!("{} KST ({} UTC)", when::kst(ms), when::utc(ms));
    let mut text = lines(&[(begin, both(paper.began_ms)), (end, both(paper.ended_ms))]);
    let rows = facts.moments.iter().map(|passed| {
        vec![
            moment(passed.moment).to_owned(),
            passed.kst.clone(),
            passed.utc.clone(),
            super::markdown::since(passed),
        ]
    });
    text.push('\n');
    text.push_str(&table(&[timeline, "KST", "UTC", "+"], rows));
    text
}

fn scope(paper: &Paper, facts: &Facts, words: &Words) -> String {
    let [scenario, dc, nodes, of] = words.scope;
    let plan = &paper.plan;
    let (blast, dcs) = (&facts.blast, facts.blast.dcs.join(", "));
    lines(&[
        (
            scenario,
            format!("{}: {}", one_line(&plan.scenario), one_line(&plan.about)),
        ),
        (dc, or_none(one_line(&dcs), words)),
        (
            nodes,
            format!(
                "{} ({} {of} {})",
                one_line(&blast.nodes.join(", ")),
                blast.nodes.len(),
                blast.of_nodes
            ),
        ),
    ])
}

fn method(paper: &Paper, words: &Words) -> String {
    let steps = paper
        .plan
        .steps
        .iter()
        .map(|one| format!("- {}\n", (words.step)(one)));
    format!("{}\n\n{}", words.method, steps.collect::<String>())
}

fn result(paper: &Paper, facts: &Facts, words: &Words, end: &str) -> String {
    let [verdict, reason, promises] = words.result;
    let told = paper.oracles.iter().filter_map(|oracle| {
        let sign = if oracle.held? { "✓" } else { "✗" };
        Some(format!("{} {sign}", one_line(&oracle.promise)))
    });
    let told: Vec<String> = told.collect();
    let mut text = lines(&[
        (verdict, format!("**{end}**")),
        (reason, one_line(&paper.why)),
        (promises, or_none(told.join(" · "), words)),
    ]);
    let goals = [paper.plan.goals.gap_ms, Some(paper.plan.goals.failed), None];
    let rows = facts.rows.iter().zip(words.rows).zip(goals);
    let rows = rows.map(|((row, name), goal)| {
        let told = |number: Option<u64>| {
            number.map_or_else(
                || "–".to_owned(),
                |n| super::markdown::with_unit(n, row.unit),
            )
        };
        let simulated = row.simulated.map(|seeds| super::markdown::whole(seeds.p99));
        let unit = if row.unit.is_empty() { "" } else { " " };
        vec![
            name.to_owned(),
            told(row.predicted),
            simulated.map_or_else(|| "–".to_owned(), |p99| format!("{p99}{unit}{}", row.unit)),
            told(Some(row.measured)),
            goal.map_or_else(|| "–".to_owned(), |goal| format!("≤ {}", told(Some(goal)))),
        ]
    });
    text.push('\n');
    text.push_str(&table(&words.figures, rows));
    text
}

fn blast(paper: &Paper, facts: &Facts, words: &Words) -> String {
    let [felt, failed, calls, failed_calls] = words.blast;
    let of = facts.gaps.clients;
    lines(&[
        (felt, format!("{} / {of}", facts.blast.felt)),
        (failed, format!("{} / {of}", facts.blast.failed)),
        (calls, thousands(paper.measured.calls)),
        (failed_calls, thousands(paper.measured.failed)),
    ])
}

fn recovery(paper: &Paper, facts: &Facts, words: &Words) -> String {
    let [rpo, rto, wait, twice] = words.recovery;
    let ms = |ms: u64| format!("{} ms", thousands(ms));
    let mut text = lines(&[
        (rpo, thousands(facts.rpo)),
        (rto, facts.rto_ms.map_or_else(|| "–".to_owned(), ms)),
        (wait, ms(paper.measured.gap_ms)),
        (twice, thousands(paper.measured.duplicated)),
    ]);
    let twin = paper.rehearsal.as_ref().and_then(|one| one.twin.as_ref());
    if let Some(twin) = twin {
        let cost = format!("RTO {}, RPO {}", ms(twin.gap_ms), thousands(twin.lost));
        text.push_str(&lines(&[(words.twin, cost)]));
    }
    text
}

/// What follows by itself, and room for what people add.
fn corrective(paper: &Paper, facts: &Facts, words: &Words) -> String {
    let worse = facts.rows.iter().any(|row| row.standing == Standing::Worse);
    let worse = worse.then(|| words.worse.to_owned());
    let mut actions: Vec<String> = worse.into_iter().collect();
    actions.extend(paper.deviations.iter().cloned());
    actions.extend([String::new(), String::new()]);
    let rows = (1..).zip(actions);
    let rows =
        rows.map(|(number, action): (u32, String)| vec![number.to_string(), action, String::new()]);
    table(&words.corrective, rows)
}

fn signatures(words: &Words) -> String {
    let rows = words.roles.iter().map(|role| {
        vec![
            (*role).to_owned(),
            String::new(),
            String::new(),
            String::new(),
        ]
    });
    table(&words.sign, rows)
}
