//! A node and an ingress that are members of one cluster, and the wire between them over TLS.

use super::{
    super::*,
    far::{Far, PATIENCE, node, others, post, target, text},
};
use crate::{Hop, HopError};
use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tutti_base::{Clock, Random, SystemClock, Tasks, body};
use tutti_model::{
    member::{MachineRole, Membership},
    node::RoleAddress,
};
use tutti_pki::{Acceptor, Identity, Listens, MemberDial, MemberId, MemberTable, Root, listens};

/// The two members, and the table that both know.
pub(super) struct Cluster {
    agent: Arc<Identity>,
    ingress: Arc<Identity>,
    pub(super) table: Arc<MemberTable>,
    clock: Arc<dyn Clock>,
    address: OnceLock<SocketAddr>,
}

impl Cluster {
    pub(super) fn new() -> Cluster {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let root = Root::make("c1", Arc::clone(&clock), Random::seeded(1)).unwrap();
        let zone = root.intermediate(&"dev/local".parse().unwrap()).unwrap();
        // Keys are in memory once the identities are open.
        let folder = tempfile::tempdir().unwrap();
        let identity = |name: &str| {
            let identity = Identity::open(&folder.path().join(name)).unwrap();
            let member = MemberId::new("c1", "dev/local".parse().unwrap(), name.parse().unwrap()).unwrap();
            identity.take(zone.vouch(&identity.request().unwrap(), &member, &[]).unwrap()).unwrap();
            Arc::new(identity)
        };
        let cluster = Cluster {
            agent: identity("n1"),
            ingress: identity("i1"),
            table: Arc::default(),
            clock,
            address: OnceLock::new(),
        };
        cluster.know(&[MachineRole::Ingress]);
        cluster
    }

    /// From now on the ingress has these roles; without any it is no member.
    pub(super) fn know(&self, ingress: &[MachineRole]) {
        let member = |identity: &Identity, roles: &[MachineRole]| {
            let name = identity.id().unwrap().name;
            (Membership { name, roles: roles.iter().copied().collect() }, vec![identity.key()])
        };
        let agent = member(&self.agent, &[MachineRole::Agent]);
        let ingress = (!ingress.is_empty()).then(|| member(&self.ingress, ingress));
        self.table.replace([agent].into_iter().chain(ingress));
    }

    pub(super) async fn serve(&self) -> (Arc<Far>, (Tasks, JoinHandle<()>)) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.address.set(listener.local_addr().unwrap()).unwrap();
        let admits = Listens {
            table: Arc::clone(&self.table),
            roles: Guests::ROLES.to_vec(),
            issued: None,
            members_only: true,
        };
        let config = listens(Arc::clone(&self.agent), admits, Arc::clone(&self.clock)).unwrap();
        let guests = Guests { acceptor: Arc::new(Acceptor::new(config)), table: Arc::clone(&self.table) };
        let (far, tasks) = (Arc::new(Far::default()), Tasks::new());
        let hop = Arc::clone(&far) as Arc<dyn Hop>;
        let serving = tokio::spawn(serve_port(listener, guests, hop, node(), others(), tasks.clone()));
        (far, (tasks, serving))
    }

    /// The ingress's end.
    pub(super) fn wire(&self) -> WireHop {
        let book = NodeBook::default();
        assert!(book.set(&node(), Some(RoleAddress::Port((*self.address.get().unwrap()).into()))));
        WireHop::new(Arc::new(book), Arc::new(self.dial()), Random::seeded(1))
    }

    fn dial(&self) -> Members {
        Members(MemberDial {
            identity: Arc::clone(&self.ingress),
            table: Arc::clone(&self.table),
            clock: Arc::clone(&self.clock),
        })
    }
}

async fn refused(wire: &WireHop) -> String {
    let error = wire.send(&node(), &target(), post("/echo", body::full("precious"))).await.unwrap_err();
    let HopError::Misdirected { reason, .. } = error else { panic!("{error:?}") };
    reason
}

#[tokio::test]
async fn a_member_that_was_removed_is_refused_on_its_open_connections_and_on_new_ones() {
    let cluster = Cluster::new();
    let (far, _serving) = cluster.serve().await;
    let wire = cluster.wire();
    let sent = wire.send(&node(), &target(), post("/echo", body::full("hello"))).await.unwrap();
    assert_eq!(text(sent).await, "hello");
    cluster.know(&[MachineRole::Agent]);
    assert_eq!(refused(&wire).await, "who asks is no member with business here any more");
    cluster.know(&[]);
    assert_eq!(refused(&wire).await, "who asks is no member with business here any more");
    assert_eq!(far.served.load(std::sync::atomic::Ordering::SeqCst), 1);
    let anew = cluster.wire();
    let reason = refused(&anew).await;
    assert!(reason.starts_with("node n1 is out: "), "{reason}");
    // As a member again it is served, by the old connection at once.
    cluster.know(&[MachineRole::Ingress]);
    let sent = wire.send(&node(), &target(), post("/echo", body::full("hello"))).await.unwrap();
    assert_eq!(text(sent).await, "hello");
}

#[tokio::test]
async fn another_member_at_the_address_is_not_the_node() {
    let cluster = Cluster::new();
    let (_far, _serving) = cluster.serve().await;
    let address = RoleAddress::Port((*cluster.address.get().unwrap()).into());
    let book = NodeBook::default();
    let other: tutti_model::name::NodeName = "n2".parse().unwrap();
    assert!(book.set(&other, Some(address)));
    let wire = WireHop::new(Arc::new(book), Arc::new(cluster.dial()), Random::seeded(1));
    let error = wire.send(&other, &target(), post("/echo", body::full("x"))).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("member n1 is there, not member n2"), "{said}");
    // Who is a member of no cluster goes to no port.
    let alone = WireHop::new(cluster_book(&cluster), Arc::new(Sockets), Random::seeded(1));
    assert!(refused(&alone).await.contains("a member of no cluster"));
}

fn cluster_book(cluster: &Cluster) -> Arc<NodeBook> {
    let book = NodeBook::default();
    assert!(book.set(&node(), Some(RoleAddress::Port((*cluster.address.get().unwrap()).into()))));
    Arc::new(book)
}

#[tokio::test]
async fn who_connects_and_says_nothing_keeps_no_ingress_out() {
    let cluster = Cluster::new();
    let (_far, (tasks, serving)) = cluster.serve().await;
    let address = *cluster.address.get().unwrap();
    let mut silent = Vec::new();
    for _ in 0..tutti_pki::HANDSHAKES + 10 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let wire = cluster.wire();
    let sent = wire.send(&node(), &target(), post("/echo", body::full("hello"))).await.unwrap();
    assert_eq!(text(sent).await, "hello");
    // The oldest of them made room.
    let ended = tokio::time::timeout(PATIENCE, silent[0].read(&mut [0; 1])).await.expect("it ends");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    // And none of them keeps the node from ending.
    drop(wire);
    tasks.stop();
    tokio::time::timeout(PATIENCE, serving).await.expect("it ends").unwrap();
}
