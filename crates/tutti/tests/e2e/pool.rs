//! A node pool whose machines are processes that two scripts start and kill: it grows when nothing fits, goes on after a
//! control was killed while a machine was being made, and shrinks by draining.

use crate::harness::{binary, guest, signal, wait_for, wait_until};
use crate::members::{Role, World, free_port};
use std::path::Path;

const SERVICE: &str = "example.com:web";

/// Makes a machine, or has made it. It fails while there is a file `fail`, and waits while there is a file `hold`.
const MAKE: &str = r#"#!/bin/sh
set -e
cd "$(dirname "$0")"
echo "$TUTTI_NODE" >> made
test ! -e fail || { echo "the provider has no quota left" >&2; exit 1; }
while test -e hold; do touch holding; sleep 0.05; done
exec 9> lock
flock 9
test ! -e "$TUTTI_NODE.pid" || exit 0
port=$(sed -n "$(($(ls | grep -c '\.port$' || true) + 1))p" ports)
"$TUTTI" join --member-dir "$TUTTI_NODE-member" --advertise "127.0.0.1:$port"
echo "$port" > "$TUTTI_NODE.port"
unset TUTTI_JOIN_TOKEN
setsid "$TUTTI" agent --member-dir "$TUTTI_NODE-member" --data-dir "$TUTTI_NODE-agent" --listen "127.0.0.1:$port" \
    9>&- </dev/null >"$TUTTI_NODE.log" 2>&1 &
echo $! > "$TUTTI_NODE.pid"
"#;

/// Removes a machine, if it is there.
const REMOVE: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
test -e "$TUTTI_NODE.pid" && kill -9 "$(cat "$TUTTI_NODE.pid")" && rm "$TUTTI_NODE.pid"
echo "$TUTTI_NODE" >> removed
"#;

/// Kills the agents that are left, at the end of the test.
struct Agents<'a>(&'a Path);

impl Drop for Agents<'_> {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.0).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|end| end == "pid") {
                let pid = std::fs::read_to_string(path).unwrap_or_default();
                if let Ok(pid) = pid.trim().parse() {
                    signal(pid, "KILL");
                }
            }
        }
    }
}

impl World {
    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o700)).unwrap();
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(ToOwned::to_owned).collect()
    }

    /// The states of the pool's machines.
    fn machines(&self) -> Vec<String> {
        let pool = self.json(&["pool", "show", "burst"]);
        let machines = pool["status"]["machines"].as_array().unwrap().clone();
        machines.iter().map(|machine| machine["state"].as_str().unwrap().to_owned()).collect()
    }

    /// The nodes that ready instances are on.
    fn nodes_in_use(&self) -> Vec<String> {
        let instances = self.json(&["ps"]);
        let ready = instances.as_array().unwrap().iter().filter(|it| it["status"]["state"] == "ready");
        ready.map(|instance| instance["spec"]["node"].as_str().unwrap().to_owned()).collect()
    }

    fn explained(&self, text: &str) -> Result<(), String> {
        let said = self.ok(&["explain", SERVICE]).split_whitespace().collect::<Vec<_>>().join(" ");
        if said.contains(text) { Ok(()) } else { Err(said) }
    }
}

#[test]
fn a_pool_grows_when_nothing_fits_and_shrinks_by_draining() {
    let Some(world) = World::start() else { return };
    let folder = world.path("");
    let _agents = Agents(&folder);
    let make = MAKE.replace("$TUTTI\"", &format!("{}\"", binary().display()));
    world.write("make.sh", &make);
    world.write("remove.sh", REMOVE);
    world.write("ports", &(0..4).map(|_| format!("{}\n", free_port())).collect::<String>());
    let toml = format!(
        "[pool.burst]\nmake = [\"{}\"]\nremove = \"{} --shell\"\ntimeout = \"50s\"\n",
        world.text("make.sh"),
        world.text("remove.sh")
    );
    std::fs::write(world.path("tutti.toml"), toml).unwrap();
    let api = format!("127.0.0.1:{}", free_port());
    let mut control: Role = world.server_at("c1", &api, &["--init"]);
    control.ready();
    world.ok(&["domain", "create", "example.com"]);

    // One instance takes more than half of a machine.
    let cores = std::thread::available_parallelism().unwrap().get();
    let app = world.path("app");
    std::fs::create_dir_all(&app).unwrap();
    std::fs::copy(guest("hello-wasm/hello_wasm.wasm"), app.join("hello.wasm")).unwrap();
    let manifest = format!("[service]\ncpu = \"{}m\"\nstandby = \"0s\"\nmax = 4\n", cores * 600);
    std::fs::write(app.join("tutti.toml"), manifest).unwrap();
    let (artifact, version) = (app.join("hello.wasm").to_str().unwrap().to_owned(), format!("{SERVICE}@1.0"));
    world.ok(&["push", &artifact, &version]);
    world.write("fail", "");
    world.ok(&["deploy", &version, "100%", "--no-wait"]);
    wait_until("it says that nothing makes machines", || world.explained("the zone has no nodes"));

    world.ok(&[
        "pool",
        "set",
        "burst",
        "--max",
        "2",
        "--cpu",
        &cores.to_string(),
        "--memory",
        "1Gi",
        "--idle",
        "2s",
    ]);
    wait_until("it says which machine it waits for, and what went wrong", || {
        world.explained("attempt 1 failed: ")?;
        world.explained("the provider has no quota left")?;
        world.explained("pool burst makes machine burst-")
    });
    std::fs::remove_file(world.path("fail")).unwrap();
    wait_until("an instance is ready on a machine of the pool", || match world.nodes_in_use().as_slice() {
        [node] if node.starts_with("burst-") => Ok(()),
        other => Err(format!("{other:?} {:?}", world.machines())),
    });
    let first = world.nodes_in_use()[0].clone();

    // The next one is being made when its control is killed.
    world.write("hold", "");
    world.ok(&["scale", SERVICE, "3"]);
    wait_for("the second machine is being made", || world.path("holding").exists());
    control.kill();
    let before = world.lines("made").len();
    let second = world.lines("made").last().unwrap().clone();
    assert_ne!(first, second);
    control = world.server_at("c1", &api, &[]);
    control.ready();
    wait_for("its command is run again", || world.lines("made").len() > before);
    assert_eq!(&world.lines("made")[before..], std::slice::from_ref(&second), "for the same machine");
    std::fs::remove_file(world.path("hold")).unwrap();
    let both = || {
        let mut nodes = world.nodes_in_use();
        nodes.sort();
        let mut wanted = vec![first.clone(), second.clone()];
        wanted.sort();
        if nodes == wanted { Ok(()) } else { Err(format!("{nodes:?} {:?}", world.machines())) }
    };
    wait_until("both serve", both);
    wait_until("the third finds no machine", || {
        world.explained("pool burst makes no machine for it: it has 2 of at most 2")
    });
    assert!(!world.lines("made").iter().any(|name| *name != first && *name != second));
    let token = std::fs::read_to_string(world.path("c1-server.log")).unwrap();
    assert!(!token.contains("tuttijoin_"), "the log has a join token");

    // Fewer need fewer machines; none need none.
    world.ok(&["scale", SERVICE, "1"]);
    wait_until("one of them is removed", || {
        let (machines, removed) = (world.machines(), world.lines("removed"));
        if (machines.len(), removed.len()) == (1, 1) {
            Ok(())
        } else {
            Err(format!("{machines:?} {removed:?}"))
        }
    });
    assert_eq!(world.nodes_in_use().len(), 1, "the other serves");
    world.ok(&["service", "delete", SERVICE, "--yes"]);
    wait_until("the other is removed too", || {
        let machines = world.machines();
        if machines.is_empty() { Ok(()) } else { Err(format!("{machines:?}")) }
    });
    let mut removed = world.lines("removed");
    removed.sort();
    let mut made = vec![first, second];
    made.sort();
    assert_eq!(removed, made);
    let left = world.json(&["node", "list"]);
    assert!(!left.to_string().contains("burst-"), "{left}");
    world.ok(&["pool", "remove", "burst"]);
    assert_eq!(world.json(&["pool", "list"]), serde_json::json!([]));
}
