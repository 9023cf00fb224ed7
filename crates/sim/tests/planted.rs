//! The test of the test: bugs planted on purpose, each found by the check that is there for it. Without the bug nothing
//! is found in the same story.

#![expect(clippy::expect_used, clippy::panic, reason = "the helpers of tests fail as tests do")]

use tutti_sim::{Fault, Planted, story};

/// Within so many stories of its kind a bug is found.
const STORIES: usize = 60;

fn tell(seed: u64, planted: Option<Planted>) -> Result<(), Vec<Fault>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(story::tell(seed, planted)).map(|_| ()).map_err(|broken| broken.faults)
}

fn is_found(planted: Planted) {
    let mut seeds = story::seeds(planted.shows_in()).take(STORIES);
    let found = seeds.find_map(|seed| Some((seed, tell(seed, Some(planted)).err()?)));
    let Some((seed, faults)) = found else { panic!("{planted:?} is not found in {STORIES} stories") };
    let is_by = |fault: &Fault| planted.found_by().contains(&fault.check);
    let says: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(faults.iter().any(is_by), "{planted:?} is found at seed {seed} by other checks: {says:#?}");
    assert_eq!(tell(seed, None), Ok(()), "without it nothing is wrong at seed {seed}");
}

/// A test for each, so that they run side by side and a missed one is told by name.
macro_rules! planted {
    ($($name:ident: $planted:ident,)+) => {
        $(#[test]
        fn $name() {
            is_found(Planted::$planted);
        })+

        #[test]
        fn every_bug_has_its_test() {
            assert_eq!(Planted::ALL.as_slice(), [$(Planted::$planted),+]);
        }
    };
}

planted! {
    a_leader_that_is_one_no_longer_writes: FenceForgotten,
    what_is_replaced_drains_at_once: DrainsAtOnce,
    a_drain_goes_by_a_stale_view_of_ingresses: IngressesFromMemory,
    the_same_room_is_promised_twice: RoomPromisedTwice,
    what_is_silent_is_replaced_before_its_grace: GraceForgotten,
    a_version_is_lost_from_a_table: VersionLost,
    what_sleeps_is_left_out_of_the_table: SleepersLeftOut,
    a_table_is_written_without_looking_at_what_it_names: ReadinessNotCompared,
    load_passes_a_quota: QuotaUnread,
    what_has_stopped_is_never_forgotten: StoppedKept,
    a_deployment_never_ends: DeploymentNeverEnds,
    a_node_comes_back_to_yesterdays_goals: YesterdaysGoals,
}
