use super::*;
use crate::{
    placement::{Draft, NodeView, Nodes, place},
    zone::fixtures::{node, standing_by, version},
};
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use std::{collections::BTreeMap, slice::from_ref};

const NOW: Timestamp = Timestamp(10_000_000);

/// An instance that serves, or is to stop, with what it asked for.
fn instance(number: u64, asked: u64, stops: bool) -> Resource<InstanceSpec> {
    let mut instance = standing_by("example.com:web@1.0", "a", NOW);
    instance.spec.instance = InstanceId::from_bits(number);
    instance.spec.manifest.memory = ByteSize::mib(asked);
    instance.spec.manifest.disk = ByteSize::mib(asked);
    instance.spec.goal = if stops { Goal::Stop } else { Goal::Serve };
    instance
}

/// A measure of a machine that uses so much memory, and each of its instances so much of it.
fn measure(machine: u64, instances: &[(u64, u64)]) -> Measure {
    let of = |(number, used): &(u64, u64)| (InstanceId::from_bits(*number), ByteSize::mib(*used));
    Measure {
        at: NOW,
        used: Resources {
            memory: ByteSize::mib(machine),
            disk: ByteSize::mib(machine),
            ..Resources::default()
        },
        instances: instances.iter().map(of).collect(),
        is_whole: true,
    }
}

fn beside(measure: &Measure, there: &[Resource<InstanceSpec>]) -> (u64, u64) {
    let beside = measure.beside(&Resources::default(), Beside::default(), there);
    (beside.memory.0 >> 20, beside.disk.0 >> 20)
}

#[test]
fn what_is_promised_and_used_counts_once_and_all_else_leaves_less_room() {
    let (asks, stops) = (instance(1, 256, false), instance(2, 256, true));
    // It uses a part of its promise, as much as that, and more.
    assert_eq!(beside(&measure(1024, &[(1, 64)]), from_ref(&asks)), (960, 768));
    assert_eq!(beside(&measure(1024, &[(1, 256)]), from_ref(&asks)), (768, 768));
    assert_eq!(beside(&measure(1024, &[(1, 640)]), from_ref(&asks)), (768, 768));
    // It was placed after the measure: its promise is not in use.
    assert_eq!(beside(&measure(1024, &[]), from_ref(&asks)), (1024, 1024));
    // What is to stop has no promise, and is in use until it has ended; what has ended is not.
    assert_eq!(beside(&measure(1024, &[(2, 128)]), &[stops]), (1024, 1024));
    assert_eq!(beside(&measure(1024, &[(2, 128)]), &[]), (896, 1024));
    // What fell asleep has no promise, and uses nothing.
    let mut asleep = instance(1, 256, false);
    asleep.status.state = InstanceState::Asleep;
    assert_eq!(beside(&measure(1024, &[(1, 128)]), &[asleep]), (896, 1024));
    // Of more than an agent tells of, the others are taken to use what they asked for.
    let part = Measure { is_whole: false, ..measure(1024, &[(1, 64)]) };
    assert_eq!(beside(&part, &[asks, instance(3, 128, false)]), (832, 640));
    // In whole steps, upwards.
    assert_eq!(beside(&measure(1, &[]), &[]), (16, 16));
    assert_eq!(beside(&measure(0, &[]), &[]), (0, 0));
}

#[test]
fn a_measure_counts_for_a_while_and_no_longer() {
    let measure = measure(1, &[]);
    assert!(measure.is_fresh(NOW) && measure.is_fresh(NOW.plus(MEASURE_HOLDS)));
    assert!(!measure.is_fresh(NOW.plus(Millis(MEASURE_HOLDS.0 + 1))));
}

#[test]
fn a_machine_stays_busy_until_it_is_calm() {
    let capacity = Resources { cpu: MilliCpu(2000), bandwidth: Bandwidth::mbit(100), ..Resources::default() };
    let is_busy = |cpu: u32, link: u64, was: bool| {
        let used = Resources { cpu: MilliCpu(cpu), bandwidth: Bandwidth::mbit(link), ..Resources::default() };
        let was = Beside { is_busy: was, ..Beside::default() };
        Measure { used, ..measure(0, &[]) }.beside(&capacity, was, []).is_busy
    };
    assert_eq!([1799, 1800].map(|cpu| is_busy(cpu, 0, false)), [false, true]);
    assert_eq!([1399, 1400].map(|cpu| is_busy(cpu, 0, true)), [false, true]);
    assert_eq!([89, 90].map(|link| is_busy(0, link, false)), [false, true]);
    // A link whose speed is not known is never busy.
    let unknown = Resources { bandwidth: Bandwidth(0), ..capacity };
    assert!(
        !Measure { used: capacity, ..measure(0, &[]) }
            .is_busy(&Resources { cpu: MilliCpu(9000), ..unknown }, false)
    );
}

#[test]
fn nodes_are_compared_by_quarters_that_small_changes_do_not_change() {
    let all = ByteSize::mib(1600);
    let of = |memory: u64, was: u8| quarters(ByteSize::mib(memory), all, was);
    assert_eq!([0, 300, 499, 500, 1600].map(|memory| of(memory, 0)), [0, 0, 0, 1, 3]);
    // Back only when it is clearly less.
    assert_eq!([399, 300, 299].map(|memory| of(memory, 1)), [1, 1, 0]);
    assert_eq!((of(9999, 4), quarters(all, ByteSize(0), 0)), (4, 0));
    let (mut used, mut less, mut free) = (node("a"), node("b"), node("c"));
    (used.beside.quarters, less.beside.memory, free.promised.memory) =
        (1, ByteSize::mib(16), ByteSize::mib(128));
    let views = [used, less, free];
    assert_eq!(
        names(views.to_vec(), 3).0,
        ["b", "c", "a"],
        "what is little is chance, and what is promised is not"
    );
}

fn names(views: Vec<NodeView>, count: u32) -> (Vec<String>, Vec<String>) {
    let nodes: Nodes = views.into_iter().collect();
    let placed = place(&version("1.0"), count, &mut Draft::new(&nodes), &mut BTreeMap::new());
    (placed.nodes.iter().map(ToString::to_string).collect(), placed.refusals)
}

#[test]
fn a_node_with_a_hungry_neighbour_is_passed_over_and_says_what_it_has() {
    let (mut hungry, mut small) = (node("hungry"), node("small"));
    hungry.capacity.memory = ByteSize::mib(4096);
    hungry.promised.memory = ByteSize::mib(1024);
    hungry.beside.memory = ByteSize::mib(2992);
    small.capacity.memory = ByteSize::mib(256);
    let (found, refusals) = names(vec![hungry, small], 3);
    assert_eq!(found, ["small", "small"]);
    assert_eq!(
        refusals,
        [
            "node hungry has 80Mi of memory free of 4096Mi, and 128Mi is needed: 1024Mi are promised, and 2992Mi were \
             measured to be in use beside that",
            "node small has 0Mi of memory free of 256Mi, and 128Mi is needed",
        ]
    );
}

#[test]
fn a_busy_node_is_taken_last_and_never_refused() {
    let (mut busy, mut calm) = (node("busy"), node("calm"));
    busy.beside.is_busy = true;
    calm.capacity.memory = ByteSize::mib(256);
    assert_eq!(names(vec![busy, calm], 4).0, ["calm", "busy", "calm", "busy"]);
}

proptest! {
    /// What the machine uses, and what instances may yet take of their promises, is never more than there is by what
    /// was placed.
    #[test]
    fn never_places_where_what_is_in_use_leaves_no_room(
        machines in proptest::collection::vec((0u64..3000, proptest::collection::vec((0u64..400, 0u64..600, any::<bool>()), 0..5)), 1..5),
        count in 1u32..30,
        turned in any::<bool>(),
    ) {
        let mut views = Vec::new();
        let mut in_use = BTreeMap::new();
        for (index, (others, instances)) in machines.iter().enumerate() {
            let mut view = node(&format!("n{index}"));
            view.capacity.memory = ByteSize::mib(4096);
            let there: Vec<_> = instances.iter().enumerate().map(|(at, (asked, ..))| instance(at as u64, *asked, false)).collect();
            let used: Vec<_> = instances.iter().enumerate().map(|(at, (_, used, _))| (at as u64, *used)).collect();
            // Some were placed since.
            let measured: Vec<_> = used.iter().zip(instances).filter(|(_, (.., is_new))| !is_new).map(|(used, _)| *used).collect();
            let machine = others + measured.iter().map(|(_, used)| used).sum::<u64>();
            view.promised.memory = ByteSize::mib(instances.iter().map(|(asked, ..)| asked).sum());
            view.beside = measure(machine, &measured).beside(&view.capacity, Beside::default(), &there);
            let at_most = |(asked, used, is_new): &(u64, u64, bool)| if *is_new { *asked } else { *asked.max(used) };
            in_use.insert(view.node.to_string(), others + instances.iter().map(at_most).sum::<u64>());
            views.push(view);
        }
        let (found, refusals) = names(views.clone(), count);
        for node in &found {
            let in_use = in_use.get_mut(node).unwrap();
            *in_use += 128;
            prop_assert!(*in_use <= 4096, "{node} is to have {in_use}Mi of 4096Mi");
        }
        // And none is refused that has room, but for the step that uses are counted in.
        if found.len() < usize::try_from(count).unwrap() {
            prop_assert!(in_use.values().all(|in_use| in_use + 128 + 16 > 4096));
            prop_assert_eq!(refusals.len(), views.len());
        }
        if turned {
            views.reverse();
        }
        prop_assert_eq!(names(views, count), (found, refusals));
    }
}
