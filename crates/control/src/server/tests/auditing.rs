//! Records of changes: who, what, before and after, and never what is secret.

use super::*;
use crate::server::serve::PeerAddress;
use tutti_model::audit::AuditSpec;

async fn records(api: &Api) -> Vec<AuditSpec> {
    let listed = api.objects.list::<AuditSpec>("").await.unwrap();
    listed.items.into_iter().map(|record| record.spec).collect()
}

async fn seen_by(api: &Api, who: &str, query: &str) -> Vec<String> {
    let got = api.call(who, Method::GET, &format!("/v1/audit{query}"), None).await.expect(200);
    let items = got.body["items"].as_array().unwrap();
    items.iter().map(|item| item["spec"]["operation"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_change_has_its_record_in_the_same_transaction() {
    let api = Api::with_roles().await;
    api.push("example.com:web@1.0").await.expect(201);
    api.clock.advance(tutti_model::Millis(1));
    let mut request = api.request(
        "deployer",
        Method::PUT,
        "/v1/services/example.com:web/scale",
        Some(json!({ "workers": 7 })),
    );
    request.extensions_mut().insert(PeerAddress("192.0.2.7".parse().unwrap()));
    let got = api.send(request).await.expect(200);
    let newest = api.objects.page::<AuditSpec>("", None, Some(1)).await.unwrap().items.remove(0);
    let spec = &newest.spec;
    assert_eq!((spec.who.as_str(), spec.operation.as_str()), ("deployer", "scale_service"));
    assert_eq!(spec.from.as_deref(), Some("192.0.2.7"));
    assert_eq!(spec.object, "service example.com:web");
    assert_eq!(spec.request, got.headers["x-request-id"].to_str().unwrap());
    assert_eq!(newest.revision, got.body["revision"].as_u64().unwrap());
    let change = &spec.changes[0];
    assert_eq!(change.before.as_ref().unwrap()["workers"], Value::Null);
    assert_eq!(change.after.as_ref().unwrap()["workers"], 7);
}

#[tokio::test]
async fn what_is_refused_or_read_or_said_by_a_machine_leaves_no_record() {
    let api = Api::with_roles().await;
    let before = records(&api).await.len();
    api.call("viewer", Method::PUT, "/v1/services/example.com:web/scale", Some(json!({ "workers": 7 })))
        .await;
    api.get("/v1/services").await.expect(200);
    api.post("/v1/domains", json!({ "name": "not a name" })).await.expect(400);
    assert_eq!(records(&api).await.len(), before);
}

#[tokio::test]
async fn no_record_shows_a_secret() {
    let mut api = Api::with_roles().await;
    let set = json!({ "value": "MARKER-value" });
    api.call("owner", Method::PUT, "/v1/secrets/example.com:key", Some(set)).await.expect(201);
    let mut version = pushing("example.com:web@1.0", PUSHED);
    version["manifest"]["env"] = json!({ "PASSWORD": "MARKER-env" });
    api.post("/v1/versions", version).await.expect(201);
    let made = api.post("/v1/tokens", json!({ "name": "ci", "role": "admin" })).await.expect(201);
    let secret = made.body["secret"].as_str().unwrap().to_owned();
    let stored = api.objects.get::<TokenSpec>("ci").await.unwrap();
    api.tokens.insert("ci", secret.clone());
    let set = api.objects.get::<tutti_model::secret::SecretSpec>("example.com:key").await.unwrap();
    let sealed = set.spec.sealed;
    assert!(!sealed.is_empty() && !stored.spec.hash.is_empty());
    api.delete("/v1/tokens/ci").await.expect(204);
    let records = records(&api).await;
    let done: Vec<&str> = records.iter().map(|record| record.operation.as_str()).collect();
    for operation in ["set_secret", "create_version", "create_token", "delete_token"] {
        assert!(done.contains(&operation), "{operation}: {done:?}");
    }
    let text = serde_json::to_string(&records).unwrap();
    for marker in ["MARKER", secret.as_str(), stored.spec.hash.as_str(), sealed.as_str()] {
        assert!(!text.contains(marker), "{marker}: {text}");
    }
}

#[tokio::test]
async fn an_owner_sees_their_domains_changes_in_pages_and_others_none() {
    let api = Api::with_roles().await;
    for workers in 1..=3 {
        api.clock.advance(tutti_model::Millis(1));
        let path = "/v1/services/example.com:web/scale";
        if workers == 1 {
            api.push("example.com:web@1.0").await.expect(201);
            api.clock.advance(tutti_model::Millis(1));
        }
        api.call("deployer", Method::PUT, path, Some(json!({ "workers": workers }))).await.expect(200);
    }
    api.clock.advance(tutti_model::Millis(1));
    api.post("/v1/domains", json!({ "name": "elsewhere.org" })).await.expect(201);
    assert_eq!(seen_by(&api, "admin", "?limit=2").await, ["create_domain", "scale_service"]);
    assert_eq!(seen_by(&api, "owner", "?limit=2").await, ["scale_service", "scale_service"]);
    for nobody in ["viewer", "deployer"] {
        assert!(seen_by(&api, nobody, "").await.is_empty(), "{nobody}");
    }
    assert_eq!(seen_by(&api, "admin", "?who=deployer").await.len(), 3);
    assert_eq!(seen_by(&api, "admin", "?object=domain/elsewhere.org").await, ["create_domain"]);
    let since = api.objects.clock().now().0;
    assert_eq!(seen_by(&api, "admin", &format!("?since={since}")).await, ["create_domain"]);

    let first = api.call("owner", Method::GET, "/v1/audit?limit=2", None).await.expect(200);
    let cursor = first.body["cursor"].as_str().unwrap();
    assert_eq!(seen_by(&api, "owner", &format!("?limit=1&cursor={cursor}")).await, ["scale_service"]);
    api.get("/v1/audit?limit=501").await.expect(400);
}
