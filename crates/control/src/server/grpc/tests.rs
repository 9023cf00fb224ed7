//! The gRPC services over a real store and HTTP/2, called with hand-made frames.

use super::{
    failure::{ErrorInfo, RpcStatus},
    proto::{
        AbortRequest, DeployRequest, Deployment, GetDeploymentRequest, Phase, PreloadRequest,
        PreloadResponse, Readiness, RollbackRequest, WatchDeploymentRequest,
    },
    *,
};
use crate::server::tests::Api;
use bytes::{Buf as _, BufMut as _, BytesMut};
use http_body_util::BodyExt as _;
use prost::Message;
use prost_types::FileDescriptorSet;
use std::collections::BTreeSet;
use tutti_api::operations::OPERATIONS;
use tutti_model::{deployment::DeploymentSpec, node::Fingerprint, version::Isolate};

/// An answer, read whole.
struct Said {
    status: Status,
    messages: Vec<Bytes>,
}

impl Said {
    #[track_caller]
    fn one<M: Message + Default>(&self) -> M {
        assert_eq!(self.status.code(), tonic::Code::Ok, "{}", self.status);
        assert_eq!(self.messages.len(), 1);
        M::decode(self.messages[0].clone()).unwrap()
    }

    fn info(&self) -> ErrorInfo {
        let whole = RpcStatus::decode(self.status.details()).unwrap();
        assert_eq!(whole.code, i32::from(self.status.code()));
        ErrorInfo::decode(whole.details[0].value.as_slice()).unwrap()
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

fn request(token: &str, method: &str, message: &[u8]) -> Request {
    let mut request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(method)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(Body::from(framed(message))).unwrap()
}

async fn send(api: &Api, request: Request) -> Said {
    let response = api.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let mut bytes = collected.to_bytes();
    let mut messages = Vec::new();
    while bytes.len() >= 5 {
        assert_eq!(bytes.get_u8(), 0, "nothing is compressed");
        let length = usize::try_from(bytes.get_u32()).unwrap();
        messages.push(bytes.split_to(length));
    }
    let status = Status::from_header_map(&trailers).or_else(|| Status::from_header_map(&parts.headers));
    Said { status: status.expect("a status"), messages }
}

async fn call(api: &Api, who: &str, method: &str, message: &impl Message) -> Said {
    let token = api.tokens.get(who).cloned().unwrap_or_else(|| who.to_owned());
    send(api, request(&token, method, &message.encode_to_vec())).await
}

fn deploying(version: &str, percent: f64) -> DeployRequest {
    DeployRequest {
        service: "example.com:web".into(),
        version: version.into(),
        percent,
        ..DeployRequest::default()
    }
}

const DEPLOY: &str = "/tutti.v1.Domains/Deploy";

/// Every method of the services that are served.
fn methods() -> BTreeSet<String> {
    let sets = [
        DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let files = sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).unwrap().file);
    let mut methods = BTreeSet::new();
    for file in files {
        for service in &file.service {
            for method in &service.method {
                methods.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    methods
}

#[test]
fn every_method_stands_in_the_table_and_the_table_has_no_other() {
    let table: BTreeSet<String> =
        OPERATIONS.iter().flat_map(|operation| operation.grpc).map(|method| (*method).to_owned()).collect();
    assert_eq!(table, methods());
    assert!(Services::new().reflection.is_some());
}

/// A message for a method about what [`Api::populate`] makes.
fn message(method: &str, deployment: &str) -> Vec<u8> {
    message_about(method, "example.com:web", deployment)
}

fn message_about(method: &str, service: &str, deployment: &str) -> Vec<u8> {
    let (service, deployment) = (service.to_owned(), deployment.to_owned());
    match method.rsplit('/').next().unwrap() {
        "Deploy" => DeployRequest { service, ..deploying("3.0", 10.0) }.encode_to_vec(),
        "GetDeployment" => GetDeploymentRequest { deployment }.encode_to_vec(),
        "WatchDeployment" => WatchDeploymentRequest { deployment }.encode_to_vec(),
        "Rollback" => RollbackRequest { service }.encode_to_vec(),
        "Abort" => AbortRequest { deployment }.encode_to_vec(),
        "Preload" => {
            let version = "3.0".into();
            PreloadRequest { service, version, nodes: vec!["n1".into()], wait: None }.encode_to_vec()
        }
        "ServerReflectionInfo" => {
            use tonic_reflection::pb::v1::{
                ServerReflectionRequest, server_reflection_request::MessageRequest::ListServices,
            };
            let message_request = Some(ListServices(String::new()));
            ServerReflectionRequest { host: String::new(), message_request }.encode_to_vec()
        }
        _ => Vec::new(),
    }
}

/// What a caller must get, or nothing if he is to be let through.
fn expected(right: Right, who: &str) -> Option<tonic::Code> {
    use tonic::Code::{NotFound, PermissionDenied, Unauthenticated};
    match (right, who) {
        (Right::Public, _) => None,
        (_, "" | "tutti_unknown") => Some(Unauthenticated),
        (_, "admin") => None,
        (Right::Admin, _) => Some(PermissionDenied),
        (Right::View | Right::Deploy, who) if who.starts_with("other") => Some(NotFound),
        (Right::View, _) | (Right::Deploy, "deployer" | "owner") => None,
        _ => Some(PermissionDenied),
    }
}

#[tokio::test]
async fn every_method_for_every_caller() {
    for operation in OPERATIONS {
        for method in operation.grpc {
            for who in
                ["", "tutti_unknown", "other viewer", "other owner", "viewer", "deployer", "owner", "admin"]
            {
                let api = Api::with_roles().await;
                let (deployment, _) = api.populate().await;
                let token = api.tokens.get(who).cloned().unwrap_or_else(|| who.to_owned());
                let mut request = request(&token, method, &message(method, &deployment));
                // A stream that was let in goes on until its deadline.
                request.headers_mut().insert("grpc-timeout", HeaderValue::from_static("300m"));
                let said = send(&api, request).await;
                let code = said.status.code();
                match expected(operation.right, who) {
                    Some(refused) => {
                        assert_eq!(code, refused, "{method} by \"{who}\": {}", said.status);
                        assert_eq!(said.info().domain, "tutti");
                        assert!(said.messages.is_empty());
                    }
                    None => assert!(
                        matches!(
                            code,
                            tonic::Code::Ok | tonic::Code::Aborted | tonic::Code::DeadlineExceeded
                        ),
                        "{method} by \"{who}\": {}",
                        said.status
                    ),
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_anothers_is_refused_like_what_is_not_there() {
    let api = Api::with_roles().await;
    let (deployment, _) = api.populate().await;
    let nobodys = tutti_model::DeploymentId::from_bits(99).to_string();
    let said = async |who: &str, method: &str, service: &str, deployment: &str| {
        let token = api.tokens.get(who).cloned().expect("a token");
        let said = send(&api, request(&token, method, &message_about(method, service, deployment))).await;
        let mut info = said.info();
        info.metadata.remove("request_id");
        let metadata: std::collections::BTreeMap<_, _> = info.metadata.into_iter().collect();
        let text = format!("{:?} {} {} {metadata:?}", said.status.code(), said.status.message(), info.reason);
        assert!(said.messages.is_empty() && !text.contains("did you mean"), "{method} by {who}: {text}");
        text.replace(service.trim_end_matches(":web"), "DOMAIN").replace(deployment, "DEPLOYMENT")
    };
    let mut tried = 0;
    for operation in OPERATIONS.iter().filter(|operation| operation.right != Right::Public) {
        for method in operation.grpc {
            for who in ["other viewer", "other owner"] {
                let theirs = said(who, method, "example.com:web", &deployment).await;
                let missing = said(who, method, "exampla.com:web", &nobodys).await;
                assert_eq!(theirs, missing, "{method} by {who}");
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 12, "six methods of two strangers");
}

#[tokio::test]
async fn a_deployment_is_what_rest_would_have_made() {
    let api = Api::start().await;
    api.push("example.com:web@1.0").await.expect(201);
    let made: Deployment = call(&api, "admin", DEPLOY, &deploying("1.0", 100.0)).await.one();
    assert_eq!((&*made.service, &*made.version), ("example.com:web", "1.0"));
    assert_eq!((made.phase(), made.ended, made.targets.len()), (Phase::Placing, false, 1));
    let rest = api.get(&format!("/v1/deployments/{}", made.deployment)).await.expect(200);
    assert_eq!(rest.body["spec"]["target"]["version"]["version"], "1.0");
    let got: Deployment = call(
        &api,
        "admin",
        "/tutti.v1.Domains/GetDeployment",
        &GetDeploymentRequest { deployment: made.deployment.clone() },
    )
    .await
    .one();
    assert_eq!(got, made);

    let refused = call(&api, "admin", DEPLOY, &deploying("1.0", 100.0)).await;
    assert_eq!(refused.status.code(), tonic::Code::Aborted);
    let info = refused.info();
    assert_eq!(info.reason, "CONFLICT");
    assert_eq!(info.metadata["object"], format!("deployment {}", made.deployment));
    assert!(info.metadata["hint"].contains("tutti explain"), "{info:?}");

    let back: Deployment =
        call(&api, "admin", "/tutti.v1.Domains/Abort", &AbortRequest { deployment: made.deployment.clone() })
            .await
            .one();
    assert_eq!(back.deployment, made.deployment);
    let rest = api.get(&format!("/v1/deployments/{}", made.deployment)).await.expect(200);
    assert_eq!(rest.body["spec"]["intent"], "abort");
}

#[tokio::test]
async fn a_request_that_names_itself_is_done_once() {
    let api = Api::start().await;
    api.push("example.com:web@1.0").await.expect(201);
    let message = deploying("1.0", 100.0).encode_to_vec();
    let again = || {
        let mut request = request(&api.tokens["admin"], DEPLOY, &message);
        request.headers_mut().insert("idempotency-key", HeaderValue::from_static("one"));
        send(&api, request)
    };
    let (first, second): (Deployment, Deployment) = (again().await.one(), again().await.one());
    assert_eq!(first, second);
}

#[tokio::test]
async fn what_is_wrong_in_a_request_is_said() {
    let api = Api::start().await;
    api.push("example.com:web@1.0").await.expect(201);
    let steps = DeployRequest { steps: vec![10.0, 100.0], ..deploying("1.0", 0.0) };
    for (wrong, code, says) in [
        (deploying("1.0", 101.0), "INVALID", "more than 100%"),
        (deploying("1.0", 0.0), "INVALID", "share of 0%"),
        (deploying("1.0", f64::NAN), "INVALID", "not a percentage"),
        (deploying("", 10.0), "INVALID", "version is empty"),
        (DeployRequest { service: String::new(), ..deploying("1.0", 10.0) }, "INVALID", "service is empty"),
        (DeployRequest { percent: 5.0, ..steps.clone() }, "INVALID", "both given"),
        (steps, "INVALID", "how long each is observed"),
        (deploying("9.9", 10.0), "NOT_FOUND", "version \"example.com:web@9.9\" not found"),
        (
            DeployRequest { service: "nowhere.org:web".into(), ..deploying("1.0", 10.0) },
            "NOT_FOUND",
            "nowhere.org",
        ),
    ] {
        let said = call(&api, "admin", DEPLOY, &wrong).await;
        assert!(said.status.message().contains(says), "{wrong:?}: {}", said.status);
        assert_eq!(said.info().reason, code, "{wrong:?}");
    }
    let garbage = send(&api, request(&api.tokens["admin"], DEPLOY, &[0xff; 20])).await;
    assert!(matches!(garbage.status.code(), tonic::Code::Internal | tonic::Code::InvalidArgument));
    let huge = DeployRequest { abort_if: vec!["x".repeat(MESSAGE_BYTES)], ..deploying("1.0", 1.0) };
    let huge = call(&api, "admin", DEPLOY, &huge).await;
    assert!(
        matches!(huge.status.code(), tonic::Code::OutOfRange | tonic::Code::ResourceExhausted),
        "{}",
        huge.status
    );
    let unknown = call(&api, "admin", "/tutti.v1.Domains/Destroy", &deploying("1.0", 1.0)).await;
    assert_eq!(unknown.status.code(), tonic::Code::Unimplemented);
}

#[tokio::test]
async fn what_is_not_grpc_is_told_so() {
    let api = Api::start().await;
    let got = api.post(DEPLOY, serde_json::json!({})).await.expect(400);
    assert!(got.detail().contains("HTTP/2") && got.hint().contains("openapi.json"), "{}", got.body);
    let mut wrong = request(&api.tokens["admin"], DEPLOY, &[]);
    wrong.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc-web"));
    let got = api.send(wrong).await.expect(400);
    assert!(got.detail().contains("content-type"), "{}", got.body);
}

#[tokio::test]
async fn a_watch_tells_every_state_until_the_end() {
    let api = Api::start().await;
    api.push("example.com:web@1.0").await.expect(201);
    let made: Deployment = call(&api, "admin", DEPLOY, &deploying("1.0", 100.0)).await.one();
    let watch = WatchDeploymentRequest { deployment: made.deployment.clone() };
    let watching = call(&api, "admin", "/tutti.v1.Domains/WatchDeployment", &watch);
    let ending = async {
        // Another deployment's changes are not told.
        api.push("example.com:api@1.0").await.expect(201);
        api.deploy("example.com:api@1.0", "100%").await.expect(201);
        api.finish("example.com:web").await;
    };
    let (said, ()) = tokio::join!(watching, ending);
    assert_eq!(said.status.code(), tonic::Code::Ok, "{}", said.status);
    let states: Vec<Deployment> =
        said.messages.iter().map(|message| Deployment::decode(message.clone()).unwrap()).collect();
    assert!(states.iter().all(|state| state.deployment == made.deployment));
    let last = states.last().unwrap();
    assert!(last.ended && last.phase() == Phase::Done, "{last:?}");
    assert!(states.windows(2).all(|pair| pair[0].revision < pair[1].revision));
}

#[tokio::test]
async fn streams_end_at_their_deadline_and_with_the_api_and_give_their_place_back() {
    let api = Api::start().await;
    api.push("example.com:web@1.0").await.expect(201);
    let made: Deployment = call(&api, "admin", DEPLOY, &deploying("1.0", 100.0)).await.one();
    let watch = WatchDeploymentRequest { deployment: made.deployment }.encode_to_vec();
    let open = || request(&api.tokens["admin"], "/tutti.v1.Domains/WatchDeployment", &watch);
    let mut brief = open();
    brief.headers_mut().insert("grpc-timeout", HeaderValue::from_static("50m"));
    let said = send(&api, brief).await;
    assert_eq!((said.status.code(), said.messages.len()), (tonic::Code::DeadlineExceeded, 1));
    let mut streams = Vec::new();
    for _ in 0..crate::server::streams::STREAMS_PER_TOKEN {
        let response = api.router.clone().oneshot(open()).await.unwrap();
        streams.push(response);
    }
    let full = send(&api, open()).await;
    assert_eq!(full.status.code(), tonic::Code::ResourceExhausted);
    streams.truncate(1);
    let last = streams.pop().unwrap();
    api.tasks.stop();
    let trailers = last.into_body().collect().await.unwrap().trailers().cloned().unwrap();
    assert_eq!(Status::from_header_map(&trailers).unwrap().code(), tonic::Code::Unavailable);
}

#[tokio::test]
async fn a_deadline_that_is_no_deadline_is_refused() {
    let api = Api::start().await;
    for wrong in ["", "5", "m", "123456789m", "-1m", "5x", "5 m"] {
        let mut request = request(&api.tokens["admin"], DEPLOY, &[]);
        request.headers_mut().insert("grpc-timeout", HeaderValue::from_str(wrong).unwrap());
        assert_eq!(send(&api, request).await.info().reason, "INVALID", "{wrong}");
    }
    let mut headers = HeaderMap::new();
    for (text, span) in [("1H", Some(3600)), ("2M", Some(120)), ("99999999H", None)] {
        headers.insert("grpc-timeout", HeaderValue::from_static(text));
        assert_eq!(deadline(&headers).unwrap(), span.map(Duration::from_secs), "{text}");
    }
}

#[tokio::test]
async fn health_needs_no_token() {
    use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
    let api = Api::start().await;
    for service in ["", "tutti.v1.Domains", "tutti.v1.Control"] {
        let asked = HealthCheckRequest { service: service.into() };
        let said: HealthCheckResponse = call(&api, "", "/grpc.health.v1.Health/Check", &asked).await.one();
        assert_eq!(said.status, 1, "{service}");
    }
    let asked = HealthCheckRequest { service: "other".into() };
    let said = call(&api, "", "/grpc.health.v1.Health/Check", &asked).await;
    assert_eq!(said.status.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn nodes_are_asked_to_hold_a_version_and_say_what_they_made_of_it() {
    use tutti_model::node::{Held, NodeSpec};
    const PRELOAD: &str = "/tutti.v1.Control/Preload";
    let api = Api::start().await;
    api.populate().await;
    let ask = |nodes: &[&str], wait| PreloadRequest {
        service: "example.com:web".into(),
        version: "3.0".into(),
        nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
        wait,
    };
    let none = call(&api, "admin", PRELOAD, &ask(&[], None)).await;
    assert_eq!(none.status.code(), tonic::Code::Unavailable);
    assert!(none.status.message().contains("node n1 is not ready"), "{}", none.status);
    let missing = call(&api, "admin", PRELOAD, &ask(&["n9"], None)).await;
    assert_eq!(missing.info().metadata["object"], "node n9");
    let mut node = api.objects.get::<NodeSpec>("n1").await.unwrap();
    node.status.ready = true;
    node.status.isolates = vec![Fingerprint { isolate: Isolate::Wasm, usable: true, notes: Vec::new() }];
    api.objects.write().update(&node).commit().await.unwrap().unwrap();
    let asked: PreloadResponse = call(&api, "admin", PRELOAD, &ask(&[], None)).await.one();
    assert_eq!((asked.ready, asked.nodes[0].readiness()), (false, Readiness::Asked));
    let mut node = api.objects.get::<NodeSpec>("n1").await.unwrap();
    assert_eq!(node.spec.asked.len(), 1);

    let waiting = ask(&["n1"], Some(prost_types::Duration { seconds: 20, nanos: 0 }));
    let waiting = call(&api, "admin", PRELOAD, &waiting);
    let artifact = node.spec.asked[0].artifact.clone();
    node.status.held = vec![Held {
        artifact,
        readiness: tutti_model::node::Readiness::Ready { took: tutti_model::Millis(7) },
    }];
    let holding =
        async { api.objects.write().update(&node).commit().await.unwrap().expect("nobody else writes") };
    let (said, _) = tokio::join!(waiting, holding);
    let said: PreloadResponse = said.one();
    assert_eq!((said.ready, said.nodes[0].readiness()), (true, Readiness::Ready));
    assert_eq!(said.nodes[0].took.unwrap().nanos, 7_000_000);

    let too_long = ask(&["n1"], Some(prost_types::Duration { seconds: 21, nanos: 0 }));
    assert_eq!(call(&api, "admin", PRELOAD, &too_long).await.info().reason, "INVALID");
    let done: Vec<_> = api.objects.list::<DeploymentSpec>("").await.unwrap().items;
    assert!(!done.is_empty(), "nothing of it touches deployments");
}
