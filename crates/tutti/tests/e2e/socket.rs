//! The sockets of roles: who owns the machine needs no token there, and sees what each role does.

use crate::harness::{Cloud, Said, request, said};
use crate::members::{World, free_port};
use std::net::SocketAddr;

/// What a command says over control's socket, of somebody who has neither context nor token.
fn without_a_token(cloud: &Cloud, socket: &str, arguments: &[&str]) -> Said {
    let mut command = cloud.command();
    let elsewhere = cloud.scratch().join("elsewhere");
    command.env("XDG_CONFIG_HOME", &elsewhere).env("HOME", &elsewhere);
    said(command.args(arguments).args(["--api", socket]).output().expect("tutti runs"))
}

#[test]
fn the_owner_of_a_controls_machine_needs_no_token() {
    let cloud = Cloud::start();
    let socket = format!("unix:{}", cloud.data_dir().join("control.sock").display());
    for arguments in [&["status"][..], &["node", "list"], &["events"], &["debug", "reconcilers"]] {
        let said = without_a_token(&cloud, &socket, arguments);
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        assert!(!said.out.is_empty(), "{arguments:?}");
    }
    // And may make the tokens that others need.
    let said = without_a_token(&cloud, &socket, &["token", "create", "ci", "--role", "admin", "-o", "json"]);
    assert!(said.code == 0 && said.out.contains("secret"), "{said:?}");
    let records = cloud.json(&["audit", "--limit", "1"]);
    assert_eq!(records[0]["spec"]["who"], "(this machine)", "{records}");

    let port = format!("http://{}", cloud.api);
    let refused = without_a_token(&cloud, &port, &["status"]);
    assert!(refused.code != 0 && refused.err.contains("unix:/PATH"), "{refused:?}");
    let nobody = without_a_token(&cloud, "unix:/nowhere/control.sock", &["status"]);
    assert!(nobody.code != 0 && nobody.err.contains("no control answers at unix:/nowhere"), "{nobody:?}");
}

/// Joins by a socket, with the membership of this machine.
fn join_by(world: &World, socket: &str, machine: &str, more: &[&str]) -> Said {
    let member = world.text(&format!("{machine}-member"));
    world.tutti(&[&["join", socket, "--member-dir", &member], more].concat())
}

#[test]
fn the_owner_of_a_controls_machine_joins_its_roles_without_a_token() {
    let (Some(world), Some(other)) = (World::start(), World::start()) else { return };
    let mut server = world.server("c1", &["--init"]);
    let ready = server.ready();
    let socket = format!("unix:{}", world.text("c1-server/control.sock"));

    // The machine itself, for more than it was admitted for.
    let listen = format!("127.0.0.1:{}", free_port());
    let refused = world.tutti(&["agent", "--member-dir", &world.text("c1-member")]);
    assert!(refused.code != 0 && refused.err.contains("tutti join unix:/PATH"), "{refused:?}");
    let joined = join_by(&world, &socket, "c1", &["--role", "agent,ingress", "--advertise", &listen]);
    assert_eq!(joined.code, 0, "{joined:?}");
    assert!(joined.out.contains("c1 is a member of cluster"), "{joined:?}");
    let mut agent = world.role("c1", &["agent", "--listen", &listen]);
    let said = agent.ready();
    assert_eq!(
        (said["node"].as_str(), said["agent"].as_str()),
        (Some("c1"), Some(listen.as_str())),
        "{said}"
    );
    let mut ingress = world.role("c1", &["ingress", "--http", "127.0.0.1:0"]);
    let http: SocketAddr =
        ingress.ready()["http"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
    world.ok(&["domain", "create", "example.com"]);
    world.push("example.com:web@1.0");
    world.ok(&["deploy", "example.com:web@1.0", "100%"]);
    let text = "GET / HTTP/1.1\r\nhost: web.example.com.localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(request(http, text).status, 200);

    // Once more it is refused, and told of what it is a member.
    let again = join_by(&world, &socket, "c1", &["--role", "agent"]);
    assert!(again.code != 0 && again.err.contains("is member c1 of cluster"), "{again:?}");
    assert!(again.err.contains("it may run server, agent, ingress"), "{again:?}");
    let named = join_by(&world, &socket, "c1", &["--role", "dns", "--node", "w7"]);
    assert!(named.code != 0 && named.err.contains("is member c1 of cluster"), "{named:?}");

    // Another membership on the same machine is a new member; a name that another has is refused.
    let second = format!("127.0.0.1:{}", free_port());
    let taken = join_by(&world, &socket, "w2", &["--node", "c1", "--role", "agent"]);
    assert!(taken.code != 0 && taken.err.contains("choose another name"), "{taken:?}");
    let more = ["--node", "w2", "--role", "agent", "--advertise", &second, "-o", "json"];
    let joined = join_by(&world, &socket, "w2", &more);
    let told: serde_json::Value = serde_json::from_str(&joined.out).unwrap_or_else(|_| panic!("{joined:?}"));
    assert_eq!((&told["cluster"], &told["member"]), (&ready["cluster"], &"w2".into()), "{joined:?}");
    let mut agent = world.role("w2", &["agent", "--listen", &second]);
    assert_eq!(agent.ready()["node"], "w2");
    let records = world.json(&["audit", "member/w2"]);
    assert!(records.to_string().contains("(this machine)"), "{records}");

    // A control of another cluster takes nobody who is a member here, and one that is not there admits nobody.
    let mut stranger = other.server("c9", &["--init"]);
    stranger.ready();
    let strangers = format!("unix:{}", other.text("c9-server/control.sock"));
    let refused = join_by(&world, &strangers, "c1", &["--role", "dns"]);
    assert!(refused.code != 0 && refused.err.contains("is not of that"), "{refused:?}");
    let nobody = join_by(&world, "unix:/nowhere/control.sock", "w3", &["--node", "w3"]);
    assert!(nobody.code != 0 && nobody.err.contains("no control answers at unix:/nowhere"), "{nobody:?}");
    // And after all that c1 starts again as what it is.
    server.stop();
    let mut server = world.server("c1", &[]);
    assert_eq!(server.ready()["cluster"], ready["cluster"]);
    assert_eq!(request(http, text).status, 200);
}

#[test]
fn a_cloud_of_one_machine_has_no_members_to_join() {
    let cloud = Cloud::start();
    let socket = format!("unix:{}", cloud.data_dir().join("control.sock").display());
    let member = cloud.scratch().join("member");
    let refused = cloud.tutti(&["join", &socket, "--member-dir", member.to_str().unwrap()]);
    assert!(refused.code != 0 && refused.err.contains("has no members"), "{refused:?}");
    assert!(!member.join("membership.json").exists());
}
