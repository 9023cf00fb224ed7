//! A full zone makes room: what stands by goes early, one's own before another service's.

use super::*;
use crate::zone::fixtures::standing_by;

/// One node with room for so many instances.
fn full_zone(instances: u64) -> World {
    let mut world = World::new(1);
    world.nodes.truncate(1);
    world.nodes[0].capacity.memory = tutti_model::quantity::ByteSize::mib(128 * instances);
    world
}

#[test]
fn a_deploy_finds_room_where_an_older_version_stands_by() {
    let mut world = full_zone(2);
    world.assign(&[("1.0", "100%")], false).settle();
    world.assign(&[("2.0", "100%")], true).settle();
    world.assign(&[("3.0", "100%")], true).pass();
    assert_eq!((world.progress(), world.count("1.0", |goal| goal == Goal::Drain)), (&Progress::Placing, 1));
    let old = world.instances[0].spec.instance.clone();
    let reasons = &world.last.as_ref().unwrap().reasons;
    assert_eq!(
        reasons[..2],
        [
            "1 of 1 new instances of 3.0 found no node".to_owned(),
            format!("instance {old} of example.com:web@1.0 on node a stands by and goes early to make room"),
        ]
    );
    world.settle();
    assert_eq!((world.serving().as_str(), world.progress()), ("3.0 100%", &Progress::Settled));
    assert_eq!((world.count("1.0", |_| true), world.count("2.0", standby)), (0, 1));
}

#[test]
fn what_makes_room_drains_only_once_every_ingress_is_past_it() {
    let mut world = full_zone(2);
    world.assign(&[("1.0", "100%")], false).settle();
    world.assign(&[("2.0", "100%")], true).settle();
    world.ingress.status.reached = 0;
    world.assign(&[("3.0", "100%")], true).pass().pass().pass();
    assert_eq!(world.count("1.0", |goal| goal == Goal::Standby { until: Timestamp(1_000_000) }), 1);
    world.acknowledge().pass();
    assert_eq!(world.count("1.0", |goal| goal == Goal::Drain), 1);
}

#[test]
fn what_a_running_deployment_returns_to_makes_no_room() {
    let mut world = full_zone(2);
    world.assign(&[("1.0", "100%")], false).settle();
    world.assign(&[("2.0", "100%")], true).settle();
    // Still the same deployment, whose new version now needs a second worker.
    world.assignment.workers = 2;
    world.settle();
    assert_eq!((world.progress(), world.count("1.0", standby)), (&Progress::Placing, 1));
    world.assignment.deployment = None;
    world.settle();
    assert_eq!((world.progress(), world.count("2.0", serve)), (&Progress::Settled, 2));
}

#[test]
fn another_services_instance_makes_room_only_if_ones_own_cannot() {
    let mut world = full_zone(2);
    let other = standing_by("example.com:api@1.0", "a", world.now);
    world.others.0.push(other.clone());
    world.assign(&[("1.0", "100%")], false).settle();
    // Full: one that serves, and the other's.
    world.assign(&[("2.0", "100%")], true).pass();
    assert_eq!(world.others.0[0].spec.goal, Goal::Standby { until: world.now });
    world.pass();
    let reasons = &world.last.as_ref().unwrap().reasons;
    assert_eq!(reasons[1], format!("instance {} of example.com:api@1.0 on node a is leaving", other.name));
    world.others.0.clear();
    world.settle();
    assert_eq!(world.serving(), "2.0 100%");

    world.nodes[0].capacity.memory = tutti_model::quantity::ByteSize::mib(128 * 3);
    world.others.0.push(other.clone());
    world.assign(&[("3.0", "100%")], true).settle();
    assert_eq!((world.serving().as_str(), &world.others.0), ("3.0 100%", &vec![other]));
}
