//! A singleton is never run twice: not while versions change, and not while its node's agent hangs and later goes on. What
//! it says over UDP all the time is the proof.

use crate::{
    agent::Agent,
    harness::{Cloud, root, signal, wait_for},
};
use std::{
    net::UdpSocket,
    sync::{Arc, Mutex},
    time::Duration,
};

const SERVICE: &str = "example.com:web";
const HOST: &str = "web.example.com.localhost";

/// Which instances have said that they run, in the order in which they did; the same in a row only once.
#[derive(Clone, Default)]
struct Beats(Arc<Mutex<Vec<String>>>);

impl Beats {
    /// Listens until the test ends, and gives the address.
    fn listen(&self) -> String {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let heard = Arc::downgrade(&self.0);
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        std::thread::spawn(move || {
            let mut text = [0; 64];
            while let Some(heard) = heard.upgrade() {
                let Ok(length) = socket.recv(&mut text) else { continue };
                let name = String::from_utf8_lossy(&text[..length]).into_owned();
                let mut heard = heard.lock().unwrap();
                if heard.last() != Some(&name) {
                    heard.push(name);
                }
            }
        });
        address
    }

    /// Waits until this many have run, one after the other, and gives them. One that is heard again after another was
    /// heard is there twice.
    fn after(&self, count: usize) -> Vec<String> {
        wait_for("the next instance runs", || self.0.lock().unwrap().len() >= count);
        let heard = self.0.lock().unwrap().clone();
        assert_eq!(heard.len(), count, "two ran at once: {heard:?}");
        heard
    }
}

fn push(cloud: &Cloud, version: &str, beats: &str) {
    let folder = cloud.scratch().join(format!("singleton-{version}"));
    std::fs::create_dir_all(&folder).unwrap();
    let program = root().join("crates/tutti/tests/e2e/programs/singleton.py");
    std::fs::copy(program, folder.join("singleton.py")).unwrap();
    let manifest = format!(
        "[service]\nisolate = \"process\"\nrun = [\"python3\", \"-u\", \"singleton.py\"]\nsingleton = true\n\
         grace = \"1s\"\nenv = {{ BEATS = \"{beats}\", MARK = \"{}\" }}\n\
         placement = {{ constraints = [\"node=second|third\"] }}\n",
        cloud.mark()
    );
    std::fs::write(folder.join("tutti.toml"), manifest).unwrap();
    cloud.ok(&["push", folder.to_str().unwrap(), &format!("{SERVICE}@{version}")]);
}

/// The instances that control knows, with node and state.
fn instances(cloud: &Cloud) -> Vec<(String, String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let all = cloud.items("instances");
    all.iter()
        .map(|it| (text(&it["name"]), text(&it["spec"]["node"]), text(&it["status"]["state"])))
        .collect()
}

#[test]
fn it_never_runs_twice_whatever_becomes_of_versions_and_agents() {
    let cloud = Cloud::start();
    let beats = Beats::default();
    let address = beats.listen();
    let agents = [Agent::start(&cloud, "second"), Agent::start(&cloud, "third")];
    for version in ["1.0", "2.0"] {
        push(&cloud, version, &address);
    }
    cloud.ok(&["deploy", &format!("{SERVICE}@1.0"), "100%"]);
    beats.after(1);
    let refused = cloud.tutti(&["deploy", &format!("{SERVICE}@2.0"), "10%"]);
    assert_eq!(refused.code, 3, "{}", refused.err);
    assert!(refused.err.contains("is a singleton and cannot share the traffic"), "{}", refused.err);

    // The next version, and back.
    cloud.ok(&["deploy", &format!("{SERVICE}@2.0"), "100%"]);
    beats.after(2);
    cloud.ok(&["rollback", SERVICE]);
    let ran = beats.after(3);
    assert_eq!(cloud.get(HOST, "/").status, 200);

    // Its agent hangs. It is ended all the same, and only then started on the other node.
    let (_, node, _) = instances(&cloud).into_iter().find(|(name, ..)| *name == ran[2]).unwrap();
    let hangs = agents[usize::from(node == "third")].pid();
    signal(hangs, "STOP");
    let ran = beats.after(4);
    wait_for("it answers on the other node", || cloud.get(HOST, "/").status == 200);
    let (_, other, _) = instances(&cloud).into_iter().find(|(name, ..)| *name == ran[3]).unwrap();
    assert_ne!(other, node);

    // The agent goes on, with what it knew: it starts nothing, and what it ran is forgotten.
    signal(hangs, "CONT");
    wait_for("what it ran is forgotten", || instances(&cloud).len() == 1);
    assert_eq!(beats.after(4), ran);
}
