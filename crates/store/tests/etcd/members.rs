//! Members of three that are killed, frozen and started again under load.

use crate::{cluster::Cluster, load::Load};
use futures_util::StreamExt as _;
use std::time::{Duration, Instant};
use tutti_store::{EtcdAddress, EtcdOptions, Store as _, StoreError, Txn, WatchEvent};

const SOON: Duration = Duration::from_secs(60);

/// Again and again the leader is killed with kill -9 and started again later, so that each member is killed and all
/// its data read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_with_a_leader() {
    let Some(mut cluster) = Cluster::start(3, &[]) else { return };
    let store = cluster.open().await;
    let load = Load::start(&store).await;
    let mut longest = Duration::ZERO;
    for _ in 0..4 {
        load.more(200).await;
        let leader = cluster.leader().await;
        cluster.kill(leader);
        let start = Instant::now();
        load.more(1).await;
        longest = longest.max(start.elapsed());
        load.more(200).await;
        cluster.run(leader);
        cluster.wait_for_leader();
    }
    load.more(100).await;
    let summary = load.finish().await;
    println!("{summary:?}; the longest pause was {longest:?}");
}

/// All members are killed at once, in the middle of writing, and started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_with_all_members() {
    let Some(mut cluster) = Cluster::start(3, &[]) else { return };
    let store = cluster.open().await;
    let load = Load::start(&store).await;
    for _ in 0..3 {
        load.more(200).await;
        (0..3).for_each(|index| cluster.kill(index));
        (0..3).for_each(|index| cluster.run(index));
        load.more(50).await;
    }
    let summary = load.finish().await;
    assert!(summary.resumed >= 3, "{summary:?}");
    println!("{summary:?}");
}

/// A member that is frozen hangs up on nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_member_is_left_in_seconds() {
    let Some(cluster) = Cluster::start(3, &[]) else { return };
    // The one that is named first is the one that is used, once it is ready.
    let first = EtcdAddress { members: cluster.address().members[..1].to_vec(), ..cluster.address() };
    cluster.open_at(&first, EtcdOptions::default()).await;
    let store = cluster.open().await;
    let load = Load::start(&store).await;
    load.more(100).await;
    let mut watch = store.watch("quiet/", Some(store.revision().await.unwrap())).await.unwrap();
    cluster.pause(0);
    let start = Instant::now();
    load.more(100).await;
    let writes = start.elapsed();
    let told = tokio::time::timeout(SOON, watch.next()).await.unwrap();
    assert!(matches!(told, Some(Err(StoreError::Unavailable(_)))), "{told:?}");
    let watches = start.elapsed();
    cluster.resume(0);
    load.more(100).await;
    let summary = load.finish().await;
    println!("{summary:?}; writes went on after {writes:?}, a watch was ended after {watches:?}");
    assert!(writes < Duration::from_secs(20) && watches < Duration::from_secs(20));
}

/// A member without a quorum answers nothing that could be old, and ends watches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_alone_is_of_no_use() {
    let Some(mut cluster) = Cluster::start(3, &[]) else { return };
    let store = cluster.open().await;
    store.txn(Txn::new().put("a", *b"1")).await.unwrap();
    let mut watch = store.watch("", Some(1)).await.unwrap();
    cluster.kill(1);
    cluster.kill(2);
    let told = tokio::time::timeout(SOON, watch.next()).await.unwrap();
    assert!(matches!(told, Some(Err(StoreError::Unavailable(_)))), "{told:?}");
    let read = store.get("a").await;
    assert!(matches!(&read, Err(StoreError::Unavailable(why)) if why.contains("127.0.0.1:")), "{read:?}");
    let written = store.txn(Txn::new().put("a", *b"2")).await;
    assert!(matches!(written, Err(StoreError::Unavailable(_))), "{written:?}");
    cluster.run(1);
    cluster.run(2);
    let again = cluster.open().await;
    assert!(again.get("a").await.unwrap().is_some());
    // The first one finds its way by itself.
    let end = Instant::now() + SOON;
    while let Err(error) = store.get("a").await {
        assert!(Instant::now() < end, "{error}");
    }
    let mut watch = store.watch("", Some(1)).await.unwrap();
    store.txn(Txn::new().put("b", *b"1")).await.unwrap();
    let told = tokio::time::timeout(SOON, watch.next()).await.unwrap();
    assert!(matches!(told, Some(Ok(WatchEvent::Changes { .. }))), "{told:?}");
}

/// A list of members that are not of one cluster is a mistake, and would be two stores in one.
#[tokio::test]
async fn members_of_two_clusters_are_not_one_store() {
    let Some(mut first) = Cluster::start(1, &[]) else { return };
    let Some(second) = Cluster::start(1, &["--initial-cluster-token", "another"]) else { return };
    second.open().await;
    let members = [first.address().members, second.address().members].concat();
    let address = EtcdAddress { members, prefix: "tutti".into() };
    let store = first.open_at(&address, EtcdOptions::default()).await;
    store.txn(Txn::new().put("a", *b"1")).await.unwrap();
    first.kill(0);
    let read = store.get("a").await;
    assert!(
        matches!(&read, Err(StoreError::Unavailable(why)) if why.contains("another cluster")),
        "{read:?}"
    );
}
