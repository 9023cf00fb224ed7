//! Nodes that drain, and nodes that are gone: what they run goes elsewhere, without a moment in which fewer can serve.

use super::*;

impl World {
    fn on(&self, node: &str) -> usize {
        self.instances.iter().filter(|instance| instance.spec.node.as_str() == node).count()
    }

    fn ready_endpoints(&self) -> usize {
        let table = self.table.as_ref().unwrap();
        let ready = |id: &InstanceId| {
            let instance = self.instances.iter().find(|instance| instance.spec.instance == *id).unwrap();
            instance.status.state == InstanceState::Ready
        };
        endpoints(&table.spec).iter().filter(|id| ready(id)).count()
    }
}

#[test]
fn what_a_draining_node_runs_goes_elsewhere_and_serves_until_then() {
    let mut world = World::new(6);
    world.assign(&[("1.0", "100%")], false).settle();
    assert_eq!((world.on("a"), world.on("b"), world.on("c")), (2, 2, 2));
    world.drain(0).pass();
    assert_eq!((world.on("a"), world.instances.len()), (2, 8), "two more are made, elsewhere");
    world.pass().acknowledge().pass();
    assert_eq!((world.on("a"), world.ready_endpoints()), (2, 6), "the new ones are not ready");

    // One of the two is ready: one may go.
    let new = world.instances.iter_mut().find(|instance| instance.status.state < InstanceState::Ready);
    new.unwrap().status.state = InstanceState::Ready;
    world.pass();
    assert_eq!(world.count("1.0", standby), 1);
    for _ in 0..20 {
        assert!(world.ready_endpoints() >= 6, "{} serve", world.ready_endpoints());
        world.acknowledge().agents().pass();
    }
    world.settle();
    assert_eq!((world.on("a"), world.instances.len()), (0, 6));

    // It takes instances again, and is given none for the sake of it.
    world.drain(0).settle();
    assert_eq!(world.on("a"), 0);
}

#[test]
fn without_room_elsewhere_it_stays_where_it_is() {
    let mut world = World::new(2);
    world.nodes.truncate(1);
    world.assign(&[("1.0", "100%")], false).settle();
    world.drain(0);
    for _ in 0..10 {
        world.pass().agents().acknowledge();
    }
    assert_eq!((world.on("a"), world.ready_endpoints()), (2, 2));
    assert!(world.plan().lacks_room);
    world.nodes.push(node("b"));
    world.settle();
    assert_eq!((world.on("a"), world.on("b")), (0, 2));
}

#[test]
fn what_stands_by_there_goes_and_is_not_taken_back() {
    let mut world = World::new(1);
    world.nodes.truncate(1);
    world.assign(&[("1.0", "100%")], false).settle();
    world.assign(&[("2.0", "100%")], true).settle();
    assert_eq!(world.count("1.0", standby), 1);
    world.nodes.push(node("b"));
    world.drain(0).assign(&[("1.0", "100%")], true).settle();
    assert_eq!((world.on("a"), world.serving().as_str()), (0, "1.0 100%"));
}

#[test]
fn a_node_that_is_gone_is_not_waited_for() {
    let mut world = World::new(3);
    world.assign(&[("1.0", "100%")], false).settle();
    world.nodes.retain(|node| node.node.as_str() != "a");
    world.settle();
    assert_eq!(world.instances.len(), 3);
    assert!(of_node(&world, "a").is_empty());
}
