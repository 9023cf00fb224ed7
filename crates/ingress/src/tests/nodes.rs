//! Nodes in other processes: found by watch, followed, and reached after a restart without control.

use super::world::*;
use ::http::Response;
use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};
use tutti_base::{Random, Tasks, body};
use tutti_model::node::RoleAddress;
use tutti_proxy::{
    Hop,
    wire::{Hops, NodeBook, Sockets, WireHop},
};

/// The node `node-1` on this socket; each of its answers is this text.
async fn node_at(path: &Path, says: &'static str) -> Tasks {
    let listener = tutti_base::socket::listen(path).await.unwrap();
    let hop = hop(move |_, _, _| async move { Ok(Response::new(body::full(says))) });
    let others: tutti_proxy::wire::Others = Arc::new(|_| Box::pin(async { Response::new(body::empty()) }));
    let tasks = Tasks::new();
    let node = "node-1".parse().unwrap();
    tokio::spawn(tutti_proxy::wire::serve(listener, hop, node, others, tasks.clone()));
    tasks
}

/// An ingress of its own process, as far as nodes can tell.
async fn ingress(zone: &Arc<Zone>, file: &Path) -> World {
    let nodes = Arc::new(NodeBook::default());
    let wire = WireHop::new(Arc::clone(&nodes), Arc::new(Sockets), Random::seeded(1));
    let hop = Arc::new(Hops::new(None, wire)) as Arc<dyn Hop>;
    World::of_nodes(Arc::clone(zone), hop, nodes, Some(file.to_owned())).await
}

async fn answer(world: &World) -> String {
    text(world.send(get("web.test", "/")).await).await
}

#[tokio::test]
async fn a_node_is_reached_where_control_last_said_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (file, old, new) =
        (folder.path().join("tables.json"), folder.path().join("old.sock"), folder.path().join("new.sock"));
    let (_old, _new) = (node_at(&old, "old").await, node_at(&new, "new").await);
    let zone = Arc::new(Zone::default());
    zone.node("node-1", Some(Some(RoleAddress::Socket(old.clone()))));
    let revision = zone.put(vec![web()]);
    let world = ingress(&zone, &file).await;
    world.reaches(revision).await;
    assert_eq!(answer(&world).await, "old", "what is reached can be served");
    let kept = |text: &'static str| {
        let file = file.clone();
        move || std::fs::read_to_string(&file).is_ok_and(|kept| kept.contains(text))
    };
    until("it is kept", kept("old.sock")).await;
    world.tasks.stop();
    world.ended.await.unwrap();

    zone.away.store(true, Ordering::SeqCst);
    zone.cut();
    let world = ingress(&zone, &file).await;
    assert_eq!(answer(&world).await, "old", "without control");

    zone.node("node-1", Some(Some(RoleAddress::Socket(new))));
    zone.away.store(false, Ordering::SeqCst);
    until("the move is kept", kept("new.sock")).await;
    assert_eq!(answer(&world).await, "new");

    zone.node("node-1", None);
    until("that it is gone is kept", || !kept("new.sock")()).await;
    let (status, problem) = problem(world.send(get("web.test", "/")).await).await;
    assert_eq!((status.as_u16(), &problem["detail"]), (503, &"node node-1 is not known here".into()));

    zone.node("node-1", Some(None));
    zone.node("node-1", Some(Some(RoleAddress::Socket(old))));
    until("it is back", kept("old.sock")).await;
}

#[tokio::test]
async fn a_file_from_before_there_were_nodes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tables.json");
    std::fs::write(&file, r#"{"form":1,"tables":[]}"#).unwrap();
    let (last, _) = crate::snapshot::read(&file).unwrap();
    assert!(last.nodes.is_empty() && last.tables.is_empty());
}
