//! Events: written with what they tell of, seen by whom it concerns, and never told twice by a watch.

use super::{streaming::Reading, *};
use tutti_api::zone::InstanceReport;
use tutti_model::{
    Millis,
    event::{EventSpec, What},
    instance::{InstanceState, InstanceStatus},
    limits,
    node::NodeStatus,
};

fn report(instance: &InstanceId, state: InstanceState) -> InstanceReport {
    let status = InstanceStatus { state, ..InstanceStatus::default() };
    InstanceReport { instance: instance.clone(), status }
}

impl Api {
    /// An instance of a version, said to be in these states one after the other.
    async fn lives(&self, version: &str, bits: u64, states: &[InstanceState]) {
        let (instance, zone) = (self.instance(version, bits).await, local_zone(&self.objects));
        for state in states {
            self.clock.advance(Millis(1));
            let node = "n1".parse().unwrap();
            zone.report_instances(&node, vec![report(&instance, *state)]).await.unwrap();
        }
    }

    async fn happened(&self, who: &str, query: &str) -> Vec<String> {
        let got = self.call(who, Method::GET, &format!("/v1/events{query}"), None).await.expect(200);
        let items = got.body["items"].as_array().unwrap();
        let shown = |item: &Value| {
            let service = item["spec"]["service"].as_str().unwrap_or_default();
            format!("{} {service}", item["spec"]["what"].as_str().unwrap())
        };
        items.iter().map(shown).collect()
    }
}

#[tokio::test]
async fn a_change_of_state_is_told_in_its_own_transaction_and_the_same_again_is_not() {
    use InstanceState as S;
    let api = Api::start().await;
    let (instance, zone) = (api.instance("example.com:web@1.0", 1).await, local_zone(&api.objects));
    let node: NodeName = "n1".parse().unwrap();
    for _ in 0..3 {
        zone.report_instances(&node, vec![report(&instance, S::Ready)]).await.unwrap();
    }
    let events = api.objects.list::<EventSpec>("").await.unwrap().items;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].spec.object, format!("instance {instance}"));
    let told = api.objects.get::<InstanceSpec>(instance.as_str()).await.unwrap();
    assert_eq!(events[0].revision, told.revision, "one transaction");

    let said = async |ready, registered_at| {
        let registered_at = Timestamp(registered_at);
        let status = NodeStatus { ready, registered_at, ..NodeStatus::default() };
        zone.register_node(&node, status).await.unwrap();
        api.clock.advance(Millis(1));
    };
    for (ready, registered_at) in [(false, 1), (true, 1), (true, 2), (true, 3)] {
        said(ready, registered_at).await;
    }
    assert_eq!(api.happened("admin", "?node=n1").await, ["ready ", "registered ", "ready example.com:web"]);
}

#[tokio::test]
async fn every_report_is_taken_however_many_there_are() {
    let api = Api::start().await;
    let zone = local_zone(&api.objects);
    let mut reports = Vec::new();
    for bits in 0..200 {
        let instance = api.instance("example.com:web@1.0", bits).await;
        let mut report = report(&instance, InstanceState::Failed);
        report.status.reason = Some("\u{1}".repeat(100_000 / 6));
        reports.push(report);
    }
    zone.report_instances(&"n1".parse().unwrap(), reports).await.unwrap();
    let instances = api.objects.list::<InstanceSpec>("").await.unwrap().items;
    assert!(instances.iter().all(|instance| instance.status.state == InstanceState::Failed));
    let events = api.objects.list::<EventSpec>("").await.unwrap().items;
    assert_eq!(events.len(), 200);
    assert!(events.iter().all(|event| event.spec.text.len() <= limits::EVENT_TEXT_BYTES));
}

#[tokio::test]
async fn an_event_without_room_is_left_out_and_nothing_else() {
    let api = Api::start().await;
    let mut write = api.objects.write();
    for number in 0..limits::STORE_TXN_OPERATIONS {
        write = write.create(&api.objects.make(format!("d{number}.org"), DomainSpec::default()));
    }
    let event = EventSpec::new(Timestamp(1), What::Leads, "control c1", "it reconciles");
    assert!(write.tell(Some(event)).commit().await.unwrap().is_some());
    assert!(api.objects.list::<EventSpec>("").await.unwrap().items.is_empty());
}

#[tokio::test]
async fn each_sees_what_concerns_them_since_the_domains_life_began() {
    use InstanceState as S;
    let api = Api::with_roles().await;
    api.lives("example.com:web@1.0", 1, &[S::Starting, S::Ready]).await;
    api.lives("other.org:web@1.0", 2, &[S::Ready, S::Failed]).await;
    let leads = EventSpec::new(api.objects.clock().now(), What::Leads, "control c1", "it reconciles");
    api.objects.write().tell(Some(leads)).commit().await.unwrap().unwrap();

    let ours = ["ready example.com:web", "starting example.com:web"];
    for who in ["viewer", "deployer", "owner"] {
        assert_eq!(api.happened(who, "").await, ours, "{who}");
        assert_eq!(api.happened(who, "?domain=other.org").await, [""; 0], "{who}");
    }
    assert_eq!(api.happened("admin", "").await.len(), 5);
    assert_eq!(api.happened("admin", "?domain=example.com").await, ours);
    let first = api.call("viewer", Method::GET, "/v1/events?limit=1", None).await.expect(200);
    let cursor = first.body["cursor"].as_str().unwrap();
    assert_eq!(api.happened("viewer", &format!("?cursor={cursor}")).await, [ours[1]]);
    let since = api.objects.clock().now().0;
    assert_eq!(api.happened("admin", &format!("?since={since}")).await.len(), 2);

    // Another's domain of the same name begins with nothing.
    let domain = api.objects.get::<DomainSpec>("other.org").await.unwrap();
    api.objects.write().delete(&domain).commit().await.unwrap().unwrap();
    assert_eq!(api.happened("other owner", "").await, [""; 0]);
    api.clock.advance(Millis(1));
    api.put(api.objects.make("other.org", DomainSpec::default())).await;
    assert_eq!(api.happened("other owner", "").await, [""; 0]);
}

#[tokio::test]
async fn a_watch_tells_what_happens_from_then_on() {
    use InstanceState as S;
    let api = Api::with_roles().await;
    api.lives("example.com:web@1.0", 1, &[S::Ready]).await;
    let listed = api.call("viewer", Method::GET, "/v1/events", None).await.expect(200);
    let mut after =
        Reading::open(&api, "viewer", &format!("/v1/events?watch={}", listed.body["revision"])).await;
    let mut anew = Reading::open(&api, "viewer", "/v1/events?watch").await;
    anew.expect("init").await;
    anew.expect("init_done").await;
    api.lives("other.org:web@1.0", 2, &[S::Failed]).await;
    api.lives("example.com:web@1.0", 3, &[S::Failed]).await;
    for watch in [&mut after, &mut anew] {
        let mut changes = watch.expect("changes").await;
        while changes["changes"] == json!([]) {
            changes = watch.expect("changes").await;
        }
        let spec = &changes["changes"][0]["put"]["spec"];
        assert_eq!((&spec["what"], &spec["service"]), (&json!("failed"), &json!("example.com:web")));
    }
    api.call("viewer", Method::GET, "/v1/events?watch&node=n1", None).await.expect(400);
}
