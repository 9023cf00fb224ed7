//! Without root: everything works, and what is weaker is said.

use crate::subject::Host;
use std::{os::unix::process::CommandExt as _, process::Command};
use tutti_isolate::{Driver as _, suite};

/// Set in the process that is an ordinary user.
const USER: &str = "TUTTI_TEST_ORDINARY_USER";

/// The user that nobody is.
const NOBODY: u32 = 65_534;

/// In a process of its own, which has no privileges.
#[tokio::test]
async fn act_as_user() {
    if std::env::var_os(USER).is_none() {
        return;
    }
    assert_eq!(rustix::process::geteuid().as_raw(), NOBODY);
    let host = Host::new();
    let notes = host.driver().fingerprint().await.notes;
    println!("\nnotes: {notes:#?}");
    assert!(notes.iter().any(|note| note == "it runs as the agent's own user"));
    let done = suite::run(&host).await.unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(done.len(), 14, "{done:?}");
    // Whatever else is missing, these need no privileges.
    let program = "for line in open('/proc/self/status'): print(line.strip())\ntry: open('/app/main.py', 'a')\nexcept OSError as e: print('write:', e.strerror)\nimport os\ntry: open('/proc/self/cwd/new', 'w')\nexcept OSError as e: print('create:', e.strerror)\n";
    let (lines, exit) = host.outcome(1, &host.python(program, &[])).await;
    assert_eq!(exit.code, Some(0), "{lines:#?}");
    for wanted in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"]
    {
        let own_namespaces = !notes.iter().any(|note| note.starts_with("no namespaces"));
        assert!(lines.iter().any(|line| line == wanted) || !own_namespaces, "{wanted}: {lines:#?}");
    }
    for refused in ["write:", "create:"] {
        assert!(lines.iter().any(|line| line.starts_with(refused)), "{lines:#?}");
    }
    // Without control groups too a fork bomb ends, where the kernel counts the instance's processes apart.
    let own_users = !notes.iter().any(|note| note.starts_with("no namespaces"));
    if own_users {
        let bomb = "import os, signal, time\nforked = 0\ntry:\n    while forked < 1500:\n        if os.fork() == 0: signal.pause()\n        forked += 1\nexcept OSError as e: print('forks:', e.errno, flush=True)\nos._exit(0)\n";
        let (lines, _) = host.outcome(2, &host.python(bomb, &[])).await;
        assert!(lines.iter().any(|line| line == "forks: 11"), "{lines:#?}");
    }
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[test]
fn an_ordinary_user_runs_processes_too() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user; the other tests were as an ordinary one");
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ordinary_user::act_as_user", "--nocapture"])
        .env(USER, "1")
        .env("TMPDIR", "/tmp")
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .output();
    match output {
        Err(error) => eprintln!("skipped: nobody may not run this test: {error}"),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            println!("{text}");
            assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// Becomes nobody, in a user namespace where nobody may make another, and then the test. A container without
/// privileges is like this.
const CLOSED: &str = r#"
import ctypes, os, sys
nobody, binary = 65534, sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
os.setgroups([])
os.setresgid(nobody, nobody, nobody)
os.setresuid(nobody, nobody, nobody)
libc.prctl(4, 1, 0, 0, 0)
try:
    if libc.unshare(0x10000000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{nobody} {nobody} 1"), ("gid_map", f"{nobody} {nobody} 1")):
        with open("/proc/self/" + name, "w") as file:
            file.write(text)
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")
except OSError as error:
    print("skipped:", error)
    sys.exit(0)
os.chdir("/")
os.execv(binary, [binary, "--exact", "ordinary_user::act_as_user", "--nocapture"])
"#;

#[test]
fn an_ordinary_user_without_namespaces_runs_processes_too() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let output = Command::new("python3")
        .args(["-c", CLOSED])
        .arg(std::env::current_exe().unwrap())
        .env(USER, "1")
        .env("TMPDIR", "/tmp")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("skipped") || text.contains("no namespaces of its own"), "{text}");
}
