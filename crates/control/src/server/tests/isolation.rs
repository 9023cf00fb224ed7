//! What one domain's people learn of another's: over every operation, what another has is answered exactly like what
//! is not there.
//!
//! The table below has one entry for each operation; one that is added without an entry fails the test.

use super::*;
use tutti_api::operations::{OPERATIONS, Operation};
use tutti_model::DeploymentId;

/// What a stranger gets of an operation.
enum Case {
    /// The same for what is there and what is not: paths and bodies with `NAME` where the domain's stands.
    Alike(Vec<(String, Option<Value>)>),
    /// Nothing of the other's stands in the answer to these.
    Silent(Vec<&'static str>),
    /// It is not about anybody's objects.
    Nobodys,
}

/// Names of the other's objects, and of as many that are not there. They differ in letters that stand nowhere else.
struct Pair {
    domain: &'static str,
    deployment: String,
    instance: String,
}

fn case(operation: &Operation, of: &Pair) -> Case {
    let domain = of.domain;
    let named = |name: &str| vec![(fill(operation.path, name), None)];
    let with = |name: &str, body: Value| vec![(fill(operation.path, name), Some(body))];
    let service = format!("{domain}:web");
    let version = format!("{domain}:web@3.0");
    Case::Alike(match operation.id {
        "health" | "release" | "openapi" | "metrics" | "whoami" | "debug_reconcilers" | "debug_log" => {
            return Case::Nobodys;
        }
        // Nobody but admins, and nobody but nodes: `authorization` holds them to it, whatever the name.
        "list_pools" | "get_pool" | "set_pool" | "delete_pool" => return Case::Nobodys,
        "list_nodes" | "list_machines" | "get_machine" | "list_zones" | "list_tables" | "list_users" => {
            return Case::Nobodys;
        }
        "create_join_token" | "join" | "list_members" | "delete_member" | "watch_zone_members"
        | "renew_certificate" | "read_cluster_key" | "tell_figures" => return Case::Nobodys,
        "watch_zone_tables"
        | "watch_zone_nodes"
        | "watch_zone_hosts"
        | "watch_zone_ingresses"
        | "report_dns"
        | "watch_zone_node"
        | "watch_node_instances"
        | "register_node"
        | "heartbeat_node"
        | "report_instances"
        | "report_ingress"
        | "leave_ingress"
        | "read_instance_secrets"
        | "read_blob" => return Case::Nobodys,
        "create_user" => return Case::Nobodys,
        "get_user" | "delete_user" => {
            let name = if domain == "example.com" { "bob" } else { "bab" };
            named(name)
        }
        "get_node" => named("n1"),
        "change_node" => with("n1", json!({ "labels": { "rack": "r1" } })),
        "cordon_node" => with("n1", json!({ "cordoned": true })),

        "status" => return Case::Silent(vec!["/v1/status"]),
        "list_domains" => return Case::Silent(vec!["/v1/domains"]),
        "list_claims" => return Case::Silent(vec!["/v1/claims"]),
        "list_invitations" => return Case::Silent(vec!["/v1/invitations"]),
        "list_events" => ["", "?limit=1", &format!("?domain={domain}"), &format!("?service={service}")]
            .into_iter()
            .chain(["?node=n1", "?since=1"])
            .map(|query| (format!("/v1/events{query}"), None))
            .collect(),
        "list_audit" => return Case::Silent(vec!["/v1/audit"]),
        "list_tokens" => return Case::Silent(vec!["/v1/tokens"]),
        "list_services" => lists(domain, "services"),
        "list_versions" => lists(domain, "versions"),
        "list_deployments" => lists(domain, "deployments"),
        "list_instances" => lists(domain, "instances"),
        "list_routes" => lists(domain, "routes"),
        "list_secrets" => ["", "?limit=1", &format!("?domain={domain}")]
            .into_iter()
            .map(|query| (format!("/v1/secrets{query}"), None))
            .collect(),
        "get_secret" | "delete_secret" => named(&format!("{domain}:shop")),
        "set_secret" => with(&format!("{domain}:shop"), json!({ "value": "x" })),

        "create_domain" => with("", json!({ "name": domain })),
        "verify_domain" | "leave_domain" | "get_domain" | "delete_domain" => named(domain),
        "get_quota" => vec![(format!("/v1/domains/{domain}/quota"), None)],
        "change_quota" => with(domain, json!({ "versions": 9 })),
        "add_alias" => with(domain, json!({ "alias": "free.net" })),
        "remove_alias" => vec![(format!("/v1/domains/{domain}/aliases/example.net"), None)],
        "invite_member" => with(domain, json!({ "user": "eve", "role": "viewer" })),
        "set_member" => {
            vec![(format!("/v1/domains/{domain}/members/bob"), Some(json!({ "role": "viewer" })))]
        }
        "remove_member" => vec![(format!("/v1/domains/{domain}/members/bob"), None)],
        "delete_claim" | "accept_invitation" | "decline_invitation" => named(domain),

        "create_service" => {
            let package = domain.split('.').rev().collect::<Vec<_>>().join(".");
            let mut bodies = vec![service.clone(), format!("{domain}:new"), format!("{package}.Hello")];
            // Into one's own domain, under another's package.
            bodies.push(format!("ours.org:{package}.Hello"));
            bodies.into_iter().map(|name| (operation.path.into(), Some(json!({ "service": name })))).collect()
        }
        "get_service" | "delete_service" | "service_summary" | "rollback_service" => named(&service),
        "scale_service" => with(&service, json!({ "workers": 2 })),
        "create_version" => with("", pushing(&version, PUSHED)),
        "get_version" | "delete_version" | "preload_version" => named(&version),
        "create_deployment" => with("", json!({ "version": version, "steps": ["10%"] })),
        "get_deployment" | "pause_deployment" | "resume_deployment" | "promote_deployment"
        | "abort_deployment" => named(&of.deployment),
        "get_instance" => named(&of.instance),
        "create_route" => {
            let ours = |host: &str| json!({ "match": host, "service": "ours.org:web" });
            let theirs = json!({ "match": "a.ours.org", "service": service });
            let hosts = [
                format!("shop.{domain}"),
                format!("new.{domain}"),
                format!("web.{domain}.localhost"),
                domain.into(),
            ];
            let bodies = hosts.iter().map(|host| ours(host)).chain([theirs]);
            bodies.map(|body| (operation.path.into(), Some(body))).collect()
        }
        "get_route" | "delete_route" => named(&format!("shop.{domain}")),
        "create_token" => vec![
            (operation.path.into(), Some(json!({ "name": "t", "role": "viewer", "domain": domain }))),
            (operation.path.into(), Some(json!({ "name": "t", "user": "mine", "domain": domain }))),
        ],
        "delete_token" => named(&format!("{domain}/ci")),
        "explain" => [
            ("domain", domain),
            ("service", &service),
            ("version", &version),
            ("deployment", &of.deployment),
            ("instance", &of.instance),
            ("route", &format!("shop.{domain}")),
            ("secret", &format!("{domain}:shop")),
        ]
        .into_iter()
        .map(|(kind, name)| (format!("/v1/explain/{kind}/{name}"), None))
        .collect(),
        "logs" => vec![
            (format!("/v1/logs?service={service}"), None),
            (format!("/v1/logs?version={version}&follow"), None),
            (format!("/v1/logs?instance={}", of.instance), None),
        ],
        "registry" => ["tags/list", "manifests/1.0", "blobs/sha256:00", "blobs/uploads/"]
            .into_iter()
            .map(|rest| (format!("/v2/{domain}/web/{rest}"), None))
            .collect(),
        other => panic!("{other} has no entry: say what a stranger gets"),
    })
}

/// A path with this name in it.
fn fill(template: &str, name: &str) -> String {
    tutti_api::operations::path(template, &[name])
}

fn lists(domain: &str, kind: &str) -> Vec<(String, Option<Value>)> {
    ["", "?limit=1", &format!("?domain={domain}"), &format!("?service={domain}:web")]
        .into_iter()
        .map(|query| (format!("/v1/{kind}{query}"), None))
        .collect()
}

/// Another's domain with everything in it, and strangers: a user with a domain, one with none, and a token of a domain.
async fn two_tenants() -> (Api, Pair, Pair) {
    let mut api = Api::with_roles().await;
    let (deployment, instance) = api.populate().await;
    for user in ["bob", "mine", "mallory"] {
        api.user(user).await;
    }
    api.member("example.com", "bob", "owner").await;
    api.post("/v1/domains", json!({ "name": "ours.org" })).await.expect(201);
    api.member("ours.org", "mine", "owner").await;
    api.push("ours.org:web@1.0").await.expect(201);
    api.post("/v1/domains/example.com/aliases", json!({ "alias": "example.net" })).await.expect(201);
    api.call("admin", Method::PUT, "/v1/secrets/example.com:shop", Some(json!({ "value": "hunter2" })))
        .await
        .expect(201);
    let ci = json!({ "name": "ci", "role": "deployer", "domain": "example.com" });
    api.call("bob", Method::POST, "/v1/tokens", Some(ci)).await.expect(201);
    api.call("bob", Method::POST, "/v1/domains", Some(json!({ "name": "example.info" }))).await.expect(202);
    api.post("/v1/domains/example.com/members", json!({ "user": "ivy", "role": "viewer" })).await.expect(200);
    let failed = tutti_model::event::What::Failed;
    let event =
        tutti_model::event::EventSpec::new(Timestamp(2_000_000_000_000), failed, "instance i", "MARKER")
            .of(&"example.com:web".parse().unwrap())
            .on(&"n1".parse().unwrap());
    api.objects.write().tell(Some(event)).commit().await.unwrap().unwrap();
    api.lines.kept.lock().unwrap().push(Kept {
        instance: InstanceId::from_bits(77),
        version: "example.com:web@1.0".parse().unwrap(),
        started: Timestamp(1),
    });
    let there = Pair { domain: "example.com", deployment, instance };
    let absent = Pair {
        domain: "exampla.com",
        deployment: DeploymentId::from_bits(99).to_string(),
        instance: InstanceId::from_bits(99).to_string(),
    };
    (api, there, absent)
}

/// An answer without what differs from one request to the next, and with one pair's names for the other's.
fn plain(mut got: Got, of: &Pair, as_if: &Pair) -> String {
    if let Some(fields) = got.body.as_object_mut() {
        fields.remove("request_id");
        // Whose claim it is, at which moment.
        for key in ["uid", "revision"] {
            fields.remove(key);
        }
    }
    let headers: Vec<String> = got
        .headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "x-request-id"))
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    let reversed = |domain: &str| domain.split('.').rev().collect::<Vec<_>>().join(".");
    let text = format!("{} {headers:?} {}", got.status, got.body);
    without_proofs(&text)
        .replace(of.domain, as_if.domain)
        .replace(&reversed(of.domain), &reversed(as_if.domain))
        .replace(&of.deployment, &as_if.deployment)
        .replace(&of.instance, &as_if.instance)
        .replace("\"bab\"", "\"bob\"")
}

/// A text with the random part of each proof left out.
fn without_proofs(text: &str) -> String {
    let mut parts = text.split("tutti-verify=");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + "tutti-verify=" + part.trim_start_matches(|c: char| c.is_ascii_alphanumeric())
    })
}

/// Whatever tells of the other's domain.
const SECRETS: [&str; 6] = ["example.", "shop.", "bob", "ci", "ivy", "PUSHED"];

#[tokio::test]
async fn over_every_operation_what_is_anothers_is_as_if_it_were_not_there() {
    let (api, there, absent) = two_tenants().await;
    for operation in OPERATIONS {
        for who in ["mine", "mallory", "other owner"] {
            match (case(operation, &there), case(operation, &absent)) {
                (Case::Alike(theirs), Case::Alike(nobodys)) => {
                    for ((path, body), (absent_path, absent_body)) in theirs.into_iter().zip(nobodys) {
                        let method = || operation.method.clone();
                        let seen = api.call(who, method(), &path, body.clone()).await;
                        let missing = api.call(who, method(), &absent_path, absent_body).await;
                        let what = format!("{} {path} {body:?} by {who}", operation.id);
                        // A claim is the one thing that may be made, of anything; and lists answer with nothing.
                        let made = operation.id == "create_domain" || operation.id.starts_with("list_");
                        assert!(
                            made || seen.status.is_client_error(),
                            "{what}: {} {}",
                            seen.status,
                            seen.body
                        );
                        for got in [&seen, &missing] {
                            let text = got.body.to_string().replace(&path, "");
                            assert!(!text.contains("did you mean"), "{what}: {text}");
                            assert!(
                                !text.contains("shop.example.com") || what.contains("shop."),
                                "{what}: {text}"
                            );
                        }
                        assert_eq!(plain(seen, &there, &there), plain(missing, &absent, &there), "{what}");
                    }
                }
                (Case::Silent(paths), Case::Silent(_)) => {
                    for path in paths {
                        let got = api.call(who, operation.method.clone(), path, None).await.expect(200);
                        for secret in SECRETS {
                            assert!(!got.body.to_string().contains(secret), "{path} by {who}: {}", got.body);
                        }
                    }
                }
                (Case::Nobodys, Case::Nobodys) => {}
                _ => panic!("{} has two kinds of entries", operation.id),
            }
            // What was claimed by oneself is proved nowhere, and no other's.
            if operation.id == "verify_domain" {
                for domain in [there.domain, absent.domain] {
                    api.call(who, Method::DELETE, &format!("/v1/claims/{domain}"), None).await;
                }
            }
        }
    }
    // All that was tried changed nothing of the other's.
    let domain = api.get("/v1/domains/example.com").await.expect(200);
    assert_eq!(domain.body["spec"]["members"].as_array().unwrap().len(), 2, "{}", domain.body);
    assert_eq!(
        api.get("/v1/services/example.com:web").await.expect(200).body["spec"]["workers"],
        Value::Null
    );
    let status = api.get("/v1/status").await.expect(200);
    assert_eq!(status.body["services"].as_array().unwrap().len(), 2);
}

/// The registry's routes are one operation of the table, and of more methods than one.
#[tokio::test]
async fn every_method_of_the_registry_hides_what_is_anothers() {
    let (api, there, absent) = two_tenants().await;
    let blob = format!("blobs/{PUSHED}");
    let tries = [
        (Method::GET, "tags/list"),
        (Method::GET, "manifests/1.0"),
        (Method::HEAD, "manifests/1.0"),
        (Method::PUT, "manifests/1.0"),
        (Method::DELETE, "manifests/1.0"),
        (Method::GET, &blob),
        (Method::HEAD, &blob),
        (Method::DELETE, &blob),
        (Method::POST, "blobs/uploads/"),
        (Method::POST, "blobs/uploads/?mount=sha256:00&from=ours.org/web"),
        (Method::GET, "blobs/uploads/one"),
        (Method::PATCH, "blobs/uploads/one"),
        (Method::PUT, "blobs/uploads/one?digest=sha256:00"),
        (Method::DELETE, "blobs/uploads/one"),
    ];
    for who in ["mine", "mallory", "other owner"] {
        for (method, rest) in &tries {
            let ask = async |of: &Pair| {
                let path = format!("/v2/{}/web/{rest}", of.domain);
                api.call(who, method.clone(), &path, None).await
            };
            let (seen, missing) = (ask(&there).await, ask(&absent).await);
            let what = format!("{method} {rest} by {who}");
            assert!(seen.status.is_client_error(), "{what}: {} {}", seen.status, seen.body);
            assert_eq!(plain(seen, &there, &there), plain(missing, &absent, &there), "{what}");
        }
    }
}

#[tokio::test]
async fn remembered_answers_are_ones_own() {
    let (api, ..) = two_tenants().await;
    let send = async |who: &str, service: &str| {
        let body = json!({ "service": service });
        let mut request = api.request(who, Method::POST, "/v1/services", Some(body));
        request.headers_mut().insert("idempotency-key", "one".parse().unwrap());
        api.send(request).await
    };
    send("bob", "example.com:new").await.expect(201);
    send("mine", "ours.org:new").await.expect(201);
    let refused = send("mallory", "example.com:new").await.expect(404);
    assert!(refused.headers.get("idempotency-replayed").is_none());
    let again = send("bob", "example.com:new").await.expect(201);
    assert_eq!(again.headers["idempotency-replayed"], "true");
}
