//! Secrets: what is told of them, and what is refused.

use super::*;
use tutti_model::secret::SecretSpec;

const KEY: &str = "/v1/secrets/example.com:key";

impl Api {
    async fn set(&self, path: &str, value: &str) -> Got {
        self.call("admin", Method::PUT, path, Some(json!({ "value": value }))).await
    }

    async fn push_with_secret(&self, version: &str) -> Got {
        let mut body = pushing(version, PUSHED);
        body["manifest"]["secrets"] = json!({ "API_KEY": "key" });
        self.post("/v1/versions", body).await
    }
}

#[tokio::test]
async fn a_value_is_set_and_never_shown() {
    let mut api = Api::with_roles().await;
    api.user("deb").await;
    api.member("example.com", "deb", "deployer").await;
    let made = api.set(KEY, "hunter2").await.expect(201);
    let changed = api.call("deb", Method::PUT, KEY, Some(json!({ "value": "swordfish" }))).await.expect(200);
    assert_eq!(changed.body["generation"], 2);
    assert_eq!(changed.body["status"]["changed_by"], "user deb");
    assert_eq!(made.body["uid"], changed.body["uid"]);
    for got in [
        made,
        changed,
        api.get(KEY).await.expect(200),
        api.call("viewer", Method::GET, "/v1/secrets", None).await.expect(200),
        api.get("/v1/secrets?domain=example.com").await.expect(200),
    ] {
        let text = got.body.to_string();
        assert!(text.contains("example.com:key"), "{text}");
        assert!(
            ["hunter2", "swordfish", "sealed", "tutti1"].iter().all(|word| !text.contains(word)),
            "{text}"
        );
    }
    let stored = api.objects.store().get("global/secrets/example.com:key").await.unwrap().unwrap();
    let stored = String::from_utf8_lossy(&stored.value).into_owned();
    assert!(stored.contains("tutti1.") && !stored.contains("swordfish"), "{stored}");
    api.delete(KEY).await.expect(204);
    api.get(KEY).await.expect(404);
}

#[tokio::test]
async fn a_body_that_is_wrong_is_not_repeated() {
    let api = Api::start().await;
    for body in
        [json!("hunter2"), json!({ "hunter2": 1 }), json!({ "value": ["hunter2"] }), json!({}), json!(null)]
    {
        let refused = api.call("admin", Method::PUT, KEY, Some(body)).await.expect(400);
        assert!(!refused.body.to_string().contains("hunter2"), "{}", refused.body);
    }
    let most = tutti_model::limits::SECRET_VALUE_BYTES;
    api.set(KEY, "a\0hunter2").await.expect(400);
    let long = api.set(KEY, &"x".repeat(most + 1)).await;
    assert!(long.detail().contains("65537 bytes, more than 65536"), "{}", long.body);
    api.get(KEY).await.expect(404);
    api.set(KEY, &"x".repeat(most)).await.expect(201);
    let name = api.set("/v1/secrets/example.com:HUNTER2", "x").await.expect(400);
    assert!(!name.detail().contains("HUNTER2"), "{}", name.body);
}

#[tokio::test]
async fn a_version_is_deployed_only_with_its_secrets_and_they_stay() {
    let api = Api::start().await;
    api.push_with_secret("example.com:web@1.0").await.expect(201);
    api.push("example.com:web@2.0").await.expect(201);
    let refused = api.deploy("example.com:web@1.0", "100%").await.expect(409);
    assert!(
        refused.detail().contains("names a secret that does not exist: example.com:key"),
        "{}",
        refused.body
    );
    assert!(refused.hint().contains("tutti secret set example.com:key"), "{}", refused.body);
    api.set(KEY, "hunter2").await.expect(201);
    api.deploy("example.com:web@1.0", "100%").await.expect(201);
    let kept = api.delete(KEY).await.expect(409);
    assert!(kept.detail().contains("example.com:web@1.0"), "{}", kept.body);
    api.finish("example.com:web").await;
    api.delete(KEY).await.expect(409);
    // What a rollback returns to needs it still.
    api.deploy("example.com:web@2.0", "100%").await.expect(201);
    api.finish("example.com:web").await;
    api.delete(KEY).await.expect(409);
    api.push("example.com:web@3.0").await.expect(201);
    api.deploy("example.com:web@3.0", "100%").await.expect(201);
    api.finish("example.com:web").await;
    api.delete(KEY).await.expect(204);
}

#[tokio::test]
async fn a_domain_with_secrets_stays() {
    let api = Api::start().await;
    api.post("/v1/domains", json!({ "name": "new.org" })).await.expect(201);
    api.set("/v1/secrets/new.org:key", "hunter2").await.expect(201);
    let kept = api.delete("/v1/domains/new.org").await.expect(409);
    assert!(kept.hint().contains("tutti secret delete new.org:key"), "{}", kept.body);
    api.delete("/v1/secrets/new.org:key").await.expect(204);
    api.delete("/v1/domains/new.org").await.expect(204);
}

#[tokio::test]
async fn a_secret_moved_to_another_name_does_not_open() {
    let api = Api::start().await;
    api.set(KEY, "hunter2").await.expect(201);
    api.set("/v1/secrets/example.com:other", "swordfish").await.expect(201);
    let one = api.objects.get::<SecretSpec>("example.com:key").await.unwrap();
    let mut other = api.objects.get::<SecretSpec>("example.com:other").await.unwrap();
    other.spec.sealed = one.spec.sealed;
    api.objects.write().update(&other).commit().await.unwrap().unwrap();
    let mut body = pushing("example.com:web@1.0", PUSHED);
    body["manifest"]["secrets"] = json!({ "API_KEY": "other" });
    api.post("/v1/versions", body).await.expect(201);
    let refused = api.deploy("example.com:web@1.0", "100%").await.expect(500);
    assert!(refused.detail().contains("belongs to another object"), "{}", refused.body);
}

#[tokio::test]
async fn there_are_only_so_many_in_a_domain() {
    let api = Api::start().await;
    for number in 0..tutti_model::limits::SECRETS_PER_DOMAIN {
        api.set(&format!("/v1/secrets/example.com:key-{number}"), "x").await.expect(201);
    }
    let full = api.set(KEY, "x").await;
    assert_eq!(full.body["code"], "quota_exceeded", "{}", full.body);
    api.set("/v1/secrets/example.com:key-0", "y").await.expect(200);
}
