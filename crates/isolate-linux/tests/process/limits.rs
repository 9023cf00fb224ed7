//! What an instance may use.

use crate::subject::Host;
use tutti_isolate::Driver as _;
use tutti_model::quantity::ByteSize;

/// Whether this host limits what is named; else says that it does not.
async fn limits(host: &Host, what: &str) -> bool {
    let notes = host.driver().fingerprint().await.notes;
    let missing: Vec<&String> = notes.iter().filter(|note| note.starts_with(what)).collect();
    if !missing.is_empty() {
        eprintln!("skipped: {missing:?}");
    }
    missing.is_empty()
}

#[tokio::test]
async fn more_memory_than_it_may_is_its_end() {
    let host = Host::new();
    if !limits(&host, "its memory").await {
        return;
    }
    let program = "held = []\nwhile True: held.append(bytearray(1 << 20))\n";
    let mut sample = host.python(program, &[]);
    sample.manifest.memory = ByteSize::mib(32);
    let (_, exit) = host.outcome(1, &sample).await;
    assert_eq!((exit.code, exit.signal), (None, Some(9)), "{}", exit.text);
    assert_eq!(exit.text, "killed by signal 9 (SIGKILL): out of memory (its limit is 32Mi)");
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn memory_of_a_child_counts_too() {
    let host = Host::new();
    if !limits(&host, "its memory").await {
        return;
    }
    let program = "import subprocess, sys\nr = subprocess.run([sys.executable, '-c', 'x = []\\nwhile True: x.append(bytearray(1 << 20))'])\nsys.exit(5 if r.returncode == -9 else 0)\n";
    let mut sample = host.python(program, &[]);
    sample.manifest.memory = ByteSize::mib(48);
    let (_, exit) = host.outcome(1, &sample).await;
    // Either of the two may be the one that the kernel chooses, or both.
    assert!(exit.text.contains("out of memory (its limit is 48Mi)"), "{}", exit.text);
}

#[tokio::test]
async fn a_fork_bomb_stays_in_its_place() {
    let host = Host::new();
    if !limits(&host, "its number of processes").await {
        return;
    }
    let program = "import os\nprint('armed')\nwhile True:\n    try: os.fork()\n    except OSError: pass\n";
    let (spec, running) = host.start(1, &host.python(program, &[])).await;
    let armed = async {
        loop {
            let lines = crate::subject::lines(&spec.logs, &spec.instance).await;
            if lines.iter().any(|line| line.line == "armed") {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), armed).await.unwrap();
    // Others go on beside it.
    let hello = host.hello();
    let (other, beside) = host.start(2, &hello).await;
    tokio::time::timeout(std::time::Duration::from_secs(60), tutti_isolate::suite::answers(&*beside))
        .await
        .unwrap()
        .unwrap();
    host.end(&spec, &*running).await;
    host.end(&other, &*beside).await;
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn daemons_do_not_outlive_their_instance() {
    let host = Host::new();
    let program = "import os, sys, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        print('daemon', flush=True)\n        time.sleep(1000)\n    os._exit(0)\nos.wait()\ntime.sleep(0.2)\nprint('leaving')\n";
    let (lines, exit) = host.outcome(1, &host.python(program, &[])).await;
    assert_eq!(exit.code, Some(0));
    assert!(lines.contains(&"leaving".to_owned()));
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

/// Private memory of a process, in KiB.
fn private_kib(pid: i64) -> u64 {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    smaps
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_whitespace().nth(1))
        .map(|kib| kib.parse::<u64>().unwrap())
        .sum()
}

/// What a shim may hold: there is one for each instance.
const SHIM_KIB: u64 = 3 * 1024;

#[tokio::test]
async fn a_shim_is_small_even_after_much_output() {
    let host = Host::new();
    let program = "import time\nfor n in range(200000): print('a line of output', n)\nprint('done')\ntime.sleep(1000)\n";
    let begun = std::time::Instant::now();
    let (spec, running) = host.start(1, &host.python(program, &[])).await;
    eprintln!("started within {:?}", begun.elapsed());
    let done = async {
        while !tutti_logs::last_lines(&spec.logs, 1).contains(&"done".to_owned()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), done).await.unwrap();
    let state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(spec.folder.join("state.json")).unwrap()).unwrap();
    let held = ["shim", "init"].map(|who| private_kib(state[who]["pid"].as_i64().unwrap()));
    eprintln!("private memory of shim and init: {held:?} KiB");
    assert!(held.iter().sum::<u64>() < SHIM_KIB, "{held:?} KiB");
    host.end(&spec, &*running).await;
}
