//! What a store is refused for before anything is done, and how the way to the server is protected.

use super::*;

async fn refused(address: &str, options: PostgresOptions) -> String {
    let error = PostgresStore::open(address.parse().unwrap(), options).await.unwrap_err();
    assert!(!format!("{error:?} {error}").contains("secret"), "{error:?}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_a_store_is_named() {
    let Some(server) = Server::quick() else { return };
    let address = server.database();
    let text = refused(&address, PostgresOptions { durable: true, ..impatient() }).await;
    assert!(text.contains("fsync"), "{text}");
    let text = refused(&server.address("none"), impatient()).await;
    assert!(text.contains("\"none\" does not exist"), "{text}");
    server.sql("db0", "CREATE ROLE poor LOGIN");
    let text = refused(&address.replace("tutti@", "poor:secret@"), impatient()).await;
    assert!(text.contains("permission denied") && text.contains("poor@"), "{text}");
    server.sql("db0", "CREATE SCHEMA tutti; CREATE TABLE tutti.something (a integer)");
    let text = refused(&address, impatient()).await;
    assert!(text.contains("some other program's"), "{text}");
    server.sql("db0", "DROP SCHEMA tutti CASCADE");
    drop(open(&address).await);
    server.sql("db0", "UPDATE tutti.form SET version = 9");
    let text = refused(&address, impatient()).await;
    assert!(text.contains("form 9"), "{text}");
    let text = refused("postgres://me:secret@127.0.0.1:1/db", impatient()).await;
    assert!(text.contains("postgres://me@127.0.0.1:1/db") && text.contains("refused"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_waits_for_the_disk_whatever_the_servers_default() {
    let Some(mut server) = Server::made() else { return };
    server.set("synchronous_commit=off");
    server.run();
    let store = open(&server.database()).await;
    let noted = "CREATE TABLE noted (how text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO noted VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
        CREATE TRIGGER note AFTER INSERT ON tutti.history EXECUTE FUNCTION note()";
    server.sql("db0", noted);
    commit(&store, Txn::new().put("a", *b"1")).await;
    assert_eq!(server.sql("db0", "SELECT how FROM noted"), "on");
}

/// A server on a port of this machine, with a certificate for `localhost` and a user with a password.
fn over_tls() -> Option<(Server, String, u16)> {
    let mut server = Server::made()?;
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = server.file("server.pem", &authority.cert.pem());
    let key = server.file("server.key", &authority.signing_key.serialize_pem());
    let who = server.file("who", "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n");
    // Free when asked; nobody else on this machine asks for just that one.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for setting in [
        "fsync=off".to_owned(),
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", certificate.display()),
        format!("ssl_key_file={}", key.display()),
        format!("hba_file={}", who.display()),
    ] {
        server.set(setting);
    }
    server.run();
    Some((server, certificate.display().to_string(), port))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_what_the_address_says() {
    let Some((server, certificate, port)) = over_tls() else { return };
    let local = |database: &str| server.sql_at(port, database, "CREATE ROLE me LOGIN PASSWORD 'secret'");
    local("postgres");
    server.sql_at(port, "postgres", "CREATE DATABASE db OWNER me");
    let at = |host: &str, rest: &str| format!("postgres://me:secret@{host}:{port}/db?{rest}");
    let good = format!("sslmode=verify-full&sslrootcert={certificate}");
    for address in [at("localhost", &good), at("127.0.0.1", "sslmode=require")] {
        let store = open(&address).await;
        commit(&store, Txn::new().put("a", *b"1")).await;
        let tls = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
            WHERE application_name = 'tutti'";
        assert_eq!(server.sql_at(port, "db", tls), "t");
    }
    let text = refused(&at("localhost", "sslmode=disable"), impatient()).await;
    assert!(text.contains("pg_hba.conf"), "{text}");
    let wrong = at("localhost", &good).replace("secret", "secretly");
    let text = refused(&wrong, impatient()).await;
    assert!(text.contains("password authentication failed"), "{text}");
    for (address, why) in [
        (at("127.0.0.1", &good), "not valid for name"),
        (at("localhost", "sslmode=verify-full&sslrootcert=/none"), "sslrootcert"),
    ] {
        let text = refused(&address, impatient()).await;
        assert!(text.contains(why), "{text}");
    }
}
