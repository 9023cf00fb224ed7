//! Domains, services, versions, routes and nodes: made, changed, removed.

use super::*;

#[tokio::test]
async fn a_domain_goes_only_when_it_is_empty() {
    let api = Api::start().await;
    api.post("/v1/domains", json!({ "name": "shop.org" })).await.expect(201);
    assert_eq!(api.get("/v1/domains/shop.org").await.body["status"]["ownership"], "vouched");
    api.post("/v1/domains", json!({ "name": "shop.org" })).await.expect(409);
    api.post("/v1/services", json!({ "service": "shop.org:web" })).await.expect(201);
    let refused = api.delete("/v1/domains/shop.org").await.expect(409);
    assert!(refused.hint().contains("tutti service delete shop.org:web"));
    let service = api.objects.get::<ServiceSpec>("shop.org:web").await.unwrap();
    api.objects.write().delete(&service).commit().await.unwrap().unwrap();
    api.delete("/v1/domains/shop.org").await.expect(204);
    api.get("/v1/domains/shop.org").await.expect(404);
}

#[tokio::test]
async fn a_service_is_scaled_within_bounds_and_removed_in_order() {
    let api = Api::start().await;
    api.populate().await;
    let path = "/v1/services/example.com:web";
    let scale = async |workers: Value| {
        api.call("admin", Method::PUT, &format!("{path}/scale"), Some(json!({ "workers": workers }))).await
    };
    let scaled = scale(json!(3)).await.expect(200);
    assert_eq!((&scaled.body["spec"]["workers"], &scaled.body["generation"]), (&json!(3), &json!(2)));
    scale(json!(0)).await.expect(400);
    scale(json!(1001)).await.expect(400);
    scale(Value::Null).await.expect(200);
    assert!(api.delete(path).await.expect(409).hint().contains("tutti deployment abort"));
    api.finish("example.com:web").await;
    let going = api.delete(path).await.expect(202);
    assert_eq!(going.body["finalizers"], json!(["zones"]));
    api.delete(path).await.expect(202);
    for refused in [
        api.push("example.com:web@9.0").await,
        api.deploy("example.com:web@1.0", "100%").await,
        scale(json!(2)).await,
        api.post("/v1/routes", json!({ "match": "x.example.com", "service": "example.com:web" })).await,
    ] {
        assert!(refused.expect(409).detail().contains("is being deleted"));
    }
}

#[tokio::test]
async fn a_service_of_addresses_has_no_versions() {
    let api = Api::start().await;
    let body = json!({ "service": "example.com:db", "upstreams": ["10.0.0.7:5432"] });
    api.post("/v1/services", body.clone()).await.expect(201);
    api.post("/v1/services", body).await.expect(409);
    api.push("example.com:db@1.0").await.expect(409);
    let scaled =
        api.call("admin", Method::PUT, "/v1/services/example.com:db/scale", Some(json!({ "workers": 2 })));
    scaled.await.expect(400);
    let many: Vec<String> = (1..=65).map(|port| format!("10.0.0.7:{port}")).collect();
    api.post("/v1/services", json!({ "service": "example.com:many", "upstreams": many })).await.expect(429);
    api.get("/v1/services/example.com:many").await.expect(404);
}

#[tokio::test]
async fn a_version_in_use_stays() {
    let api = Api::start().await;
    let (id, _) = api.populate().await;
    assert!(
        api.delete("/v1/versions/example.com:web@1.0").await.expect(409).detail().contains("serves 100%")
    );
    assert!(api.delete("/v1/versions/example.com:web@2.0").await.expect(409).detail().contains(&id));
    api.delete("/v1/versions/example.com:web@3.0").await.expect(204);
    api.get("/v1/versions/example.com:web@3.0").await.expect(404);
}

#[tokio::test]
async fn hosts_belong_to_one_service_and_to_their_domain() {
    let api = Api::with_roles().await;
    api.push("example.com:web@1.0").await.expect(201);
    api.push("other.org:web@1.0").await.expect(201);
    let route = async |who: &str, host: &str, service: &str| {
        api.call(who, Method::POST, "/v1/routes", Some(json!({ "match": host, "service": service }))).await
    };
    route("owner", "shop.example.com/api", "example.com:web").await.expect(201);
    route("owner", "Shop.example.com/api/", "example.com:web").await.expect(200);
    let path = "/v1/routes/shop.example.com%2Fapi";
    api.get(path).await.expect(200);
    let taken = route("admin", "shop.example.com/api", "other.org:web").await.expect(409);
    assert_eq!(taken.detail(), "route \"shop.example.com/api\" already exists, to example.com:web");
    route("owner", "example.com", "example.com:web").await.expect(201);
    route("owner", "shop.example.com.localhost", "example.com:web").await.expect(201);
    for host in
        ["other.org", "shop.other.org", "notexample.com", "*", "shop.other.org.localhost", "localhost"]
    {
        assert_eq!(
            route("owner", host, "example.com:web").await.expect(403).body["code"],
            "forbidden",
            "{host}"
        );
    }
    let own = route("admin", "web.example.com.localhost", "other.org:web").await.expect(409);
    assert_eq!(own.detail(), "host \"web.example.com.localhost\" is example.com:web's own");
    // A registered subdomain is its own tenant's.
    api.post("/v1/domains", json!({ "name": "eu.example.com" })).await.expect(201);
    route("owner", "shop.eu.example.com", "example.com:web").await.expect(403);
    route("admin", "www.example.net", "example.com:web").await.expect(201);
    api.call("viewer", Method::DELETE, path, None).await.expect(403);
    api.call("owner", Method::DELETE, path, None).await.expect(204);
    api.get(path).await.expect(404);
}

#[tokio::test]
async fn a_node_is_cordoned() {
    let api = Api::start().await;
    api.populate().await;
    let cordon = api.call("admin", Method::PUT, "/v1/nodes/n1/cordon", Some(json!({ "cordoned": true })));
    assert_eq!(cordon.await.expect(200).body["generation"], 2);
    let missing = api.call("admin", Method::PUT, "/v1/nodes/n2/cordon", Some(json!({ "cordoned": true })));
    assert_eq!(missing.await.expect(404).detail(), "node \"n2\" not found");
}

#[tokio::test]
async fn pages_follow_one_another() {
    let api = Api::start().await;
    for minor in 0..5 {
        api.push(&format!("example.com:web@1.{minor}")).await.expect(201);
    }
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("/v1/versions?limit=2{cursor}")).await.expect(200);
        let items = page.body["items"].as_array().unwrap().clone();
        assert!(items.len() <= 2);
        names.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        match page.body["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, (0..5).map(|minor| format!("example.com:web@1.{minor}")).collect::<Vec<_>>());
    for limit in ["0", "501", "x"] {
        api.get(&format!("/v1/versions?limit={limit}")).await.expect(400);
    }
}
