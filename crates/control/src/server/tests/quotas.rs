//! Quotas of domains: who sets them, and what they refuse.

use super::*;
use tutti_model::quota::QuotaSpec;

impl Api {
    async fn quota(&self, change: Value) -> Got {
        self.call("admin", Method::PATCH, "/v1/domains/example.com/quota", Some(change)).await
    }

    async fn scale(&self, workers: u32) -> Got {
        let body = Some(json!({ "workers": workers }));
        self.call("admin", Method::PUT, "/v1/services/example.com:web/scale", body).await
    }
}

#[tokio::test]
async fn an_owner_reads_it_and_only_an_admin_changes_it() {
    let api = Api::with_roles().await;
    api.quota(json!({ "versions": 3, "cpu": "500m" })).await.expect(200);
    let set = api.quota(json!({ "memory": "1Gi", "cpu": null })).await.expect(200);
    assert_eq!(set.body["limits"], json!({ "memory": "1Gi", "versions": 3 }), "what is not named stays");
    api.push("example.com:web@1.0").await.expect(201);
    for who in ["viewer", "owner"] {
        let got = api.call(who, Method::GET, "/v1/domains/example.com/quota", None).await.expect(200);
        assert_eq!(got.body["used"]["versions"], 1);
        let change = Some(json!({ "versions": null }));
        api.call(who, Method::PATCH, "/v1/domains/example.com/quota", change).await.expect(403);
    }
    api.quota(json!({ "memory": null, "versions": null })).await.expect(200);
    assert!(api.objects.find::<QuotaSpec>("example.com").await.unwrap().is_none(), "nothing is limited");
}

#[tokio::test]
async fn the_last_version_is_given_to_one_of_two_at_once() {
    let api = Api::with_roles().await;
    api.quota(json!({ "versions": 2 })).await.expect(200);
    api.push("example.com:web@1.0").await.expect(201);
    let (one, two) = tokio::join!(api.push("example.com:web@2.0"), api.push("example.com:api@1.0"));
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort();
    assert_eq!(statuses, [201, 429], "{} {}", one.body, two.body);
    let refused = api.push("example.com:web@3.0").await.expect(429);
    assert_eq!(refused.body["code"], "quota_exceeded");
    assert_eq!(
        refused.detail(),
        "the quota of domain example.com allows 2 versions: 2 in use, and a new version asks for 1 more"
    );
    assert!(refused.hint().contains("tutti domain quota example.com --versions"), "{}", refused.body);
    api.push("example.com:web@1.0").await.expect(200);
    api.push("other.org:web@1.0").await.expect(201);
}

#[tokio::test]
async fn deployments_and_scaling_fit_and_what_there_is_stays() {
    let api = Api::with_roles().await;
    for version in ["1.0", "2.0"] {
        api.push(&format!("example.com:web@{version}")).await.expect(201);
    }
    api.quota(json!({ "instances": 3 })).await.expect(200);
    api.deploy("example.com:web@1.0", "100%").await.expect(201);
    api.finish("example.com:web").await;
    let refused = api.scale(4).await.expect(429);
    assert!(refused.detail().contains("allows 3 instances: 1 in use"), "{}", refused.body);
    api.scale(2).await.expect(200);
    let refused = api.deploy("example.com:web@2.0", "100%").await.expect(429);
    assert!(refused.detail().contains("asks for 2 more"), "{}", refused.body);
    api.deploy("example.com:web@2.0", "50%").await.expect(201);
    api.scale(3).await.expect(429);
    api.finish("example.com:web").await;
    // Lowered, it takes nothing away, and lets what is there become less.
    api.quota(json!({ "instances": 1 })).await.expect(200);
    let got = api.get("/v1/domains/example.com/quota").await.expect(200);
    assert_eq!(got.body["used"]["instances"], 2);
    api.scale(1).await.expect(200);
    api.call("admin", Method::POST, "/v1/services/example.com:web/rollback", None).await.expect(200);
}

#[tokio::test]
async fn cpu_and_memory_are_counted_too_and_a_deleted_domain_leaves_no_quota() {
    let api = Api::with_roles().await;
    api.push("example.com:web@1.0").await.expect(201);
    api.quota(json!({ "cpu": "50m" })).await.expect(200);
    let refused = api.deploy("example.com:web@1.0", "100%").await.expect(429);
    assert!(refused.detail().contains("allows 50m cpu: 0 in use"), "{}", refused.body);
    api.quota(json!({ "cpu": null, "memory": "64Mi" })).await.expect(200);
    let refused = api.deploy("example.com:web@1.0", "100%").await.expect(429);
    assert!(refused.detail().contains("allows 64Mi memory"), "{}", refused.body);
    let path = "/v1/domains/other.org/quota";
    api.call("admin", Method::PATCH, path, Some(json!({ "versions": 1 }))).await.expect(200);
    api.delete("/v1/domains/other.org").await.expect(204);
    assert!(api.objects.find::<QuotaSpec>("other.org").await.unwrap().is_none());
}
