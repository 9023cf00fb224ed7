use super::*;
use crate::placement::Nodes;
use crate::zone::fixtures::{node, standing_by, version};
use proptest::prelude::*;
use tutti_model::{DeploymentId, InstanceId, Split, quantity::ByteSize};

const NOW: Timestamp = Timestamp(10_000_000);

/// One instance: on which node, of which service, of which version, how large, since how long it stands by, whether it
/// is leaving.
#[derive(Debug, Clone)]
struct Piece {
    node: usize,
    service: usize,
    version: usize,
    memory: u64,
    since: u64,
    leaving: bool,
}

fn any_piece() -> impl Strategy<Value = Piece> {
    (0usize..3, 0usize..3, 0usize..3, 1u64..9, 0u64..250, prop::bool::weighted(0.15)).prop_map(
        |(node, service, version, memory, since, leaving)| Piece {
            node,
            service,
            version,
            memory,
            since,
            leaving,
        },
    )
}

fn instance(number: usize, piece: &Piece) -> Resource<InstanceSpec> {
    let name = format!("example.com:s{}@{}.0", piece.service, piece.version);
    let since = Timestamp(NOW.0 - 1000 * piece.since);
    let mut instance = standing_by(&name, &format!("n{}", piece.node), since);
    instance.spec.instance = InstanceId::from_bits(number as u64);
    instance.name = instance.spec.instance.to_string();
    instance.spec.manifest.memory = ByteSize::mib(32 * piece.memory);
    if piece.leaving {
        instance.spec.goal = Goal::Drain;
    }
    instance
}

/// What a service is handed down: version 1.0 serves; if it is deploying, 0.0 did before.
fn assignment(service: usize, deploying: bool) -> AssignmentSpec {
    let split = |name: &str| Split::new([(name.parse().unwrap(), "100%".parse().unwrap())]).unwrap();
    AssignmentSpec {
        scales: false,
        service: format!("example.com:s{service}").parse().unwrap(),
        handed_down: 1,
        round: 1,
        matches: Vec::new(),
        split: split("1.0"),
        hold: false,
        versions: Vec::new(),
        preload: None,
        upstreams: Vec::new(),
        workers: 1,
        deployment: deploying.then(|| DeploymentId::from_bits(1)),
        from: if deploying { split("0.0") } else { Split::empty() },
        removed: false,
    }
}

#[test]
fn what_serves_or_is_to_stop_is_no_spare_and_what_drains_is_leaving() {
    let mut one = standing_by("example.com:s0@2.0", "n0", NOW);
    let assigned = assignment(0, true);
    let leaving = |one: &Resource<InstanceSpec>| spare(NOW, one, &assigned).map(|spare| spare.leaving);
    assert_eq!(leaving(&one), Some(false));
    for (goal, expected) in [
        (Goal::Serve, None),
        (Goal::Stop, None),
        (Goal::Drain, Some(true)),
        (Goal::Standby { until: NOW }, Some(true)),
    ] {
        one.spec.goal = goal;
        assert_eq!(leaving(&one), expected, "{goal:?}");
    }
}

#[test]
fn its_own_go_first_then_as_few_as_will_do_then_the_oldest() {
    let piece =
        |node, service, memory, since| Piece { node, service, version: 2, memory, since, leaving: false };
    // The version needs 128 Mi: 4 pieces. Its own service is s0.
    let all = [
        (vec![piece(0, 1, 4, 200), piece(1, 0, 4, 1)], vec![1]),
        (vec![piece(0, 1, 2, 200), piece(0, 1, 2, 200), piece(1, 1, 4, 1)], vec![2]),
        (vec![piece(0, 1, 4, 1), piece(1, 1, 4, 200)], vec![1]),
        // The small one would go first, and is not needed beside the large one.
        (vec![piece(0, 1, 1, 200), piece(0, 1, 4, 1)], vec![1]),
        (vec![piece(0, 1, 3, 200)], vec![]),
    ];
    for (pieces, expected) in all {
        let instances: Vec<_> = pieces.iter().enumerate().map(|(at, piece)| instance(at, piece)).collect();
        let assigned = [assignment(0, false), assignment(1, false)];
        let spares =
            instances.iter().zip(&pieces).filter_map(|(one, of)| spare(NOW, one, &assigned[of.service]));
        let service = assigned[0].service.clone();
        let nodes: Nodes = nodes(&instances, [0; 3]).into_iter().collect();
        let mut room = Room::new(&service, Draft::new(&nodes), BTreeMap::new(), spares);
        let going = room.find(&version("9.0"), 16).map(|found| found.going).unwrap_or_default();
        let going: Vec<_> = going.iter().map(|one| one.name.clone()).collect();
        let expected: Vec<_> = expected.iter().map(|at: &usize| instances[*at].name.clone()).collect();
        assert_eq!(going, expected, "{pieces:?}");
    }
}

/// Three nodes that are just full, but for so many free pieces of 32 Mi.
fn nodes(instances: &[Resource<InstanceSpec>], free: [u64; 3]) -> Vec<NodeView> {
    let nodes = free.iter().enumerate().map(|(at, free)| {
        let mut view = node(&format!("n{at}"));
        let name = view.node.clone();
        for instance in instances.iter().filter(|instance| instance.spec.node == name) {
            promise(&mut view, &instance.spec.manifest);
        }
        view.capacity.memory = ByteSize(view.promised.memory.0 + ByteSize::mib(32 * free).0);
        view
    });
    nodes.collect()
}

proptest! {
    /// Whatever there is: what goes stands by and is held by no deployment, makes room, and none of it goes in vain.
    #[test]
    fn only_what_is_free_to_go_goes_and_never_in_vain(
        pieces in proptest::collection::vec(any_piece(), 0..14),
        deploying in any::<[bool; 3]>(),
        free in [0u64..5, 0u64..5, 0u64..5],
        wanted in 1usize..5,
        most in 0usize..6,
    ) {
        let instances: Vec<_> = pieces.iter().enumerate().map(|(at, piece)| instance(at, piece)).collect();
        let assigned: Vec<_> = deploying.iter().enumerate().map(|(at, on)| assignment(at, *on)).collect();
        let spares = instances.iter().zip(&pieces).filter_map(|(one, of)| spare(NOW, one, &assigned[of.service]));
        let service = assigned[0].service.clone();
        let mut views = nodes(&instances, free);
        let nodes: Nodes = views.iter().cloned().collect();
        let mut room = Room::new(&service, Draft::new(&nodes), BTreeMap::new(), spares);
        let version = version("9.0");
        // The nodes as they will be when all that leaves has left.
        for one in instances.iter().filter(|one| one.spec.goal == Goal::Drain) {
            let view = views.iter_mut().find(|view| view.node == one.spec.node).unwrap();
            release(view, &one.spec.manifest);
        }
        for _ in 0..wanted {
            let fits = views.iter().any(|view| refusal(&version, view).is_none());
            let Some(found) = room.find(&version, most) else {
                prop_assert!(!fits, "there is room, and it was not found");
                break;
            };
            prop_assert!(found.going.len() <= most);
            prop_assert!(!fits || found.going.is_empty(), "something goes although there is room");
            let view = views.iter_mut().find(|view| view.node == found.node).unwrap();
            for one in &found.going {
                prop_assert_eq!(&one.spec.node, &found.node);
                let piece = &pieces[instances.iter().position(|other| other.name == one.name).unwrap()];
                let held = deploying[piece.service] && piece.version < 2;
                prop_assert!(!piece.leaving && !held, "{:?} must stay", piece);
                release(view, &one.spec.manifest);
            }
            prop_assert!(refusal(&version, view).is_none(), "it does not fit all the same");
            for one in &found.going {
                let mut without = view.clone();
                promise(&mut without, &one.spec.manifest);
                prop_assert!(refusal(&version, &without).is_some(), "{} goes in vain", one.name);
            }
            promise(view, &version.manifest);
        }
    }
}
