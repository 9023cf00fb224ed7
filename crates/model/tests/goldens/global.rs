//! Samples of the kinds of the global tier: each with the least it may have, and with everything.

use super::{Sample, object, parse, uid};
use serde_json::json;
use tutti_model::{
    Digest, Millis, Share, Split, Timestamp,
    assignment::Scaled,
    audit::{AuditChange, AuditSpec, AuditStatus, Change},
    claim::{AliasSpec, AliasStatus, ClaimSpec, ClaimStatus},
    cluster::{ClusterSpec, ClusterStatus, KeptAuthority},
    deployment::{DeploymentSpec, DeploymentStatus, Entry, Failure, Intent, Phase, Target},
    domain::{DomainSpec, DomainStatus, Member, MemberRole, MemberState, Ownership},
    manifest::{Grpc, Health, Manifest, Placement, Probe, Scale},
    quantity::{Bandwidth, ByteSize, MilliCpu},
    quota::{Limits, QuotaSpec, QuotaStatus},
    report::{Candidate, DeployReport, PreparedReport, Progress, ReportSpec, ReportStatus, VersionReport},
    resource::Condition,
    route::{RouteSpec, RouteStatus},
    scheduling::Strategy,
    secret::{SecretSpec, SecretStatus},
    service::{ServiceSpec, ServiceStatus},
    token::{Role, TokenSpec, TokenStatus},
    user::{UserSpec, UserStatus},
    version::{Isolate, Preparation, VersionSpec, VersionStatus},
    zone::{ZoneSpec, ZoneStatus},
};

pub(super) const AT: Timestamp = Timestamp(1_700_000_100_000);
pub(super) const WEB: &str = "example.com:web";

pub(super) fn artifact() -> Digest {
    Digest::from_sha256(&[7; 32])
}

/// 1.0 has nine tenths, 1.1 the rest.
pub(super) fn split() -> Split {
    let shares = [("1.0", 900_000), ("1.1", 100_000)];
    let shares = shares.map(|(version, share)| (parse(version), Share::from_millionths(share)));
    Split::new(shares).unwrap_or_default()
}

pub(super) fn failure() -> Failure {
    Failure {
        reason: "it ended by itself".into(),
        instance: Some(parse("i-0123456789")),
        last_lines: vec!["panic".into()],
    }
}

/// A manifest with everything, and with this probe.
fn manifest(probe: Probe, strategy: Strategy) -> Manifest {
    Manifest {
        isolate: Some(Isolate::Process),
        run: vec!["./serve".into(), "--fast".into()],
        port: Some(8080),
        env: [("LEVEL".to_owned(), "info".to_owned())].into(),
        secrets: [("KEY".to_owned(), parse("api-key"))].into(),
        memory: ByteSize::mib(256),
        cpu: MilliCpu(500),
        bandwidth: Bandwidth(10_000_000),
        disk: ByteSize::mib(64),
        placement: Placement {
            strategy,
            spread: Some(parse("rack")),
            constraints: vec![parse("gpu"), parse("!old"), parse("disk=ssd|nvme"), parse("arch!=arm")],
            tolerations: vec![parse("spot")],
        },
        concurrency: 10,
        health: Health {
            probe,
            start: Millis::seconds(30),
            interval: Millis::seconds(3),
            timeout: Millis::seconds(1),
            failures: 5,
        },
        min: 0,
        max: 9,
        scale: Scale { concurrency: Some(5), rps: Some(100), idle: Some(Millis::seconds(90)) },
        standby: Millis::seconds(60),
        drain: Millis::seconds(20),
        grace: Millis::seconds(40),
        timeout: Millis::seconds(10),
        state: true,
        singleton: true,
        outgoing: vec![parse("api.example.org:443")],
        grpc: Grpc { max_message: ByteSize::mib(4) },
    }
}

pub(super) fn version(name: &str, manifest: Manifest) -> VersionSpec {
    VersionSpec {
        version: parse(&format!("{WEB}@{name}")),
        artifact: artifact(),
        size: 4096,
        isolate: Isolate::Wasm,
        manifest,
    }
}

pub(super) fn whole_version() -> VersionSpec {
    version("1.1", manifest(Probe::Http("/healthz".into()), Strategy::Pack))
}

pub(super) fn plain_version() -> VersionSpec {
    version("1.0", Manifest::default())
}

pub(super) fn preparation() -> Preparation {
    Preparation { nodes: 2, ready: 1, failed: 1, took: Millis(71), reasons: vec!["no room".into()] }
}

pub(super) fn scaled() -> Scaled {
    Scaled { workers: 4, at: AT, why: "26.6 requests at once".into() }
}

pub(super) fn samples() -> Vec<Sample> {
    [people(), services(), deployments(), reports(), others()].into_iter().flatten().collect()
}

fn people() -> Vec<Sample> {
    let member = |user: &str, role, state| Member { user: parse(user), role, state };
    let members = vec![
        member("ada", MemberRole::Owner, MemberState::Confirmed(uid())),
        member("bob@example.com", MemberRole::Deployer, MemberState::Pending),
        member("eve", MemberRole::Viewer, MemberState::Pending),
    ];
    let domain = DomainSpec { aliases: vec![parse("example.org")], members };
    let vouched = DomainStatus { ownership: Ownership::Vouched };
    let token = |role| TokenSpec {
        user: None,
        role,
        domain: None,
        life: None,
        expires_at: None,
        hash: String::new(),
    };
    let whole = TokenSpec {
        user: Some(parse("ada")),
        role: Role::Deployer,
        domain: Some(parse("example.com")),
        life: Some(uid()),
        expires_at: Some(AT),
        hash: "00ff".into(),
    };
    let claim = |alias_of, user| ClaimSpec {
        domain: parse("example.org"),
        alias_of,
        user,
        record: "_tutti-challenge.example.org".into(),
        text: "tutti-verify=0123".into(),
        expires_at: AT,
    };
    vec![
        Sample::new(
            "least",
            &object("example.com", DomainSpec { aliases: vec![], members: vec![] }, DomainStatus::default()),
        ),
        Sample::new("whole", &object("example.com", domain.clone(), vouched)),
        Sample::new(
            "verified",
            &object("example.com", domain, DomainStatus { ownership: Ownership::Verified }),
        ),
        Sample::new("whole", &object("ada", UserSpec {}, UserStatus {})),
        Sample::new("least", &object("t-1", token(Role::Admin), TokenStatus {})),
        Sample::new("owner", &object("t-2", token(Role::Owner), TokenStatus {})),
        Sample::new("viewer", &object("t-3", token(Role::Viewer), TokenStatus {})),
        Sample::new("whole", &object("t-4", whole, TokenStatus {})),
        Sample::new("least", &object("example.org", claim(None, None), ClaimStatus {})),
        Sample::new(
            "whole",
            &object("example.org", claim(Some(parse("example.com")), Some(parse("ada"))), ClaimStatus {}),
        ),
        Sample::new(
            "whole",
            &object("example.org", AliasSpec { domain: parse("example.com") }, AliasStatus {}),
        ),
        Sample::new("whole", &secret("c2VhbGVk")),
        Sample::new("least", &secret("")),
        Sample::new("least", &quota(Limits { instances: None, cpu: None, memory: None, versions: None })),
        Sample::new(
            "whole",
            &quota(Limits {
                instances: Some(7),
                cpu: Some(MilliCpu(4000)),
                memory: Some(ByteSize::mib(2048)),
                versions: Some(20),
            }),
        ),
    ]
}

fn secret(sealed: &str) -> tutti_model::Resource<SecretSpec> {
    let spec = SecretSpec { secret: parse("example.com:api-key"), sealed: sealed.into() };
    object("example.com:api-key", spec, SecretStatus { changed_at: AT, changed_by: "ada".into() })
}

fn quota(limits: Limits) -> tutti_model::Resource<QuotaSpec> {
    object("example.com", QuotaSpec { domain: parse("example.com"), limits }, QuotaStatus {})
}

fn services() -> Vec<Sample> {
    let service = |upstreams, workers| ServiceSpec { service: parse(WEB), upstreams, workers };
    let status = ServiceStatus {
        split: split(),
        previous: Some(split()),
        deployment: Some(parse("d-0123456789")),
        round: 8,
        hold: true,
    };
    // What any object may have beside its spec and status.
    let mut going = object(WEB, service(vec![], Some(3)), status);
    going.deleted_at = Some(AT);
    going.finalizers = vec!["zone".into()];
    going.conditions =
        vec![Condition { r#type: "Ready".into(), met: false, reason: "it goes".into(), since: AT }];
    let prepared = VersionStatus { preparation: Some(preparation()) };
    let with = |probe, strategy| version("1.2", manifest(probe, strategy));
    vec![
        Sample::new("least", &object(WEB, service(vec![], None), ServiceStatus::default())),
        Sample::new(
            "upstreams",
            &object(WEB, service(vec![parse("10.0.0.1:80")], None), ServiceStatus::default()),
        ),
        Sample::new("whole", &going),
        Sample::new("least", &object("example.com:web@1.0", plain_version(), VersionStatus::default())),
        Sample::new("whole", &object("example.com:web@1.1", whole_version(), prepared)),
        Sample::new(
            "grpc",
            &object(
                "example.com:web@1.2",
                with(Probe::Grpc("a.B".into()), Strategy::Spread),
                VersionStatus::default(),
            ),
        ),
        Sample::new(
            "process",
            &object(
                "example.com:web@1.2",
                VersionSpec { isolate: Isolate::Process, ..with(Probe::Tcp, Strategy::Pack) },
                VersionStatus::default(),
            ),
        ),
    ]
}

fn deployments() -> Vec<Sample> {
    let spec = |target, intent| DeploymentSpec {
        deployment: parse("d-0123456789"),
        service: parse(WEB),
        target,
        every: Millis::seconds(5),
        abort_if: vec![parse("error_rate>1%")],
        intent,
        promoted: 1,
    };
    let version = || Target::Version { version: parse("1.1"), steps: vec![parse("10%"), parse("100%")] };
    let least = DeploymentSpec { abort_if: vec![], promoted: 0, ..spec(version(), Intent::Proceed) };
    let whole = DeploymentStatus {
        phase: Phase::Failed,
        step: 1,
        from: split(),
        observed_since: Some(AT),
        message: "it failed".into(),
        failure: Some(failure()),
        history: Phase::ALL
            .into_iter()
            .map(|phase| Entry { at: AT, phase, step: 0, text: phase.to_string() })
            .collect(),
        finished_at: Some(AT),
    };
    vec![
        Sample::new("least", &object("d-0123456789", least, DeploymentStatus::default())),
        Sample::new("whole", &object("d-0123456789", spec(version(), Intent::Pause), whole)),
        Sample::new(
            "split",
            &object("d-0123456789", spec(Target::Split(split()), Intent::Abort), DeploymentStatus::default()),
        ),
    ]
}

fn reports() -> Vec<Sample> {
    let version =
        VersionReport { version: parse("1.1"), wanted: 3, ready: 1, starting: 1, standby: 1, draining: 1 };
    let deploying = DeployReport {
        version: parse("1.1"),
        share: parse("10%"),
        whole: 3,
        workers: 1,
        candidates: vec![
            Candidate { node: parse("a"), why: "it has the most room".into(), holds: true },
            Candidate { node: parse("b"), why: String::new(), holds: false },
        ],
        more: 2,
        table: Some(443),
    };
    let least = |progress| ReportSpec {
        zone: parse("local/main"),
        service: parse(WEB),
        round: 8,
        progress,
        split: split(),
        versions: vec![],
        reasons: vec![],
        prepared: None,
        deploying: vec![],
        scaled: None,
    };
    let whole = ReportSpec {
        versions: vec![version],
        reasons: vec!["1 of 3 instances of 1.1 are ready".into()],
        prepared: Some(PreparedReport { version: parse("1.2"), preparation: preparation() }),
        deploying: vec![deploying],
        scaled: Some(scaled()),
        ..least(Progress::Failed { failure: failure() })
    };
    let of = |name, spec| Sample::new(name, &object("local/main/example.com:web", spec, ReportStatus {}));
    vec![
        of("whole", whole),
        of("placing", least(Progress::Placing)),
        of("preloading", least(Progress::Preloading)),
        of("starting", least(Progress::Starting)),
        of("shifting", least(Progress::Shifting)),
        of("settled", least(Progress::Settled)),
    ]
}

fn others() -> Vec<Sample> {
    let change = |change, before, after, note| AuditChange {
        object: "service example.com:web".into(),
        change,
        before,
        after,
        note,
    };
    let audit = AuditSpec {
        at: AT,
        who: "ada".into(),
        user: Some(parse("ada")),
        from: Some("192.0.2.1".into()),
        request: "r-1".into(),
        operation: "scale".into(),
        object: "service example.com:web".into(),
        domain: Some(parse("example.com")),
        changes: vec![
            change(Change::Created, None, Some(json!({ "workers": 3 })), None),
            change(Change::Updated, Some(json!({ "workers": 3 })), Some(json!({ "workers": 4 })), None),
            change(Change::Deleted, None, None, Some("a secret is not shown".into())),
        ],
        left_out: 2,
    };
    let least =
        AuditSpec { user: None, from: None, domain: None, changes: vec![], left_out: 0, ..audit.clone() };
    let kept = |sealed_key: &str| KeptAuthority { certificate: "PEM".into(), sealed_key: sealed_key.into() };
    let cluster = |key| ClusterSpec { id: "c-1".into(), root: kept(key) };
    let route = RouteSpec { r#match: parse("shop.example.com/api"), service: parse(WEB) };
    vec![
        Sample::new("least", &object("a-1", least, AuditStatus {})),
        Sample::new("whole", &object("a-1", audit, AuditStatus {})),
        Sample::new("whole", &object("shop.example.com/api", route, RouteStatus {})),
        Sample::new("whole", &object("local/main", ZoneSpec { zone: parse("local/main") }, ZoneStatus {})),
        Sample::new("whole", &object("cluster", cluster("c2VhbGVk"), ClusterStatus {})),
        Sample::new("least", &object("cluster", cluster(""), ClusterStatus {})),
    ]
}
