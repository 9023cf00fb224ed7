//! A cloud whose store is a PostgreSQL database, through the death of its server and its own.

use crate::{
    harness::{Cloud, said, wait_for},
    server::Server,
};

const SERVICE: &str = "example.com:web";
const HOST: &str = "web.example.com.localhost";

#[test]
fn a_cloud_over_postgresql_outlives_its_server_and_itself() {
    let Some(mut server) = Server::durable() else { return };
    let address = server.database();
    let store = [("TUTTI_STORE", address.as_str())];
    let mut cloud = Cloud::start_with(&store);
    assert!(!cloud.data_dir().join("store.db").exists(), "it keeps a file too");
    let version = |cloud: &Cloud| cloud.get(HOST, "/").header("tutti-version").map(ToOwned::to_owned);
    cloud.push_python(&format!("{SERVICE}@1.0"), "", &[]);
    cloud.push_python(&format!("{SERVICE}@1.1"), "", &[]);
    cloud.ok(&["deploy", &format!("{SERVICE}@1.0"), "100%"]);
    assert_eq!(version(&cloud).as_deref(), Some("1.0"));

    server.kill();
    for _ in 0..20 {
        assert_eq!(cloud.get(HOST, "/").status, 200, "it serves by what it knows");
    }
    server.run();
    cloud.ok(&["deploy", &format!("{SERVICE}@1.1"), "100%"]);
    wait_for("the new version serves", || version(&cloud).as_deref() == Some("1.1"));

    cloud.kill();
    cloud.start_again(&store);
    assert!(cloud.is_ready());
    wait_for("it serves again", || version(&cloud).as_deref() == Some("1.1"));
    cloud.ok(&["rollback", SERVICE]);
    wait_for("the old version serves", || version(&cloud).as_deref() == Some("1.0"));
}

#[test]
fn a_database_that_cannot_be_a_store_is_named_without_its_password() {
    let (Some(server), Some(careless)) = (Server::durable(), Server::quick()) else { return };
    server.sql("postgres", "CREATE ROLE poor LOGIN");
    for (address, why) in [
        (server.address("none").replace("tutti@", "tutti:hunter2@"), "\"none\" does not exist"),
        (server.database().replace("tutti@", "poor:hunter2@"), "permission denied"),
        (careless.database().replace("tutti@", "tutti:hunter2@"), "has fsync or full_page_writes off"),
    ] {
        let cloud = Cloud::start_with(&[("TUTTI_STORE", &address)]);
        assert!(!cloud.is_ready());
        let log = cloud.log();
        assert!(log.contains(why) && log.contains("postgres://") && !log.contains("hunter2"), "{log}");
        let shown =
            said(cloud.command().arg("config").env("TUTTI_STORE", &address).output().expect("tutti runs"));
        assert!(shown.out.contains(":[secret]@") && !shown.out.contains("hunter2"), "{}", shown.out);
    }
}
