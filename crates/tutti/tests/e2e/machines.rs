//! Machines as network namespaces of this one, each with an address and a link to a bridge, that can be cut off, cut off
//! one way, and killed with all that runs there. They share its files and its clock.

use crate::harness::wait_for;
use std::{
    io::{BufRead as _, BufReader},
    net::Ipv4Addr,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

/// A bridge, and the machines on it. Dropping it ends all that runs there.
pub struct Net {
    bridge: String,
    subnet: [u8; 3],
    machines: Vec<Machine>,
}

/// One machine.
#[derive(Clone)]
pub struct Machine {
    pub name: String,
    pub address: Ipv4Addr,
    space: String,
    /// The end of its link that is at the bridge.
    link: String,
    bridge: String,
}

/// Runs `ip` with these words; gives what it said if it failed.
fn try_ip(words: &str) -> Result<String, String> {
    let output = Command::new("ip").args(words.split(' ')).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("ip {words}: {}", text(&output.stderr)))
    }
}

fn ip(words: &str) -> String {
    try_ip(words).unwrap_or_else(|error| panic!("{error}"))
}

impl Net {
    /// A bridge with these machines; `None`, which is said, where this user may make none.
    pub fn start(names: &[&str]) -> Option<Net> {
        let id = std::process::id();
        let bridge = format!("br{id}");
        if let Err(why) = try_ip(&format!("link add {bridge} type bridge")) {
            println!("skipped: this test makes network namespaces, and may not here: {why}");
            return None;
        }
        // Of those that a process may have, one of 12 500, so that tests beside one another share none.
        let (high, low) = (200 + id % 50, id / 50 % 250);
        let subnet = [10, u8::try_from(high).unwrap(), u8::try_from(low).unwrap()];
        let mut net = Net { bridge: bridge.clone(), subnet, machines: Vec::new() };
        ip(&format!("addr add {}/24 dev {bridge}", net.host()));
        ip(&format!("link set {bridge} up"));
        for (index, name) in (1u8..).zip(names) {
            let [a, b, c] = subnet;
            let machine = Machine {
                name: (*name).to_owned(),
                address: Ipv4Addr::new(a, b, c, index),
                space: format!("tutti-{id}-{name}"),
                link: format!("v{id}{name}"),
                bridge: bridge.clone(),
            };
            let Machine { space, link, address, .. } = &machine;
            ip(&format!("netns add {space}"));
            // From here on it is removed with the net.
            net.machines.push(machine.clone());
            ip(&format!("link add {link} type veth peer name eth0 netns {space}"));
            ip(&format!("link set {link} master {bridge} up"));
            ip(&format!("-n {space} addr add {address}/24 dev eth0"));
            ip(&format!("-n {space} link set eth0 up"));
            ip(&format!("-n {space} link set lo up"));
        }
        Some(net)
    }

    /// Where this test is reached from the machines.
    pub fn host(&self) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, 254)
    }

    pub fn machine(&self, name: &str) -> &Machine {
        self.machines
            .iter()
            .find(|machine| machine.name == name)
            .unwrap_or_else(|| panic!("no machine {name}"))
    }

    /// From now on nothing that a machine sends arrives, and all that is sent to it does.
    pub fn mute(&self, machine: &Machine) {
        for address in self.others(machine) {
            // Addressed to nobody's card, it is lost on the way as on a real network.
            ip(&format!(
                "-n {} neigh replace {address} lladdr 02:00:00:00:00:01 dev eth0 nud permanent",
                machine.space
            ));
        }
    }

    pub fn unmute(&self, machine: &Machine) {
        for address in self.others(machine) {
            ip(&format!("-n {} neigh del {address} dev eth0", machine.space));
        }
    }

    fn others(&self, machine: &Machine) -> Vec<Ipv4Addr> {
        let others =
            self.machines.iter().map(|other| other.address).filter(|address| *address != machine.address);
        others.chain([self.host()]).collect()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for machine in &self.machines {
            machine.kill();
            let _ = try_ip(&format!("netns del {}", machine.space));
        }
        let _ = try_ip(&format!("link del {}", self.bridge));
    }
}

impl Machine {
    /// A command there, which ends with this test.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        // Unlike `ip netns exec`, this leaves `/sys` and the control groups in it as they are.
        let space = format!("--net=/run/netns/{}", self.space);
        command.args(["--pdeathsig", "KILL", "nsenter", &space]).arg(program).stdin(Stdio::null());
        command
    }

    /// Cuts it off, both ways; what is on the way is lost in silence.
    pub fn cut(&self) {
        ip(&format!("link set {} nomaster", self.link));
    }

    pub fn join(&self) {
        ip(&format!("link set {} master {}", self.link, self.bridge));
    }

    /// Ends what runs there by this command, as a crash would, and says how many there were.
    pub fn crash(&self, command: &str) -> usize {
        let pids = try_ip(&format!("netns pids {}", self.space)).unwrap_or_default();
        let runs_it = |pid: &&str| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ") == command
        };
        let found: Vec<&str> = pids.lines().map(str::trim).filter(runs_it).collect();
        for pid in &found {
            let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        found.len()
    }

    /// Everything that runs there ends at once, as when its power does.
    pub fn kill(&self) {
        wait_for("everything there has ended", || {
            let pids = try_ip(&format!("netns pids {}", self.space)).unwrap_or_default();
            for pid in pids.lines().filter_map(|pid| rustix::process::Pid::from_raw(pid.trim().parse().ok()?))
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            pids.is_empty()
        });
    }
}

/// A program that runs on a machine.
pub struct Runs {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Runs {
    /// Starts it, with what it says of itself in this file.
    pub fn start(mut command: Command, log: &Path) -> Runs {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Runs { child, out }
    }

    /// The line by which a role says that it is ready.
    pub fn ready(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
