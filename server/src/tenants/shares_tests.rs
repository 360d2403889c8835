use std::time::Duration;

use proptest::prelude::*;

use super::*;

const LIMIT: u64 = 90;

fn take(amount: u64) -> Take {
    Take {
        quota: Quota::Messages,
        of: String::new(),
        amount,
        limit: LIMIT,
    }
}

/// One message through a node, as the server asks for it.
fn one(node: &Shares, keeper: Option<&Keeper>, parts: u64, now: Instant) -> bool {
    let lacks = node.take("t", vec![take(1)], parts, now);
    if lacks.takes.is_empty() {
        return true;
    }
    let granted = match keeper {
        Some(keeper) => {
            keeper.told("t", &node.untold("t"), &[], now);
            keeper.take("t", &lacks.takes, now).is_ok()
        }
        None => node.take_alone("t", &lacks.takes, parts, now).is_ok(),
    };
    if !granted {
        node.give_back("t", lacks, parts, now);
    }
    granted
}

/// All nodes tell the keeper now and then.
fn tell(shares: &[Shares], keeper: &Keeper, now: Instant, told: &mut Instant) {
    if now - *told < Duration::from_millis(200) {
        return;
    }
    *told = now;
    for node in shares {
        keeper.told("t", &node.untold("t"), &[], now);
    }
}

proptest! {
    /// However callers spread over nodes, they get no more than the limit but for one burst more, and who keeps
    /// to the limit is not refused.
    #[test]
    fn nodes_share_a_limit_and_one_alone_can_use_it(
        nodes in 1_usize..10,
        calls in prop::collection::vec((0_usize..10, 0_u64..20_000_000), 100..600),
    ) {
        let (begun, keeper) = (Instant::now(), Keeper::default());
        let shares: Vec<Shares> = (0..nodes).map(|_| Shares::default()).collect();
        let (mut now, mut given, mut told) = (begun, 0_u64, begun);
        for (node, nanos) in calls {
            now += Duration::from_nanos(nanos);
            tell(&shares, &keeper, now, &mut told);
            given += u64::from(one(&shares[node % nodes], Some(&keeper), nodes as u64, now));
            let came = (now - begun).as_nanos() * u128::from(LIMIT) / 1_000_000_000;
            // The burst, what came since, and what nodes have not told: their shares' bursts.
            let most = u128::from(2 * LIMIT + LIMIT / 4) + came;
            prop_assert!(u128::from(given) <= most, "{given} of {most}");
        }
    }

    #[test]
    fn who_keeps_to_the_limit_through_any_node_is_never_refused(
        nodes in 1_usize..10,
        calls in prop::collection::vec((0_usize..10, 0_u64..1_000_000), 100..400),
    ) {
        let keeper = Keeper::default();
        let shares: Vec<Shares> = (0..nodes).map(|_| Shares::default()).collect();
        let mut now = Instant::now();
        let mut told = now;
        for (node, nanos) in calls {
            now += Duration::from_nanos(1_000_000_000 / LIMIT + 1 + nanos);
            tell(&shares, &keeper, now, &mut told);
            prop_assert!(one(&shares[node % nodes], Some(&keeper), nodes as u64, now));
        }
    }
}

#[test]
fn a_node_alone_uses_the_whole_limit_and_without_the_keeper_its_share() {
    let (now, keeper) = (Instant::now(), Keeper::default());
    let alone = Shares::default();
    let given = (0..500)
        .filter(|_| one(&alone, Some(&keeper), 9, now))
        .count();
    assert_eq!(given as u64, LIMIT, "told and granted come to the limit");
    let cut_off = Shares::default();
    let given = (0..500).filter(|_| one(&cut_off, None, 9, now)).count();
    assert_eq!(given as u64, LIMIT / 9);
}

#[test]
fn one_node_of_one_gives_out_no_more_than_the_limit() {
    let (now, keeper) = (Instant::now(), Keeper::default());
    let alone = Shares::default();
    let given = (0..500)
        .filter(|_| one(&alone, Some(&keeper), 1, now))
        .count();
    assert_eq!(given as u64, LIMIT);
    let later = now + Duration::from_millis(100);
    let given = (0..500)
        .filter(|_| one(&alone, Some(&keeper), 1, later))
        .count();
    assert_eq!(given as u64, LIMIT / 10);
}

#[test]
fn what_is_refused_costs_nothing_and_what_is_granted_ahead_is_used_first() {
    let (now, keeper) = (Instant::now(), Keeper::default());
    let node = Shares::default();
    let user = Take {
        quota: Quota::UserMessages,
        of: "ann".into(),
        amount: 1,
        limit: 1,
    };
    for round in 0..20 {
        let lacks = node.take("t", vec![take(1), user.clone()], 3, now);
        keeper.told("t", &node.untold("t"), &[], now);
        let granted = keeper.take("t", &lacks.takes, now);
        assert_eq!(granted.is_ok(), round == 0, "{round}");
        if let Err(short) = granted {
            assert_eq!(
                (short.quota, short.wait_us),
                (Quota::UserMessages, 1_000_000)
            );
            node.give_back("t", lacks, 3, now);
        }
    }
    // What was given back is told as well, once.
    assert_eq!(node.untold("t").returned, [take(1)]);
    node.ahead("t", &[take(5)]);
    let lacks = node.take("t", vec![take(5)], 3, now);
    assert!(lacks.takes.is_empty() && lacks.given.is_empty());
    assert_eq!(node.untold("t"), ShareReport::default());
}

#[test]
fn conversations_are_those_of_the_shards_that_there_are() {
    let (now, keeper) = (Instant::now(), Keeper::default());
    keeper.told("t", &ShareReport::default(), &[(1, 10), (2, 5)], now);
    keeper.told("t", &ShareReport::default(), &[(1, 7), (9, 100)], now);
    assert_eq!(keeper.conversations("t", |shard| shard < 9), 12);
    assert_eq!(keeper.conversations("u", |_| true), 0);
    keeper.keep(|tenant| tenant != "t");
    assert_eq!(keeper.conversations("t", |_| true), 0);
}
