//! Node pools: who asks what of them, and what is refused.

use super::*;
use tutti_api::ZoneApi as _;
use tutti_model::{
    Timestamp,
    node::{NodeSpec, NodeStatus},
    pool::{MachineFailure, MachineState, POOLS, PoolMachine, PoolSpec},
};

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

#[tokio::test]
async fn a_machine_that_comes_has_the_labels_and_taints_of_its_pool_at_once_and_one_that_fails_is_a_problem()
{
    let api = Api::with_roles().await;
    let mut of_pool = asked();
    of_pool["labels"] = json!({ "rack": "r1" });
    of_pool["taints"] = json!(["gpu:NoSchedule"]);
    api.set_pool("burst", of_pool).await.expect(201);
    let mut pool = api.objects.get::<PoolSpec>("burst").await.unwrap();
    let machine = |name: &str, failure| PoolMachine {
        name: name.parse().unwrap(),
        state: MachineState::Making,
        since: Timestamp(0),
        why: String::new(),
        by_hand: false,
        idle_since: None,
        failure,
    };
    let failure = MachineFailure { attempts: 3, reason: "no quota".into(), again_at: Timestamp(0) };
    pool.status.machines = vec![machine("burst-1", None), machine("burst-2", Some(failure))];
    api.objects.write().update(&pool).commit().await.unwrap().unwrap();
    let zone = local_zone(&api.objects);
    for name in ["burst-1", "other"] {
        zone.register_node(&name.parse().unwrap(), NodeStatus::default()).await.unwrap();
    }
    let node = api.objects.get::<NodeSpec>("burst-1").await.unwrap();
    let labels: Vec<String> = node.spec.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(labels, ["pool=burst", "rack=r1"]);
    assert_eq!(node.spec.taints.len(), 1);
    let other = api.objects.get::<NodeSpec>("other").await.unwrap();
    assert!(other.spec.labels.is_empty() && other.spec.taints.is_empty());
    let status = api.call("admin", Method::GET, "/v1/status", None).await.expect(200).body;
    let said =
        "pool burst: machine burst-2 is not made after 3 attempts: no quota; see tutti pool show burst";
    assert!(status["problems"].as_array().unwrap().contains(&said.into()), "{status}");
    assert!(status["problems"].as_array().unwrap().contains(&"a wheel squeaks".into()), "{status}");
}
