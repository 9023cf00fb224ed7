//! Many stories, each from a seed. `TUTTI_SIM_SEED=N` tells one again; `TUTTI_SIM_SEEDS=N` tells that many;
//! `TUTTI_SIM_LOG=debug` shows what control says meanwhile.

#![expect(clippy::panic, clippy::expect_used, reason = "the helpers of tests fail as tests do")]

use tutti_sim::{SERVICES, World, story};

/// Seeds told in `make test`; `make sim` tells more.
const SEEDS: u64 = 240;
/// Tests that share the seeds, so that as many processors do.
const PARTS: u64 = 4;
/// Seconds in which a deployment ends where there is room: far fewer than an instance stands by.
const SOON: usize = 5;
async fn tell(seed: u64) {
    if let Err(broken) = story::tell(seed, None).await {
        let faults: Vec<String> = broken.faults.iter().map(ToString::to_string).collect();
        panic!("seed {seed}: {faults:#?}\n{:#?}", broken.story);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Tells the stories of one part.
fn tell_part(part: u64) {
    static LOG: std::sync::Once = std::sync::Once::new();
    if let Ok(filter) = std::env::var("TUTTI_SIM_LOG") {
        LOG.call_once(|| {
            tutti_base::telemetry::start(&filter, tutti_base::telemetry::Format::Text).expect("a log");
        });
    }
    let seeds = match number("TUTTI_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TUTTI_SIM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds.filter(|seed| seed % PARTS == part) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(tell(seed));
    }
}

mod every_story_is_safe_and_comes_to_rest {
    use super::tell_part;

    #[test]
    fn of_the_first_part() {
        tell_part(0);
    }

    #[test]
    fn of_the_second_part() {
        tell_part(1);
    }

    #[test]
    fn of_the_third_part() {
        tell_part(2);
    }

    #[test]
    fn of_the_fourth_part() {
        tell_part(3);
    }
}

/// Three nodes of six: each service has three that serve, and what it replaced stands by until all is full.
#[test]
fn what_stands_by_makes_room_in_a_full_zone() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(1).await.expect("a world");
        for index in 0..3 {
            for name in SERVICES {
                world.deploys_fully(name, index).await.expect("it is deployed");
                assert!(
                    world.is_deployed_within(name, SOON).await,
                    "{name}@{index}.0 waits for room: {:?}",
                    world.faults_found()
                );
            }
        }
        assert_eq!(world.went_early(), 0, "there was room for all of these");
        for name in SERVICES {
            world.deploys_fully(name, 3).await.expect("it is deployed");
            assert!(
                world.is_deployed_within(name, SOON).await,
                "{name}@3.0 waits for room: {:?}",
                world.faults_found()
            );
        }
        assert_eq!(world.went_early(), 6, "as many as there had to be room for");
        assert!(world.faults_found().is_empty(), "{:#?}", world.faults_found());
    });
}

/// One service has nothing that stands by, the other has six, and there is room for three more: six are wanted.
#[test]
fn what_stands_by_makes_room_for_another_service_and_nothing_goes_that_need_not() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(2).await.expect("a world");
        let [one, other] = SERVICES;
        let service = world.service(other).await.expect("it is there");
        world.scales_to(service, 6).await;
        for (name, index) in [(other, 0), (one, 0), (one, 1), (one, 2), (other, 1)] {
            assert_eq!(world.went_early(), 0, "there was room so far");
            world.deploys_fully(name, index).await.expect("it is deployed");
            assert!(
                world.is_deployed_within(name, SOON).await,
                "{name}@{index}.0 waits: {:?}",
                world.faults_found()
            );
        }
        assert_eq!(world.went_early(), 3);
        assert!(world.faults_found().is_empty(), "{:#?}", world.faults_found());
    });
}

/// A failing seed is worth nothing if it cannot be told again.
#[test]
fn the_same_seed_tells_the_same_story() {
    let tell = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(story::tell(seed, None)).expect("nothing is wrong with it")
    };
    for seed in [3, 24] {
        let (first, second) = (tell(seed), tell(seed));
        let differs = first.iter().zip(&second).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed} tells it otherwise");
        assert_eq!(first.len(), second.len(), "seed {seed} tells more");
    }
}
