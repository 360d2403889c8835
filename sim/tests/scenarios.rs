//! Every scenario on a few seeds. A failure prints the command that repeats it.

use firebreak_sim::{Scenario, Verdict, run};

fn holds(scenario: &Scenario) {
    println!("{}", scenario.command());
    let report = run(scenario);
    assert_eq!(report.verdict(), Verdict::Held, "\n{report}");
    assert!(report.acked > 500, "hardly any load:\n{report}");
    let events = scenario.timeline.len();
    assert_eq!(report.events.len(), events, "not all was done:\n{report}");
    assert_eq!(report.replicas, 3 * scenario.nodes() as usize, "\n{report}");
}

macro_rules! seeds {
    ($($name:ident: $scenario:ident($seed:literal);)*) => {
        $(
            #[test]
            fn $name() {
                holds(&Scenario::$scenario($seed));
            }
        )*
    };
}

seeds! {
    calm_days_lose_nothing_seed_1: calm(1);
    calm_days_lose_nothing_seed_2: calm(2);
    a_data_center_burns_and_comes_back_seed_1: burn(1);
    a_data_center_burns_and_comes_back_seed_2: burn(2);
    a_data_center_burns_and_comes_back_seed_3: burn(3);
    a_data_center_burns_and_comes_back_seed_4: burn(4);
}
