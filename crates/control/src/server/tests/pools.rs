//! Node pools: who asks what of them, and what is refused.

use super::*;
use tutti_model::pool::{MachineState, POOLS, PoolMachine, PoolSpec};

fn asked() -> Value {
    json!({ "max": 3, "cpu": "2", "memory": "4Gi" })
}

impl Api {
    async fn set_pool(&self, name: &str, asked: Value) -> Got {
        self.call("admin", Method::PUT, &format!("/v1/pools/{name}"), Some(asked)).await
    }
}

#[tokio::test]
async fn a_pool_is_set_as_a_whole_and_goes_with_its_last_machine() {
    let api = Api::with_roles().await;
    let made = api.set_pool("burst", asked()).await.expect(201);
    assert_eq!(made.body["spec"]["isolates"], json!(["wasm", "process"]));
    assert_eq!(made.body["spec"]["idle"], "10m");
    let mut more = asked();
    more["min"] = json!(1);
    assert_eq!(api.set_pool("burst", more).await.expect(200).body["generation"], 2);
    assert_eq!(
        api.set_pool("burst", asked()).await.expect(200).body["spec"]["min"],
        0,
        "what is not said is as usual"
    );

    let mut pool = api.objects.get::<PoolSpec>("burst").await.unwrap();
    pool.status.machines.push(PoolMachine {
        name: "burst-1".parse().unwrap(),
        state: MachineState::Joined,
        since: pool.created_at,
        why: String::new(),
        by_hand: false,
        idle_since: None,
        failure: None,
    });
    api.objects.write().update(&pool).commit().await.unwrap().unwrap();
    api.call("admin", Method::DELETE, "/v1/pools/burst", None).await.expect(204);
    let refused = api.set_pool("burst", asked()).await.expect(409);
    assert_eq!(refused.detail(), "pool burst is being removed");
    let mut pool = api.objects.get::<PoolSpec>("burst").await.unwrap();
    pool.status.machines.clear();
    pool.deleted_at = None;
    api.objects.write().update(&pool).commit().await.unwrap().unwrap();
    api.call("admin", Method::DELETE, "/v1/pools/burst", None).await.expect(204);
    api.call("admin", Method::GET, "/v1/pools/burst", None).await.expect(404);
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let api = Api::with_roles().await;
    for (key, value, said) in [
        ("min", json!(4), "at least 4 machines and at most 3"),
        ("max", json!(101), "no pool has more than 100"),
        ("cpu", json!("0"), "without cpu or memory"),
        ("isolates", json!([]), "can run nothing"),
        ("labels", json!({ "pool": "x" }), "the label pool, which they have by themselves"),
        ("make", json!("rm -rf /"), "make"),
    ] {
        let mut wrong = asked();
        wrong[key] = value;
        let refused = api.set_pool("burst", wrong).await.expect(400);
        assert!(refused.detail().contains(said), "{}", refused.body);
    }
    api.set_pool("Burst", asked()).await.expect(400);
    for number in 0..POOLS {
        api.set_pool(&format!("p{number}"), asked()).await.expect(201);
    }
    api.set_pool("one-more", asked()).await.expect(429);
}
