//! Tables, and how they are made and recognized.
//!
//! They stand in a schema of their own, `tutti`. `history` has one row for each change, with an id of [`crate::rows`];
//! a removal has no `created` and no `value`. `current` has one row for each key there is. `state` is the single row
//! that a writer locks: `revision`, the last one given out; `compacted`, the oldest that can be listed; `lease`, the
//! last lease given out. Keys are bytes, so that they are in the order of their bytes whatever the database's
//! collation, and so that every key of the contract can be one.
//!
//! `lease` has the leases, with when each expires by the server's clock; `look` when somebody last looked for expired
//! ones. `sweep` has the row id up to which superseded rows of history are gone. `writer` has, for each process that
//! writes, the number of its last batch, by which it finds out whether a commit whose answer it did not get took
//! effect.

use super::{failure::Failure, session::Connector};
use crate::StoreError;
use tokio_postgres::Client;

/// The form of the tables. A later form upgrades this one when it is opened.
const VERSION: i32 = 1;

/// "Tutt": the advisory lock under which tables are made and upgraded, so that first starts do not race.
const LOCK: i64 = 0x5475_7474;

/// The oldest PostgreSQL that is tested, as `server_version_num` has it.
const OLDEST_SERVER: i32 = 150_000;

/// Rows that are updated again and again leave room on their page for their next versions.
const CREATE: &str = "
    CREATE SCHEMA IF NOT EXISTS tutti;
    CREATE TABLE tutti.form (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        version integer NOT NULL
    );
    CREATE TABLE tutti.state (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        revision bigint NOT NULL,
        compacted bigint NOT NULL,
        lease bigint NOT NULL
    ) WITH (fillfactor = 10);
    INSERT INTO tutti.state (revision, compacted, lease) VALUES (0, 0, 0);
    CREATE TABLE tutti.history (
        id bigint PRIMARY KEY,
        key bytea NOT NULL,
        created bigint,
        lease bigint,
        value bytea
    );
    CREATE INDEX history_key ON tutti.history (key, id DESC);
    CREATE TABLE tutti.current (
        key bytea PRIMARY KEY,
        id bigint NOT NULL,
        created bigint NOT NULL,
        lease bigint
    ) WITH (fillfactor = 50);
    CREATE INDEX current_lease ON tutti.current (lease) WHERE lease IS NOT NULL;
    CREATE TABLE tutti.lease (
        id bigint PRIMARY KEY,
        ttl bigint NOT NULL,
        expires timestamptz NOT NULL
    );
    CREATE INDEX lease_expires ON tutti.lease (expires);
    CREATE TABLE tutti.look (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        at timestamptz NOT NULL
    ) WITH (fillfactor = 10);
    INSERT INTO tutti.look (at) VALUES (clock_timestamp());
    CREATE TABLE tutti.sweep (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        swept bigint NOT NULL
    ) WITH (fillfactor = 10);
    INSERT INTO tutti.sweep (swept) VALUES (0);
    CREATE TABLE tutti.writer (
        id bytea PRIMARY KEY,
        batch bigint NOT NULL,
        seen timestamptz NOT NULL
    ) WITH (fillfactor = 10);
";

/// Checks that the server is one whose acknowledgements hold, and that its database has the tables, which are made if
/// there are none. `durable` is whether it must write to the disk.
pub(super) async fn prepare(connector: &Connector, client: &Client, durable: bool) -> Result<(), Failure> {
    let failed = |error: tokio_postgres::Error| Failure::of(&error, connector.place());
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::integer, current_setting('server_version'),
                    current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on'",
            &[],
        )
        .await
        .map_err(failed)?;
    let (version, name): (i32, String) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    if version < OLDEST_SERVER {
        return Err(StoreError::Unavailable(format!(
            "{}: it is PostgreSQL {name}; 15 or newer is needed",
            connector.place()
        ))
        .into());
    }
    let (fsync, pages): (bool, bool) = (row.try_get(2).map_err(failed)?, row.try_get(3).map_err(failed)?);
    if durable && !(fsync && pages) {
        return Err(StoreError::Unavailable(format!(
            "{}: its server has fsync or full_page_writes off, so that it loses what it acknowledged when it crashes; \
             turn both on",
            connector.place()
        ))
        .into());
    }
    client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await.map_err(failed)?;
    client.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await.map_err(failed)?;
    tables(connector, client).await?;
    client.batch_execute("COMMIT").await.map_err(failed)
}

async fn tables(connector: &Connector, client: &Client) -> Result<(), Failure> {
    let failed = |error: tokio_postgres::Error| Failure::of(&error, connector.place());
    let row = client
        .query_one(
            "SELECT to_regclass('tutti.form') IS NOT NULL,
                    (SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = 'tutti')",
            &[],
        )
        .await
        .map_err(failed)?;
    let (ours, count): (bool, i64) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    if !ours {
        if count > 0 {
            return Err(StoreError::Corrupt(format!(
                "{}: its schema \"tutti\" is some other program's",
                connector.place()
            ))
            .into());
        }
        client.batch_execute(CREATE).await.map_err(failed)?;
        client.execute("INSERT INTO tutti.form (version) VALUES ($1)", &[&VERSION]).await.map_err(failed)?;
        return Ok(());
    }
    let row = client.query_one("SELECT version FROM tutti.form", &[]).await.map_err(failed)?;
    let version: i32 = row.try_get(0).map_err(failed)?;
    if version != VERSION {
        return Err(StoreError::Unavailable(format!(
            "{} has form {version} of a store, and this release knows form {VERSION} only: use the release that wrote it",
            connector.place()
        ))
        .into());
    }
    Ok(())
}
