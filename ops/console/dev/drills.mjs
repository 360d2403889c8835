// Drills and proofs as a node would tell of them. Made up, and alike each time.
const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

const HOSTILE = '<img src=x onerror="window.owned=1"> ';

/** The drill that runs, in short; null when none does. */
export function running(world) {
  const { what } = world;
  if (!what.drilling && !what.hostile) return null;
  const id = what.hostile ? HOSTILE + "verylongname".repeat(9) : "2026-12-01-dc-silent-seoul-3f2a";
  return { id, scenario: what.hostile ? HOSTILE : "dc-silent", target: "seoul", began_ms: world.clock() - 14_000, abort: `firebreak drill abort ${id}` };
}

/** Who pulled the lever, if it is pulled. */
export function lever(world) {
  const gray = { who: "minseo.park", why: "the line to tokyo is under repair", at_ms: world.clock() - 2 * DAY };
  return world.lever === undefined ? (world.state === "gray" ? gray : null) : world.lever;
}

const past = (world, ago, id, scenario, end, why, summary, began = true) => {
  const ended_ms = world.clock() - ago;
  return { id, scenario, target: scenario === "kakao-2022" ? "" : "seoul", began_ms: began ? ended_ms - 45_000 : 0, ended_ms, end, why, summary };
};

export function drills(world, name) {
  if (world.what.bare) return { seen_by: null, running: {}, open: [{}], standing: [{}, null], blocked: [{}], history: [{}, null] };
  const now_ms = world.clock();
  const drill = world.lever ? null : running(world);
  const first = now_ms - (now_ms % DAY);
  return {
    seen_by: world.seenBy(name),
    now_ms,
    lever: lever(world),
    running: drill && {
      ...drill,
      hypothesis: "With seoul silent for 20 s, no call fails and no client waits longer than 1.5 s.",
      controller: "ops-1 4711",
      heard_ms: now_ms - 2_300,
      ends_unheard_ms: 42_700,
      live: {
        predicted: { gap_ms: 1100, failed: 0, moves: 0 },
        simulated_p50: { gap_ms: 912, failed: 0, moves: 0 },
        simulated_p99: { gap_ms: 1240, failed: 0, moves: 0 },
        measured: { gap_ms: 1612, failed: 0, moves: 0 },
        calls: 18_402,
      },
      cap_failed: 0,
      cap_gap_ms: 1900,
      cap_margin: 0,
      margin: 0,
      faults: [1, 2, 3].map((n) => ({ node: `seoul-${n}`, kind: "silence", left_ms: 11_200 })),
      notes: [
        { at_ms: now_ms - 9_000, text: "silence on seoul-1, seoul-2, seoul-3" },
        { at_ms: now_ms - 14_000, text: world.what.hostile ? HOSTILE : "24 canaries began" },
      ],
    },
    open: world.state === "healthy" ? [{ id: "2026-12-08-drain-dc-busan-77aa", scenario: "drain-dc", target: "busan", state: "planned", planned_by: "jiwoo.han", planned_ms: now_ms - 90 * MINUTE, approved_by: ["jiwoo.han"] }] : [],
    standing: [
      { name: "weekly", next_ms: first + 3 * DAY + 10 * 60 * MINUTE, every_ms: 7 * DAY, until_ms: now_ms + 180 * DAY, approved_by: ["jiwoo.han", "minseo.park"], allowed: true, blocked_by: null, last_ms: now_ms - 4 * DAY },
      { name: "half a year", next_ms: first + 20 * DAY + 10 * 60 * MINUTE, every_ms: 182 * DAY, until_ms: now_ms + 365 * DAY, approved_by: ["jiwoo.han"], allowed: false, blocked_by: "year's end", last_ms: 0 },
    ],
    blocked: [
      { name: "payday", from_ms: first + 9 * DAY, to_ms: first + 11 * DAY, why: "the most load of the month" },
      { name: "year's end", from_ms: first + 19 * DAY, to_ms: first + 33 * DAY, why: "nobody is there" },
    ],
    needed: 2,
    history: world.what.forming
      ? []
      : [
          past(world, 4 * DAY, "2026-11-27-dc-silent-seoul-11c0", "dc-silent", "passed", "every goal was met", { gap_ms: 871, failed: 0 }),
          past(world, 11 * DAY, "2026-11-20-dc-crash-seoul-90ab", "dc-crash", "missed", "the longest gap was 1,612 ms where 1,500 ms was the goal", { gap_ms: 1612, failed: 0 }),
          past(world, 18 * DAY, "2026-11-13-asymmetric-send-seoul-0d31", "asymmetric-send", "aborted", "busan-2 does not answer: a second, real fault", null),
          past(world, 25 * DAY, "2026-11-06-drain-dc-seoul-5e02", "drain-dc", "withdrawn", "planned for the wrong data center", null, false),
          past(world, 60 * DAY, "2026-10-02-kakao-2022-aa71", "kakao-2022", "inconclusive", "the canaries of tokyo could not judge", { gap_ms: 930, failed: null }),
          past(world, 190 * DAY, "2026-05-25-dc-silent-seoul-c0de", "dc-silent", "broken", "a message was read that was acknowledged to nobody", { gap_ms: 1201, failed: 2 }),
        ],
  };
}

const WORDS = { D: "durable", O: "ordered", E: "exactly once", L: "linearizable", S: "honest staleness", U: "one leader", H: "identical", G: "no downtime", P: "progress", A: "admin lives" };

export function promises(world, name) {
  if (world.what.bare) return { promises: [{ promise: "D" }, {}, null] };
  const now_ms = world.clock();
  const one = (promise, days, by, evidence, limit = 180, broken = null) => ({
    promise,
    word: WORDS[promise],
    standing: broken !== null ? "broken" : days === null ? "never" : days > limit ? "old" : "shown",
    shown_ms: days === null ? null : now_ms - days * DAY,
    age_ms: days === null ? null : days * DAY,
    by,
    evidence: world.what.hostile ? HOSTILE : evidence,
    limit_ms: limit * DAY,
    broken_ms: broken === null ? null : now_ms - broken * DAY,
    broken_by: broken === null ? "" : "verify: shard 3, tenants/chat/conversations/a: busan-1 and tokyo-2 differ at message 7",
    shown_with: promise === "H" ? "firebreak verify" : "firebreak drill plan dc-silent",
  });
  const drill = "2026-11-27-dc-silent-seoul-11c0";
  return {
    seen_by: world.seenBy(name),
    now_ms,
    promises: [
      one("D", 4, drill, "12,411 acknowledged messages were read back"),
      one("O", 4, drill, "24 conversations without a gap"),
      one("E", 4, drill, "no id is there twice"),
      one("L", 4, drill, "5,702 LINEARIZABLE reads"),
      one("S", 4, drill, "16,230 reads within their bounds"),
      one("U", null, "", ""),
      one("H", world.state === "burning" ? 9 : 2, "verify", "4,096 conversations on 39 replicas of 13 shards", 7, world.state === "two_dead" ? 0.2 : null),
      one("G", 4, drill, "none of 46,000 calls failed"),
      one("P", 190, "2026-05-25-dc-silent-seoul-c0de", "13 shards served 0.8 s after the heal"),
      one("A", 4, drill, "every survivor answered"),
    ],
  };
}
