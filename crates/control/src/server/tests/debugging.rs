//! What an admin is told of this control's loops.

use super::*;
use crate::{leadership, reconcile::ReconcileOptions};
use tutti_model::{
    Millis,
    control::{LEADER, LeaderSpec},
};

/// Turns of the scheduler in which the loops must have done what there is to do.
const TURNS: usize = 5000;

#[tokio::test]
async fn who_leads_tells_how_its_loops_fare_and_who_does_not_says_who_does() {
    let api = Api::with_roles().await;
    let loops = Loops::default();
    let told = || async {
        let options =
            ServerOptions { loops: loops.clone(), ..options(&api.objects, Arc::default(), &api.tasks) };
        let request = api.request("admin", Method::GET, "/v1/debug/reconcilers", None);
        let response = router(options).oneshot(request).await.unwrap();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()
    };
    let rests = told().await;
    assert_eq!(
        (&rests["control"], &rests["leads_since"], &rests["loops"]),
        (&json!("c1"), &Value::Null, &json!([]))
    );

    api.push("example.com:web@1.0").await.expect(201);
    let options = ReconcileOptions {
        machines: Default::default(),
        objects: api.objects.clone(),
        observed: Observed::new(),
        host_suffixes: Vec::new(),
        loops: loops.clone(),
    };
    let tasks = Tasks::new();
    leadership::start("c1".parse().unwrap(), options, &tasks);
    let mut led = Value::Null;
    for _ in 0..TURNS {
        led = told().await;
        if led["loops"].as_array().unwrap().iter().any(|one| one["name"] == "global" && one["runs"] != 0) {
            break;
        }
        api.clock.advance(Millis(1));
        tokio::task::yield_now().await;
    }
    let names: Vec<&str> =
        led["loops"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["global", "retention", "scaling", "zone"]);
    let global = &led["loops"][0];
    assert!(global["runs"].as_u64() > Some(0) && global["last_run"].is_u64(), "{led}");
    assert_eq!((&led["leader"], &global["errors"]), (&json!("c1"), &json!(0)), "{led}");
    assert!(led["leads_since"].is_u64(), "{led}");
    tasks.stop();
    assert!(tasks.drain(std::time::Duration::from_secs(10)).await);
    assert_eq!(told().await["leads_since"], Value::Null);

    let leader = api.objects.make(LEADER, LeaderSpec { control: "n2".parse().unwrap() });
    api.put(leader).await;
    let member = MemberSpec {
        roles: [MachineRole::Server].into(),
        key: PUSHED.parse().unwrap(),
        api: Some("192.0.2.2:7070".parse().unwrap()),
        joined_by: None,
    };
    api.put(api.objects.make("n2", member)).await;
    let follows = told().await;
    assert_eq!((&follows["leader"], &follows["leader_address"]), (&json!("n2"), &json!("192.0.2.2:7070")));
}
