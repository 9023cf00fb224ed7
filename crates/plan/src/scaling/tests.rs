use super::*;
use crate::zone::fixtures::version;
use proptest::{prop_assert, proptest};
use tutti_model::{Split, manifest::Scale};

const NOW: Timestamp = Timestamp(1_000_000_000);

fn assignment(scale: Scale, min: u32, max: u32) -> AssignmentSpec {
    let mut version = version("1.0");
    (version.manifest.scale, version.manifest.concurrency) = (scale, 10);
    (version.manifest.min, version.manifest.max) = (min, max);
    AssignmentSpec {
        service: "example.com:web".parse().unwrap(),
        handed_down: 1,
        round: 1,
        matches: Vec::new(),
        split: Split::new([("1.0".parse().unwrap(), Share::WHOLE)]).unwrap(),
        hold: false,
        versions: vec![version],
        preload: None,
        upstreams: Vec::new(),
        workers: min,
        scales: true,
        deployment: None,
        from: Split::empty(),
        removed: false,
    }
}

fn rate(running: u64, answers: u64) -> Rate {
    Rate { running: running * 1000, answers: answers * 1000 }
}

fn demand(long: Rate, short: Rate) -> Demand {
    Demand { long, short, since: Timestamp(0) }
}

fn scaled(workers: u32, ago: Millis) -> Scaled {
    Scaled { workers, at: Timestamp(NOW.0 - ago.0), why: String::new() }
}

fn decide(assignment: &AssignmentSpec, from: Option<&Scaled>, demand: Demand) -> Option<(u32, String)> {
    let view = ScalingView { now: NOW, assignment, scaled: from, demand: &demand };
    scale(view).change.map(|change| (change.workers, change.why))
}

#[test]
fn follows_the_long_window_up_at_once_and_says_why() {
    let web = assignment(Scale::default(), 1, 100);
    let found = decide(&web, None, demand(rate(15, 0), rate(13, 0)));
    let why = "15 requests at once, 7 to a worker over the last 1m";
    assert_eq!(found, Some((3, why.to_owned())));
    assert_eq!(decide(&web, None, demand(rate(7, 0), rate(7, 0))), None);
}

#[test]
fn a_burst_is_not_waited_for() {
    let web = assignment(Scale::default(), 1, 100);
    assert_eq!(decide(&web, None, demand(rate(3, 0), rate(70, 0))).unwrap().0, 10);
    // What is less than twice of what there is is no burst.
    assert_eq!(decide(&web, Some(&scaled(6, LONG)), demand(rate(42, 0), rate(70, 0))), None);
}

#[test]
fn requests_a_second_count_where_they_are_asked_for() {
    let scale = Scale { concurrency: Some(5), rps: Some(50), idle: None };
    let web = assignment(scale, 1, 100);
    let found = decide(&web, None, demand(rate(4, 420), rate(4, 420))).unwrap();
    assert_eq!(found, (9, "420 requests a second, 50 to a worker over the last 1m".to_owned()));
    assert_eq!(decide(&web, None, demand(rate(11, 20), rate(0, 0))).unwrap().0, 3);
}

#[test]
fn goes_down_by_half_at_most_when_a_whole_window_has_been_seen() {
    let web = assignment(Scale::default(), 2, 100);
    let idle = demand(Rate::default(), Rate::default());
    let young = Demand { since: Timestamp(NOW.0 - 1), ..idle };
    assert_eq!(decide(&web, Some(&scaled(20, LONG)), young), None, "a new control waits");
    assert_eq!(decide(&web, Some(&scaled(20, Millis(1))), idle), None, "not soon after a change");
    assert_eq!(decide(&web, Some(&scaled(20, LONG)), idle).unwrap().0, 10);
    assert_eq!(decide(&web, Some(&scaled(3, LONG)), idle).unwrap().0, 2);
    assert_eq!(decide(&web, Some(&scaled(2, LONG)), idle), None, "never below what there is at rest");
    // Just as much as one fewer would do is no reason to have one fewer.
    assert_eq!(decide(&web, Some(&scaled(6, LONG)), demand(rate(35, 0), rate(35, 0))), None);
    assert_eq!(decide(&web, Some(&scaled(6, LONG)), demand(rate(31, 0), rate(31, 0))).unwrap().0, 5);
}

#[test]
fn a_number_that_was_set_stays() {
    let mut web = assignment(Scale::default(), 1, 100);
    web.scales = false;
    assert_eq!(decide(&web, None, demand(rate(500, 0), rate(500, 0))), None);
    assert_eq!(workers(&web, Some(&scaled(9, LONG))), 1, "what was decided before it was set is forgotten");
}

#[test]
fn most_is_said() {
    let web = assignment(Scale::default(), 1, 4);
    let found = decide(&web, None, demand(rate(500, 0), rate(500, 0))).unwrap();
    assert_eq!(
        found,
        (4, "500 requests at once, 7 to a worker over the last 1m; at most 4 by its manifest".into())
    );
    assert_eq!(decide(&web, Some(&scaled(4, LONG)), demand(rate(500, 0), rate(500, 0))), None);
}

proptest! {
    #[test]
    fn stays_within_bounds_and_rests_under_a_steady_load(
        min in 1u32..5, more in 0u32..50, running in 0u64..3000, answers in 0u64..3000, rps in 1u32..100,
    ) {
        let web = assignment(Scale { rps: Some(rps), ..Scale::default() }, min, min + more);
        let steady = demand(rate(running, answers), rate(running, answers));
        let mut last: Option<Scaled> = None;
        for _ in 0..20 {
            let view = ScalingView { now: NOW, assignment: &web, scaled: last.as_ref(), demand: &steady };
            let Some(change) = scale(view).change else { break };
            prop_assert!((min..=min + more).contains(&change.workers));
            prop_assert!(last.as_ref().is_none_or(|last| change.workers >= last.workers), "it swings");
            last = Some(Scaled { at: Timestamp(NOW.0 - LONG.0), ..change });
        }
        let view = ScalingView { now: NOW, assignment: &web, scaled: last.as_ref(), demand: &steady };
        prop_assert!(scale(view).change.is_none(), "a steady load comes to rest");
    }
}
