//! Whatever happens in whatever order, plans stay safe and get there.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Event {
    Pass,
    Agents,
    Acknowledge,
    Assign(u8, u8),
    Break(usize, InstanceState),
    Later(u64),
    Drain(usize),
}

fn any_event() -> impl Strategy<Value = Event> {
    use InstanceState as S;
    prop_oneof![
        4 => Just(Event::Pass),
        3 => Just(Event::Agents),
        3 => Just(Event::Acknowledge),
        2 => (0u8..4, 1u8..100).prop_map(|(version, percent)| Event::Assign(version, percent)),
        1 => (0usize..8, prop_oneof![Just(S::Backoff), Just(S::Failed), Just(S::Starting)]).prop_map(|(at, state)| Event::Break(at, state)),
        1 => (1u64..400).prop_map(Event::Later),
        1 => (0usize..2).prop_map(Event::Drain),
    ]
}

proptest! {
    /// In whatever order things happen, every plan keeps what [`World::check`] demands; and once the world is left in
    /// peace, it settles on what was asked.
    #[test]
    fn stays_safe_and_gets_there(workers in 1u32..5, events in proptest::collection::vec(any_event(), 1..60)) {
        let mut world = World::new(workers);
        world.assign(&[("0.0", "100%")], false);
        for event in events {
            match event {
                Event::Pass => { world.pass(); }
                Event::Agents => { world.agents(); }
                Event::Acknowledge => { world.acknowledge(); }
                Event::Assign(version, percent) => {
                    let name: VersionName = format!("{version}.0").parse().unwrap();
                    let split = world.assignment.split.with(&name, format!("{percent}%").parse().unwrap());
                    let shares: Vec<_> = split.iter().map(|(name, share)| (name.to_string(), share.to_string())).collect();
                    let shares: Vec<_> = shares.iter().map(|(name, share)| (name.as_str(), share.as_str())).collect();
                    world.assign(&shares, true);
                }
                Event::Break(at, state) => {
                    if let Some(instance) = world.instances.get_mut(at)
                        && instance.spec.goal.runs()
                    {
                        instance.status.state = state;
                        instance.status.since = world.now;
                    }
                }
                Event::Drain(at) => { world.drain(at); }
                Event::Later(seconds) => world.now = world.now.plus(Millis::seconds(seconds)),
            }
        }
        world.assignment.deployment = None;
        world.now = world.now.plus(Millis::seconds(3600));
        world.settle();
        world.now = world.now.plus(Millis::seconds(3600));
        world.settle().pass();
        prop_assert_eq!(world.progress(), &Progress::Settled);
        prop_assert_eq!(world.serving(), world.assignment.split.to_string());
        let wanted: usize = world.assignment.split.iter().map(|(_, share)| share.workers(workers) as usize).sum();
        prop_assert_eq!(world.instances.len(), wanted);
        for node in world.nodes.iter().filter(|node| node.draining) {
            prop_assert!(world.instances.iter().all(|instance| instance.spec.node != node.node));
        }
    }
}
