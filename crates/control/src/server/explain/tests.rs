//! Golden explanations of what people ask about most.

use super::*;
use tutti_model::{
    InstanceId, Share, Split,
    deployment::{DeploymentStatus, Failure, Intent, Phase, Target},
    domain::{MemberRole, Ownership},
    ingress::IngressSpec,
    instance::{Goal, InstanceState},
    manifest::Manifest,
    name::ZoneName,
    quantity::ByteSize,
    report::{Progress, ReportSpec, VersionReport},
    resource::Object,
    table::{Backend, Endpoint, TableSpec, VersionBackend},
    version::{Isolate, Preparation},
};
use tutti_model::{Timestamp, Uid};

fn object<S: Object>(name: &str, spec: S) -> Resource<S> {
    Resource::new(name, Uid::from_bits(1), Timestamp(1), spec)
}

fn split(shares: &[(&str, u32)]) -> Split {
    Split::new(
        shares
            .iter()
            .map(|(version, percent)| (version.parse().unwrap(), Share::from_millionths(percent * 10_000))),
    )
    .unwrap()
}

/// `example.com:web` that serves 1.0, in a zone where all is well.
fn well() -> Snapshot {
    let service: tutti_model::ServiceRef = "example.com:web".parse().unwrap();
    let spec = ServiceSpec { service: service.clone(), upstreams: vec![], workers: None };
    let mut web = object("example.com:web", spec);
    web.status.split = split(&[("1.0", 100)]);
    let backend = VersionBackend {
        version: "1.0".parse().unwrap(),
        weight: Share::WHOLE,
        concurrency: 100,
        timeout: Millis::seconds(30),
        endpoints: vec![Endpoint { instance: InstanceId::from_bits(1), node: "n1".parse().unwrap() }],
    };
    let table = TableSpec {
        service: service.clone(),
        matches: vec!["web.example.com.localhost".parse().unwrap()],
        backend: Backend::Versions(vec![backend]),
    };
    let report = ReportSpec {
        scaled: None,
        zone: ZoneName::local(),
        service,
        round: 1,
        progress: Progress::Settled,
        split: split(&[("1.0", 100)]),
        versions: vec![counted("1.0", 1, 1)],
        reasons: vec![],
        prepared: None,
        deploying: Vec::new(),
    };
    let facts = ServiceFacts {
        service: web,
        deployment: None,
        missed: None,
        report: Some(object("local/main/example.com:web", report)),
        table: Some(object("example.com:web", table)),
        routes: vec![],
        instances: vec![instance("1.0", 1, InstanceState::Ready)],
    };
    let mut node = object("n1", NodeSpec::new("n1".parse().unwrap()));
    node.status.ready = true;
    let zone = ZoneFacts { nodes: vec![node], ingresses: vec![object("in", IngressSpec::default())] };
    Snapshot { about: About::Service, service: Some(facts), missed: None, zone }
}

fn counted(version: &str, wanted: u32, ready: u32) -> VersionReport {
    VersionReport {
        version: version.parse().unwrap(),
        wanted,
        ready,
        starting: wanted - ready,
        standby: 0,
        draining: 0,
    }
}

fn instance(version: &str, bits: u64, state: InstanceState) -> Resource<InstanceSpec> {
    let id = InstanceId::from_bits(bits);
    let digest = format!("sha256:{}", "ab".repeat(32));
    let spec = InstanceSpec {
        instance: id.clone(),
        version: format!("example.com:web@{version}").parse().unwrap(),
        artifact: digest.parse().unwrap(),
        isolate: Isolate::Wasm,
        manifest: Manifest::default(),
        node: "n1".parse().unwrap(),
        goal: Goal::Serve,
        placed: String::new(),
    };
    let mut instance = object(id.as_str(), spec);
    instance.status.state = state;
    instance
}

/// A deployment of 2.0, in this phase, with what the zone says.
fn deploying(phase: Phase, message: &str, progress: Progress, reasons: &[&str]) -> Snapshot {
    let mut snapshot = well();
    let facts = snapshot.service.as_mut().unwrap();
    let id = tutti_model::DeploymentId::from_bits(7);
    let spec = DeploymentSpec {
        deployment: id.clone(),
        service: "example.com:web".parse().unwrap(),
        target: Target::Version {
            version: "2.0".parse().unwrap(),
            steps: vec![Share::from_millionths(100_000), Share::WHOLE],
        },
        every: Millis::seconds(30),
        abort_if: vec!["error_rate>1%".parse().unwrap()],
        intent: Intent::Proceed,
        promoted: 0,
    };
    let mut deployment = object(id.as_str(), spec);
    deployment.status = DeploymentStatus {
        phase,
        message: message.to_owned(),
        from: split(&[("1.0", 100)]),
        ..DeploymentStatus::default()
    };
    facts.service.status.split = split(&[("1.0", 90), ("2.0", 10)]);
    facts.service.status.deployment = Some(id);
    let report = &mut facts.report.as_mut().unwrap().spec;
    report.progress = progress;
    report.reasons = reasons.iter().map(ToString::to_string).collect();
    report.versions.push(counted("2.0", 1, 0));
    facts.deployment = Some(deployment.clone());
    snapshot.about = About::Deployment(Box::new(deployment));
    snapshot
}

fn change(snapshot: &mut Snapshot, change: impl Fn(&mut Resource<DeploymentSpec>)) {
    if let About::Deployment(deployment) = &mut snapshot.about {
        change(deployment);
    }
    if let Some(deployment) = snapshot.service.as_mut().and_then(|facts| facts.deployment.as_mut()) {
        change(deployment);
    }
}

#[test]
fn all_is_well() {
    insta::assert_json_snapshot!(explain(&well()));
}

#[test]
fn cannot_be_placed() {
    let mut snapshot = deploying(
        Phase::Placing,
        "finding nodes: no node has room for 1 instance of 2.0: n1 has 60Mi of memory free of the 128Mi it needs",
        Progress::Placing,
        &["no node has room for 1 instance of 2.0: n1 has 60Mi of memory free of the 128Mi it needs"],
    );
    snapshot.zone.nodes[0].spec.cordoned = true;
    insta::assert_json_snapshot!(explain(&snapshot));
}

#[test]
fn failed_its_health_gate() {
    let failure = Failure {
        reason: "instance i-2000000000 of 2.0 was not ready within 60s: connection refused on port 8080"
            .into(),
        instance: Some(InstanceId::from_bits(2)),
        last_lines: vec!["starting".into(), "cannot open config.toml".into()],
    };
    let mut snapshot = deploying(Phase::Failed, &failure.reason, Progress::Settled, &[]);
    change(&mut snapshot, |deployment| deployment.status.failure = Some(failure.clone()));
    let facts = snapshot.service.as_mut().unwrap();
    facts.service.status.deployment = None;
    facts.service.status.split = split(&[("1.0", 100)]);
    facts.deployment = None;
    insta::assert_json_snapshot!(explain(&snapshot));
}

/// Whoever asks for the service, or for the version, learns of the deployment that failed.
#[test]
fn what_failed_last_is_told_of_the_service_and_of_the_version() {
    let failure = Failure {
        reason: "instance i-2000000000 of 2.0 failed: exited with code 1".into(),
        instance: Some(InstanceId::from_bits(2)),
        last_lines: vec!["cannot open config.toml".into()],
    };
    let mut failed = deploying(Phase::Failed, &failure.reason, Progress::Settled, &[]);
    change(&mut failed, |deployment| deployment.status.failure = Some(failure.clone()));
    let About::Deployment(missed) = failed.about else { unreachable!() };
    let mut snapshot = Snapshot { missed: Some(*missed), ..well() };
    let spec = VersionSpec {
        version: "example.com:web@2.0".parse().unwrap(),
        artifact: format!("sha256:{}", "ab".repeat(32)).parse().unwrap(),
        size: 1,
        isolate: Isolate::Wasm,
        manifest: Manifest::default(),
    };
    for about in [About::Service, About::Version(Box::new(object("example.com:web@2.0", spec)))] {
        snapshot.about = about;
        let explanation = explain(&snapshot);
        assert!(explanation.well, "what serves is well");
        let why = explanation.reasons.iter().find(|reason| reason.text == failure.reason).unwrap();
        assert_eq!(why.lines, failure.last_lines);
        assert!(explanation.hints.iter().any(|hint| hint.contains("tutti deployment show d-")));
        assert!(!explanation.hints.iter().any(|hint| hint.contains("tutti deploy example.com:web@2.0")));
    }
    let facts = snapshot.service.as_mut().unwrap();
    facts.service.status.split = Split::empty();
    snapshot.about = About::Service;
    assert!(!explain(&snapshot).reasons.iter().any(|reason| reason.text.contains("never")), "it was tried");
}

#[test]
fn is_failing_while_an_instance_crashes() {
    let mut snapshot = deploying(Phase::Starting, "instances start", Progress::Starting, &[]);
    let mut crashed = instance("2.0", 2, InstanceState::Backoff);
    crashed.status.reason = Some("ended with exit code 1".into());
    crashed.status.restarts = 3;
    crashed.status.last_lines = vec!["cannot open config.toml".into()];
    snapshot.service.as_mut().unwrap().instances.push(crashed.clone());
    insta::assert_json_snapshot!("a_deployment_whose_instance_crashes", explain(&snapshot));
    snapshot.about = About::Instance(Box::new(crashed));
    insta::assert_json_snapshot!("the_instance_that_crashes", explain(&snapshot));
    snapshot.about = About::Service;
    assert_eq!(explain(&snapshot).object, "service example.com:web");
}

#[test]
fn is_paused() {
    let text = "paused on request at step 1 of 2: 2.0 at 10% serves";
    let mut snapshot = deploying(Phase::Observing, text, Progress::Settled, &[]);
    change(&mut snapshot, |deployment| deployment.spec.intent = Intent::Pause);
    insta::assert_json_snapshot!(explain(&snapshot));
}

#[test]
fn waits_for_answers() {
    let text = "2.0 at 10% has had its 30s, but only 12 of the 50 answers needed to judge it";
    let snapshot = deploying(Phase::Observing, text, Progress::Settled, &[]);
    insta::assert_json_snapshot!(explain(&snapshot));
}

#[test]
fn nothing_was_deployed() {
    let mut snapshot = well();
    let facts = snapshot.service.as_mut().unwrap();
    facts.service.status.split = Split::empty();
    (facts.report, facts.table, facts.instances) = (None, None, vec![]);
    insta::assert_json_snapshot!(explain(&snapshot));
}

#[test]
fn every_kind_has_words() {
    let mut snapshot = well();
    let mut node = snapshot.zone.nodes[0].clone();
    let said = |measured| {
        let about = About::Node(Box::new(node.clone()), 3, measured);
        let explanation = explain(&Snapshot { about, ..snapshot.clone() });
        assert!(explanation.well);
        explanation.reasons[1].text.clone()
    };
    let figures = NodeFigures { memory: ByteSize::mib(3500), ..NodeFigures::default() };
    assert_eq!(said(None), "has not said yet what its machine uses, so placement goes by promises alone");
    let text = "its machine uses 3.4 GiB of memory, 0.0 MiB of disk and 0 cpu, measured";
    assert_eq!(said(Some((Millis(4200), figures.clone()))), format!("{text} 4 s ago"));
    let old = said(Some((Millis::seconds(40), figures)));
    assert_eq!(old, format!("{text} 40 s ago: too long for placement to go by it"));
    node.status.ready = false;
    snapshot.about = About::Node(Box::new(node), 3, None);
    assert!(!explain(&snapshot).well);
    snapshot.about =
        About::Domain(Box::new(object("example.com", DomainSpec::default())), vec!["example.com:web".into()]);
    assert!(!explain(&snapshot).well, "unverified");
    let texts: Vec<String> = explain(&snapshot).reasons.into_iter().map(|reason| reason.text).collect();
    assert_eq!(texts, ["has 1 service", "has no member, so that only admins can change it"]);
    let spec = RouteSpec {
        r#match: "web.example.com.localhost".parse().unwrap(),
        service: "example.com:web".parse().unwrap(),
    };
    snapshot.about = About::Route(Box::new(object("web.example.com.localhost", spec)));
    assert_eq!(explain(&snapshot).summary, "it reaches service example.com:web; it serves 1.0 100%");
    let spec = VersionSpec {
        version: "example.com:web@1.0".parse().unwrap(),
        artifact: format!("sha256:{}", "ab".repeat(32)).parse().unwrap(),
        size: 1,
        isolate: Isolate::Wasm,
        manifest: Manifest::default(),
    };
    let mut version = object("example.com:web@1.0", spec);
    let reasons = vec!["this is not a component".to_owned()];
    version.status.preparation =
        Some(Preparation { nodes: 2, ready: 1, failed: 1, reasons, ..Preparation::default() });
    snapshot.about = About::Version(Box::new(version));
    let explanation = explain(&snapshot);
    assert_eq!(explanation.summary, "it serves 100% of the requests");
    for said in ["is held ready to start on 1 of 2 nodes", "this is not a component"] {
        assert!(explanation.reasons.iter().any(|reason| reason.text == said), "{said}");
    }
}

#[test]
fn a_domain_with_its_members_and_invitations() {
    let mut spec = DomainSpec::default();
    let life = Uid::from_bits(3);
    for (user, role) in [("ada", MemberRole::Owner), ("bob", MemberRole::Viewer), ("eve", MemberRole::Owner)]
    {
        spec.invite(&user.parse().unwrap(), role).unwrap();
        spec.accept(&"example.com".parse().unwrap(), &user.parse().unwrap(), &life).unwrap();
    }
    spec.invite(&"zoe@example.com".parse().unwrap(), MemberRole::Deployer).unwrap();
    let mut domain = object("example.com", spec);
    domain.status.ownership = Ownership::Verified;
    let mut snapshot = well();
    snapshot.about = About::Domain(Box::new(domain.clone()), vec!["example.com:web".into()]);
    insta::assert_json_snapshot!(explain(&snapshot));
    // However many there are, an explanation stays one that people read.
    for number in 0..30 {
        let user = format!("user{number:02}").parse().unwrap();
        domain.spec.invite(&user, MemberRole::Viewer).unwrap();
    }
    snapshot.about = About::Domain(Box::new(domain), Vec::new());
    let invited = explain(&snapshot).reasons.last().unwrap().text.clone();
    assert!(invited.ends_with("user19 as viewer and 11 more"), "{invited}");
}

/// No report, table or instance at all, in every phase: there are always words.
#[test]
fn a_control_that_knows_nothing_yet_still_answers() {
    for phase in Phase::ALL {
        let mut snapshot = deploying(phase, "", Progress::Placing, &[]);
        let facts = snapshot.service.as_mut().unwrap();
        (facts.report, facts.table, facts.instances) = (None, None, vec![]);
        snapshot.zone = ZoneFacts::default();
        let explanation = explain(&snapshot);
        assert!(!explanation.summary.is_empty() && !explanation.reasons.is_empty(), "{phase}");
    }
}
