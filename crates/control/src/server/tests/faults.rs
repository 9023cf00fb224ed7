//! What is wrong is said in one line, and changes nothing.

use super::*;

#[tokio::test]
async fn unknown_paths_and_methods_say_what_there_is() {
    let api = Api::start().await;
    let got = api.get("/v1/servcies").await.expect(404);
    assert_eq!(got.hint(), "did you mean \"/v1/services\"?");
    assert_eq!(
        api.get("/v1/service/example.com:web").await.hint(),
        "did you mean \"/v1/services/example.com:web\"?"
    );
    assert!(api.get("/v9").await.expect(404).hint().contains("openapi.json"));
    let got = api.call("admin", Method::PATCH, "/v1/services/example.com:web", None).await.expect(405);
    assert_eq!(got.headers["allow"], "GET, DELETE");
    assert_eq!(got.headers["content-type"], "application/problem+json");
    api.call("admin", Method::HEAD, "/v1/status", None).await.expect(200);
    let got = api.get("/v1/services?domian=x").await.expect(400);
    assert_eq!(got.hint(), "did you mean \"domain\"?");
    let got = api.get("/v1/services/%ff").await.expect(400);
    assert!(got.detail().contains("percent-encoding"), "{}", got.body);
    let got = api.get("/v1/explain/servise/example.com:web").await.expect(400);
    assert_eq!(got.hint(), "did you mean \"service\"?");
}

#[tokio::test]
async fn a_body_has_a_bound() {
    let api = Api::start().await;
    let large = json!({ "name": "x".repeat(tutti_model::limits::API_BODY_BYTES) });
    let got = api.post("/v1/domains", large).await.expect(429);
    assert_eq!(got.body["code"], "quota_exceeded");
    // Without a length said before, it is found while reading.
    let chunks =
        stream::repeat_with(|| Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b' '; 64 * 1024]))).take(64);
    let mut request = api.request("admin", Method::POST, "/v1/domains", None);
    *request.body_mut() = Body::from_stream(chunks);
    assert_eq!(api.send(request).await.expect(429).body["code"], "quota_exceeded");
}

#[tokio::test]
async fn a_create_that_is_sent_again_gets_its_answer_again() {
    let api = Api::with_roles().await;
    api.push("example.com:web@1.0").await.expect(201);
    let send = async |who: &str, key: &str, share: &str| {
        let body = json!({ "version": "example.com:web@1.0", "steps": [share] });
        let mut request = api.request(who, Method::POST, "/v1/deployments", Some(body));
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        api.send(request).await
    };
    let first = send("admin", "k1", "100%").await.expect(201);
    let again = send("admin", "k1", "100%").await.expect(201);
    assert_eq!(first.body, again.body);
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert!(send("admin", "k1", "50%").await.expect(409).detail().contains("another request"));
    assert!(
        send("deployer", "k1", "100%").await.expect(409).detail().contains("running deployment"),
        "not theirs"
    );
    send("viewer", "k1", "100%").await.expect(403);
    send("admin", "", "100%").await.expect(400);
    // A new token's secret is not kept to be shown again.
    let body = json!({ "name": "ci", "role": "admin" });
    for status in [201, 409] {
        let mut request = api.request("admin", Method::POST, "/v1/tokens", Some(body.clone()));
        request.headers_mut().insert("idempotency-key", "k2".parse().unwrap());
        api.send(request).await.expect(status);
    }
}

#[tokio::test]
async fn what_the_api_says_of_itself() {
    let api = Api::start().await;
    assert_eq!(api.call("", Method::GET, "/healthz", None).await.expect(200).body, "ok\n");
    assert_eq!(api.call("", Method::GET, "/v1/release", None).await.body["release"], "0.0.0");
    assert_eq!(api.call("", Method::GET, "/v1/openapi.json", None).await.body["openapi"], "3.1.0");
    assert!(api.get("/metrics").await.expect(200).body.as_str().unwrap().contains("tutti_up"));
    assert_eq!(api.get("/v1/whoami").await.body, json!({ "token": "admin", "role": "admin" }));
}

/// A fault in a handler costs its own request, and nobody else's.
#[tokio::test]
async fn a_panic_is_one_internal_error() {
    let api = Api::start().await;
    let panics = Arc::new(|| panic!("on purpose"));
    let router =
        router(ServerOptions { metrics: panics, ..options(&api.objects, api.lines.clone(), &api.tasks) });
    let request = api.request("admin", Method::GET, "/metrics", None);
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    api.get("/v1/whoami").await.expect(200);
    assert!(!api.tasks.stopping().is_cancelled());
}
