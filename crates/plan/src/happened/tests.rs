//! One word for each change that matters, and none for the others.

use super::*;
use crate::zone::fixtures::standing_by;
use tutti_model::{
    Condition, DeploymentId, Uid,
    deployment::{Failure, Intent, Target},
    node::HEARD,
};

const NOW: Timestamp = Timestamp(1_000_000);

fn instance(state: InstanceState, restarts: u32, reason: Option<&str>) -> Resource<InstanceSpec> {
    let mut instance = standing_by("example.com:web@1.0", "n1", Timestamp(1));
    instance.spec.goal = Goal::Serve;
    instance.spec.placed = "it has the most room".into();
    instance.status.state = state;
    instance.status.restarts = restarts;
    instance.status.reason = reason.map(Into::into);
    instance
}

/// What is told of a life, each state with its restarts.
fn told(life: &[(InstanceState, u32)]) -> Vec<&'static str> {
    let mut words = Vec::new();
    for pair in life.windows(2) {
        let before = instance(pair[0].0, pair[0].1, None).status;
        let event = of_instance(NOW, &before, &instance(pair[1].0, pair[1].1, None));
        words.extend(event.map(|event| event.what.as_str()));
    }
    words
}

#[test]
fn a_life_is_told_in_a_few_words() {
    use InstanceState as S;
    let ordinary = [S::Pending, S::Preloading, S::Starting, S::Ready, S::Draining, S::Stopped];
    assert_eq!(told(&ordinary.map(|state| (state, 0))), ["starting", "ready", "stopped"]);
    let sleeps = [S::Pending, S::Starting, S::Ready, S::Asleep, S::Ready, S::Asleep, S::Stopped];
    assert_eq!(told(&sleeps.map(|state| (state, 0))), ["starting", "ready", "stopped"]);
    assert_eq!(told(&[(S::Pending, 0), (S::Preloading, 0), (S::Failed, 0)]), ["starting", "failed"]);
    assert_eq!(told(&[(S::Ready, 0), (S::Ready, 0)]), [""; 0], "the same again");
    assert_eq!(told(&[(S::Backoff, 1), (S::Backoff, 2), (S::Backoff, 2)]), ["ended"]);
}

#[test]
fn what_loops_is_told_ever_more_rarely() {
    use InstanceState as S;
    let mut life = vec![(S::Ready, 0)];
    for end in 1..=1000 {
        life.extend([(S::Backoff, end), (S::Starting, end), (S::Ready, end)]);
    }
    // 1 to 4, then 8, 16, … 512.
    assert_eq!(told(&life).iter().filter(|word| **word == "ended").count(), 4 + 7);
    assert_eq!(told(&life).len(), 2 * 11);
}

#[test]
fn an_event_says_what_where_and_why() {
    use InstanceState as S;
    let of = |was: S, is: S, restarts, reason| {
        let before = instance(was, 0, None).status;
        of_instance(NOW, &before, &instance(is, restarts, reason)).unwrap()
    };
    let event = of(S::Pending, S::Starting, 0, None);
    assert_eq!(event.text, "example.com:web@1.0 on n1: it has the most room");
    assert_eq!(event.object, format!("instance {}", instance(S::Ready, 0, None).name));
    assert_eq!(event.service.unwrap().to_string(), "example.com:web");
    assert_eq!(event.node.unwrap().as_str(), "n1");
    assert_eq!(
        of(S::Starting, S::Ready, 2, None).text,
        "example.com:web@1.0 on n1 answers, started again 2 times"
    );
    assert_eq!(
        of(S::Ready, S::Backoff, 1, Some("exited with code 3")).text,
        "example.com:web@1.0 on n1: exited with code 3"
    );
    assert_eq!(of(S::Ready, S::Stopped, 0, None).text, "example.com:web@1.0 on n1 is gone");
}

#[test]
fn an_event_of_a_failure_shows_nothing_that_the_instance_wrote() {
    let mut failed = instance(InstanceState::Failed, 0, Some("exited with code 3"));
    failed.status.last_lines = vec!["password is MARKER".into()];
    let event = of_instance(NOW, &instance(InstanceState::Starting, 0, None).status, &failed).unwrap();
    assert!(!event.text.contains("MARKER"), "{}", event.text);
    let mut deployment = deployment(1);
    deployment.status.phase = Phase::Failed;
    deployment.status.failure = Some(Failure {
        reason: "i-1 would not start".into(),
        instance: None,
        last_lines: vec!["MARKER".into()],
    });
    let event = of_deployment(NOW, &DeploymentStatus::default(), &deployment).unwrap();
    assert_eq!((event.what, event.text.as_str()), (What::Failed, "example.com:web: i-1 would not start"));
}

fn deployment(steps: usize) -> Resource<DeploymentSpec> {
    let id = DeploymentId::from_bits(1);
    let spec = DeploymentSpec {
        deployment: id.clone(),
        service: "example.com:web".parse().unwrap(),
        target: Target::Version {
            version: "1.0".parse().unwrap(),
            steps: vec!["10%".parse().unwrap(); steps],
        },
        every: Default::default(),
        abort_if: Vec::new(),
        intent: Intent::Proceed,
        promoted: 0,
    };
    Resource::new(id.to_string(), Uid::from_bits(1), Timestamp(1), spec)
}

#[test]
fn a_deployment_is_told_at_each_phase_and_step_and_not_in_between() {
    let mut now = deployment(3);
    let before = now.status.clone();
    now.status.message = "looks for nodes".into();
    assert_eq!(of_deployment(NOW, &before, &now), None, "what it waits for is not worth a line");
    now.status.phase = Phase::Shifting;
    now.status.step = 1;
    let event = of_deployment(NOW, &before, &now).unwrap();
    assert_eq!(event.what, What::Shifting);
    assert_eq!(event.text, "example.com:web, step 2 of 3: looks for nodes");
    let before = now.status.clone();
    now.status.step = 2;
    assert!(of_deployment(NOW, &before, &now).is_some());
}

#[test]
fn a_node_is_told_when_it_comes_and_goes_and_not_when_it_says_more() {
    let spec = NodeSpec::new("n1".parse().unwrap());
    let mut node = Resource::new("n1", Uid::from_bits(1), Timestamp(1), spec);
    let mut words = Vec::new();
    let mut before = None;
    for (ready, registered_at) in [(false, 1), (true, 1), (true, 2), (false, 3), (false, 4), (true, 4)] {
        node.status.ready = ready;
        node.status.registered_at = Timestamp(registered_at);
        words.extend(of_node(NOW, before.as_ref(), &node).map(|event| event.what.as_str()));
        before = Some(node.status.clone());
    }
    assert_eq!(words, ["registered", "ready", "registered", "ready"]);

    let mut heard = |met| {
        let reason = format!("the agent of node n1 is {}", if met { "heard again" } else { "silent" });
        node.set_condition(Condition { r#type: HEARD.into(), met, reason, since: NOW });
        of_lost_node(NOW, &node, 2)
    };
    let silent = heard(false);
    assert_eq!((silent.what, silent.service), (What::Silent, None), "the admins' affair");
    assert_eq!(silent.text, "the agent of node n1 is silent; 2 instances are there");
    assert_eq!(heard(true).what, What::Heard);
}

#[test]
fn an_instance_is_lost_with_its_node_unless_it_was_gone_before() {
    let mut lost = instance(InstanceState::Ready, 0, None);
    lost.set_condition(Condition { r#type: HEARD.into(), met: false, reason: String::new(), since: NOW });
    let event = of_lost_instance(NOW, &lost).unwrap();
    assert_eq!((event.what, event.node.unwrap().as_str()), (What::Lost, "n1"));
    assert!(event.text.ends_with("it is replaced elsewhere after 30s"), "{}", event.text);
    lost.status.state = InstanceState::Stopped;
    assert_eq!(of_lost_instance(NOW, &lost), None);
}
