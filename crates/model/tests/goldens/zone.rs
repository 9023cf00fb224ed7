//! Samples of the kinds of a zone: each with the least it may have, and with everything.

use super::{
    Sample,
    global::{AT, WEB, artifact, failure, plain_version, scaled, split, whole_version},
    object, parse,
};
use tutti_model::{
    Millis, Share, Split, Timestamp,
    assignment::{AssignmentSpec, AssignmentStatus},
    cluster::{
        AuthoritySpec, AuthorityStatus, JoinTokenSpec, JoinTokenStatus, KeptAuthority, MemberSpec,
        MemberStatus,
    },
    control::{LeaderSpec, LeaderStatus, PresenceSpec, PresenceStatus},
    event::{EventSpec, What},
    ingress::{IngressSpec, IngressStatus},
    instance::{Goal, InstanceSpec, InstanceState, InstanceStatus},
    manifest::Manifest,
    member::MachineRole,
    node::{Fingerprint, Held, NodeSpec, NodeStatus, Readiness, Resources},
    pool::{MachineFailure, MachineState, PoolMachine, PoolSpec, PoolStatus},
    quantity::{Bandwidth, ByteSize, MilliCpu},
    table::{Backend, Endpoint, TableSpec, TableStatus, VersionBackend},
    version::Isolate,
};

pub(super) fn samples() -> Vec<Sample> {
    [assignments(), nodes(), pools(), events(), instances(), tables(), members()]
        .into_iter()
        .flatten()
        .collect()
}

fn pools() -> Vec<Sample> {
    let least = PoolSpec {
        pool: parse("burst"),
        min: 0,
        max: 3,
        offers: Resources::default(),
        isolates: vec![],
        labels: Default::default(),
        taints: vec![],
        idle: Millis::seconds(600),
    };
    let whole = PoolSpec {
        offers: Resources {
            cpu: MilliCpu(4000),
            memory: ByteSize::mib(8192),
            bandwidth: Bandwidth(1_000_000_000),
            disk: ByteSize::mib(65536),
        },
        isolates: vec![Isolate::Wasm, Isolate::Process],
        labels: [(parse("spot"), parse("yes"))].into(),
        taints: vec![parse("spot:NoSchedule")],
        ..least.clone()
    };
    let states = [
        MachineState::Making,
        MachineState::Joining,
        MachineState::Joined,
        MachineState::Draining,
        MachineState::Removing,
    ];
    let machine = |state: MachineState| PoolMachine {
        name: parse(&format!("burst-{state}")),
        state,
        since: AT,
        why: "example.com:web finds no node".into(),
        by_hand: state == MachineState::Draining,
        idle_since: (state == MachineState::Joined).then_some(AT),
        failure: (state == MachineState::Making).then(|| MachineFailure {
            attempts: 2,
            reason: "it ended with 1".into(),
            again_at: AT,
        }),
    };
    vec![
        Sample::new("least", &object("burst", least, PoolStatus::default())),
        Sample::new("whole", &object("burst", whole, PoolStatus { machines: states.map(machine).into() })),
    ]
}

fn events() -> Vec<Sample> {
    let least = EventSpec::new(AT, What::Ready, "instance i-0123456789", "it answers");
    let named = |what: &What| {
        let event =
            EventSpec::new(AT, *what, "instance i-0123456789", "in words").of(&parse(WEB)).on(&parse("n1"));
        Sample::new(what.as_str(), &object("0000000000000001", event, Default::default()))
    };
    let mut all: Vec<Sample> = What::ALL.iter().map(named).collect();
    all.push(Sample::new("least", &object("0000000000000001", least, Default::default())));
    all
}

fn assignments() -> Vec<Sample> {
    let least = AssignmentSpec {
        service: parse(WEB),
        handed_down: 3,
        round: 8,
        matches: vec![],
        split: Split::empty(),
        hold: false,
        versions: vec![],
        preload: None,
        upstreams: vec![],
        workers: 1,
        scales: false,
        deployment: None,
        from: Split::empty(),
        removed: false,
    };
    let whole = AssignmentSpec {
        matches: vec![parse("web.example.com"), parse("*/com.example.Web")],
        split: split(),
        hold: true,
        versions: vec![plain_version(), whole_version()],
        preload: Some(whole_version()),
        upstreams: vec![parse("10.0.0.1:80")],
        scales: true,
        deployment: Some(parse("d-0123456789")),
        from: split(),
        removed: true,
        ..least.clone()
    };
    vec![
        Sample::new("least", &object(WEB, least, AssignmentStatus { scaled: None })),
        Sample::new("whole", &object(WEB, whole, AssignmentStatus { scaled: Some(scaled()) })),
    ]
}

fn nodes() -> Vec<Sample> {
    let label = (parse("rack"), parse("r1"));
    let spec = NodeSpec {
        node: parse("a"),
        cordoned: true,
        draining: true,
        labels: [label.clone()].into(),
        taints: vec![parse("spot:NoSchedule"), parse("gpu=yes:NoExecute")],
        asked: vec![plain_version()],
        preload: vec![whole_version()],
    };
    let held = |readiness| Held { artifact: artifact(), readiness };
    let status = NodeStatus {
        ready: true,
        registered_at: AT,
        release: "0.1.0".into(),
        capacity: Resources {
            cpu: MilliCpu(8000),
            memory: ByteSize::mib(4096),
            bandwidth: Bandwidth(1_000_000_000),
            disk: ByteSize::mib(65_536),
        },
        labels: [label].into(),
        isolates: vec![
            Fingerprint { isolate: Isolate::Wasm, usable: true, notes: vec![] },
            Fingerprint { isolate: Isolate::Process, usable: false, notes: vec!["no cgroups".into()] },
        ],
        address: Some(parse("10.0.0.1:7071")),
        held: vec![
            held(Readiness::Ready { took: Millis(71) }),
            held(Readiness::Delayed { reason: "the registry does not answer".into() }),
            held(Readiness::Unrunnable { reason: "it is no component".into() }),
        ],
    };
    let presence = PresenceSpec { node: parse("a") };
    vec![
        Sample::new("least", &object("a", NodeSpec::new(parse("a")), NodeStatus::default())),
        Sample::new("whole", &object("a", spec, status)),
        Sample::new("whole", &object("a", presence, PresenceStatus {})),
    ]
}

fn instances() -> Vec<Sample> {
    let spec = |goal, placed: &str, manifest: Manifest| InstanceSpec {
        instance: parse("i-0123456789"),
        version: parse("example.com:web@1.1"),
        artifact: artifact(),
        isolate: Isolate::Process,
        manifest,
        node: parse("a"),
        goal,
        placed: placed.into(),
    };
    let status = |state| InstanceStatus {
        state,
        observed_generation: 2,
        since: AT,
        restarts: 1,
        reason: Some("it ended by itself".into()),
        last_lines: failure().last_lines,
        weaker: vec!["cpu is not limited".into()],
    };
    let of = |name, goal, state| {
        let spec = spec(goal, "it has the most room", whole_version().manifest);
        Sample::new(name, &object("i-0123456789", spec, status(state)))
    };
    let states = InstanceState::ALL.map(|state| of(state.as_str(), Goal::Serve, state));
    let least = spec(Goal::Serve, "", Manifest::default());
    let goals = [
        Sample::new("least", &object("i-0123456789", least, InstanceStatus::default())),
        of("standby", Goal::Standby { until: Timestamp(1_700_000_200_000) }, InstanceState::Ready),
        of("drain", Goal::Drain, InstanceState::Draining),
        of("stop", Goal::Stop, InstanceState::Ready),
    ];
    states.into_iter().chain(goals).collect()
}

fn tables() -> Vec<Sample> {
    let endpoint = Endpoint { instance: parse("i-0123456789"), node: parse("a") };
    let version = |name: &str, weight| VersionBackend {
        version: parse(name),
        weight: Share::from_millionths(weight),
        concurrency: 10,
        timeout: Millis::seconds(30),
        endpoints: vec![endpoint.clone()],
    };
    let of = |name, backend| {
        let spec = TableSpec { service: parse(WEB), matches: vec![parse("web.example.com")], backend };
        Sample::new(name, &object(WEB, spec, TableStatus {}))
    };
    vec![
        of("none", Backend::None { reason: "nothing is deployed".into() }),
        of("versions", Backend::Versions(vec![version("1.0", 900_000), version("1.1", 100_000)])),
        of("upstreams", Backend::Upstreams(vec![parse("10.0.0.1:80"), parse("[::1]:81")])),
    ]
}

fn members() -> Vec<Sample> {
    let ingress = |release: &str, addresses: &[&str]| IngressSpec {
        http: "0.0.0.0:80".into(),
        release: release.into(),
        addresses: addresses.iter().copied().map(parse).collect(),
    };
    let authority =
        AuthoritySpec { issuer: KeptAuthority { certificate: "PEM".into(), sealed_key: "c2VhbGVk".into() } };
    let member = |roles: &[MachineRole], api, joined_by| MemberSpec {
        roles: roles.iter().copied().collect(),
        key: artifact(),
        api,
        joined_by,
    };
    let whole = member(&MachineRole::ALL, Some(parse("10.0.0.1:7070")), Some(artifact()));
    let token = |member| JoinTokenSpec { roles: [MachineRole::Agent].into(), member, expires_at: AT };
    vec![
        Sample::new("least", &object("in-1", ingress("", &[]), IngressStatus { reached: 0 })),
        Sample::new(
            "whole",
            &object("in-1", ingress("0.1.0", &["192.0.2.1", "2001:db8::1"]), IngressStatus { reached: 443 }),
        ),
        Sample::new("whole", &object("reconcilers", LeaderSpec { control: parse("one") }, LeaderStatus {})),
        Sample::new("whole", &object("members", authority, AuthorityStatus {})),
        Sample::new(
            "least",
            &object("m", member(&[MachineRole::Agent], None, None), MemberStatus::default()),
        ),
        Sample::new(
            "whole",
            &object("m", whole, MemberStatus { certified_until: AT, release: "0.1.0".into() }),
        ),
        Sample::new("least", &object("j", token(None), JoinTokenStatus {})),
        Sample::new("whole", &object("j", token(Some(parse("m"))), JoinTokenStatus {})),
    ]
}
