//! What `/metrics` says of nodes and instances, and to whom.

use super::{
    super::metrics::{INSTANCES, NODES, SERVICES},
    *,
};
use tutti_api::zone::{InstanceFigures, NodeFigures, NodeHeartbeat};
use tutti_base::Clock as _;
use tutti_model::{
    Millis,
    quantity::{ByteSize, MilliCpu},
};

/// An API with these observations.
fn observing(api: &mut Api, observed: &Observed) {
    let options = options(&api.objects, api.lines.clone(), &api.tasks);
    api.router = router(ServerOptions { observed: observed.clone(), ..options });
}

async fn metrics(api: &Api) -> String {
    api.get("/metrics").await.expect(200).body.as_str().unwrap().to_owned()
}

fn uses(instance: &InstanceId) -> InstanceFigures {
    InstanceFigures { instance: instance.clone(), cpu: MilliCpu(250), memory: ByteSize(64 << 20), running: 3 }
}

#[tokio::test]
async fn what_was_measured_is_told_with_its_age() {
    let mut api = Api::with_roles().await;
    let observed = Observed::new();
    observing(&mut api, &observed);
    api.put(api.objects.make("n1", NodeSpec::new("n1".parse().unwrap()))).await;
    api.put(api.objects.make("n2", NodeSpec::new("n2".parse().unwrap()))).await;
    let instance = api.instance("example.com:web@1.0", 1).await;
    let figures = NodeFigures {
        cpu: MilliCpu(1500),
        memory: ByteSize(5 << 30),
        received: 1000,
        instances: vec![uses(&instance)],
        ..NodeFigures::default()
    };
    let heartbeat = NodeHeartbeat { measured: Some(figures), ..NodeHeartbeat::default() };
    observed.heartbeat(api.clock.now(), &"n1".parse().unwrap(), heartbeat);
    api.clock.advance(Millis(7500));
    let text = metrics(&api).await;
    let labels =
        format!("{{instance=\"{instance}\",service=\"example.com:web\",version=\"1.0\",node=\"n1\"}}");
    for line in [
        "tutti_node_measured_age_seconds{node=\"n1\"} 7.5".to_owned(),
        "tutti_node_cpu_used_cores{node=\"n1\"} 1.5".to_owned(),
        "tutti_node_memory_used_bytes{node=\"n1\"} 5368709120".to_owned(),
        "tutti_node_network_received_bytes_per_second{node=\"n1\"} 1000".to_owned(),
        format!("tutti_instance_measured_age_seconds{labels} 7.5"),
        format!("tutti_instance_cpu_used_cores{labels} 0.25"),
        format!("tutti_instance_memory_used_bytes{labels} 67108864"),
        format!("tutti_instance_requests_running{labels} 3"),
        "tutti_instances{service=\"example.com:web\",state=\"pending\"} 1".to_owned(),
        "tutti_nodes{state=\"starting\"} 2".to_owned(),
        "tutti_store_up 1".to_owned(),
        "tutti_build_info{release=\"0.0.0\"} 1".to_owned(),
        "tutti_control_leads 0".to_owned(),
        "tutti_metrics_truncated{of=\"instances\"} 0".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    assert!(!text.contains("age_seconds{node=\"n2\"}"), "nothing was heard of it: {text}");
    assert!(text.contains("\ntutti_up 1\n") && text.ends_with("# EOF\n"), "{text}");
    // Families are told of once.
    let mut families: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let all = families.len();
    families.sort_unstable();
    families.dedup();
    assert_eq!(families.len(), all);

    // It names every tenant's services.
    for who in ["viewer", "owner", "other owner"] {
        let refused = api.call(who, Method::GET, "/metrics", None).await.expect(403);
        assert!(!refused.body.to_string().contains("tutti_"), "{who}");
    }
    api.call("", Method::GET, "/metrics", None).await.expect(401);
}

#[tokio::test]
async fn no_more_is_told_of_one_by_one_than_there_is_room_for() {
    let mut api = Api::start().await;
    let observed = Observed::new();
    observing(&mut api, &observed);
    let mut figures = NodeFigures::default();
    for bits in 0..=INSTANCES as u64 {
        let version = format!("example.com:web{}@1.0", bits % (SERVICES as u64 + 1));
        let instance = api.instance(&version, bits).await;
        figures.instances.push(uses(&instance));
    }
    figures.instances.sort_by(|one, other| one.instance.cmp(&other.instance));
    for number in 0..=NODES {
        let name = format!("n{number}");
        api.put(api.objects.make(name.clone(), NodeSpec::new(name.parse().unwrap()))).await;
    }
    let heartbeat = NodeHeartbeat { measured: Some(figures), ..NodeHeartbeat::default() };
    observed.heartbeat(api.clock.now(), &"n1".parse().unwrap(), heartbeat);
    let text = metrics(&api).await;
    let count = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!(count("tutti_instance_memory_used_bytes{"), INSTANCES);
    assert_eq!(count("tutti_node_cpu_capacity_cores{"), NODES);
    assert_eq!(count("tutti_instances{"), SERVICES);
    for cut in ["nodes", "instances", "services"] {
        assert!(text.contains(&format!("tutti_metrics_truncated{{of=\"{cut}\"}} 1\n")), "{cut}");
    }
    assert!(text.contains("tutti_metrics_truncated{of=\"counted\"} 0\n"));
    assert!(text.contains(&format!("tutti_nodes{{state=\"starting\"}} {}\n", NODES + 1)));
}
