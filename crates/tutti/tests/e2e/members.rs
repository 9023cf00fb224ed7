//! A cluster of machines: controls that begin at once, machines that join with a token, what each is refused, and what
//! goes on when one of them dies or is removed. All machines are processes of this one, each with folders of its own.

use crate::etcd::cluster as etcd;
use crate::harness::{Said, binary, guest, request, said, signal, wait_for, wait_until};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// Folders of some machines, and the commands of their operator.
pub struct World {
    folder: tempfile::TempDir,
    etcd: etcd::Cluster,
    /// Where artifacts are, if not in the folder, and with what in the environment.
    bucket: Option<(String, Vec<(&'static str, String)>)>,
}

/// A role that runs; it is killed at the end of the test.
pub struct Role {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Role {
    /// Waits until it is ready, and gives what it said.
    pub fn ready(&mut self) -> Value {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    pub fn stop(&mut self) {
        signal(self.child.id(), "TERM");
        self.ends();
    }

    /// Waits until it has ended by itself.
    pub fn ends(&mut self) {
        wait_for("the role ends", || self.child.try_wait().unwrap().is_some());
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in std::fs::read_dir(self.folder.path()).unwrap().flatten() {
                let path = entry.path();
                if path.extension().is_some_and(|end| end == "log") {
                    eprintln!(
                        "--- {}\n{}",
                        path.display(),
                        std::fs::read_to_string(&path).unwrap_or_default()
                    );
                }
            }
        }
    }
}

impl World {
    pub fn start() -> Option<World> {
        let etcd = etcd::Cluster::start(1, &[])?;
        etcd.wait_for_leader();
        let folder = tempfile::Builder::new().prefix("tutti-members-").tempdir().unwrap();
        Some(World { folder, etcd, bucket: None })
    }

    /// The same, with artifacts in a bucket.
    pub fn with_bucket(address: &str, environment: Vec<(&'static str, String)>) -> Option<World> {
        let mut world = World::start()?;
        world.bucket = Some((address.to_owned(), environment));
        Some(world)
    }

    /// Where the state is.
    pub fn store(&self) -> String {
        self.etcd.address().to_string()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        if let Some((_, environment)) = &self.bucket {
            command.envs(environment.iter().map(|(name, value)| (name, value)));
        }
        command
    }

    pub fn tutti(&self, arguments: &[&str]) -> Said {
        said(self.command().args(arguments).output().unwrap())
    }

    pub fn ok(&self, arguments: &[&str]) -> String {
        let said = self.tutti(arguments);
        assert_eq!(said.code, 0, "tutti {}\n{}\n{}", arguments.join(" "), said.out, said.err);
        said.out
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let out = self.ok(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// Starts a role of the machine of this name.
    pub fn role(&self, machine: &str, arguments: &[&str]) -> Role {
        let log = self.path(&format!("{machine}-{}.log", arguments[0]));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let (data, member) =
            (self.text(&format!("{machine}-{}", arguments[0])), self.text(&format!("{machine}-member")));
        let mut child = self
            .command()
            .args(arguments)
            .args(["-o", "json", "--data-dir", &data, "--member-dir", &member])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Role { child, out }
    }

    /// Starts the control of a machine. Each has a key file of its own; artifacts are on a shared folder.
    pub fn server(&self, machine: &str, more: &[&str]) -> Role {
        self.server_at(machine, "127.0.0.1:0", more)
    }

    /// The same, listening there.
    pub fn server_at(&self, machine: &str, api: &str, more: &[&str]) -> Role {
        let key = self.text(&format!("{machine}.key"));
        let store = self.etcd.address().to_string();
        let blobs = match &self.bucket {
            Some((address, _)) => address.clone(),
            None => format!("shared:{}", self.text("blobs")),
        };
        let arguments = [
            &["server", "--store", &store, "--blobs", &blobs, "--key", &key, "--node", machine],
            &["--api", api, "--vouch", "true"][..],
            more,
        ];
        self.role(machine, &arguments.concat())
    }

    pub fn token(&self, more: &[&str]) -> String {
        let created = self.json(&[&["token", "create", "--node"], more].concat());
        created["token"].as_str().unwrap().to_owned()
    }

    pub fn join(&self, machine: &str, control: &str, token: &str, more: &[&str]) -> Said {
        let member = self.text(&format!("{machine}-member"));
        let arguments = ["join", control, "--node", machine, "--token", token, "--member-dir", &member];
        self.tutti(&[&arguments, more].concat())
    }

    /// The states of nodes by name, as `tutti node list` has them.
    fn nodes(&self) -> Vec<(String, bool)> {
        let all = self.json(&["node", "list"]);
        let of_nodes = all.as_array().unwrap().iter().filter(|object| object["kind"] == "node");
        let heard = |node: &Value| {
            let conditions = node["conditions"].as_array().cloned().unwrap_or_default();
            !conditions.iter().any(|condition| condition["type"] == "Heard" && condition["met"] == false)
        };
        of_nodes.map(|node| (node["name"].as_str().unwrap().to_owned(), heard(node))).collect()
    }

    pub fn push(&self, version: &str) {
        let folder = self.path(&version.replace([':', '@'], "-"));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("hello.wasm");
        std::fs::copy(guest("hello-wasm/hello_wasm.wasm"), &file).unwrap();
        self.ok(&["push", file.to_str().unwrap(), version]);
    }
}

/// A port that nobody has: it must be known before its agent starts.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn machines_become_a_cluster_and_stay_one() {
    let Some(world) = World::start() else { return };
    // Controls that would each keep what is pushed to themselves are refused.
    let store = world.etcd.address().to_string();
    let refused = world.tutti(&["server", "--init", "--store", &store, "--blobs", &world.text("own")]);
    assert!(refused.code == 3 && refused.err.contains("--blobs shared:PATH"), "{refused:?}");

    // Three at once make one cluster, and one key: whoever did not make it has it from who did.
    let mut servers: Vec<Role> =
        ["c1", "c2", "c3"].iter().map(|machine| world.server(machine, &["--init"])).collect();
    let ready: Vec<Value> = servers.iter_mut().map(Role::ready).collect();
    assert!(ready.iter().all(|server| server["cluster"] == ready[0]["cluster"]), "{ready:?}");
    assert!(ready.iter().all(|server| server["root"] == ready[0]["root"]), "{ready:?}");
    let keys: Vec<String> = ["c1", "c2", "c3"]
        .iter()
        .map(|machine| std::fs::read_to_string(world.path(&format!("{machine}.key"))).unwrap())
        .collect();
    assert!(keys[0].trim().len() == 64 && keys.iter().all(|key| *key == keys[0]));
    let with_token = ready.iter().filter(|server| !server["token_file"].is_null()).count();
    assert_eq!(with_token, 1, "{ready:?}");
    let addresses: Vec<String> = ready
        .iter()
        .map(|server| server["api"].as_str().unwrap().trim_start_matches("https://").to_owned())
        .collect();

    // The one control whose token is here stays.
    let keeps = ready.iter().position(|server| !server["token_file"].is_null()).unwrap();
    let names = ["c1", "c2", "c3"];
    let (other, dies) = ((keeps + 1) % 3, (keeps + 2) % 3);
    let name = names[other];

    // Who owns the machine of any of them needs no token, and finds the one that leads from each.
    let over_socket = |machine: &str, arguments: &[&str]| -> Value {
        let socket = format!("unix:{}", world.text(&format!("{machine}-server/control.sock")));
        let mut command = world.command();
        command.env("XDG_CONFIG_HOME", world.path("nobody")).args(arguments);
        let said = said(command.args(["--api", &socket, "-o", "json"]).output().unwrap());
        assert_eq!(said.code, 0, "{machine} {arguments:?}: {said:?}");
        serde_json::from_str(&said.out).unwrap()
    };
    let told = names.map(|machine| over_socket(machine, &["debug", "reconcilers"]));
    let leading: Vec<&Value> = told.iter().filter(|told| !told["leads_since"].is_null()).collect();
    assert_eq!(leading.len(), 1, "{told:?}");
    let leader = &leading[0]["control"];
    assert!(told.iter().all(|told| told["leader"] == *leader), "{told:?}");
    assert_eq!(told.iter().filter(|told| told["leader_address"].is_string()).count(), 2, "{told:?}");
    let made = over_socket(names[dies], &["token", "create", "--node", "early", "--runs", "agent"]);
    assert!(made["token"].as_str().is_some_and(|token| token.starts_with("tuttijoin_")), "{made}");

    // What is a member already becomes none again.
    servers[other].stop();
    let mut again = world.server(name, &["--init"]);
    wait_for("a second init is refused", || again.child.try_wait().unwrap().is_some());
    let log = std::fs::read_to_string(world.path(&format!("{name}-server.log"))).unwrap();
    assert!(log.contains(&format!("this machine is member {name} of cluster")), "{log}");
    let refused = world.join(name, &addresses[keeps], &world.token(&[]), &[]);
    assert!(refused.code != 0 && refused.err.contains(&format!("is member {name} of")), "{refused:?}");

    // One that has lost its key has it from another again; a further control joins with a token.
    std::fs::remove_file(world.path(&format!("{name}.key"))).unwrap();
    servers[other] = world.server(name, &[]);
    servers[other].ready();
    assert_eq!(std::fs::read_to_string(world.path(&format!("{name}.key"))).unwrap(), keys[0]);
    let token = world.token(&["c4", "--runs", "server"]);
    let joined = world.join("c4", &addresses[keeps], &token, &["--role", "server"]);
    assert_eq!(joined.code, 0, "{joined:?}");
    let mut fourth = world.server("c4", &[]);
    assert_eq!(fourth.ready()["cluster"], ready[0]["cluster"]);
    assert_eq!(std::fs::read_to_string(world.path("c4.key")).unwrap(), keys[0]);
    for machine in ["c1", "c2", "c3", "c4"] {
        let log = std::fs::read_to_string(world.path(&format!("{machine}-server.log"))).unwrap();
        assert!(!log.contains(keys[0].trim()), "{machine} logged the key");
    }
    fourth.stop();

    // A token admits one machine, for what it says.
    let token = world.token(&["w1", "--runs", "agent"]);
    let refused = world.join("w1", &addresses[dies], &token, &["--role", "agent,server"]);
    assert!(refused.err.contains("not for the role server"), "{refused:?}");
    let refused = world.join("w2", &addresses[dies], &token, &["--role", "agent"]);
    assert!(refused.err.contains("a machine named w1"), "{refused:?}");
    let port = free_port();
    let advertise = format!("127.0.0.1:{port}");
    // The first of the controls that are named is away.
    let controls = format!("127.0.0.1:1,{}", addresses[dies]);
    let joined = world.join("w1", &controls, &token, &["--role", "agent", "--advertise", &advertise]);
    assert_eq!(joined.code, 0, "{joined:?}");
    let refused = world.join("w2", &addresses[dies], &token, &["--role", "agent"]);
    assert!(refused.code != 0 && refused.err.contains("token create --node"), "{refused:?}");
    let mut agent = world.role("w1", &["agent", "--listen", &advertise]);
    assert_eq!(agent.ready()["node"], "w1");

    // It runs what is deployed, over whichever control.
    world.ok(&["domain", "create", "example.com"]);
    world.push("example.com:web@1.0");
    world.ok(&["deploy", "example.com:web@1.0", "100%", "--no-wait"]);
    let runs = |version: &str, node: &str| {
        let instances = world.json(&["ps"]);
        let ready = instances.as_array().unwrap().iter().any(|instance| {
            let (spec, state) = (&instance["spec"], &instance["status"]["state"]);
            spec["version"] == version && spec["node"] == node && state == "ready"
        });
        if ready { Ok(()) } else { Err(instances.to_string()) }
    };
    wait_until("an instance is ready on w1", || runs("example.com:web@1.0", "w1"));
    assert_eq!(world.nodes(), [("w1".to_owned(), true)]);

    // A control dies as a machine does.
    servers[dies].kill();
    world.push("example.com:web@1.1");
    world.ok(&["deploy", "example.com:web@1.1", "100%", "--no-wait"]);
    wait_until("an instance of the next version is ready", || runs("example.com:web@1.1", "w1"));

    // A node that drains keeps what has no room elsewhere, and is empty once there is some.
    let late = world.tutti(&["node", "drain", "w1", "--timeout", "1s"]);
    assert!(late.code != 0 && late.err.contains("still run on node w1"), "{late:?}");
    assert_eq!(runs("example.com:web@1.1", "w1"), Ok(()));
    let second = format!("127.0.0.1:{}", free_port());
    let joined = world.join("w2", &addresses[keeps], &world.token(&[]), &["--advertise", &second]);
    assert_eq!(joined.code, 0, "{joined:?}");
    let mut other_agent = world.role("w2", &["agent", "--listen", &second]);
    other_agent.ready();
    // The way in is on another machine than what it leads to.
    let mut ingress = world.role("w2", &["ingress", "--http", "127.0.0.1:0"]);
    let http: SocketAddr =
        ingress.ready()["http"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
    let get = || {
        let text = "GET / HTTP/1.1\r\nhost: web.example.com.localhost\r\nconnection: close\r\n\r\n";
        let answer = request(http, text);
        (answer.status, if answer.status == 200 { String::new() } else { answer.body })
    };
    let fine = (200, String::new());
    assert_eq!((get(), runs("example.com:web@1.1", "w1")), (fine.clone(), Ok(())));
    world.ok(&["node", "drain", "w1", "--timeout", "60s"]);
    assert_eq!((get(), runs("example.com:web@1.1", "w2")), (fine.clone(), Ok(())));

    // In a cluster a node is called as the member is.
    let refused = world.tutti(&["agent", "--node", "other", "--member-dir", &world.text("w2-member")]);
    assert!(refused.code == 3 && refused.err.contains("is member w2"), "{refused:?}");

    // Removed, it is refused at once, though its certificate is good; and its name is free for another machine.
    world.ok(&["node", "remove", "w1"]);
    wait_until("control refuses w1", || {
        let log = std::fs::read_to_string(world.path("w1-agent.log")).unwrap();
        if log.contains("is no member's, or that member was removed") { Ok(()) } else { Err(log) }
    });
    agent.stop();
    let token = world.token(&[]);
    std::fs::remove_dir_all(world.path("w1-member")).unwrap();
    let joined = world.join("w1", &addresses[keeps], &token, &["--advertise", &advertise]);
    assert_eq!(joined.code, 0, "{joined:?}");
    let members = world.json(&["node", "list"]);
    let members: Vec<&str> = members
        .as_array()
        .unwrap()
        .iter()
        .filter(|object| object["kind"] == "member")
        .map(|object| object["name"].as_str().unwrap())
        .collect();
    assert_eq!(members, ["c1", "c2", "c3", "c4", "w1", "w2"]);

    // Without any control what serves goes on serving, and an ingress that is started then serves by what it kept, which
    // may be a second older than what it knew.
    let instances = world.json(&["ps"]);
    let of_now = instances.as_array().unwrap().iter().find(|instance| {
        instance["spec"]["version"] == "example.com:web@1.1" && instance["status"]["state"] == "ready"
    });
    let of_now = of_now.unwrap()["name"].as_str().unwrap();
    wait_until("the ingress has kept its table of now", || {
        let kept = std::fs::read_to_string(world.path("w2-ingress").join("tables.json")).unwrap_or_default();
        if kept.contains(of_now) { Ok(()) } else { Err(kept) }
    });
    servers.iter_mut().for_each(Role::kill);
    assert_eq!(get(), fine);
    ingress.kill();
    let mut ingress = world.role("w2", &["ingress", "--http", &http.to_string()]);
    ingress.ready();
    wait_until("it serves without control", || if get() == fine { Ok(()) } else { Err(get().1) });
}
