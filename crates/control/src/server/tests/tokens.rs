//! Tokens from their making to their end.

use super::*;
use tutti_model::Millis;

#[tokio::test]
async fn the_first_token_is_given_once() {
    let api = Api::start().await;
    assert_eq!(ensure_admin_token(&api.objects).await.unwrap(), None);
    let stored = api.objects.get::<TokenSpec>("admin").await.unwrap();
    assert!(!serde_json::to_string(&stored).unwrap().contains(api.tokens["admin"].as_str()));
    assert_eq!(stored.spec.hash.len(), 64);
}

#[tokio::test]
async fn a_token_works_at_once_and_no_longer_than_it_should() {
    let mut api = Api::start().await;
    let body = json!({ "name": "ci", "role": "deployer", "domain": "example.com", "expires_in": "1h" });
    let made = api.post("/v1/tokens", body.clone()).await.expect(201);
    api.post("/v1/tokens", body).await.expect(409);
    api.tokens.insert("ci", made.body["secret"].as_str().unwrap().to_owned());
    let who = api.call("ci", Method::GET, "/v1/whoami", None).await.expect(200);
    assert_eq!(who.body, json!({ "token": "ci", "role": "deployer", "domain": "example.com" }));
    let listed = api.get("/v1/tokens").await.expect(200);
    assert!(!listed.body.to_string().contains("hash"), "{}", listed.body);
    api.clock.advance(Millis::seconds(3600));
    let late = api.call("ci", Method::GET, "/v1/whoami", None).await.expect(401);
    assert_eq!(late.detail(), "token \"ci\" has expired");
}

#[tokio::test]
async fn a_revoked_token_is_unknown_to_the_next_request() {
    let api = Api::with_roles().await;
    api.call("owner", Method::GET, "/v1/whoami", None).await.expect(200);
    api.delete("/v1/tokens/owner").await.expect(204);
    let got = api.call("owner", Method::GET, "/v1/whoami", None).await.expect(401);
    assert_eq!(got.headers["www-authenticate"], "Bearer");
    api.delete("/v1/tokens/owner").await.expect(404);
    assert!(api.delete("/v1/tokens/admin").await.expect(409).detail().contains("the one you use"));
}

#[tokio::test]
async fn a_token_that_makes_no_sense_is_refused() {
    let api = Api::start().await;
    for body in [
        json!({ "name": "ci", "role": "deployer" }),
        json!({ "name": "ci", "role": "admin", "domain": "example.com" }),
        json!({ "name": "CI", "role": "admin" }),
        json!({ "name": "", "role": "admin" }),
        json!({ "name": "ci", "role": "root" }),
    ] {
        api.post("/v1/tokens", body.clone()).await.expect(400);
    }
    api.post("/v1/tokens", json!({ "name": "ci", "role": "owner", "domain": "exampel.com" }))
        .await
        .expect(404);
    assert_eq!(api.get("/v1/tokens").await.body["items"].as_array().unwrap().len(), 1);
}
