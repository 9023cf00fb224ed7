//! Servers that are killed, connections that are cut, and commits whose answer is lost.

use super::*;
use futures_util::future;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

const WRITERS: u64 = 8;

/// What ends the sessions of every process of ours.
const CUT: &str =
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'tutti'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_to_kill_9_of_the_server() {
    const ROUNDS: u64 = 3;
    const WRITES: u64 = 150;
    let Some(mut server) = Server::durable() else { return };
    let address = server.database();
    let stores = [open(&address).await, open(&address).await];
    let last = WRITERS * WRITES;
    let watches = stores.each_ref().map(|store| tokio::spawn(follow(store.clone(), 0, last)));
    let (told, mut tells) = mpsc::unbounded_channel();
    let highest = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = stores[usize::try_from(writer % 2).unwrap()].clone();
            let (told, highest) = (told.clone(), Arc::clone(&highest));
            tokio::spawn(count(store, format!("w/{writer}"), WRITES, move |_, revision| {
                highest.fetch_max(revision, Ordering::SeqCst);
                told.send(()).unwrap();
            }))
        })
        .collect();
    for _ in 0..ROUNDS {
        for _ in 0..last / (ROUNDS + 1) {
            soon(tells.recv()).await.unwrap();
        }
        server = tokio::task::spawn_blocking(move || {
            server.kill();
            server.run();
            server
        })
        .await
        .unwrap();
        let acknowledged = highest.load(Ordering::SeqCst);
        let current = soon(stores[0].revision()).await.unwrap();
        assert!(current >= acknowledged, "{current} is left of {acknowledged}");
    }
    for writer in writers {
        soon(writer).await.unwrap();
    }
    assert_eq!(stores[1].revision().await.unwrap(), last);
    let [one, other] = watches;
    assert_eq!(one.await.unwrap(), other.await.unwrap());
    for writer in 0..WRITERS {
        assert_eq!(number(&stores[0], &format!("w/{writer}")).await, WRITES);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_are_cut_again_and_again_leave_each_outcome_certain() {
    const WRITES: u64 = 100;
    let Some(server) = Server::quick().map(Arc::new) else { return };
    let stores = [open(&server.database()).await, open(&server.address("db0")).await];
    let last = WRITERS * WRITES;
    let watches = stores.each_ref().map(|store| tokio::spawn(follow(store.clone(), 0, last)));
    let (told, mut tells) = mpsc::unbounded_channel();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = stores[usize::try_from(writer % 2).unwrap()].clone();
            let told = told.clone();
            tokio::spawn(count(store, format!("w/{writer}"), WRITES, move |_, _| told.send(()).unwrap()))
        })
        .collect();
    let mut cut = 0;
    for _ in 0..10 {
        for _ in 0..last / 12 {
            soon(tells.recv()).await.unwrap();
        }
        cut += sql(&server, "db0", CUT).await.parse::<u64>().unwrap();
    }
    assert!(cut >= 10, "only {cut} sessions were cut");
    for writer in writers {
        soon(writer).await.unwrap();
    }
    // Had one taken effect twice, or been refused and taken effect, its counter or the revisions would tell.
    assert_eq!(stores[0].revision().await.unwrap(), last);
    for watch in watches {
        watch.await.unwrap();
    }
}

/// Waits until a commit of ours is being waited for.
async fn committing(server: &Arc<Server>) {
    let asked = "SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'tutti' AND query = 'COMMIT' AND state = 'active'";
    until("no commit is under way", || server.sql("db0", asked) == "1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_took_effect_is_found_though_its_answer_was_lost() {
    let Some(server) = Server::quick().map(Arc::new) else { return };
    let store = open(&server.database()).await;
    commit(&store, Txn::new().put("a", *b"1")).await;
    // A commit waits, when it is done here already, for a standby that never comes.
    sql(&server, "db0", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    sql(&server, "db0", "SELECT pg_reload_conf()").await;
    let names = || server.sql("db0", "SHOW synchronous_standby_names");
    until("the setting is not read", || names() == "nobody").await;
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.txn(Txn::new().when(Compare::Modified("a".into(), 1)).put("a", *b"2")).await }
    });
    committing(&server).await;
    sql(&server, "db0", CUT).await;
    assert_eq!(soon(writing).await.unwrap(), Ok(TxnOutcome::Committed(2)));
    sql(&server, "db0", "ALTER SYSTEM RESET synchronous_standby_names").await;
    sql(&server, "db0", "SELECT pg_reload_conf()").await;
    assert_eq!(store.get("a").await.unwrap().unwrap().modified, 2);
    assert_eq!(soon(store.txn(Txn::new().put("b", *b"1"))).await, Ok(TxnOutcome::Committed(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_took_no_effect_is_tried_again() {
    let Some(server) = Server::quick().map(Arc::new) else { return };
    let store = open(&server.database()).await;
    commit(&store, Txn::new().put("a", *b"1")).await;
    // A commit waits before it is done.
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_sleep(60); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON tutti.history DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION slow()";
    sql(&server, "db0", slow).await;
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.txn(Txn::new().when(Compare::Modified("a".into(), 1)).put("a", *b"2")).await }
    });
    committing(&server).await;
    // The next attempt must not wait too: it finds the trigger gone once it has the lock.
    let gone = tokio::spawn({
        let server = Arc::clone(&server);
        async move { sql(&server, "db0", "SET lock_timeout = '50s'; DROP TRIGGER slow ON tutti.history").await }
    });
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'";
    until("the trigger is not being removed", || server.sql("db0", waits) == "1").await;
    sql(&server, "db0", CUT).await;
    assert_eq!(soon(writing).await.unwrap(), Ok(TxnOutcome::Committed(2)));
    gone.await.unwrap();
    assert_eq!(store.revision().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_that_cannot_be_asked_for_is_said_to_be_unknown() {
    let Some(mut server) = Server::quick() else { return };
    let store = PostgresStore::open(server.database().parse().unwrap(), impatient()).await.unwrap();
    commit(&store, Txn::new().put("a", *b"1")).await;
    server.sql(
        "db0",
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END';
         CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON tutti.history DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION slow()",
    );
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.txn(Txn::new().put("a", *b"2")).await }
    });
    let server = {
        let shared = Arc::new(server);
        committing(&shared).await;
        server = Arc::into_inner(shared).unwrap();
        tokio::task::spawn_blocking(move || {
            server.kill();
            server
        })
        .await
        .unwrap()
    };
    let answer = soon(writing).await.unwrap();
    let Err(StoreError::Unavailable(text)) = &answer else { panic!("{answer:?}") };
    assert!(text.contains("is not known") && text.contains("postgres://tutti@"), "{text}");
    let answer = soon(store.get("a")).await;
    assert!(
        matches!(&answer, Err(StoreError::Unavailable(text)) if text.contains("postgres://")),
        "{answer:?}"
    );
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_when_its_connection_is_cut_or_its_notice_is_lost() {
    let Some(server) = Server::quick().map(Arc::new) else { return };
    let (store, other) = (open(&server.database()).await, open(&server.address("db0")).await);
    let following = tokio::spawn(follow(store.clone(), 0, 31));
    for round in 0..3 {
        for _ in 0..5 {
            commit(&other, Txn::new().put(format!("k/{round}"), *b"1")).await;
        }
        let listener = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE application_name = 'tutti'";
        sql(&server, "db0", listener).await;
        for _ in 0..5 {
            commit(&other, Txn::new().put(format!("k/{round}"), *b"2")).await;
        }
    }
    // Written behind everybody's back, and so without a notice.
    let silent = "BEGIN; SELECT FROM tutti.state FOR UPDATE;
        INSERT INTO tutti.history (id, key, created, value) VALUES (31 * 64, 'silent', 31, '1');
        INSERT INTO tutti.current (key, id, created) VALUES ('silent', 31 * 64, 31);
        UPDATE tutti.state SET revision = 31; COMMIT";
    sql(&server, "db0", silent).await;
    assert_eq!(soon(following).await.unwrap().len(), 31);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_says_is_told_in_the_contracts_words() {
    let Some(server) = Server::quick().map(Arc::new) else { return };
    let store = open(&server.database()).await;
    commit(&store, Txn::new().put("a", *b"1")).await;
    let fail = |code: &str, times: u32| {
        format!(
            "CREATE SEQUENCE IF NOT EXISTS times; ALTER SEQUENCE times RESTART;
             CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF nextval('times') <= {times} THEN RAISE 'made up' USING ERRCODE = '{code}'; END IF;
                RETURN NULL; END $$;
             CREATE OR REPLACE TRIGGER fail AFTER INSERT ON tutti.history EXECUTE FUNCTION fail()"
        )
    };
    let put = || store.txn(Txn::new().put("a", *b"2").put("b", *b"2"));
    sql(&server, "db0", &fail("53100", 1)).await;
    let answer = soon(put()).await;
    assert!(matches!(&answer, Err(StoreError::NoSpace(place)) if place.contains("/db0")), "{answer:?}");
    sql(&server, "db0", &fail("XX001", 1)).await;
    let answer = soon(put()).await;
    assert!(matches!(&answer, Err(StoreError::Corrupt(_))), "{answer:?}");
    sql(&server, "db0", &fail("42501", 1)).await;
    let answer = soon(put()).await;
    assert!(matches!(&answer, Err(StoreError::Unavailable(text)) if text.contains("made up")), "{answer:?}");
    assert_eq!(store.revision().await.unwrap(), 1);
    // What passes is tried again: a deadlock, a failed serialization, a server that has become a standby.
    for (revision, code) in (2..).zip(["40P01", "40001", "25006"]) {
        sql(&server, "db0", &fail(code, 2)).await;
        assert_eq!(soon(put()).await, Ok(TxnOutcome::Committed(revision)), "{code}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_connections_are_waited_for_and_then_named() {
    let Some(mut server) = Server::made() else { return };
    server.set("fsync=off");
    server.set("max_connections=12");
    server.set("superuser_reserved_connections=3");
    server.run();
    let address = server.database();
    server.sql("db0", "CREATE ROLE app LOGIN; GRANT CREATE ON DATABASE db0 TO app");
    let address = address.replace("tutti@", "app@");
    let store = open(&address).await;
    commit(&store, Txn::new().put("a", *b"1")).await;
    future::try_join_all((0..20).map(|_| store.get("a"))).await.unwrap();
    let mut others = Vec::new();
    let refused = loop {
        match PostgresStore::open(address.parse().unwrap(), impatient()).await {
            Ok(other) => others.push(other),
            Err(error) => break error,
        }
        assert!(others.len() < 12, "connections do not run out");
    };
    assert!(refused.to_string().contains("(53300)"), "{refused}");
    // The one that has its connections goes on.
    commit(&store, Txn::new().put("a", *b"2")).await;
}
