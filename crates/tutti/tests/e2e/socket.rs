//! The sockets of roles: who owns the machine needs no token there, and sees what each role does.

use crate::harness::{Cloud, said};

/// What a command says over control's socket, of somebody who has neither context nor token.
fn without_a_token(cloud: &Cloud, socket: &str, arguments: &[&str]) -> crate::harness::Said {
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
