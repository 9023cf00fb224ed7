//! What a program finds around itself, and what it is refused.

use crate::subject::Host;
use std::collections::BTreeMap;
use tutti_isolate::{Driver as _, suite};
use tutti_model::manifest::Manifest;

/// Runs a program and gives the `KEY=VALUE` lines that it wrote.
async fn report(host: &Host, number: u64, program: &str, args: &[&str]) -> BTreeMap<String, String> {
    let (lines, exit) = host.outcome(number, &host.python(program, args)).await;
    assert_eq!(exit.code, Some(0), "{}: {lines:#?}", exit.text);
    lines
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

/// Whether this host lets root confine as it should; else says what is weaker.
async fn confines(host: &Host) -> bool {
    let found = host.driver().fingerprint().await;
    if !found.notes.is_empty() {
        eprintln!("skipped: this host is weaker: {:#?}", found.notes);
    }
    assert!(found.usable);
    found.notes.is_empty()
}

const LOOK: &str = r#"
import os, socket
status = dict(line.split(":\t") for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
for key in ("Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp"):
    print(key + "=" + status.get(key, "").strip())
print("pids=" + ",".join(sorted(p for p in os.listdir("/proc") if p.isdigit())))
print("root=" + ",".join(sorted(os.listdir("/"))))
print("dev=" + ",".join(sorted(os.listdir("/dev")) if os.access("/dev", os.R_OK) else []))
print("tmp=" + ",".join(os.listdir("/tmp")))
print("name=" + socket.gethostname())
print("cwd=" + os.getcwd())
print("env=" + ",".join(sorted(os.environ)))
print("home=" + os.environ["HOME"])
print("instance=" + os.environ["TUTTI_INSTANCE"] + " " + os.environ["TUTTI_SERVICE"] + " " + os.environ["TUTTI_VERSION"])
print("fds=" + ",".join(sorted(os.listdir("/proc/self/fd"))))
print("session=" + str(os.getsid(0) == os.getpid()))
"#;

#[tokio::test]
async fn a_program_sees_its_own_and_nothing_else() {
    let host = Host::new();
    if !confines(&host).await {
        return;
    }
    let found = report(&host, 1, LOOK, &[]).await;
    let uid: u32 = found["Uid"].split('\t').next().unwrap().parse().unwrap();
    assert!((200_000..260_000).contains(&uid), "{uid}");
    assert_eq!(found["Groups"], "");
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(found[set], "0000000000000000", "{set}");
    }
    assert_eq!((found["NoNewPrivs"].as_str(), found["Seccomp"].as_str()), ("1", "2"));
    assert_eq!(found["pids"], "1,2");
    assert_eq!((found["cwd"].as_str(), found["home"].as_str(), found["tmp"].as_str()), ("/app", "/data", ""));
    for hidden in ["root", "home", "sys", "work", "mnt", "srv", "boot"] {
        assert!(!found["root"].split(',').any(|name| name == hidden), "{}", found["root"]);
    }
    assert!(found["name"].starts_with("i-"));
    assert_eq!(found["env"], "HOME,LANG,PATH,PORT,TMPDIR,TUTTI_INSTANCE,TUTTI_SERVICE,TUTTI_VERSION");
    assert!(found["instance"].ends_with(" example.com:web 1.0"));
    // Its three streams, and the one that lists them.
    assert_eq!(found["fds"], "0,1,2,3");
    assert_eq!(found["session"], "True");
}

const TRY: &str = r#"
import ctypes, os, platform, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def say(name, attempt):
    try:
        attempt()
        print(name + "=allowed")
    except OSError as error:
        print(name + "=" + (error.strerror or str(error)))
def call(*args):
    if libc.syscall(*args) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
def bind(port):
    socket.socket().bind(("127.0.0.1", port))
x86 = platform.machine() == "x86_64"
port = int(os.environ["PORT"])
say("write_app", lambda: open("/app/new", "w"))
say("change_app", lambda: open("/app/main.py", "a"))
say("remove_app", lambda: os.remove("/app/main.py"))
say("write_etc", lambda: open("/etc/tutti-new", "w"))
say("write_usr", lambda: open("/usr/tutti-new", "w"))
say("write_data", lambda: open("/data/new", "w").write("x"))
say("write_tmp", lambda: open("/tmp/new", "w").write("x"))
say("write_shm", lambda: open("/dev/shm/new", "w").write("x"))
say("write_null", lambda: open("/dev/null", "w").write("x"))
say("read_root", lambda: os.listdir("/root"))
say("read_secret", lambda: open(sys.argv[1]))
say("read_other", lambda: open(sys.argv[2]))
say("read_shadow", lambda: open("/etc/shadow"))
say("bind_own", lambda: bind(port))
say("bind_other", lambda: bind(port - 1 if port > 20001 else port + 1))
say("mount", lambda: call(165 if x86 else 40, b"x", b"/tmp", b"tmpfs", 0, None))
say("unshare", lambda: call(272 if x86 else 97, 0x10000000))
say("clone_newuser", lambda: call(56 if x86 else 220, 0x10000000 | 17, None, None, None, None))
say("clone3", lambda: call(435, None, 0))
say("ptrace", lambda: call(101 if x86 else 117, 0, 0, 0, 0))
say("bpf", lambda: call(321 if x86 else 280, 0, None, 0))
say("keyctl", lambda: call(250 if x86 else 219, 0, 0, 0, 0, 0))
say("io_uring", lambda: call(425, 1, None))
say("perf", lambda: call(298 if x86 else 241, None, 0, 0, 0, 0))
say("userfaultfd", lambda: call(323 if x86 else 282, 0))
say("packet", lambda: socket.socket(17, socket.SOCK_RAW))
say("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
say("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
say("setuid", lambda: os.setuid(0))
say("kill_init", lambda: os.kill(1, 9))
if x86:
    say("x32", lambda: call(0x40000000 + 39))
say("thread", lambda: __import__("threading").Thread(target=print).start())
say("child", lambda: __import__("subprocess").run(["/bin/true"], check=True))
"#;

#[tokio::test]
async fn a_program_is_refused_what_it_has_no_business_with() {
    let host = Host::new();
    if !confines(&host).await {
        return;
    }
    let hello = host.hello();
    let (other, running) = host.start(1, &hello).await;
    suite::answers(&*running).await.unwrap();
    let secret = host.folder.path().join("secret");
    std::fs::write(&secret, "a token").unwrap();
    let others = other.folder.join("spec.json");
    assert!(others.exists());
    let args = [secret.to_str().unwrap(), others.to_str().unwrap()];
    let found = report(&host, 2, TRY, &args).await;
    suite::answers(&*running).await.unwrap();
    host.end(&other, &*running).await;

    let allowed = ["write_data", "write_tmp", "write_shm", "write_null", "bind_own", "thread", "child"];
    let kills_itself = ["kill_init"];
    for (what, answer) in &found {
        if allowed.contains(&what.as_str()) {
            assert_eq!(answer, "allowed", "{what}: {found:#?}");
        } else {
            assert_ne!(answer, "allowed", "{what}: {found:#?}");
        }
    }
    let refused_by_seccomp = [
        "mount",
        "unshare",
        "clone_newuser",
        "ptrace",
        "bpf",
        "keyctl",
        "io_uring",
        "perf",
        "userfaultfd",
        "packet",
        "vsock",
    ];
    for what in refused_by_seccomp {
        assert_eq!(found[what], "Operation not permitted", "{what}");
    }
    assert_eq!(found["clone3"], "Function not implemented");
    assert_eq!(found["bind_other"], "Permission denied");
    assert!(found.len() >= 30 && found.contains_key(kills_itself[0]), "{found:#?}");
}

#[tokio::test]
async fn each_has_its_own_folders_and_keeps_its_data() {
    let host = Host::new();
    let program = "import os\nprint('data=' + ','.join(sorted(os.listdir(os.environ['HOME']))))\nprint('tmp=' + ','.join(os.listdir(os.environ['TMPDIR'])))\nopen(os.environ['HOME'] + '/kept', 'w')\nopen(os.environ['TMPDIR'] + '/gone', 'w')\n";
    let sample = host.python(program, &[]);
    let driver = host.driver();
    let spec = host.spec(1, &sample);
    driver.preload(&spec.artifact).await.unwrap();
    for round in 0..2 {
        let running = driver.start(&spec).await.unwrap();
        let exit = running.exit().wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert_eq!(exit.code, Some(0), "{}", exit.text);
        let lines = crate::subject::lines(&spec.logs, &spec.instance).await;
        let lines: Vec<&str> =
            lines.iter().map(|line| line.line.as_str()).filter(|line| line.contains('=')).collect();
        assert_eq!(lines[2 * round..], if round == 0 { ["data=", "tmp="] } else { ["data=kept", "tmp="] });
    }
    driver.remove(&spec).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_run_is_told_plainly() {
    /// Files of the artifact, the command, and what is said.
    type Case<'a> = (&'a [(&'a str, &'a [u8], u32)], &'a [&'a str], &'a str);
    let host = Host::new();
    let driver = host.driver();
    let cases: [Case<'_>; 6] = [
        (&[("main.py", b"print()", 0o644)], &["main.py"], "is not executable"),
        (
            &[("run", b"#!/no/such/interpreter\n", 0o755)],
            &[],
            "the interpreter or loader that it names is not on this host",
        ),
        (&[("run", b"\x7fELF rubbish", 0o755)], &[], "it is no program for this machine"),
        (&[("a", b"x", 0o644)], &["/bin/no-such"], "is not in the artifact"),
        (&[("a", b"x", 0o644)], &["../../bin/sh"], "is not in the artifact"),
        (&[("a", b"x", 0o644)], &[], "no executable file"),
    ];
    for (number, (files, run, wanted)) in cases.into_iter().enumerate() {
        let manifest =
            Manifest { run: run.iter().map(|word| (*word).to_owned()).collect(), ..Manifest::default() };
        let sample = tutti_isolate::suite::Sample { artifact: host.artifact(files), manifest };
        let spec = host.spec(number as u64, &sample);
        driver.preload(&spec.artifact).await.unwrap();
        let error = driver.start(&spec).await.unwrap_err();
        assert!(matches!(error, tutti_isolate::DriverError::Unrunnable(_)), "{error:?}");
        assert!(error.chain().contains(wanted), "{}", error.chain());
        driver.remove(&spec).await.unwrap();
    }
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_port_that_is_wanted_is_given_or_said_to_be_taken() {
    let host = Host::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut sample = host.hello();
    sample.manifest.port = Some(port);
    let (driver, spec) = (host.driver(), host.spec(1, &sample));
    driver.preload(&spec.artifact).await.unwrap();
    let error = driver.start(&spec).await.unwrap_err().chain();
    assert!(error.contains(&format!("port {port}")) && error.contains("has it"), "{error}");
    drop(listener);
    // A process that another test is just starting holds a copy of the listener for a moment.
    let running = loop {
        match driver.start(&spec).await {
            Ok(running) => break running,
            Err(error) => assert!(error.chain().contains("has it"), "{}", error.chain()),
        }
    };
    suite::answers(&*running).await.unwrap();
    assert_eq!(format!("{:?}", running.target()), format!("Address(127.0.0.1:{port})"));
    host.end(&spec, &*running).await;
}

#[tokio::test]
async fn concurrent_starts_share_no_port_and_no_user() {
    let host = Host::new();
    let sample = host.hello();
    let driver = host.driver();
    driver.preload(&sample.artifact).await.unwrap();
    let specs: Vec<_> = (0..8).map(|number| host.spec(number, &sample)).collect();
    let started = futures_util::future::join_all(specs.iter().map(|spec| driver.start(spec))).await;
    let started: Vec<_> =
        started.into_iter().map(|running| running.unwrap_or_else(|e| panic!("{}", e.chain()))).collect();
    for running in &started {
        suite::answers(&**running).await.unwrap();
    }
    for (spec, running) in specs.iter().zip(&started) {
        host.end(spec, &**running).await;
    }
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn output_of_every_kind_is_kept() {
    let host = Host::new();
    let program = "import os, sys\nos.write(1, b'no end')\nos.write(2, b'bad \\xff\\x00 bytes\\r\\n')\nos.write(1, b'x' * 40000)\nsys.stdout.flush()\n";
    let (lines, exit) = host.outcome(1, &host.python(program, &[])).await;
    assert_eq!(exit.code, Some(0));
    assert!(lines.contains(&"bad \u{fffd}\u{fffd} bytes".to_owned()), "{lines:?}");
    let long: String = lines.iter().filter(|line| !line.starts_with("bad")).cloned().collect();
    assert_eq!(long, format!("no end{}", "x".repeat(40_000)));
}
