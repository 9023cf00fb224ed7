//! Machines, as an admin sees them.

use super::*;
use tutti_model::control::{LEADER, LeaderSpec};

#[tokio::test]
async fn machines_are_nodes_and_members_together_page_by_page() {
    let api = Api::start().await;
    let member = |name: &str, roles: &[MachineRole]| {
        let roles = roles.iter().copied().collect();
        let mut member =
            api.objects.make(name, MemberSpec { roles, key: key_of(name), api: None, joined_by: None });
        member.status.release = "0.9.0".into();
        member
    };
    // The API here is that of control c1.
    api.put(member("c1", &[MachineRole::Server])).await;
    api.put(member("c2", &[MachineRole::Server])).await;
    api.put(member("w1", &[MachineRole::Agent])).await;
    api.put(api.objects.make("a1", NodeSpec::new("a1".parse().unwrap()))).await;
    api.put(api.objects.make("w1", NodeSpec::new("w1".parse().unwrap()))).await;
    api.put(api.objects.make(LEADER, LeaderSpec { control: "c2".parse().unwrap() })).await;

    let (mut machines, mut cursor) = (Vec::new(), String::new());
    for pages in 1.. {
        let page = api.get(&format!("/v1/machines?limit=2{cursor}")).await.expect(200).body;
        machines.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["cursor"].as_str() else {
            assert_eq!(pages, 2);
            break;
        };
        cursor = format!("&cursor={next}");
    }
    let names: Vec<&str> = machines.iter().map(|machine| machine["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a1", "c1", "c2", "w1"]);
    let leads: Vec<bool> = machines.iter().map(|machine| machine["leads"] == true).collect();
    assert_eq!(leads, [false, false, true, false]);
    // Of itself it knows; of whom it has not heard it says what is stored, and nothing of when.
    assert_eq!(machines[1]["roles"][0]["release"], "0.0.0");
    assert!(machines[1]["roles"][0]["heard_at"].is_number());
    assert_eq!(machines[2]["roles"][0]["release"], "0.9.0");
    assert!(machines[2]["roles"][0]["heard_at"].is_null(), "{}", machines[2]);

    let one = api.get("/v1/machines/w1").await.expect(200).body;
    assert_eq!(one["roles"][0]["role"], "agent");
    let missing = api.get("/v1/machines/w2").await.expect(404);
    assert_eq!(
        (missing.detail(), missing.hint()),
        ("node \"w2\" not found", "see every machine with: tutti node list")
    );
}
