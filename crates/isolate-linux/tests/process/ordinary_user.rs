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
    let program = "for line in open('/proc/self/status'): print(line.strip())\ntry: open('/app/main.py', 'a')\nexcept OSError as e: print('write:', e.strerror)\n";
    let (lines, exit) = host.outcome(1, &host.python(program, &[])).await;
    assert_eq!(exit.code, Some(0), "{lines:#?}");
    for wanted in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"]
    {
        let own_namespaces = !notes.iter().any(|note| note.starts_with("no namespaces"));
        assert!(lines.iter().any(|line| line == wanted) || !own_namespaces, "{wanted}: {lines:#?}");
    }
    assert!(lines.iter().any(|line| line.starts_with("write:")), "{lines:#?}");
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
