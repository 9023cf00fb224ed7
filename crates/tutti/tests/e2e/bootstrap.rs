//! `tutti bootstrap` on six bare hosts: each a network namespace with its own root folder and sshd, beside a PostgreSQL
//! server and a bucket. They have no systemd, so Tutti's supervisor runs what systemd would.

use crate::{
    bucket::moto::{KEYS, Moto},
    harness::{Said, binary, guest, said, try_request, wait_until},
    machines::{Machine, Net, Runs},
    server::Server,
};
use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const HOSTS: [&str; 6] = ["op1", "op2", "op3", "w1", "w2", "w3"];
const NAME: &str = "cloud.example.test";
const SUFFIX: &str = "apps.example.test";
const HOST: &str = "web.example.com.apps.example.test";
/// Folders of this machine that every host has, and cannot write to.
const SHARED: [&str; 2] = ["/usr", "/etc/ssl"];

/// The hosts, and the desk from which they are made a cluster.
struct Hosts {
    sshd: Vec<Runs>,
    net: Net,
    folder: tempfile::TempDir,
}

impl Hosts {
    fn start() -> Option<Hosts> {
        for program in ["/usr/sbin/sshd", "/usr/bin/ssh", "/usr/sbin/nats-server", "/usr/bin/dig"] {
            if !Path::new(program).exists() {
                println!(
                    "skipped: this test runs {program} (Debian: openssh-server, nats-server, bind9-dnsutils), which is not installed"
                );
                return None;
            }
        }
        let net = Net::start(&HOSTS)?;
        let folder = tempfile::Builder::new().prefix("tutti-hosts-").tempdir().unwrap();
        let mut hosts = Hosts { sshd: Vec::new(), net, folder };
        let keys = ["user", "host"].map(|name| hosts.path(name));
        for key in &keys {
            let made =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key).status();
            assert!(made.unwrap().success());
        }
        hosts.bare();
        // Debug symbols would only make the program slow to bring.
        let stripped = Command::new("strip").arg("-o").arg(hosts.path("tutti")).arg(binary()).status();
        assert!(stripped.unwrap().success());
        Some(hosts)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn root(&self, host: &str) -> PathBuf {
        self.path("roots").join(host)
    }

    fn address(&self, host: &str) -> Ipv4Addr {
        self.net.machine(host).address
    }

    /// Ends all that runs on the hosts, and has them as they come: a system, and an sshd that knows one key.
    fn bare(&mut self) {
        HOSTS.iter().for_each(|host| self.net.machine(host).kill());
        self.sshd.clear();
        let _ = fs::remove_dir_all(self.path("roots"));
        for host in HOSTS {
            let root = self.root(host);
            for folder in [
                "etc/ssh",
                "etc/ssl",
                "usr",
                "local/bin",
                "var/lib",
                "var/log",
                "var/tmp",
                "run/sshd",
                "root",
            ] {
                fs::create_dir_all(root.join(folder)).unwrap();
            }
            for folder in ["proc", "sys", "dev", "tmp"] {
                fs::create_dir_all(root.join(folder)).unwrap();
            }
            for link in ["bin", "sbin", "lib", "lib64"] {
                std::os::unix::fs::symlink(format!("usr/{link}"), root.join(link)).unwrap();
            }
            let put = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
            put("etc/passwd", "root:x:0:0::/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n");
            put("etc/group", "root:x:0:\nnogroup:x:65534:\n");
            put("etc/hosts", "127.0.0.1 localhost\n");
            put("etc/hostname", host);
            // `op1` gets it later: that it is missing is to be said.
            if host != "op1" || self.path("cluster.toml").exists() {
                put("etc/resolv.conf", "nameserver 127.0.0.1\n");
            }
            put("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n");
            put(
                "etc/ssh/sshd_config",
                "HostKey /etc/ssh/host\nAuthorizedKeysFile /etc/ssh/user.pub\nPermitRootLogin yes\n\
                 PasswordAuthentication no\nStrictModes no\nPidFile none\n",
            );
            for (from, to) in [("host", "etc/ssh/host"), ("user.pub", "etc/ssh/user.pub")] {
                fs::copy(self.path(from), root.join(to)).unwrap();
            }
            self.sshd.push(sshd(self.net.machine(host), &root, &self.path(&format!("{host}-sshd.log"))));
        }
        // What ssh knows the hosts by.
        let key = fs::read_to_string(self.path("host.pub")).unwrap();
        let key = key.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let known: Vec<String> = HOSTS.iter().map(|host| format!("{} {key}\n", self.address(host))).collect();
        fs::write(self.path("known_hosts"), known.concat()).unwrap();
        for host in HOSTS {
            wait_until("sshd listens", || {
                std::net::TcpStream::connect((self.address(host), 22)).map(drop).map_err(|error| {
                    let log = fs::read_to_string(self.path(&format!("{host}-sshd.log"))).unwrap_or_default();
                    format!("{error}: {log}")
                })
            });
        }
    }

    /// Writes the file that says what there is to be.
    fn write(&self, store: &str, blobs: &str) {
        let mut text = format!(
            "[cluster]\nstore = \"{store}\"\nblobs = \"{blobs}\"\nenvironment = \"operators.env\"\n\
             names = [\"{NAME}\"]\nhost_suffix = \"{SUFFIX}\"\nvouch = true\nnotices = true\n\n[ssh]\nidentity = \"user\"\nknown_hosts = \"known_hosts\"\n"
        );
        for host in HOSTS {
            let part = if host.starts_with("op") { "operator" } else { "worker" };
            text.push_str(&format!(
                "\n[[{part}]]\nname = \"{host}\"\naddress = \"{}\"\n",
                self.address(host)
            ));
        }
        fs::write(self.path("cluster.toml"), text).unwrap();
    }

    /// Runs it, where the name leads to this address.
    fn bootstrap(&self, name_leads_to: Ipv4Addr, more: &str) -> Said {
        fs::write(self.path("hosts"), format!("127.0.0.1 localhost\n{name_leads_to} {NAME}\n")).unwrap();
        let script = format!("mount --bind hosts /etc/hosts && exec ./tutti bootstrap cluster.toml {more}");
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output();
        said(output.unwrap())
    }

    /// A command of the operator's, as the first operator keeps its access.
    fn tutti(&self, arguments: &[&str]) -> Said {
        let ready = self.root("op1").join("var/lib/tutti/server");
        let token =
            fs::read_dir(self.root("op1").join("root/.config/tutti/tokens")).unwrap().flatten().next();
        let token = token.unwrap_or_else(|| panic!("no token beside {}", ready.display())).path();
        let member =
            fs::read_to_string(self.root("op1").join("var/lib/tutti/member/membership.json")).unwrap();
        let member: serde_json::Value = serde_json::from_str(&member).unwrap();
        let output = Command::new(binary())
            .args(["--api", &format!("https://{}:7070", self.address("op1"))])
            .args(["--ca", member["root"].as_str().unwrap(), "--token-file"])
            .arg(token)
            .args(arguments)
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .output();
        said(output.unwrap())
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let said = self.tutti(arguments);
        assert_eq!(said.code, 0, "tutti {}\n{}\n{}", arguments.join(" "), said.out, said.err);
        said.out
    }

    /// Waits until every operator answers that these names lead to all operators, and their DNS servers to themselves.
    fn resolves(&self) {
        let mut operators: Vec<String> =
            HOSTS[..3].iter().map(|host| self.address(host).to_string()).collect();
        operators.sort();
        for (host, name) in HOSTS[..3].iter().flat_map(|host| [NAME, SUFFIX, HOST].map(|name| (host, name))) {
            wait_until("its name servers answer", || {
                let at = format!("@{}", self.address(host));
                let output =
                    Command::new("dig").args([&at, "+short", "+tries=1", "+time=2", name, "A"]).output();
                let said = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
                let mut found: Vec<&str> = said.lines().collect();
                found.sort_unstable();
                if found == operators { Ok(()) } else { Err(format!("{name} {at}: {said}")) }
            });
        }
    }

    /// Waits until every operator leads to the service.
    fn serves(&self) {
        for host in &HOSTS[..3] {
            wait_until("it serves", || {
                let text = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
                match try_request((self.address(host), 80).into(), &text) {
                    Ok(answer) if answer.status == 200 => Ok(()),
                    other => Err(format!("{host}: {other:?}")),
                }
            });
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for host in HOSTS {
                for folder in ["var/log/tutti", "var/log"] {
                    for entry in fs::read_dir(self.root(host).join(folder)).into_iter().flatten().flatten() {
                        let path = entry.path();
                        if path.is_file() {
                            let text = fs::read_to_string(&path).unwrap_or_default();
                            eprintln!("--- {}\n{text}", path.display());
                        }
                    }
                }
            }
        }
        HOSTS.iter().for_each(|host| self.net.machine(host).kill());
    }
}

/// Starts the sshd of a host, in its own root.
fn sshd(machine: &Machine, root: &Path, log: &Path) -> Runs {
    let binds: String = SHARED
        .iter()
        .map(|folder| format!("mount --bind {folder} .{folder}; mount -o remount,bind,ro .{folder}; "))
        .collect();
    // `chroot` would be no root to those who make one of their own below it.
    let script = format!(
        "set -e; cd {root}; mount --bind . .; cd {root}; {binds} mount --bind local usr/local; \
         for folder in proc sys dev; do mount --rbind /$folder $folder; done; \
         mkdir -p old; pivot_root . old; umount -l old; exec /usr/sbin/sshd -D -e -f /etc/ssh/sshd_config",
        root = root.display()
    );
    let mut command = machine.command("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    Runs::start(command, log)
}

#[test]
fn bare_hosts_become_a_cluster_stay_it_and_come_back() {
    let Some(mut hosts) = Hosts::start() else { return };
    let Some(mut database) = Server::made() else { return };
    let Some(moto) = Moto::start_at(hosts.net.host()) else { return };
    database.set(format!("listen_addresses={}", hosts.net.host()));
    let hba = database.folder().join("data/pg_hba.conf");
    let rules = fs::read_to_string(&hba).unwrap();
    fs::write(&hba, format!("{rules}\nhost all all samenet scram-sha-256\n")).unwrap();
    database.run();
    database.sql("postgres", "ALTER ROLE tutti PASSWORD 'db-secret'");
    database.sql("postgres", "CREATE DATABASE cloud");
    let store = format!("postgres://tutti@{}/cloud?sslmode=disable", hosts.net.host());
    let mut variables: Vec<String> = KEYS.iter().map(|(name, value)| format!("{name}={value}")).collect();
    variables.push(format!("AWS_ENDPOINT_URL={}", moto.endpoint()));
    fs::write(hosts.path("operators.env"), variables.join("\n")).unwrap();

    // All that is missing is said at once, and nothing is changed.
    hosts.write(&store, "s3://tutti/prod");
    let mut taken = hosts.net.machine("op2").command("python3");
    taken.args(["-c", "import socket, sys; s = socket.create_server(('', 80)); print('{}', flush=True); sys.stdin.read(); s.accept()"]);
    let mut takes = Runs::start(taken, &hosts.path("taken.log"));
    takes.ready();
    let mut asked = hosts.net.machine("op3").command("python3");
    asked.args(["-c", "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 53)); print('{}', flush=True); sys.stdin.read(); s.recv(1)"]);
    let mut answers = Runs::start(asked, &hosts.path("asked.log"));
    answers.ready();
    let refused = hosts.bootstrap(hosts.address("w1"), "");
    for part in [
        "op1: this machine's name servers cannot be read",
        "password",
        "s3://tutti/prod",
        "op2: port 80 is needed for tutti-ingress",
        "op3: port 53, UDP, is needed for tutti-dns",
        &format!("the name {NAME} leads to {}, which is no operator", hosts.address("w1")),
        "is missing; nothing was changed",
    ] {
        assert!(refused.code != 0 && refused.err.contains(part), "{part}: {refused:?}");
    }
    assert!(!refused.err.contains("test-secret") && !refused.out.contains("test-secret"), "{refused:?}");
    for host in HOSTS {
        let root = hosts.root(host);
        assert!(
            !root.join("etc/tutti").exists() && !root.join("local/bin/tutti").exists(),
            "{host} was changed"
        );
        assert_eq!(fs::read_dir(root.join("var/tmp")).unwrap().count(), 0, "something was left on {host}");
    }
    takes.kill();
    answers.kill();
    fs::write(hosts.root("op1").join("etc/resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    moto.make("tutti");
    variables.push("PGPASSWORD=db-secret".to_owned());
    fs::write(hosts.path("operators.env"), variables.join("\n")).unwrap();
    let checked = hosts.bootstrap(hosts.address("op1"), "--check");
    assert!(checked.code == 0 && checked.out.contains("nothing is missing"), "{checked:?}");

    // Then they become one.
    let made = hosts.bootstrap(hosts.address("op1"), "");
    assert!(made.code == 0 && made.out.contains("the store holds no cluster: one is made"), "{made:?}");
    for part in ["op1  became member op1 of cluster ", "op3  started the supervisor", "w3  became member w3"]
    {
        assert!(made.out.contains(part), "{part}: {made:?}");
    }
    assert!(!made.out.contains("db-secret"), "{made:?}");
    let listed = hosts.ok(&["node", "list"]);
    for host in HOSTS {
        assert!(listed.contains(host), "{host}: {listed}");
    }
    hosts.ok(&["domain", "create", "example.com"]);
    let web = hosts.path("web");
    fs::create_dir_all(&web).unwrap();
    fs::copy(guest("hello-wasm/hello_wasm.wasm"), web.join("hello.wasm")).unwrap();
    fs::write(web.join("tutti.toml"), "[service]\nmin = 3\n").unwrap();
    hosts.ok(&["push", web.join("hello.wasm").to_str().unwrap(), "example.com:web@1.0"]);
    hosts.ok(&["deploy", "example.com:web@1.0", "100%"]);
    hosts.serves();
    hosts.resolves();

    wait_until("all is well, NATS included", || {
        let status = hosts.tutti(&["status"]);
        if status.code == 0 && !status.out.contains("NATS") { Ok(()) } else { Err(format!("{status:?}")) }
    });

    // NATS takes nobody without TLS, and its servers have found each other by it.
    for host in &HOSTS[..3] {
        let nats = std::net::TcpStream::connect((hosts.address(host), 4222)).unwrap();
        let mut hello = String::new();
        BufReader::new(nats).read_line(&mut hello).unwrap();
        assert!(hello.contains("\"tls_required\":true"), "{host}: {hello}");
        let log = fs::read_to_string(hosts.root(host).join("var/log/tutti/tutti-nats.log")).unwrap();
        for other in HOSTS[..3].iter().filter(|other| *other != host) {
            let of_other = format!("] {}:", hosts.address(other));
            let came = |line: &str| line.contains(&of_other) && line.ends_with("Route connection created");
            assert!(log.lines().any(came), "{host}: {log}");
        }
        // What one side would say of the other's certificate.
        assert!(!log.contains("x509") && !log.contains("certificate"), "{host}: {log}");
    }

    // The same again changes nothing.
    let again = hosts.bootstrap(hosts.address("op1"), "");
    assert!(again.code == 0 && again.out.contains("nothing was changed"), "{again:?}");
    let lines = again
        .out
        .lines()
        .filter(|line| HOSTS.iter().any(|host| line.starts_with(&format!("{host}  "))))
        .count();
    assert_eq!(lines, 0, "{again:?}");

    // What ends is started again, and another word in the file reaches what it is for.
    for host in &HOSTS[3..] {
        assert_eq!(hosts.net.machine(host).crash("/usr/local/bin/tutti agent"), 1, "{host}");
    }
    hosts.serves();
    // A control that starts has its certificate made anew, and NATS beside it reads that.
    let log = hosts.root("op1").join("var/log/tutti/tutti-nats.log");
    let reloads = || fs::read_to_string(&log).unwrap_or_default().matches("Reloaded: tls").count();
    let before = reloads();
    assert_eq!(hosts.net.machine("op1").crash("/usr/local/bin/tutti server"), 1);
    wait_until("NATS has the new certificate", || {
        if reloads() > before { Ok(()) } else { Err(fs::read_to_string(&log).unwrap_or_default()) }
    });
    wait_until("all is well again, NATS included", || {
        let status = hosts.tutti(&["status"]);
        if status.code == 0 && !status.out.contains("NATS") { Ok(()) } else { Err(format!("{status:?}")) }
    });
    let text = fs::read_to_string(hosts.path("cluster.toml")).unwrap();
    fs::write(hosts.path("cluster.toml"), format!("{text}labels = [\"disk=ssd\"]\n")).unwrap();
    let changed = hosts.bootstrap(hosts.address("op1"), "");
    let said: Vec<&str> = changed.out.lines().filter(|line| line.contains("  wrote ")).collect();
    assert_eq!(said, ["w3  wrote /etc/tutti/agent.env"], "{changed:?}");
    wait_until("the label is there", || {
        let shown = hosts.ok(&["node", "show", "w3"]);
        if shown.contains("disk=ssd") { Ok(()) } else { Err(shown) }
    });

    // Fresh hosts over the same database: the installation comes back.
    let cluster = |said: &Said| {
        let text = said.out.split("of cluster ").nth(1).unwrap_or_else(|| panic!("{said:?}"));
        text.lines().next().unwrap().to_owned()
    };
    let access = hosts.root("op1").join("root/.config");
    let kept = hosts.path("access");
    let copied = Command::new("cp").arg("-a").arg(&access).arg(&kept).status().unwrap();
    assert!(copied.success());
    hosts.bare();
    let back = hosts.bootstrap(hosts.address("op1"), "");
    assert!(
        back.code == 0 && back.out.contains(&format!("the store holds cluster {}", cluster(&made))),
        "{back:?}"
    );
    assert_eq!(cluster(&back), cluster(&made));
    assert!(back.out.contains("w1  takes the place of a machine of this name that is gone"), "{back:?}");
    hosts.serves();
    hosts.resolves();
    // The operator's token is as it was.
    fs::create_dir_all(hosts.root("op1").join("root")).unwrap();
    let copied = Command::new("cp").arg("-aT").arg(&kept).arg(&access).status().unwrap();
    assert!(copied.success());
    assert!(hosts.ok(&["status"]).contains("example.com:web"));
}
