//! Programs to run, and a driver to run them.

use async_trait::async_trait;
use futures_util::StreamExt as _;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tutti_base::{Random, SystemClock};
use tutti_isolate::{
    Artifact, Driver, Layer, Running, StartSpec,
    suite::{Sample, Subject},
};
use tutti_isolate_linux::{ProcessDriver, ProcessOptions, process::MEDIA_TYPE};
use tutti_model::{
    InstanceId, Millis,
    log::{LogLine, LogQuery},
    manifest::Manifest,
};

const HELLO: &str = r#"
import http.server, os, signal, sys
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *args):
        pass
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Hello).serve_forever()
"#;

/// A driver over a folder of its own, which ends whatever it started when it goes.
pub(crate) struct Host {
    pub(crate) folder: tempfile::TempDir,
}

impl Host {
    pub(crate) fn new() -> Host {
        Host { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn driver(&self) -> ProcessDriver {
        driver(self.folder.path())
    }

    /// An artifact of files (name, content, mode).
    pub(crate) fn artifact(&self, files: &[(&str, &[u8], u32)]) -> Artifact {
        artifact(self.folder.path(), files)
    }

    /// A sample of one Python program.
    pub(crate) fn python(&self, program: &str, args: &[&str]) -> Sample {
        let mut run = vec!["python3".to_owned(), "-u".to_owned(), "main.py".to_owned()];
        run.extend(args.iter().map(|arg| (*arg).to_owned()));
        let manifest = Manifest { run, ..Manifest::default() };
        Sample { artifact: self.artifact(&[("main.py", program.as_bytes(), 0o644)]), manifest }
    }

    pub(crate) fn hello(&self) -> Sample {
        self.python(HELLO, &[])
    }

    pub(crate) fn spec(&self, number: u64, sample: &Sample) -> StartSpec {
        spec(self.folder.path(), number, sample)
    }

    pub(crate) async fn start(&self, number: u64, sample: &Sample) -> (StartSpec, Arc<dyn Running>) {
        let (driver, spec) = (self.driver(), self.spec(number, sample));
        driver.preload(&spec.artifact).await.unwrap();
        let running = driver.start(&spec).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        (spec, running)
    }

    /// Runs a Python program to its end and gives what it wrote and how it ended.
    pub(crate) async fn outcome(&self, number: u64, sample: &Sample) -> (Vec<String>, tutti_isolate::Exit) {
        let (spec, running) = self.start(number, sample).await;
        let mut exit = running.exit();
        let wait = exit.wait_for(Option::is_some);
        let exit = tokio::time::timeout(std::time::Duration::from_secs(60), wait)
            .await
            .unwrap()
            .unwrap()
            .clone()
            .unwrap();
        let lines = lines(&spec.logs, &spec.instance).await;
        self.driver().remove(&spec).await.unwrap();
        let own = lines.into_iter().filter(|line| line.output != tutti_model::log::Output::Tutti);
        (own.map(|line| line.line).collect(), exit)
    }

    /// The shims of this host's instances.
    pub(crate) fn shims(&self) -> Vec<rustix::process::Pid> {
        let folder = self.folder.path().to_str().unwrap();
        let commands = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(|entry| {
            let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            command.starts_with("tutti") && command.contains(folder)
        });
        commands
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(rustix::process::Pid::from_raw)
            .collect()
    }

    /// What is still there of this host's instances: processes, mounts and control groups that name them.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let folder = self.folder.path().to_str().unwrap();
        let mut left = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            // This test's own helper processes do not count, shims and what they run do.
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            let ours = String::from_utf8_lossy(&environment).contains("TUTTI_INSTANCE=")
                && std::fs::read_link(entry.path().join("root")).is_ok_and(|root| root.starts_with(folder));
            if ours || (command.contains(folder) && command.starts_with("tutti")) {
                // A shim may be in its last moment, its work done.
                let pid: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
                let handle = rustix::process::Pid::from_raw(pid).and_then(|pid| {
                    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
                });
                let second = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
                let gone = handle.is_none_or(|handle| {
                    let mut waits = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
                    rustix::event::poll(&mut waits, Some(&second)).is_ok_and(|ready| ready == 1)
                });
                if !gone {
                    left.push(format!("process {pid}: {}", command.replace('\0', " ")));
                }
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        left.extend(mounts.lines().filter(|line| line.contains(folder)).map(|line| format!("mount {line}")));
        for number in 0..20 {
            let instance = instance(self.folder.path(), number);
            for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().filter_map(Result::ok)
            {
                let group = hierarchy.path().join("tutti").join(instance.as_str());
                if group.exists() {
                    left.push(format!("control group {}", group.display()));
                }
            }
        }
        left
    }

    pub(crate) async fn end(&self, spec: &StartSpec, running: &dyn Running) {
        running.stop(Millis::seconds(5)).await;
        self.driver().remove(spec).await.unwrap();
    }
}

pub(crate) fn driver(folder: &Path) -> ProcessDriver {
    ProcessDriver::new(ProcessOptions {
        root: folder.join("driver"),
        shim: env!("CARGO_BIN_EXE_tutti-shim").into(),
        shim_args: Vec::new(),
        clock: Arc::new(SystemClock),
        random: Random::from_os(),
    })
}

pub(crate) fn artifact(folder: &Path, files: &[(&str, &[u8], u32)]) -> Artifact {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    let bytes = builder.into_inner().unwrap();
    let digest = tutti_base::sha256::digest(&bytes);
    let path = folder.join(format!("{}.tar", digest.short()));
    std::fs::write(&path, &bytes).unwrap();
    let layer =
        Layer { media_type: MEDIA_TYPE.into(), digest: digest.clone(), size: bytes.len() as u64, path };
    Artifact { digest, layers: vec![layer] }
}

/// The id of an instance; tests that run beside one another share no control groups.
fn instance(folder: &Path, number: u64) -> InstanceId {
    let digest = tutti_base::sha256::digest(folder.as_os_str().as_encoded_bytes());
    InstanceId::from_bits(u64::from_str_radix(&digest.hex()[..16], 16).unwrap().wrapping_add(number))
}

pub(crate) fn spec(folder: &Path, number: u64, sample: &Sample) -> StartSpec {
    let instance = instance(folder, number);
    StartSpec {
        folder: folder.join("instances").join(instance.as_str()),
        logs: folder.join("logs").join(instance.as_str()),
        instance,
        version: "example.com:web@1.0".parse().unwrap(),
        artifact: sample.artifact.clone(),
        manifest: sample.manifest.clone(),
        secrets: tutti_base::SecretValues::default(),
        until: None,
    }
}

pub(crate) async fn lines(logs: &Path, instance: &InstanceId) -> Vec<LogLine> {
    tutti_logs::read(logs, instance.clone(), LogQuery::default()).map(Result::unwrap).collect().await
}

#[async_trait]
impl Subject for Host {
    async fn driver(&self) -> Arc<dyn Driver> {
        Arc::new(self.driver())
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    fn hello(&self) -> Sample {
        self.hello()
    }

    fn crasher(&self) -> Option<Sample> {
        let script = b"#!/bin/sh\necho about to fail >&2\nexit 3\n";
        Some(Sample { artifact: self.artifact(&[("fail", script, 0o755)]), manifest: Manifest::default() })
    }

    fn stubborn(&self) -> Option<Sample> {
        Some(self.python(HELLO, &["stubborn"]))
    }

    fn talker(&self) -> Option<Sample> {
        Some(
            self.python(
                "import time\nfor n in range(100): print('line', n)\nwhile True: time.sleep(60)\n",
                &[],
            ),
        )
    }

    fn unrunnable(&self) -> Option<Sample> {
        let manifest = Manifest { run: vec!["no-such-program".into()], ..Manifest::default() };
        Some(Sample { artifact: self.artifact(&[("readme", b"nothing", 0o644)]), manifest })
    }

    async fn lines(&self, logs: &Path, instance: &InstanceId) -> Vec<LogLine> {
        lines(logs, instance).await
    }
}
