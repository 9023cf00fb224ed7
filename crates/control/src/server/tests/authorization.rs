//! Who may do what: every operation, for every kind of caller.

use super::*;
use crate::server::dispatch::{HANDLERS, REGISTRY};
use crate::server::serve::OverSocket;
use std::collections::BTreeSet;
use tutti_api::operations::{OPERATIONS, Operation, Right, path};

#[test]
fn every_operation_has_one_handler_and_every_handler_an_operation() {
    let handled: Vec<&str> = HANDLERS.iter().map(|(id, _)| *id).collect();
    let unique: BTreeSet<&str> = handled.iter().copied().collect();
    assert_eq!(unique.len(), handled.len(), "a handler stands there twice");
    let wanted: BTreeSet<&str> =
        OPERATIONS.iter().map(|operation| operation.id).filter(|id| *id != REGISTRY).collect();
    assert_eq!(unique, wanted);
}

/// The caller who holds the control socket.
const MACHINE: &str = "machine";

/// A request for an operation on an object of `example.com`.
fn request(operation: &Operation, deployment: &str, instance: &str) -> (String, Option<Value>) {
    let name = match operation.path.split('/').nth(2).unwrap_or_default() {
        "domains" => "example.com",
        "services" => "example.com:web",
        "versions" => "example.com:web@3.0",
        "deployments" => deployment,
        "instances" => instance,
        "routes" => "shop.example.com",
        "nodes" => "n1",
        "tokens" => "viewer",
        _ => "",
    };
    let name = match operation.id {
        "report_ingress" | "leave_ingress" => "i1",
        "read_blob" => PUSHED,
        _ if operation.path.starts_with("/v1/zone/") => "n1",
        _ => name,
    };
    let names: &[&str] = if operation.id == "explain" { &["service", "example.com:web"] } else { &[name] };
    let mut path = path(operation.path, names);
    let body = match operation.id {
        "create_domain" => Some(json!({ "name": "new.org" })),
        "create_service" => Some(json!({ "service": "example.com:api" })),
        "scale_service" => Some(json!({ "workers": 2 })),
        "create_version" => Some(pushing("example.com:web@4.0", PUSHED)),
        "create_deployment" => Some(json!({ "version": "example.com:web@3.0", "steps": ["10%"] })),
        "preload_version" => Some(json!({ "nodes": ["n1"] })),
        "create_route" => Some(json!({ "match": "api.example.com", "service": "example.com:web" })),
        "create_token" => Some(json!({ "name": "new", "role": "admin" })),
        "register_node" | "heartbeat_node" => {
            Some(json!({ "used": tutti_model::node::Resources::default(), "running": [] }))
        }
        "report_instances" => Some(json!([])),
        "report_ingress" => {
            Some(json!({ "ingress": "i1", "spec": { "http": "" }, "reached": 0, "stats": [] }))
        }
        "cordon_node" => Some(json!({ "cordoned": true })),
        "logs" => {
            path.push_str("?service=example.com:web");
            None
        }
        "registry" => {
            path.push_str("example.com/web/blobs/uploads/");
            None
        }
        _ => None,
    };
    (path, body)
}

/// What a caller must get: refused so, or let through.
fn expected(right: Right, who: &str) -> Option<u16> {
    let other = who.starts_with("other");
    match (right, who) {
        (Right::Public, _) | (_, MACHINE) => None,
        (_, "" | "tutti_unknown") => Some(401),
        // No token acts for a node, not even an admin's.
        (Right::Node, _) => Some(403),
        (_, "admin") => None,
        (Right::Anyone, _) => None,
        (Right::Admin, _) => Some(403),
        (Right::View | Right::Deploy | Right::Own, _) if other => Some(404),
        (Right::View, _) | (Right::Deploy, "deployer" | "owner") | (Right::Own, "owner") => None,
        (Right::Deploy | Right::Own, _) => Some(403),
    }
}

#[tokio::test]
async fn the_whole_table_for_every_caller() {
    let callers = [
        "",
        "tutti_unknown",
        "other viewer",
        "other deployer",
        "other owner",
        "viewer",
        "deployer",
        "owner",
        "admin",
        MACHINE,
    ];
    for operation in OPERATIONS {
        for who in callers {
            let api = Api::with_roles().await;
            let (deployment, instance) = api.populate().await;
            let (path, body) = request(operation, &deployment, &instance);
            let mut request = api.request(who, operation.method.clone(), &path, body);
            if who == MACHINE {
                request.headers_mut().remove("authorization");
                request.extensions_mut().insert(OverSocket);
            }
            // A watch that was let in goes on: its head is enough.
            let got = match operation.id.starts_with("watch_") && who == MACHINE {
                true => api.head(request).await,
                false => api.send(request).await,
            };
            let status = got.status.as_u16();
            // The registry's own right is that of the repository: reading is viewing.
            let right = if operation.id == REGISTRY { Right::View } else { operation.right };
            match expected(right, who) {
                Some(refused) => assert_eq!(status, refused, "{} by \"{who}\": {}", operation.id, got.body),
                None => assert!(
                    got.status.is_success() || status == 409,
                    "{} by \"{who}\": {status} {}",
                    operation.id,
                    got.body
                ),
            }
            if status >= 400 {
                assert_eq!(got.headers["content-type"], "application/problem+json", "{}", operation.id);
                assert_eq!(got.body["request_id"], got.headers["x-request-id"].to_str().unwrap());
            }
        }
    }
}

#[tokio::test]
async fn the_registry_asks_for_more_to_push_than_to_pull() {
    let api = Api::with_roles().await;
    let uploads = "/v2/example.com/web/blobs/uploads/";
    for (who, get, post) in [
        ("viewer", 200, 403),
        ("deployer", 200, 200),
        ("other owner", 404, 404),
        ("admin", 200, 200),
        ("", 401, 401),
    ] {
        api.call(who, Method::GET, uploads, None).await.expect(get);
        api.call(who, Method::POST, uploads, None).await.expect(post);
    }
    let refused = api.call("", Method::GET, "/v2/", None).await.expect(401);
    assert_eq!(refused.headers["www-authenticate"], "Basic realm=\"tutti\"");
    assert_eq!(refused.body["errors"][0]["code"], "UNAUTHORIZED");
    api.call("other owner", Method::GET, "/v2/", None).await.expect(200);
    for path in ["/v2/example%2ecom/web/blobs/uploads/", "/v2/other.org/../example.com/web/blobs/x"] {
        let got = api.call("viewer", Method::GET, path, None).await;
        assert!(got.status.is_client_error(), "{path}: {}", got.body);
    }
}

/// What another tenant has is answered exactly as what is not there.
#[tokio::test]
async fn what_is_not_seen_is_not_there() {
    let api = Api::with_roles().await;
    let (deployment, instance) = api.populate().await;
    let absent = tutti_model::DeploymentId::from_bits(99).to_string();
    let absent_instance = InstanceId::from_bits(99).to_string();
    let pairs = [
        ("/v1/domains/example.com", "/v1/domains/exampla.com"),
        ("/v1/services/example.com:web", "/v1/services/exampla.com:web"),
        ("/v1/services/example.com:web", "/v1/services/exampla.com:web"),
        ("/v1/versions/example.com:web@1.0", "/v1/versions/exampla.com:web@1.0"),
        ("/v1/explain/service/example.com:web", "/v1/explain/service/exampla.com:web"),
        ("/v1/logs?service=example.com:web", "/v1/logs?service=exampla.com:web"),
        ("/v1/routes/shop.example.com", "/v1/routes/shop.exampla.com"),
        ("/v2/example.com/web/blobs/uploads/", "/v2/exampla.com/web/blobs/uploads/"),
    ];
    let deployments = (format!("/v1/deployments/{deployment}"), format!("/v1/deployments/{absent}"));
    let instances = (format!("/v1/instances/{instance}"), format!("/v1/instances/{absent_instance}"));
    let pairs = pairs.map(|(there, absent)| (there.to_owned(), absent.to_owned()));
    for (there, absent) in pairs.into_iter().chain([deployments, instances]) {
        let strip = |mut body: Value| {
            body.as_object_mut().unwrap().remove("request_id");
            body.to_string()
                .replace("exampla.com", "example.com")
                .replace("com.exampla", "com.example")
                .replace(&self::absent(&absent), &self::absent(&there))
        };
        let seen = api.call("other owner", Method::GET, &there, None).await.expect(404);
        let missing = api.call("other owner", Method::GET, &absent, None).await.expect(404);
        assert_eq!(strip(seen.body), strip(missing.body), "{there}");
    }
}

/// The last segment: the name.
fn absent(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn lists_and_status_show_only_what_is_seen() {
    let api = Api::with_roles().await;
    api.populate().await;
    for kind in ["services", "versions", "deployments", "instances", "routes"] {
        let all = api.get(&format!("/v1/{kind}")).await.expect(200);
        assert!(!all.body["items"].as_array().unwrap().is_empty(), "{kind}");
        let mine = api.call("viewer", Method::GET, &format!("/v1/{kind}"), None).await.expect(200);
        assert_eq!(mine.body["items"], all.body["items"], "{kind}");
        for query in ["", "?domain=example.com"] {
            let path = format!("/v1/{kind}{query}");
            let theirs = api.call("other owner", Method::GET, &path, None).await.expect(200);
            assert_eq!(theirs.body["items"], json!([]), "{path}");
        }
        let theirs =
            api.call("other owner", Method::GET, &format!("/v1/{kind}?service=example.com:web"), None).await;
        assert_eq!(theirs.expect(404).body["code"], "not_found");
    }
    let domains = api.call("other owner", Method::GET, "/v1/domains", None).await;
    assert_eq!(domains.body["items"].as_array().unwrap().len(), 1);
    let status = api.call("other owner", Method::GET, "/v1/status", None).await;
    assert_eq!((&status.body["services"], &status.body["zones"]), (&json!([]), &json!([])));
    let status = api.get("/v1/status").await;
    assert_eq!(status.body["services"][0]["state"], "deploying");
    assert_eq!(status.body["zones"][0]["nodes"], 1);
}

#[tokio::test]
async fn only_admins_lead_requests_to_plain_addresses() {
    let api = Api::with_roles().await;
    let body = json!({ "service": "example.com:inside", "upstreams": ["127.0.0.1:7070"] });
    let refused = api.call("owner", Method::POST, "/v1/services", Some(body.clone())).await.expect(403);
    assert!(refused.detail().contains("plain addresses needs an admin"), "{}", refused.body);
    api.get("/v1/services/example.com:inside").await.expect(404);
    api.post("/v1/services", body).await.expect(201);
}
