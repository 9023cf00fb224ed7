//! An etcd cluster of the test's own, on free ports and in a folder that goes with it.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tutti_store::{EtcdAddress, EtcdOptions, EtcdStore, Store as _};

/// How long members may take to be there.
const READY: Duration = Duration::from_secs(60);

/// One member, running or not.
pub(crate) struct Member {
    name: String,
    pub(crate) client: u16,
    peer: u16,
    child: Option<Child>,
}

/// Members on one machine. Dropping it kills them.
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    folder: tempfile::TempDir,
    extra: Vec<String>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn is_installed(command: &str) -> bool {
    Command::new(command).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

impl Cluster {
    /// So many members, with more arguments for each; `None`, which is said, without etcd.
    pub(crate) fn start(count: usize, extra: &[&str]) -> Option<Cluster> {
        if !is_installed("etcd") {
            println!("skipped: this test runs etcd (Debian: etcd-server), which is not installed");
            return None;
        }
        let members = (0..count)
            .map(|index| Member {
                name: format!("m{index}"),
                client: free_port(),
                peer: free_port(),
                child: None,
            })
            .collect();
        let extra = extra.iter().map(ToString::to_string).collect();
        let mut cluster = Cluster { members, folder: tempfile::tempdir().unwrap(), extra };
        for index in 0..count {
            cluster.run(index);
        }
        Some(cluster)
    }

    /// Starts a member, with the data it had.
    pub(crate) fn run(&mut self, index: usize) {
        let all: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("{}=http://127.0.0.1:{}", member.name, member.peer))
            .collect();
        let member = &mut self.members[index];
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("{}.log", member.name)))
            .unwrap();
        // With the process that runs the test, whatever becomes of that.
        let mut command = if is_installed("setpriv") {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "etcd"]);
            command
        } else {
            Command::new("etcd")
        };
        let child = command
            .args(["--name", &member.name, "--data-dir"])
            .arg(self.folder.path().join(&member.name))
            .args(["--listen-client-urls", &url(member.client)])
            .args(["--advertise-client-urls", &url(member.client)])
            .args(["--listen-peer-urls", &url(member.peer)])
            .args(["--initial-advertise-peer-urls", &url(member.peer)])
            .args(["--initial-cluster", &all.join(",")])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(&self.extra)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        member.child = Some(child);
    }

    pub(crate) fn address(&self) -> EtcdAddress {
        let members = self.members.iter().map(|member| format!("127.0.0.1:{}", member.client)).collect();
        EtcdAddress { members, prefix: "tutti".into() }
    }

    /// A store in it, once it answers.
    pub(crate) async fn open(&self) -> EtcdStore {
        self.open_at(&self.address(), EtcdOptions::default()).await
    }

    pub(crate) async fn open_at(&self, address: &EtcdAddress, options: EtcdOptions) -> EtcdStore {
        let end = Instant::now() + READY;
        loop {
            let opened = EtcdStore::open(address, options.clone()).await;
            let error = match opened {
                Ok(store) => match store.revision().await {
                    Ok(_) => return store,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            assert!(Instant::now() < end, "etcd is not ready: {error}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns once every member that runs knows a leader.
    pub(crate) fn wait_for_leader(&self) {
        let end = Instant::now() + READY;
        let led = |member: &Member| {
            member.child.is_none() || metric(member.client, "etcd_server_has_leader") == Some(1.0)
        };
        while !self.members.iter().all(led) {
            assert!(Instant::now() < end, "there is no leader\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The last of what the members wrote.
    pub(crate) fn logs(&self) -> String {
        let tail = |member: &Member| {
            let path = self.folder.path().join(format!("{}.log", member.name));
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let start = text.lines().count().saturating_sub(15);
            text.lines().skip(start).map(|line| format!("{}: {line}\n", member.name)).collect::<String>()
        };
        self.members.iter().map(tail).collect()
    }

    fn signal(&self, index: usize, signal: Signal) {
        let child = self.members[index].child.as_ref().expect("a member that runs");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.members[index].child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn pause(&self, index: usize) {
        self.signal(index, Signal::STOP);
    }

    pub(crate) fn resume(&self, index: usize) {
        self.signal(index, Signal::CONT);
    }

    /// The member that leads, by what it says itself.
    pub(crate) async fn leader(&self) -> usize {
        let end = Instant::now() + READY;
        loop {
            let leads = |member: &Member| {
                member.child.is_some() && metric(member.client, "etcd_server_is_leader") == Some(1.0)
            };
            if let Some(leader) = self.members.iter().position(leads) {
                return leader;
            }
            assert!(Instant::now() < end, "no member leads\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            self.kill(index);
        }
    }
}

/// A number that a member tells, if it answers.
fn metric(port: u16, name: &str) -> Option<f64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}
