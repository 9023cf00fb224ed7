//! What agents and ingresses rely on, whichever way they reach control.

use super::*;
use crate::observed::NODE_SILENCE;
use std::time::Duration;
use tutti_api::zone::{IngressReport, InstanceReport, NodeHeartbeat};
use tutti_model::{
    ErrorCode, Millis,
    control::PresenceSpec,
    ingress::IngressSpec,
    instance::{Goal, InstanceState, InstanceStatus, LEASES_PER_NODE},
    limits,
    quantity::ByteSize,
};

/// Each case runs over the store in this process, and over the socket.
macro_rules! over_both {
    ($($case:ident),+ $(,)?) => { $(
        mod $case {
            #[tokio::test]
            async fn in_process() {
                super::$case(super::World::direct()).await;
            }

            #[tokio::test]
            async fn over_a_socket() {
                super::$case(super::World::wired().await).await;
            }
        }
    )+ };
}

over_both!(
    a_node_registers_and_sees_itself,
    a_name_has_one_living_holder,
    a_node_sees_its_instances_in_whole_transactions,
    reports_follow_the_state_machine,
    a_node_reports_of_its_own_instances_only,
    leases_are_given_to_a_nodes_own_instances_that_are_not_to_stop,
    an_ingress_lives_by_its_reports,
    a_node_is_given_the_secrets_of_its_own_instances,
    a_watch_begins_after_a_revision,
    a_slow_reader_misses_nothing,
    objects_of_the_largest_size_pass,
);

async fn a_node_registers_and_sees_itself(world: World) {
    let mut own = Reader::new(world.zone.watch_node(&node("n1"), None)).begin().await;
    let mut every = Reader::new(world.zone.watch_nodes(None)).begin().await;
    assert!(own.known.is_empty());
    world.zone.register_node(&node("n2"), status("1")).await.unwrap();
    world.zone.register_node(&node("n1"), status("1")).await.unwrap();
    assert_eq!(own.next().await, ["n1"]);
    assert_eq!([every.next().await, every.next().await].concat(), ["n2", "n1"]);
    // The same again changes nothing; something else does.
    world.zone.register_node(&node("n1"), status("1")).await.unwrap();
    world.zone.register_node(&node("n1"), status("2")).await.unwrap();
    own.next().await;
    assert_eq!(own.known["n1"].status, status("2"));
    let heartbeat =
        NodeHeartbeat { running: vec![(InstanceId::from_bits(1), 3)], ..NodeHeartbeat::default() };
    world.zone.heartbeat(&node("n1"), heartbeat).await.unwrap();
    world.zone.heartbeat(&node("n9"), NodeHeartbeat::default()).await.unwrap();
}

async fn a_name_has_one_living_holder(world: World) {
    let at = |path: &str| NodeStatus { address: Some(path.parse().unwrap()), ..status("1") };
    let register = async |path: &str| world.zone.register_node(&node("n1"), at(path)).await;
    register("unix:/run/a").await.unwrap();
    let taken = register("unix:/run/b").await.unwrap_err();
    assert_eq!(taken.code, ErrorCode::AlreadyExists);
    assert!(taken.detail.contains("is taken by the agent at unix:/run/a"), "{taken}");
    let in_process = world.zone.register_node(&node("n1"), status("1")).await.unwrap_err();
    assert_eq!(in_process.code, ErrorCode::AlreadyExists);
    register("unix:/run/a").await.unwrap();
    // Who is heard keeps it; who is not has left it.
    let nearly = Millis(NODE_SILENCE.0 - 1);
    world.clock.advance(nearly);
    world.zone.heartbeat(&node("n1"), NodeHeartbeat::default()).await.unwrap();
    world.clock.advance(nearly);
    register("unix:/run/b").await.unwrap_err();
    world.clock.advance(Millis(1));
    // The store removes what has expired by a task of its own.
    let presence = || world.objects.find::<PresenceSpec>("n1");
    tokio::time::timeout(Duration::from_secs(10), async {
        while presence().await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    register("unix:/run/b").await.unwrap();
    register("unix:/run/a").await.unwrap_err();
}

async fn a_node_sees_its_instances_in_whole_transactions(world: World) {
    let (one, two, other) = (world.instance(1, "n1"), world.instance(2, "n1"), world.instance(3, "n2"));
    let mut reader = Reader::new(world.zone.watch_instances(&node("n1"), None)).begin().await;
    let write = world.objects.write().create(&one).create(&two).create(&other);
    let revision = write.commit().await.unwrap().unwrap();
    let mut both = [one.name.clone(), two.name.clone()];
    both.sort();
    assert_eq!(reader.next().await, both);
    assert_eq!(reader.reached, Some(revision));
    // Who begins now finds the same.
    let again = Reader::new(world.zone.watch_instances(&node("n1"), None)).begin().await;
    assert_eq!(again.known, reader.known);
    let gone = world.objects.get::<InstanceSpec>(&one.name).await.unwrap();
    world.objects.write().delete(&gone).commit().await.unwrap().unwrap();
    assert_eq!(reader.next().await, [one.name]);
    assert_eq!(reader.known.len(), 1);
}

async fn a_node_is_given_the_secrets_of_its_own_instances(world: World) {
    let api_key = world.objects.make(
        "example.com:api-key",
        tutti_model::secret::SecretSpec {
            secret: "example.com:api-key".parse().unwrap(),
            sealed: String::new(),
        },
    );
    let mut stored = api_key.clone();
    let identity = crate::secrets::identity(&stored);
    stored.spec.sealed = keyring().seal(&identity, "hunter2 ü\n".as_bytes()).await.unwrap();
    let mut named = world.instance(1, "n1");
    named.spec.manifest.secrets.insert("API_KEY".into(), "api-key".parse().unwrap());
    let mut astray = world.instance(2, "n1");
    astray.spec.manifest.secrets.insert("API_KEY".into(), "other".parse().unwrap());
    let (plain, elsewhere) = (world.instance(3, "n1"), world.instance(4, "n2"));
    let write = world.objects.write().create(&stored).create(&named).create(&astray);
    write.create(&plain).create(&elsewhere).commit().await.unwrap().unwrap();
    let ask = async |bits: u64| world.zone.instance_secrets(&node("n1"), &InstanceId::from_bits(bits)).await;
    let given = ask(1).await.unwrap();
    assert_eq!(given.reveal().collect::<Vec<_>>(), [("API_KEY", "hunter2 ü\n")]);
    assert_eq!(ask(3).await.unwrap().reveal().count(), 0);
    let missing = ask(2).await.unwrap_err();
    assert_eq!(missing.code, ErrorCode::NotFound);
    assert!(missing.hint.unwrap().contains("tutti secret set example.com:other"));
    assert_eq!(ask(4).await.unwrap_err().code, ErrorCode::Forbidden);
    assert_eq!(ask(5).await.unwrap_err().code, ErrorCode::NotFound);
    // What was sealed under another key is refused by name.
    let mut other =
        world.objects.get::<tutti_model::secret::SecretSpec>("example.com:api-key").await.unwrap();
    let bytes = zeroize::Zeroizing::new([2; tutti_seal::key::KEY_BYTES]);
    let other_key = tutti_seal::SealingKey::new(&bytes).unwrap();
    other.spec.sealed = other_key.seal(&identity, b"hunter2").unwrap();
    world.objects.write().update(&other).commit().await.unwrap().unwrap();
    let refused = ask(1).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    assert!(refused.detail.contains("secret example.com:api-key") && refused.detail.contains(other_key.id()));
}

fn is(state: InstanceState) -> InstanceStatus {
    InstanceStatus { state, ..InstanceStatus::default() }
}

async fn reports_follow_the_state_machine(world: World) {
    let instance = world.instance(1, "n1");
    let id = instance.spec.instance.clone();
    world.objects.write().create(&instance).commit().await.unwrap().unwrap();
    let unknown = InstanceId::from_bits(99);
    for (said, stands) in [
        (InstanceState::Starting, InstanceState::Starting),
        (InstanceState::Ready, InstanceState::Ready),
        (InstanceState::Draining, InstanceState::Draining),
        // What is on its way out does not come back.
        (InstanceState::Ready, InstanceState::Draining),
        (InstanceState::Stopped, InstanceState::Stopped),
        (InstanceState::Starting, InstanceState::Stopped),
    ] {
        let reports = vec![
            InstanceReport { instance: unknown.clone(), status: is(said) },
            InstanceReport { instance: id.clone(), status: is(said) },
        ];
        world.zone.report_instances(&node("n1"), reports).await.unwrap();
        let stored = world.objects.get::<InstanceSpec>(id.as_str()).await.unwrap();
        assert_eq!(stored.status.state, stands, "after {said:?}");
    }
    world.zone.report_instances(&node("n1"), Vec::new()).await.unwrap();
}

async fn a_node_reports_of_its_own_instances_only(world: World) {
    let (own, other) = (world.instance(1, "n1"), world.instance(2, "n2"));
    world.objects.write().create(&own).create(&other).commit().await.unwrap().unwrap();
    let of = |instance: &Resource<InstanceSpec>| InstanceReport {
        instance: instance.spec.instance.clone(),
        status: is(InstanceState::Ready),
    };
    let refused = world.zone.report_instances(&node("n1"), vec![of(&own), of(&other)]).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    assert!(refused.detail.contains("is not on node n1"), "{refused}");
    // One transaction: nothing of it was taken.
    for instance in [&own, &other] {
        let stored = world.objects.get::<InstanceSpec>(&instance.name).await.unwrap();
        assert_eq!(stored.status.state, InstanceState::Pending);
    }
}

async fn leases_are_given_to_a_nodes_own_instances_that_are_not_to_stop(world: World) {
    let (own, other) = (world.instance(1, "n1"), world.instance(2, "n2"));
    let (mut stops, mut drains) = (world.instance(3, "n1"), world.instance(4, "n1"));
    (stops.spec.goal, drains.spec.goal) = (Goal::Stop, Goal::Drain);
    let write = world.objects.write().create(&own).create(&other).create(&stops).create(&drains);
    write.commit().await.unwrap().unwrap();
    let id = |number: u64| InstanceId::from_bits(number);
    let ask = async |leases: Vec<InstanceId>| {
        let heartbeat = NodeHeartbeat { leases, ..NodeHeartbeat::default() };
        world.zone.heartbeat(&node("n1"), heartbeat).await.unwrap().leases
    };
    assert_eq!(ask((1..=5).map(id).collect()).await, [id(1), id(4)]);
    // Nothing is remembered: what was written last counts.
    let mut own = world.objects.get::<InstanceSpec>(&own.name).await.unwrap();
    own.spec.goal = Goal::Stop;
    world.objects.write().update(&own).commit().await.unwrap().unwrap();
    assert_eq!(ask(vec![id(1), id(4)]).await, [id(4)]);
    // More than may be asked for are not looked at.
    let mut many: Vec<InstanceId> = (100..100 + LEASES_PER_NODE as u64).map(id).collect();
    many.push(id(4));
    assert_eq!(ask(many).await, []);
}

fn ingress(name: &str, reached: u64) -> IngressReport {
    let spec = IngressSpec { http: "127.0.0.1:80".to_owned(), ..IngressSpec::default() };
    IngressReport { ingress: name.to_owned(), spec, reached, stats: Vec::new() }
}

async fn an_ingress_lives_by_its_reports(world: World) {
    let name = "ingress-n1/a b";
    let stored = || async { world.objects.find::<IngressSpec>(name).await.unwrap() };
    world.zone.report_ingress(ingress(name, 3)).await.unwrap();
    assert_eq!(stored().await.expect("it is known").status.reached, 3);
    // Reports keep it; silence ends it; the next report brings it back.
    for _ in 0..4 {
        world.clock.advance(Millis::seconds(6));
        world.zone.report_ingress(ingress(name, 4)).await.unwrap();
        assert_eq!(stored().await.expect("it lives").status.reached, 4);
    }
    world.clock.advance(Millis::seconds(11));
    assert!(stored().await.is_none(), "nobody waits for it any more");
    world.zone.report_ingress(ingress(name, 5)).await.unwrap();
    assert_eq!(stored().await.expect("it is back").status.reached, 5);
    world.zone.leave_ingress(name).await.unwrap();
    assert!(stored().await.is_none());
    world.zone.leave_ingress(name).await.unwrap();
}

/// A control that starts anew forgets its own ingress of before, and goes on waiting for those of other processes.
#[tokio::test]
async fn a_control_that_starts_anew_keeps_ingresses_that_live_on() {
    let world = World::direct();
    for name in ["own", "front.1", "front.2"] {
        world.zone.report_ingress(ingress(name, 3)).await.unwrap();
    }
    let names = || async {
        let living = world.objects.list::<IngressSpec>("").await.unwrap().items;
        living.into_iter().map(|ingress| (ingress.name, ingress.status.reached)).collect::<Vec<_>>()
    };
    let anew = local_zone(&world.objects);
    anew.forget_ingress("own").await.unwrap();
    anew.forget_ingress("own").await.unwrap();
    let of = |name: &str, reached: u64| (name.to_owned(), reached);
    assert_eq!(names().await, [of("front.1", 3), of("front.2", 3)]);
    // One goes on with it, and is kept by its reports; nobody hears of the other any more.
    for reached in 4..7 {
        world.clock.advance(Millis::seconds(6));
        anew.report_ingress(ingress("front.1", reached)).await.unwrap();
    }
    assert_eq!(names().await, [of("front.1", 6)]);
}

async fn a_watch_begins_after_a_revision(world: World) {
    let first = world.table("example.com:a", "1").await;
    world.table("example.com:b", "1").await;
    world.table("example.com:a", "2").await;
    let mut reader = Reader::new(world.zone.watch_tables(Some(first)));
    let mut changed = Vec::new();
    // Over the wire it is answered at once, with nothing.
    while changed.len() < 2 {
        changed.extend(reader.next().await);
    }
    assert_eq!((changed, reader.inits), (vec!["example.com:b".to_owned(), "example.com:a".to_owned()], 0));
}

async fn a_slow_reader_misses_nothing(world: World) {
    let mut reader = Reader::new(world.zone.watch_tables(None)).begin().await;
    let mut written = Vec::new();
    for number in 0..3000 {
        written.push(world.table(&format!("example.com:s{}", number % 7), number.to_string()).await);
    }
    let mut read = Vec::new();
    while read.last() != written.last() {
        if !reader.next().await.is_empty() {
            read.extend(reader.reached);
        }
    }
    assert_eq!((read, reader.inits), (written, 1));
}

async fn objects_of_the_largest_size_pass(world: World) {
    let room = usize::try_from(ByteSize(limits::STORE_VALUE_BYTES as u64).0).unwrap() - 4096;
    let mut reader = Reader::new(world.zone.watch_tables(None)).begin().await;
    let large = "\u{1}x".repeat(room / 8);
    let revision = world.table("example.com:large", large.clone()).await;
    reader.reach(revision).await;
    assert_eq!(reader.known["example.com:large"].spec.backend, Backend::None { reason: large });
    // A whole batch of instances that failed with all they had to say.
    let instances: Vec<_> = (1..=64).map(|bits| world.instance(bits, "n1")).collect();
    let write = instances.iter().fold(world.objects.write(), |write, instance| write.create(instance));
    write.commit().await.unwrap().unwrap();
    let line = "x".repeat(limits::LOG_LINE_BYTES);
    let failed = InstanceStatus {
        last_lines: vec![line; limits::STORE_VALUE_BYTES / limits::LOG_LINE_BYTES - 1],
        ..is(InstanceState::Failed)
    };
    let reports = instances
        .iter()
        .map(|instance| InstanceReport { instance: instance.spec.instance.clone(), status: failed.clone() })
        .collect();
    world.zone.report_instances(&node("n1"), reports).await.unwrap();
    let stored = world.objects.list::<InstanceSpec>("").await.unwrap().items;
    assert!(stored.len() == 64 && stored.iter().all(|instance| instance.status == failed));
    let read = Reader::new(world.zone.watch_instances(&node("n1"), None)).begin().await;
    assert_eq!(read.known.len(), 64);
}
