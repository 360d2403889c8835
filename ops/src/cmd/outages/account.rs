//! One account of what three witnesses saw: gateways, canaries, flight recorders.

use std::collections::{BTreeMap, BTreeSet};

use client::v1::Outage;
use serde::Serialize;

/// Windows that are no further apart are one, ms: a gateway's ends after so long without trouble.
const APART_MS: u64 = 10_000;

/// A second in which a recorder counted calls that failed.
#[derive(Clone, Debug)]
pub struct Felt {
    /// Through this node.
    pub node: String,
    /// Unix milliseconds, agreed.
    pub from_ms: u64,
    /// Unix milliseconds, agreed.
    pub to_ms: u64,
}

/// A time in which a tenant was not served.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Account {
    /// Empty: no caller met it; the canary alone saw it, of all tenants.
    pub tenant: String,
    /// send, read, tail.
    pub feature: String,
    /// Unix milliseconds.
    pub from_ms: u64,
    /// Unix milliseconds.
    pub to_ms: u64,
    /// Calls, or messages of a stream, that met it.
    pub calls: u64,
    /// How they ended: refused, unknown, failed.
    pub reasons: BTreeMap<String, u64>,
    /// Through which nodes.
    pub nodes: Vec<String>,
    /// Who saw it: gateway, canary, recorder.
    pub witnesses: Vec<&'static str>,
    /// Why it is as wide as that, where witnesses differ.
    pub why: String,
    /// It goes on.
    pub goes_on: bool,
}

/// A window of one witness.
struct WitnessedOutage<'a> {
    from_ms: u64,
    to_ms: u64,
    node: &'a str,
}

/// Puts together what was seen; the earliest first.
pub fn of(outages: &[Outage], felt: &[Felt]) -> Vec<Account> {
    let (canary, gateways): (Vec<&Outage>, Vec<&Outage>) =
        outages.iter().partition(|one| one.witness == "canary");
    let mut groups: BTreeMap<(&str, &str), Vec<&Outage>> = BTreeMap::new();
    for one in gateways {
        groups
            .entry((&one.tenant, &one.feature))
            .or_default()
            .push(one);
    }
    let mut accounts = Vec::new();
    for ((tenant, feature), windows) in groups {
        accounts.extend(together(tenant, feature, windows));
    }
    let canaries: Vec<WitnessedOutage<'_>> =
        canary.iter().map(|one| WitnessedOutage::of(one)).collect();
    let recorders = joined(felt);
    let mut used = BTreeSet::new();
    for account in &mut accounts {
        let before = (account.from_ms, account.to_ms);
        // Both try, or count, appends alone.
        let appends = account.feature == "send";
        for (at, seen) in canaries.iter().enumerate().filter(|_| appends) {
            if account.touches(seen) {
                account.widen(seen, "canary");
                used.insert(at);
            }
        }
        for seen in recorders.iter().filter(|_| appends) {
            if account.touches(seen) {
                account.widen(seen, "recorder");
            }
        }
        account.explain(before);
    }
    // What no caller met was a fault all the same.
    let alone: Vec<&Outage> = {
        let all = canary.iter().enumerate();
        all.filter(|(at, _)| !used.contains(at))
            .map(|(_, one)| *one)
            .collect()
    };
    accounts.extend(together("", "send", alone).into_iter().map(|mut one| {
        one.witnesses = vec!["canary"];
        "the canary alone: no caller met it".clone_into(&mut one.why);
        one
    }));
    accounts.sort_by(|a, b| {
        (a.from_ms, &a.tenant, &a.feature).cmp(&(b.from_ms, &b.tenant, &b.feature))
    });
    accounts
}

/// Windows of one tenant and feature, those that touch as one.
fn together(tenant: &str, feature: &str, mut windows: Vec<&Outage>) -> Vec<Account> {
    windows.sort_by_key(|one| one.from_ms);
    let mut accounts: Vec<Account> = Vec::new();
    for one in windows {
        let account = match accounts.last_mut() {
            Some(last) if one.from_ms <= last.to_ms + APART_MS => last,
            Some(_) | None => {
                accounts.push(Account {
                    tenant: tenant.to_owned(),
                    feature: feature.to_owned(),
                    from_ms: one.from_ms,
                    to_ms: one.to_ms,
                    calls: 0,
                    reasons: BTreeMap::new(),
                    nodes: Vec::new(),
                    witnesses: vec!["gateway"],
                    why: String::new(),
                    goes_on: false,
                });
                let last = accounts.len() - 1;
                &mut accounts[last]
            }
        };
        account.to_ms = account.to_ms.max(one.to_ms);
        account.calls += one.calls;
        account.goes_on |= one.goes_on;
        for reason in &one.reasons {
            *account.reasons.entry(reason.reason.clone()).or_default() += reason.calls;
        }
        if !account.nodes.contains(&one.node) {
            account.nodes.push(one.node.clone());
        }
    }
    accounts
}

/// Seconds of recorders, those of one node that touch as one.
fn joined(felt: &[Felt]) -> Vec<WitnessedOutage<'_>> {
    let mut felt: Vec<&Felt> = felt.iter().collect();
    felt.sort_by(|a, b| (&a.node, a.from_ms).cmp(&(&b.node, b.from_ms)));
    let mut seen: Vec<WitnessedOutage<'_>> = Vec::new();
    for one in felt {
        match seen.last_mut() {
            Some(last) if last.node == one.node && one.from_ms <= last.to_ms + APART_MS => {
                last.to_ms = last.to_ms.max(one.to_ms);
            }
            Some(_) | None => seen.push(WitnessedOutage {
                from_ms: one.from_ms,
                to_ms: one.to_ms,
                node: &one.node,
            }),
        }
    }
    seen
}

impl WitnessedOutage<'_> {
    fn of(outage: &Outage) -> WitnessedOutage<'_> {
        WitnessedOutage {
            from_ms: outage.from_ms,
            to_ms: outage.to_ms,
            node: &outage.node,
        }
    }
}

impl Account {
    /// Whether a witness at one of its nodes saw something at that time.
    fn touches(&self, seen: &WitnessedOutage<'_>) -> bool {
        self.nodes.iter().any(|node| node == seen.node)
            && seen.from_ms <= self.to_ms + APART_MS
            && self.from_ms <= seen.to_ms + APART_MS
    }

    /// Takes the wider time, and notes who saw it.
    fn widen(&mut self, seen: &WitnessedOutage<'_>, witness: &'static str) {
        self.from_ms = self.from_ms.min(seen.from_ms);
        self.to_ms = self.to_ms.max(seen.to_ms);
        if !self.witnesses.contains(&witness) {
            self.witnesses.push(witness);
        }
    }

    fn explain(&mut self, (from_ms, to_ms): (u64, u64)) {
        let (before, after) = (from_ms - self.from_ms, self.to_ms - to_ms);
        let others: Vec<&str> = self.witnesses.iter().copied().skip(1).collect();
        let others = others.join(" and ");
        self.why = match (before, after) {
            (0, 0) if others.is_empty() => "the gateways' own counts".to_owned(),
            (0, 0) => format!("the gateways' own counts; {others} saw no more"),
            (before, after) => format!(
                "{others} saw it {before} ms longer before and {after} ms longer after the gateways: the wider \
                 counts"
            ),
        };
    }
}

#[cfg(test)]
mod tests {
    use client::v1::OutageReason;

    use super::*;

    fn outage(
        tenant: &str,
        witness: &str,
        node: &str,
        from_ms: u64,
        to_ms: u64,
        calls: u64,
    ) -> Outage {
        Outage {
            tenant: tenant.to_owned(),
            feature: "send".to_owned(),
            node: node.to_owned(),
            witness: witness.to_owned(),
            from_ms,
            to_ms,
            calls,
            reasons: vec![OutageReason {
                reason: "refused".to_owned(),
                calls,
            }],
            goes_on: false,
        }
    }

    #[test]
    fn windows_of_all_gateways_that_touch_are_one() {
        let accounts = of(
            &[
                outage("chat", "gateway", "seoul-1", 100_000, 104_000, 7),
                outage("chat", "gateway", "busan-1", 103_000, 111_000, 3),
                outage("chat", "gateway", "busan-1", 300_000, 301_000, 1),
                outage("game", "gateway", "busan-1", 103_000, 104_000, 2),
            ],
            &[],
        );
        let told: Vec<_> = accounts
            .iter()
            .map(|one| {
                (
                    one.tenant.as_str(),
                    one.from_ms,
                    one.to_ms,
                    one.calls,
                    one.nodes.len(),
                )
            })
            .collect();
        let expected = [
            ("chat", 100_000, 111_000, 10, 2),
            ("game", 103_000, 104_000, 2, 1),
            ("chat", 300_000, 301_000, 1, 1),
        ];
        assert_eq!(told, expected);
        assert_eq!(accounts[0].reasons["refused"], 10);
        assert_eq!(accounts[0].why, "the gateways' own counts");
    }

    #[test]
    fn the_wider_witness_counts_and_is_named() {
        let gateway = outage("chat", "gateway", "seoul-1", 100_000, 104_000, 7);
        let canary = outage("", "canary", "seoul-1", 98_000, 105_000, 0);
        let felt = Felt {
            node: "seoul-1".to_owned(),
            from_ms: 103_000,
            to_ms: 106_000,
        };
        let accounts = of(&[gateway.clone(), canary.clone()], &[felt]);
        assert_eq!(accounts.len(), 1, "{accounts:?}");
        let one = &accounts[0];
        assert_eq!((one.from_ms, one.to_ms, one.calls), (98_000, 106_000, 7));
        assert_eq!(one.witnesses, ["gateway", "canary", "recorder"]);
        assert!(
            one.why
                .contains("2000 ms longer before and 2000 ms longer after"),
            "{}",
            one.why
        );
        // At another node, or at another time, it is another matter.
        let elsewhere = Outage {
            node: "busan-1".to_owned(),
            ..canary
        };
        let accounts = of(&[gateway, elsewhere], &[]);
        assert_eq!(accounts.len(), 2);
        let alone = accounts.iter().find(|one| one.tenant.is_empty()).unwrap();
        assert_eq!(alone.why, "the canary alone: no caller met it");
    }
}
