//! Domains and users: claimed, proved by a record that a real name server answers, shared, and kept apart.

use crate::harness::{Cloud, Said, root, said, wait_for};
use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// A name server on a local port.
struct Dns {
    child: Child,
    records: PathBuf,
    port: u16,
}

impl Dns {
    fn start() -> Dns {
        let folder = std::env::temp_dir();
        let records = folder.join(format!("tutti-e2e-dns-{}", std::process::id()));
        std::fs::write(&records, "").unwrap();
        let mut child = Command::new("python3")
            .arg(root().join("crates/tutti/tests/e2e/programs/dns.py"))
            .arg(&records)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Dns { child, records, port: line.trim().parse().expect("a port") }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on it says just this.
    fn says(&self, lines: &str) {
        std::fs::write(&self.records, lines).unwrap();
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.records);
    }
}

/// The command line with a user's token.
struct User<'a> {
    cloud: &'a Cloud,
    secret: String,
}

impl<'a> User<'a> {
    fn create(cloud: &'a Cloud, name: &str) -> User<'a> {
        let made = cloud.json(&["user", "create", name]);
        User { cloud, secret: made["secret"].as_str().unwrap().to_owned() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.cloud.command();
        command.env("TUTTI_TOKEN", &self.secret).args(arguments);
        command
    }

    fn tutti(&self, arguments: &[&str]) -> Said {
        said(self.command(arguments).output().unwrap())
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(&[arguments, &["-o", "json"]].concat())).unwrap()
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let said = self.tutti(arguments);
        assert_eq!(said.code, 0, "tutti {}\n{}\n{}", arguments.join(" "), said.out, said.err);
        said.out
    }
}

#[test]
fn a_user_proves_a_domain_deploys_to_it_and_shares_it() {
    let dns = Dns::start();
    let cloud = Cloud::start_with(&[("TUTTI_RESOLVER", &dns.address()), ("TUTTI_VOUCH", "false")]);
    let (ada, bob) = (User::create(&cloud, "ada"), User::create(&cloud, "bob@example.net"));
    assert_eq!(ada.ok(&["domain", "list"]).trim(), "no domains");

    let told = ada.ok(&["domain", "create", "ada.org"]);
    let record = told.lines().find(|line| line.contains("TXT")).expect("the record").trim().to_owned();
    let (name, text) = record.split_once(" TXT ").unwrap();
    assert_eq!(name, "_tutti-challenge.ada.org");
    let text = text.trim_matches('"');
    let verify = || ada.tutti(&["domain", "verify", "ada.org"]);
    for (answer, code, why) in [
        (String::new(), 6, "NXDOMAIN"),
        (format!("{name} EMPTY"), 6, "has no TXT record"),
        (format!("{name} TXT tutti-verify=else"), 8, "says something else"),
        (format!("{name} SERVFAIL"), 10, "answered Server Failure"),
        (format!("{name} SILENT"), 11, "no name server answered"),
    ] {
        dns.says(&answer);
        let said = verify();
        assert_eq!(said.code, code, "{}", said.err);
        assert!(said.err.contains(why), "{}", said.err);
    }
    dns.says(&format!("{name} TXT {text}"));
    assert_eq!(verify().code, 0);

    let file = cloud.scratch().join("hello.wasm");
    std::fs::copy(crate::harness::guest("hello-wasm/hello_wasm.wasm"), &file).unwrap();
    ada.ok(&["push", file.to_str().unwrap(), "ada.org:web@1.0"]);
    ada.ok(&["deploy", "ada.org:web@1.0", "100%"]);
    assert_eq!(cloud.get("web.ada.org.localhost", "/").status, 200);

    // Another name, proved the same way.
    let told = ada.json(&["domain", "alias", "add", "ada.org", "ada.net"]);
    let spec = &told["spec"];
    dns.says(&format!("{} TXT {}", spec["record"].as_str().unwrap(), spec["text"].as_str().unwrap()));
    ada.ok(&["domain", "verify", "ada.net"]);
    wait_for("the alias answers", || cloud.get("web.ada.net.localhost", "/").status == 200);
    ada.ok(&["domain", "alias", "remove", "ada.org", "ada.net"]);
    wait_for("the alias is gone", || cloud.get("web.ada.net.localhost", "/").status == 404);

    // Bob sees nothing of it, until he is invited and accepts; and nothing again once he is removed.
    let unseen = |said: &Said| said.code == 6 && !said.err.contains("did you mean");
    assert!(unseen(&bob.tutti(&["service", "show", "ada.org:web"])));
    ada.ok(&["domain", "invite", "ada.org", "bob@example.net", "--role", "viewer"]);
    assert!(unseen(&bob.tutti(&["service", "show", "ada.org:web"])), "an invitation shows nothing");
    let said = ada.ok(&["explain", "domain/ada.org"]);
    for line in ["has 1 member, of whom 1 is an owner", "has as owner ada", "bob@example.net as viewer"] {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
    bob.ok(&["domain", "accept", "ada.org"]);
    assert!(bob.ok(&["status"]).contains("ada.org:web"));
    assert_eq!(bob.tutti(&["rollback", "ada.org:web"]).code, 5, "viewers change nothing");
    let mut follows = bob
        .command(&["logs", "-f", "ada.org:web"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tutti runs");
    ada.ok(&["domain", "member", "remove", "ada.org", "bob@example.net"]);
    wait_for("the log that is followed ends", || follows.try_wait().unwrap().is_some());
    assert!(unseen(&bob.tutti(&["service", "show", "ada.org:web"])));
    assert_eq!(ada.tutti(&["domain", "leave", "ada.org"]).code, 8, "the last owner stays");
}
