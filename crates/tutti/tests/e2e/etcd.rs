//! `tutti dev` over etcd: what SQLite does for one machine, a cluster does for it, and its members may die.

#[allow(dead_code, reason = "the store's own tests use all of it")]
#[path = "../../../store/tests/etcd/cluster.rs"]
pub mod cluster;

use crate::harness::{Cloud, wait_until};
use cluster::Cluster;

const HOST: &str = "web.example.com.localhost";

#[test]
fn a_cloud_over_etcd_outlives_its_members_and_itself() {
    let Some(mut cluster) = Cluster::start(3, &[]) else { return };
    cluster.wait_for_leader();
    let address = cluster.address().to_string();
    let store: &[(&str, &str)] = &[("TUTTI_STORE", &address)];
    let mut cloud = Cloud::start_with(store);
    cloud.push_wasm("example.com:web@1.0", &[("VERSION", "1.0")]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    assert_eq!(cloud.get(HOST, "/").status, 200);
    let path = cloud.data_dir().join("store.db");
    assert!(!path.exists(), "{} was made all the same", path.display());

    // Whichever it asks, a majority is left.
    for index in 0..3 {
        cluster.kill(index);
        let name = format!("example.com:web@1.{}", index + 1);
        wait_until("it answers with a member fewer", || {
            let status = cloud.tutti(&["status"]);
            if status.code == 0 { Ok(()) } else { Err(status.err) }
        });
        cloud.push_wasm(&name, &[("VERSION", &format!("1.{}", index + 1))]);
        cloud.ok(&["deploy", &name, "100%"]);
        assert_eq!(cloud.get(HOST, "/").status, 200);
        cluster.run(index);
        cluster.wait_for_leader();
    }

    // All of them, and the cloud.
    (0..3).for_each(|index| cluster.kill(index));
    cloud.kill();
    (0..3).for_each(|index| cluster.run(index));
    cluster.wait_for_leader();
    cloud.start_again(store);
    assert_eq!(cloud.get(HOST, "/").status, 200);
    assert_eq!(cloud.items("versions").len(), 4);
    cloud.ok(&["rollback", "example.com:web"]);
    assert_eq!(cloud.get(HOST, "/").status, 200);
}

#[test]
fn a_cloud_moves_from_a_file_to_etcd_and_back() {
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    cluster.wait_for_leader();
    let etcd = cluster.address().to_string();
    let mut cloud = Cloud::start_in_a_file(&[]);
    cloud.push_wasm("example.com:web@1.0", &[("VERSION", "1.0")]);
    cloud.ok(&["deploy", "example.com:web@1.0", "100%"]);
    let file = format!("sqlite:{}", cloud.data_dir().join("store.db").display());
    let refused = cloud.tutti(&["store", "migrate", "--from", &file, "--to", &etcd]);
    assert!(refused.code != 0 && refused.err.contains("is open in another process"), "{}", refused.err);
    cloud.stop();
    let said = cloud.ok(&["store", "migrate", "--from", &file, "--to", &etcd]);
    assert!(said.contains("both have sha256:"), "{said}");

    cloud.start_again(&[("TUTTI_STORE", &etcd)]);
    assert_eq!(cloud.get(HOST, "/").status, 200);
    cloud.push_wasm("example.com:web@1.1", &[("VERSION", "1.1")]);
    cloud.ok(&["deploy", "example.com:web@1.1", "100%"]);
    let back = format!("sqlite:{}", cloud.scratch().join("back.db").display());
    let refused = cloud.tutti(&["store", "migrate", "--from", &etcd, "--to", &back]);
    assert!(refused.code != 0 && refused.err.contains("in use"), "{}", refused.err);
    let again = cloud.tutti(&["store", "migrate", "--from", &file, "--to", &etcd]);
    assert!(again.code != 0 && again.err.contains("the target is not empty"), "{}", again.err);
    cloud.stop();
    cloud.ok(&["store", "migrate", "--from", &etcd, "--to", &back]);
    cloud.start_again(&[("TUTTI_STORE", &back)]);
    assert_eq!(cloud.get(HOST, "/").status, 200);
    assert_eq!(cloud.items("versions").len(), 2);
    cloud.ok(&["rollback", "example.com:web"]);
}

#[test]
fn an_etcd_that_is_not_there_is_named() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut cloud = Cloud::start_with(&[("TUTTI_STORE", &format!("etcd://{free}"))]);
    cloud.wait_for_end();
    let log = cloud.log();
    assert!(log.contains(&format!("{free}: ")) && log.contains("refused"), "{log}");
    assert!(log.contains("hint: ") && log.contains("--store etcd://HOST:PORT"), "{log}");
}
