//! Machines that become members of a cluster, and go.

use super::*;
use crate::cluster::{Cluster, follow_members};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use tutti_api::members::{CreatedJoinToken, Joined};
use tutti_pki::{Chain, Identity};
use tutti_seal::{Keyring, Source};

fn keyring_of(folder: &std::path::Path) -> Keyring {
    let keyring = Keyring::at(Source::File(folder.join("key")));
    keyring.make_if_missing().unwrap();
    keyring
}

/// A cluster's API.
struct Machines {
    api: Api,
    cluster: Cluster,
    folder: tempfile::TempDir,
}

impl Machines {
    async fn new() -> Machines {
        let folder = tempfile::tempdir().unwrap();
        let mut api = Api::start().await;
        let cluster = Cluster::ensure(&api.objects, &keyring_of(folder.path())).await.unwrap();
        let tasks = Tasks::new();
        let options =
            ServerOptions { cluster: Some(cluster.clone()), ..options(&api.objects, Arc::default(), &tasks) };
        api.router = router(options);
        Machines { api, cluster, folder }
    }

    fn identity(&self, name: &str) -> Identity {
        Identity::open(&self.folder.path().join(name)).unwrap()
    }

    async fn token(&self, body: Value) -> String {
        let created = self.api.post("/v1/join-tokens", body).await.expect(201);
        serde_json::from_value::<CreatedJoinToken>(created.body).unwrap().token
    }

    /// Asks to join with the key of the machine `of`, under this name.
    async fn join(&self, token: &str, of: &str, name: &str, roles: &[&str]) -> Got {
        let request = BASE64.encode(self.identity(of).request().unwrap());
        let body = json!({ "member": name, "roles": roles, "request": request });
        let mut request = self.api.request("admin", Method::POST, "/v1/join", Some(body));
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        self.api.send(request).await
    }
}

#[tokio::test]
async fn a_token_admits_one_machine_once() {
    let machines = Machines::new().await;
    let token = machines.token(json!({})).await;
    let joined = machines.join(&token, "one", "w1", &["agent"]).await.expect(201);
    let joined: Joined = serde_json::from_value(joined.body).unwrap();
    let chain = Chain::from_pem(&joined.chain).unwrap();
    let identity = machines.identity("one");
    assert_eq!(*chain.key(), identity.key());
    assert_eq!(chain.id().unwrap().cluster(), machines.cluster.id());
    assert_eq!(tutti_pki::fingerprint(chain.root().unwrap()), *machines.cluster.fingerprint());
    identity.take(chain).unwrap();

    // Whoever lost the answer asks again, and gets the same; nobody else does.
    machines.join(&token, "one", "w1", &["agent"]).await.expect(201);
    let other = machines.join(&token, "two", "w1", &["agent"]).await.expect(409);
    assert!(other.hint().contains("tutti node remove w1"), "{}", other.body);
    machines.join(&token, "two", "w2", &["agent"]).await.expect(401);
    machines.join("tuttijoin_x", "two", "w2", &["agent"]).await.expect(401);
    assert_eq!(machines.api.get("/v1/members").await.body["items"].as_array().unwrap().len(), 1);

    let elsewhere = Machines::new().await.token(json!({})).await;
    let stranger = machines.join(&elsewhere, "two", "w2", &["agent"]).await.expect(401);
    assert!(stranger.detail().contains("of another cluster"), "{}", stranger.body);

    // A token that is refused is good for the machine that it is for.
    let token = machines.token(json!({ "member": "w3", "roles": ["agent"] })).await;
    let refused = machines.join(&token, "two", "w2", &["agent"]).await.expect(403);
    assert!(refused.detail().contains("a machine named w3"), "{}", refused.body);
    let refused = machines.join(&token, "two", "w3", &["agent", "server"]).await.expect(403);
    assert!(refused.detail().contains("not for the role server"), "{}", refused.body);
    machines.join(&token, "two", "w3", &[]).await.expect(400);
    machines.join(&token, "two", "w3", &["agent"]).await.expect(201);
}

#[tokio::test]
async fn a_token_ends_and_makes_room() {
    let machines = Machines::new().await;
    let token = machines.token(json!({ "expires_in": "60s" })).await;
    machines.api.clock.advance(tutti_model::Millis::seconds(61));
    let late = machines.join(&token, "one", "w1", &["agent"]).await.expect(401);
    assert!(late.hint().contains("tutti token create --node"), "{}", late.body);
    for _ in 0..256 {
        machines.token(json!({ "expires_in": "60s" })).await;
    }
    machines.api.post("/v1/join-tokens", json!({})).await.expect(429);
    machines.api.clock.advance(tutti_model::Millis::seconds(61));
    machines.token(json!({})).await;
}

#[tokio::test]
async fn a_removed_member_is_out_with_the_next_table_and_takes_nothing_new() {
    let machines = Machines::new().await;
    let (tasks, table) = (Tasks::new(), Arc::<MemberTable>::default());
    follow_members(&machines.api.objects, Arc::clone(&table), &tasks).await.unwrap();
    let token = machines.token(json!({})).await;
    machines.join(&token, "one", "w1", &["agent", "ingress"]).await.expect(201);
    let key = machines.identity("one").key();
    let patience = std::time::Duration::from_secs(10);
    let known = async {
        while table.get(&key).is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(patience, known).await.unwrap();
    machines.api.put(machines.api.objects.make("w1", NodeSpec::new("w1".parse().unwrap()))).await;
    machines.api.call("admin", Method::DELETE, "/v1/members/w1", None).await.expect(204);
    let gone = async {
        while table.get(&key).is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(patience, gone).await.unwrap();
    assert!(machines.api.objects.get::<NodeSpec>("w1").await.unwrap().spec.cordoned);
    machines.api.call("admin", Method::DELETE, "/v1/members/w1", None).await.expect(404);
}

#[tokio::test]
async fn of_several_who_begin_a_cluster_at_once_one_does_and_another_key_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::start().await;
    let keyring = keyring_of(folder.path());
    let made = futures_util::future::join_all((0..3).map(|_| Cluster::ensure(&api.objects, &keyring))).await;
    let made: Vec<Cluster> = made.into_iter().map(Result::unwrap).collect();
    assert!(made.iter().all(|cluster| cluster.id() == made[0].id()), "{made:?}");
    let identity = Identity::open(&folder.path().join("one")).unwrap();
    let (request, name) = (identity.request().unwrap(), "c1".parse().unwrap());
    let first = made[0].vouch(&request, &name, &[]).await.unwrap();
    assert_eq!(first.root(), made[1].vouch(&request, &name, &[]).await.unwrap().root());

    let other = tempfile::tempdir().unwrap();
    let other = keyring_of(other.path());
    let stranger = Cluster::ensure(&api.objects, &other).await.unwrap();
    assert_eq!(stranger.id(), made[0].id());
    let problem = stranger.vouch(&request, &name, &[]).await.unwrap_err();
    assert_eq!(problem.code, tutti_model::ErrorCode::Unavailable, "{problem}");

    // A year later the zone's authority is another, below the same root.
    api.clock.advance(tutti_model::Millis::seconds(300 * 24 * 3600));
    let later = made[0].vouch(&request, &name, &[]).await.unwrap();
    assert_eq!(first.root(), later.root());
    assert_ne!(first.certificates()[1], later.certificates()[1]);
}
