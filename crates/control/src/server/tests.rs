//! The API over a real store, called as a client would.

mod auditing;
mod authorization;
mod changes;
mod debugging;
mod deploying;
mod domains;
mod events;
mod faults;
mod isolation;
mod joining;
mod machines;
mod metrics;
mod pools;
mod quotas;
mod secrets;
mod serving;
mod streaming;
mod tokens;
mod zone;

use super::*;
use crate::{observed::Observed, zone::LocalZone};
use axum::body::Body;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};
use tower::ServiceExt as _;
use tutti_api::{dns::TxtFault, logs::Kept};
use tutti_base::{Random, clock::VirtualClock};
use tutti_model::{
    InstanceId, Resource, Timestamp,
    cluster::MemberSpec,
    deployment::DeploymentSpec,
    domain::DomainSpec,
    instance::{Goal, InstanceSpec},
    log::{LogLine, LogQuery, Output},
    manifest::Manifest,
    member::MachineRole,
    name::ZoneName,
    node::NodeSpec,
    service::ServiceSpec,
    token::{Role, TokenSpec},
    version::Isolate,
};
use tutti_seal::Keyring;
use tutti_store::memory::MemoryStore;

/// An artifact that was pushed to every repository.
const PUSHED: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// Another.
const PUSHED_TOO: &str = "sha256:01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b";

#[derive(Debug)]
struct Pushed;

#[async_trait]
impl ArtifactIndex for Pushed {
    async fn exists(&self, _: &ServiceRef, artifact: &Digest) -> Result<bool, Problem> {
        Ok([PUSHED, PUSHED_TOO].contains(&artifact.as_str()))
    }
}

/// What agents fetch.
#[derive(Debug)]
struct Blobs;

/// A blob that holds other bytes than its digest says.
const DAMAGED: &str = "sha256:0b2b4a3b3a0ad7b5b1c6bd0d3c9b2c5b7d2b1c7c1b0a5f4e3d2c1b0a99887766";

/// What the blobs of these digests hold.
const CONTENTS: [(&str, &[u8]); 3] = [(PUSHED, b""), (PUSHED_TOO, b"\n"), (DAMAGED, b"other bytes")];

#[async_trait]
impl BlobSource for Blobs {
    async fn blob(&self, digest: &Digest) -> Result<Option<Blob>, Problem> {
        let found = CONTENTS.iter().find(|(pushed, _)| *pushed == digest.as_str());
        Ok(found.map(|(_, bytes)| Blob {
            size: bytes.len() as u64,
            pieces: stream::iter([Ok(bytes::Bytes::from_static(bytes))]).boxed(),
        }))
    }
}

/// Lines that are there from the start, one an instance; a followed log stays open.
#[derive(Debug, Default)]
struct Lines {
    asked: Mutex<Vec<LogQuery>>,
    kept: Mutex<Vec<Kept>>,
}

#[async_trait]
impl LogSource for Lines {
    async fn read(&self, query: LogQuery) -> Result<BoxStream<'static, Result<LogLine, Problem>>, Problem> {
        let lines: Vec<_> = query
            .instances
            .iter()
            .map(|instance| LogLine {
                at: Timestamp(1),
                instance: instance.clone(),
                output: Output::Stdout,
                line: format!("hello from {instance}"),
            })
            .map(Ok)
            .collect();
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(query.clone());
        let lines = stream::iter(lines);
        Ok(if query.follow { lines.chain(stream::pending()).boxed() } else { lines.boxed() })
    }

    async fn kept(&self) -> Result<Vec<Kept>, Problem> {
        Ok(self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// What a look at one name gives.
type Found = Result<Vec<String>, TxtFault>;

/// Text records that a test sets.
#[derive(Debug, Clone, Default)]
struct Records(Arc<Mutex<BTreeMap<String, Found>>>);

#[async_trait]
impl TxtLookup for Records {
    async fn txt(&self, name: &str) -> Found {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.get(name).cloned().unwrap_or(Err(TxtFault::NoName))
    }
}

/// The key of every test.
fn keyring() -> Keyring {
    let bytes = zeroize::Zeroizing::new([1; tutti_seal::key::KEY_BYTES]);
    Keyring::of(tutti_seal::SealingKey::new(&bytes).unwrap())
}

fn local_zone(objects: &Objects) -> LocalZone {
    LocalZone::new(objects.clone(), Observed::new(), keyring())
}

/// What an API over these objects needs.
/// The members of the cluster: one that runs everything, an agent, and one that only answers for names.
pub(super) fn members() -> Arc<MemberTable> {
    use tutti_model::member::{MachineRole, Membership};
    let member = |name: &str, roles: &[MachineRole]| {
        let member = Membership { name: name.parse().unwrap(), roles: roles.iter().copied().collect() };
        (member, vec![key_of(name)])
    };
    let table = MemberTable::default();
    table.replace([
        member("n1", &[MachineRole::Agent, MachineRole::Ingress]),
        member("n2", &[MachineRole::Agent]),
        member("n", &[MachineRole::Ingress]),
        member("ns", &[MachineRole::Dns]),
        member("d1", &[MachineRole::Dns, MachineRole::Server]),
    ]);
    Arc::new(table)
}

/// The key of a member here.
pub(super) fn key_of(name: &str) -> Digest {
    tutti_base::sha256::digest(name.as_bytes())
}

fn options(objects: &Objects, lines: Arc<Lines>, tasks: &Tasks) -> ServerOptions {
    ServerOptions {
        control: "c1".parse().unwrap(),
        objects: objects.clone(),
        zone: Arc::new(local_zone(objects)),
        observed: Observed::new(),
        loops: Default::default(),
        keyring: keyring(),
        blobs: Arc::new(Blobs),
        logs: lines,
        registry: axum::Router::new()
            .fallback(|request: axum::extract::Request| async move { request.uri().path().to_owned() }),
        metrics: Arc::new(|| "tutti_up 1\n".to_owned()),
        troubles: Arc::new(|| vec!["a wheel squeaks".to_owned()]),
        artifacts: Arc::new(Pushed),
        release: "0.0.0".to_owned(),
        vouch: true,
        txt: Arc::new(Records::default()),
        members: Some(members()),
        cluster: None,
        host_suffixes: vec!["localhost".to_owned()],
        tasks: tasks.clone(),
    }
}

/// One API with its store.
pub(super) struct Api {
    pub(super) router: axum::Router,
    pub(super) objects: Objects,
    pub(super) tasks: Tasks,
    clock: VirtualClock,
    lines: Arc<Lines>,
    records: Records,
    pub(super) tokens: BTreeMap<&'static str, String>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Got {
    status: StatusCode,
    headers: http::HeaderMap,
    pub(super) body: Value,
}

impl Got {
    pub(super) fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap_or_default()
    }

    pub(super) fn hint(&self) -> &str {
        self.body["hint"].as_str().unwrap_or_default()
    }

    #[track_caller]
    pub(super) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Api {
    pub(super) async fn start() -> Api {
        Api::started(true).await
    }

    /// One that vouches, or not, for what admins create.
    async fn started(vouch: bool) -> Api {
        let clock = VirtualClock::at(Timestamp(1_700_000_000_000));
        let shared: Arc<dyn tutti_base::Clock> = Arc::new(clock.clone());
        let store = Arc::new(MemoryStore::new(shared.clone()));
        let objects = Objects::new(store, ZoneName::local(), shared, Random::seeded(7));
        ensure_defaults(&objects, true).await.unwrap();
        let admin = ensure_admin_token(&objects).await.unwrap().unwrap();
        let (tasks, lines) = (Tasks::new(), Arc::new(Lines::default()));
        let records = Records::default();
        let txt = Arc::new(records.clone());
        let router = router(ServerOptions { vouch, txt, ..options(&objects, lines.clone(), &tasks) });
        let tokens = BTreeMap::from([("admin", admin.reveal().clone())]);
        Api { router, objects, tasks, clock, lines, records, tokens }
    }

    /// Tokens for every role here and elsewhere, by `ROLE` and `other ROLE`.
    pub(super) async fn with_roles() -> Api {
        let mut api = Api::start().await;
        api.put(api.objects.make("other.org", DomainSpec::default())).await;
        for (name, role, domain) in [
            ("viewer", Role::Viewer, "example.com"),
            ("deployer", Role::Deployer, "example.com"),
            ("owner", Role::Owner, "example.com"),
            ("other viewer", Role::Viewer, "other.org"),
            ("other deployer", Role::Deployer, "other.org"),
            ("other owner", Role::Owner, "other.org"),
        ] {
            let body = json!({ "name": name.replace(' ', "-"), "role": role, "domain": domain });
            let made = api.post("/v1/tokens", body).await.expect(201);
            api.tokens.insert(name, made.body["secret"].as_str().unwrap().to_owned());
        }
        api
    }

    async fn put<S: tutti_model::resource::Object>(&self, object: Resource<S>) {
        self.objects.write().create(&object).commit().await.unwrap().expect("it was not there");
    }

    fn request(&self, who: &str, method: Method, path: &str, body: Option<Value>) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = self.tokens.get(who) {
            request = request.header("authorization", format!("Bearer {token}"));
        } else if !who.is_empty() {
            request = request.header("authorization", format!("Bearer {who}"));
        }
        request.body(body.map_or_else(Body::empty, |body| Body::from(body.to_string()))).unwrap()
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Got {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::String(text));
        Got { status: parts.status, headers: parts.headers, body }
    }

    /// An answer without its body.
    async fn head(&self, request: Request<Body>) -> Got {
        let (parts, _) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        Got { status: parts.status, headers: parts.headers, body: Value::Null }
    }

    async fn call(&self, who: &str, method: Method, path: &str, body: Option<Value>) -> Got {
        self.send(self.request(who, method, path, body)).await
    }

    pub(super) async fn get(&self, path: &str) -> Got {
        self.call("admin", Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Got {
        self.call("admin", Method::POST, path, Some(body)).await
    }

    async fn delete(&self, path: &str) -> Got {
        self.call("admin", Method::DELETE, path, None).await
    }

    pub(super) async fn push(&self, version: &str) -> Got {
        self.post("/v1/versions", pushing(version, PUSHED)).await
    }

    pub(super) async fn deploy(&self, version: &str, share: &str) -> Got {
        self.post("/v1/deployments", json!({ "version": version, "steps": [share] })).await
    }

    /// What the reconcilers would do: ends a service's deployment at its target.
    pub(super) async fn finish(&self, service: &str) {
        let mut service = self.objects.get::<ServiceSpec>(service).await.unwrap();
        let id = service.status.deployment.take().expect("a deployment runs");
        let mut deployment = self.objects.get::<DeploymentSpec>(id.as_str()).await.unwrap();
        let last = deployment.spec.target.steps() - 1;
        let split = deployment.spec.target.split(&deployment.status.from, last);
        service.status.previous = Some(std::mem::replace(&mut service.status.split, split));
        deployment.status.phase = tutti_model::deployment::Phase::Done;
        let write = self.objects.write().update(&service).update(&deployment);
        write.commit().await.unwrap().expect("nobody else writes");
    }

    /// `example.com:web` at 1.0, a running deployment of 2.0, an instance, a node and a route.
    pub(super) async fn populate(&self) -> (String, String) {
        self.push("example.com:web@1.0").await.expect(201);
        self.push("example.com:web@2.0").await.expect(201);
        self.push("example.com:web@3.0").await.expect(201);
        self.deploy("example.com:web@1.0", "100%").await.expect(201);
        self.finish("example.com:web").await;
        let body = json!({ "version": "example.com:web@2.0", "steps": ["10%", "100%"], "every": "30s" });
        let deployment = self.post("/v1/deployments", body).await.expect(201);
        let instance = self.instance("example.com:web@1.0", 1).await;
        self.put(self.objects.make("n1", NodeSpec::new("n1".parse().unwrap()))).await;
        let spec = MemberSpec {
            roles: [MachineRole::Agent].into(),
            key: PUSHED.parse().unwrap(),
            api: None,
            joined_by: None,
        };
        self.put(self.objects.make("n1", spec)).await;
        let body = json!({ "match": "shop.example.com", "service": "example.com:web" });
        self.post("/v1/routes", body).await.expect(201);
        (deployment.body["name"].as_str().unwrap().to_owned(), instance.to_string())
    }

    async fn instance(&self, version: &str, bits: u64) -> InstanceId {
        let id = InstanceId::from_bits(bits);
        let spec = InstanceSpec {
            instance: id.clone(),
            version: version.parse().unwrap(),
            artifact: PUSHED.parse().unwrap(),
            isolate: Isolate::Wasm,
            manifest: Manifest::default(),
            node: "n1".parse().unwrap(),
            goal: Goal::Serve,
            placed: String::new(),
        };
        self.put(self.objects.make(id.to_string(), spec)).await;
        id
    }
}

fn pushing(version: &str, artifact: &str) -> Value {
    json!({
        "version": version, "artifact": artifact, "size": 1000, "isolate": "wasm", "manifest": Manifest::default(),
    })
}
