//! One object of each kind, the same in every test.

use tutti_api::machines::{Machine, RoleContact};
use tutti_api::wire::{ClusterStatus, ServiceSummary, ZoneSummary};
use tutti_model::member::MachineRole;
use tutti_model::{
    DeploymentId, Digest, InstanceId, Resource, ServiceRef, Share, Split, Timestamp, Uid, VersionName,
    deployment::{DeploymentSpec, Intent, Phase, Target},
    domain::{DomainSpec, Ownership},
    instance::{Goal, InstanceSpec, InstanceState},
    manifest::Manifest,
    node::{Fingerprint, NodeSpec},
    quantity::{ByteSize, MilliCpu},
    report::VersionReport,
    resource::Object,
    route::RouteSpec,
    service::ServiceSpec,
    token::{Role, TokenSpec},
    version::{Isolate, VersionSpec},
};

/// When everything was created: 21 November 2026.
pub(crate) const CREATED: Timestamp = Timestamp(1_795_000_000_000);
/// When everything is looked at.
pub(crate) const NOW: Timestamp = Timestamp(1_795_000_000_000 + 300_000);

pub(crate) fn resource<S: Object>(name: &str, spec: S) -> Resource<S> {
    Resource { revision: 42, ..Resource::new(name, Uid::from_bits(7), CREATED, spec) }
}

pub(crate) fn name(text: &str) -> VersionName {
    text.parse().unwrap()
}

pub(crate) fn service_ref() -> ServiceRef {
    "example.com:com.example.HelloWorld".parse().unwrap()
}

pub(crate) fn split() -> Split {
    Split::all(name("1.0")).with(&name("1.1"), Share::from_millionths(100_000))
}

pub(crate) fn artifact() -> Digest {
    Digest::from_sha256(&[0xab; 32])
}

pub(crate) fn domain() -> Resource<DomainSpec> {
    let mut domain = resource("example.com", DomainSpec::default());
    domain.status.ownership = Ownership::Vouched;
    domain
}

pub(crate) fn service() -> Resource<ServiceSpec> {
    let service = service_ref();
    let mut service = resource(
        &service.to_string(),
        ServiceSpec { service: service.clone(), upstreams: Vec::new(), workers: Some(3) },
    );
    service.status.split = split();
    service.status.deployment = Some(DeploymentId::from_bits(1));
    service
}

pub(crate) fn version() -> Resource<VersionSpec> {
    let version = service_ref().at(name("1.1"));
    let manifest = Manifest { run: vec!["./hello".into(), "--fast".into()], ..Manifest::default() };
    let spec = VersionSpec {
        version: version.clone(),
        artifact: artifact(),
        size: 1_234_567,
        isolate: Isolate::Process,
        manifest,
    };
    resource(&version.to_string(), spec)
}

pub(crate) fn deployment() -> Resource<DeploymentSpec> {
    let id = DeploymentId::from_bits(1);
    let spec = DeploymentSpec {
        deployment: id.clone(),
        service: service_ref(),
        target: Target::Version {
            version: name("1.1"),
            steps: vec![Share::from_millionths(100_000), Share::WHOLE],
        },
        every: "30s".parse().unwrap(),
        abort_if: vec!["error_rate>1%".parse().unwrap()],
        intent: Intent::Proceed,
        promoted: 0,
    };
    let mut deployment = resource(id.as_str(), spec);
    deployment.status.from = Split::all(name("1.0"));
    deployment.status.phase = Phase::Placing;
    deployment
}

pub(crate) fn instance() -> Resource<InstanceSpec> {
    let id = InstanceId::from_bits(2);
    let spec = InstanceSpec {
        instance: id.clone(),
        version: service_ref().at(name("1.1")),
        artifact: artifact(),
        isolate: Isolate::Process,
        manifest: Manifest::default(),
        node: "box-with-a-rather-long-name".parse().unwrap(),
        goal: Goal::Serve,
        placed: String::new(),
    };
    let mut instance = resource(id.as_str(), spec);
    instance.status.state = InstanceState::Ready;
    instance.status.since = CREATED;
    instance
}

pub(crate) fn route() -> Resource<RouteSpec> {
    let spec = RouteSpec { r#match: "shop.example.com/api".parse().unwrap(), service: service_ref() };
    resource("shop.example.com/api", spec)
}

pub(crate) fn node() -> Resource<NodeSpec> {
    let spec = NodeSpec::new("box".parse().unwrap());
    let mut node = resource("box", spec);
    node.status.ready = true;
    node.status.release = "0.1.0-dev.0".into();
    node.status.capacity.cpu = MilliCpu(2000);
    node.status.capacity.memory = ByteSize::mib(4096);
    let notes = vec!["no user namespaces: instances run as this user".to_owned()];
    node.status.isolates = vec![
        Fingerprint { isolate: Isolate::Wasm, usable: true, notes: Vec::new() },
        Fingerprint { isolate: Isolate::Process, usable: true, notes },
    ];
    node
}

pub(crate) fn machine() -> Machine {
    let (role, release) = (MachineRole::Agent, "0.1.0-dev.0".to_owned());
    Machine {
        name: "box".parse().unwrap(),
        roles: vec![RoleContact { role, release, heard_at: Some(Timestamp(NOW.0 - 2000)) }],
        leads: false,
        address: None,
        certified_until: None,
        measured_at: None,
        figures: None,
    }
}

pub(crate) fn token() -> Resource<TokenSpec> {
    let spec = TokenSpec {
        user: None,
        life: None,
        role: Role::Deployer,
        domain: Some("example.com".parse().unwrap()),
        expires_at: Some(Timestamp(NOW.0 + 86_400_000)),
        hash: String::new(),
    };
    resource("ci", spec)
}

pub(crate) fn summary() -> ServiceSummary {
    let report = |version: &str, wanted, ready, standby| VersionReport {
        version: name(version),
        wanted,
        ready,
        starting: wanted - ready,
        standby,
        draining: 0,
    };
    ServiceSummary {
        service: service_ref(),
        hosts: vec!["helloworld.example.com.localhost".into(), "shop.example.com/api".into()],
        split: split(),
        serving: split(),
        versions: vec![report("0.9", 0, 0, 2), report("1.0", 3, 3, 0), report("1.1", 1, 0, 0)],
        upstreams: Vec::new(),
        deployment: Some(DeploymentId::from_bits(1).to_string()),
        state: "deploying".into(),
        reason: Some("instances start".into()),
    }
}

pub(crate) fn status() -> ClusterStatus {
    let addresses = ServiceSummary {
        service: "example.com:old".parse().unwrap(),
        hosts: vec!["old.example.com.localhost".into()],
        split: Split::empty(),
        serving: Split::empty(),
        versions: Vec::new(),
        upstreams: vec!["10.0.0.7:8080".into(), "10.0.0.8:8080".into()],
        deployment: None,
        state: "serving".into(),
        reason: None,
    };
    ClusterStatus {
        release: "0.1.0-dev.0".into(),
        revision: 42,
        zones: vec![ZoneSummary {
            zone: "local/main".into(),
            nodes_ready: 1,
            nodes: 1,
            leader: Some("c1".into()),
            controls: 3,
            ingresses: 1,
            http: vec!["127.0.0.1:8080".into()],
        }],
        services: vec![summary(), addresses],
        problems: vec!["service example.com:com.example.HelloWorld: 1 of 4 instances is not ready".into()],
    }
}
