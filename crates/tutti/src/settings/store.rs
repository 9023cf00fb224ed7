//! Where state is kept.

use super::Effective;
use std::{
    path::{Path, PathBuf},
    str::FromStr,
};
use tutti_model::Problem;
use tutti_store::{EtcdAddress, postgres::PostgresAddress};

/// Where state is kept, and by which engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreAddress {
    /// A file of this machine.
    Sqlite(PathBuf),
    /// A cluster of etcd's.
    Etcd(EtcdAddress),
    /// A database of some server.
    Postgres(PostgresAddress),
}

impl FromStr for StoreAddress {
    type Err = Problem;

    /// # Errors
    /// What is wrong with it, for whoever wrote it.
    fn from_str(text: &str) -> Result<Self, Problem> {
        match text.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Ok(StoreAddress::Sqlite(PathBuf::from(path))),
            Some(("etcd", _)) => {
                text.parse().map(StoreAddress::Etcd).map_err(|why: String| Problem::invalid(why))
            }
            Some(("postgres" | "postgresql", _)) => text.parse().map(StoreAddress::Postgres),
            _ => Err(Problem::invalid(
                "write sqlite:PATH, etcd://HOST:PORT[,HOST:PORT…] or postgres://USER@HOST/DATABASE",
            )),
        }
    }
}

pub(super) fn store(
    effective: &Effective,
    data_dir: &Path,
    faults: &mut Vec<Problem>,
) -> Option<StoreAddress> {
    let text = effective.text("store");
    if text.is_empty() {
        return Some(StoreAddress::Sqlite(data_dir.join("store.db")));
    }
    let parsed = text.parse::<StoreAddress>();
    parsed
        .map_err(|problem| {
            let said = effective.fault("store", problem.detail);
            faults.push(match problem.hint {
                Some(hint) => said.hint(hint),
                None => said,
            });
        })
        .ok()
}
