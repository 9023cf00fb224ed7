//! Who may do what: every operation, for every kind of caller.

use super::*;
use crate::server::dispatch::{HANDLERS, REGISTRY};
use crate::server::serve::{OverSocket, Peer};
use std::collections::BTreeSet;
use tutti_api::operations::{OPERATIONS, Operation, Right, path};
use tutti_pki::PeerIdentity;

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

/// Callers who show a certificate and no token: members, the last of which was removed.
const MEMBERS: [&str; 6] = ["member n1", "member n2", "member n", "member ns", "member d1", "member gone"];

/// What a member's certificate must get: its own node's, ingress's and DNS server's operations, and nothing else.
fn expected_of_member(operation: &Operation, name: &str) -> Option<u16> {
    let lets = match operation.right {
        Right::Public => return None,
        _ if name == "gone" => return Some(401),
        Right::Node => match operation.path {
            "/v1/zone/tables" | "/v1/zone/nodes" => matches!(name, "n1" | "n"),
            "/v1/zone/hosts" | "/v1/zone/ingresses" => matches!(name, "ns" | "d1"),
            // The object is that of ns.
            "/v1/zone/dns/{name}" => name == "ns",
            "/v1/zone/blobs/{digest}" => matches!(name, "n1" | "n2"),
            "/v1/zone/members" => true,
            "/v1/zone/key" | "/v1/zone/figures" => name == "d1",
            // The object of each is n1's.
            _ => name == "n1",
        },
        _ => false,
    };
    (!lets).then_some(403)
}

/// A request for an operation on an object of `example.com`.
fn request(operation: &Operation, deployment: &str, instance: &str) -> (String, Option<Value>) {
    let name = match operation.path.split('/').nth(2).unwrap_or_default() {
        "domains" => "example.com",
        "services" => "example.com:web",
        "versions" => "example.com:web@3.0",
        "deployments" => deployment,
        "instances" => instance,
        "routes" => "shop.example.com",
        "secrets" => "example.com:key",
        "nodes" | "members" | "machines" => "n1",
        "pools" => "burst",
        "tokens" => "viewer",
        "users" => "ada",
        "claims" => "claimed.org",
        "invitations" => "example.com",
        _ => "",
    };
    let name = match operation.id {
        "report_ingress" | "leave_ingress" => "n1.i1",
        "report_dns" => "ns",
        "read_blob" => PUSHED,
        _ if operation.path.starts_with("/v1/zone/") => "n1",
        _ => name,
    };
    let names: &[&str] = match operation.id {
        "explain" => &["service", "example.com:web"],
        "remove_alias" => &[name, "example.net"],
        "read_instance_secrets" => &[name, instance],
        "set_member" | "remove_member" => &[name, "bob"],
        "verify_domain" => &["claimed.org"],
        _ => &[name],
    };
    let mut path = path(operation.path, names);
    let body = match operation.id {
        "create_domain" => Some(json!({ "name": "new.org" })),
        "add_alias" => Some(json!({ "alias": "example.net" })),
        "invite_member" => Some(json!({ "user": "eve", "role": "viewer" })),
        "set_member" => Some(json!({ "role": "deployer" })),
        "change_quota" => Some(json!({ "instances": 9 })),
        "create_user" => Some(json!({ "name": "eve" })),
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
        "tell_figures" => Some(json!({ "nodes": [], "ingresses": [] })),
        "report_ingress" => {
            Some(json!({ "ingress": "n1.i1", "spec": { "http": "" }, "reached": 0, "stats": [] }))
        }
        "report_dns" => Some(json!({ "server": "ns" })),
        "set_secret" => Some(json!({ "value": "hunter2" })),
        "create_join_token" => Some(json!({})),
        "join" => Some(json!({ "request": "", "member": "n1", "roles": ["agent"] })),
        "renew_certificate" => Some(json!({ "request": "" })),
        "set_pool" => Some(json!({ "max": 1, "cpu": "1", "memory": "1Gi" })),
        "change_node" => Some(json!({ "labels": { "rack": "r1" } })),
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

/// Users: with each role in `example.com`, invited there, owner of another domain, and in no domain.
const USERS: [&str; 6] = ["vic", "deb", "ada", "ivy", "oscar", "mallory"];

/// What a caller may in `example.com`.
fn role(who: &str) -> Option<Role> {
    match who {
        "viewer" | "vic" => Some(Role::Viewer),
        "deployer" | "deb" => Some(Role::Deployer),
        "owner" | "ada" => Some(Role::Owner),
        "admin" | MACHINE => Some(Role::Admin),
        _ => None,
    }
}

/// What a caller must get: refused so, or let through.
fn expected(operation: &Operation, who: &str) -> Option<u16> {
    let right = match operation.id {
        // The registry's own right is that of the repository: reading is viewing.
        REGISTRY => Right::View,
        _ => operation.right,
    };
    if let Some(name) = who.strip_prefix("member ") {
        return expected_of_member(operation, name);
    }
    let admin = role(who) == Some(Role::Admin);
    match right {
        Right::Public => None,
        // Only a machine with a join token, or who holds this one.
        Right::Join => (who != MACHINE).then_some(401),
        _ if matches!(who, "" | "tutti_unknown") => Some(401),
        // No token acts for a node, not even an admin's.
        Right::Node => (who != MACHINE).then_some(403),
        Right::Anyone => own_affair(operation.id, who),
        _ if admin && operation.id != "leave_domain" => None,
        Right::Admin => (!admin).then_some(403),
        _ if role(who).is_none() => Some(404),
        // Only users are members.
        Right::View if operation.id == "leave_domain" => (!USERS.contains(&who)).then_some(403),
        Right::View => None,
        Right::Deploy => (role(who) == Some(Role::Viewer)).then_some(403),
        Right::Own => (role(who) != Some(Role::Owner)).then_some(403),
    }
}

/// As [`expected`], for what everybody may with what is their own.
fn own_affair(operation: &str, who: &str) -> Option<u16> {
    let (user, admin) = (USERS.contains(&who), role(who) == Some(Role::Admin));
    let not_user = (!user).then_some(403);
    let missing = |there: bool| if there { None } else { Some(404) };
    match operation {
        "create_domain" => {
            if admin {
                None
            } else {
                not_user
            }
        }
        // Each has only what is claimed by oneself: here that is ada, who has set the record too.
        "verify_domain" | "delete_claim" if admin => Some(404),
        "verify_domain" | "delete_claim" => not_user.or(missing(who == "ada")),
        "accept_invitation" => not_user.or(missing(role(who).is_some() || who == "ivy")),
        "decline_invitation" => not_user.or(missing(who == "ivy")),
        "create_token" => (!admin).then_some(403),
        "delete_token" => missing(admin || role(who) == Some(Role::Owner)),
        _ => None,
    }
}

impl Api {
    /// As [`Api::populate`], with every kind of caller.
    async fn with_everybody() -> (Api, String, String) {
        let mut api = Api::with_roles().await;
        let (deployment, instance) = api.populate().await;
        for user in USERS.into_iter().chain(["bob"]) {
            api.user(user).await;
        }
        for (user, role) in [("ada", "owner"), ("deb", "deployer"), ("vic", "viewer"), ("bob", "viewer")] {
            api.member("example.com", user, role).await;
        }
        api.member("other.org", "oscar", "owner").await;
        let secret = Some(json!({ "value": "hunter2" }));
        api.call("admin", Method::PUT, "/v1/secrets/example.com:key", secret).await.expect(201);
        let invited = json!({ "user": "ivy", "role": "viewer" });
        api.post("/v1/domains/example.com/members", invited).await.expect(200);
        api.post("/v1/domains/example.com/aliases", json!({ "alias": "example.net" })).await.expect(201);
        let claim =
            api.call("ada", Method::POST, "/v1/domains", Some(json!({ "name": "claimed.org" }))).await;
        let pool = json!({ "max": 1, "cpu": "1", "memory": "1Gi" });
        api.call("admin", Method::PUT, "/v1/pools/burst", Some(pool)).await.expect(201);
        api.record(&claim.expect(202).body);
        (api, deployment, instance)
    }
}

#[tokio::test]
async fn the_whole_table_for_every_caller() {
    let tokens =
        ["", "tutti_unknown", "other viewer", "other deployer", "other owner", "viewer", "deployer", "owner"];
    let callers: Vec<&str> =
        tokens.into_iter().chain(USERS).chain(["admin", MACHINE]).chain(MEMBERS).collect();
    for operation in OPERATIONS {
        // What refuses changes nothing, so that one cloud does for all who are refused.
        let (refusing, deployment, instance) = Api::with_everybody().await;
        for who in &callers {
            let wanted = expected(operation, who);
            let fresh = match wanted {
                Some(_) => None,
                None => Some(Api::with_everybody().await),
            };
            let (api, deployment, instance) = match &fresh {
                Some((api, deployment, instance)) => (api, deployment, instance),
                None => (&refusing, &deployment, &instance),
            };
            let (path, body) = request(operation, deployment, instance);
            let mut request = api.request(who, operation.method.clone(), &path, body);
            if *who == MACHINE {
                request.headers_mut().remove("authorization");
                request.extensions_mut().insert(OverSocket);
            }
            if let Some(name) = who.strip_prefix("member ") {
                request.headers_mut().remove("authorization");
                request.extensions_mut().insert(Peer(PeerIdentity { key: key_of(name), named: None }));
            }
            // A watch that was let in goes on: its head is enough.
            let got = match operation.id.starts_with("watch_") && wanted.is_none() {
                true => api.head(request).await,
                false => api.send(request).await,
            };
            let status = got.status.as_u16();
            match wanted {
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
async fn a_member_acts_for_its_own_ingresses_and_a_token_beside_the_certificate_counts_alone() {
    let api = Api::with_roles().await;
    let by = |name: &str, path: &str, token: bool| {
        let mut request = api.request("admin", Method::DELETE, path, None);
        if !token {
            request.headers_mut().remove("authorization");
        }
        request.extensions_mut().insert(Peer(PeerIdentity { key: key_of(name), named: None }));
        request
    };
    for (name, ingress, status) in [
        ("n1", "n1", 204),
        ("n1", "n1.b", 204),
        ("n", "n", 204),
        ("n", "n1", 403),
        ("n", "n1.b", 403),
        ("n1", "n", 403),
        ("n1", "n1-b", 403),
        ("n1", "xn1", 403),
        ("n2", "n2", 403),
    ] {
        let got = api.send(by(name, &format!("/v1/zone/ingresses/{ingress}"), false)).await;
        assert_eq!(got.status.as_u16(), status, "{name} {ingress}: {}", got.body);
    }
    let got = api.send(by("n1", "/v1/zone/ingresses/n1", true)).await.expect(403);
    assert!(got.detail().contains("no token may"), "{}", got.body);
    let got = api.send(by("gone", "/v1/zone/ingresses/gone", false)).await.expect(401);
    assert!(got.hint().contains("tutti join"), "{}", got.body);
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
