//! The engine that clouds of tests keep their state in: `TUTTI_TEST_ENGINE=sqlite|etcd|postgres`, SQLite without it. Each
//! cloud has a server of its own, that ends with it.

use crate::{etcd::cluster::Cluster, server::Server};

/// Says which engine.
const VARIABLE: &str = "TUTTI_TEST_ENGINE";

/// Where a cloud keeps its state.
pub enum Engine {
    /// A file in its own folder.
    File,
    /// An etcd of one member.
    Etcd(Cluster),
    /// A PostgreSQL server, with the address of a database in it.
    Postgres {
        /// Ends when this is dropped.
        _server: Server,
        /// Of the database.
        address: String,
    },
}

impl Engine {
    /// Starts the engine that tests are to use.
    pub fn start() -> Engine {
        let Ok(name) = std::env::var(VARIABLE) else { return Engine::File };
        match name.as_str() {
            "sqlite" => Engine::File,
            "etcd" => {
                let cluster = Cluster::start(1, &[]).expect("etcd is installed");
                cluster.wait_for_leader();
                Engine::Etcd(cluster)
            }
            "postgres" => {
                // The store refuses a server that may forget what it acknowledged.
                let server = Server::durable().expect("PostgreSQL is installed");
                let address = server.database();
                Engine::Postgres { _server: server, address }
            }
            other => panic!("{VARIABLE}={other} is none of sqlite, etcd, postgres"),
        }
    }

    /// Starts one that tests are not to use: etcd beside a file, PostgreSQL beside etcd, and a file beside PostgreSQL, or
    /// where the other is not installed.
    pub fn another() -> Engine {
        match std::env::var(VARIABLE).as_deref() {
            Ok("etcd") => Server::durable().map_or(Engine::File, |server| {
                let address = server.database();
                Engine::Postgres { _server: server, address }
            }),
            Ok("postgres") => Engine::File,
            _ => Cluster::start(1, &[]).map_or(Engine::File, |cluster| {
                cluster.wait_for_leader();
                Engine::Etcd(cluster)
            }),
        }
    }

    /// What `TUTTI_STORE` is to say; nothing for the file that is the default.
    pub fn address(&self) -> Option<String> {
        match self {
            Engine::File => None,
            Engine::Etcd(cluster) => Some(cluster.address().to_string()),
            Engine::Postgres { address, .. } => Some(address.clone()),
        }
    }
}
