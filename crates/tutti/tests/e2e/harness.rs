//! A cloud of its own for each test, and the ways in which users talk to it.

use crate::engine::Engine;
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// How long anything may take on a busy machine of two cores before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running `tutti dev`.
pub struct Cloud {
    folder: tempfile::TempDir,
    data_dir: PathBuf,
    child: Option<Child>,
    ready: bool,
    variables: Vec<(String, String)>,
    engine: Engine,
    /// Where the API listens.
    pub api: SocketAddr,
    /// Where the ingress listens.
    pub http: SocketAddr,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Cloud {
    /// Starts a cloud and waits until it is ready.
    pub fn start() -> Cloud {
        Cloud::start_with(&[])
    }

    /// Starts a cloud with these environment variables, on the engine that tests are to use unless they name a store.
    pub fn start_with(variables: &[(&str, &str)]) -> Cloud {
        let names_store = variables.iter().any(|(name, _)| *name == "TUTTI_STORE");
        Cloud::start_on(if names_store { Engine::File } else { Engine::start() }, variables)
    }

    /// Starts a cloud whose state is in a file of its folder, whatever engine tests are to use: for what is about files.
    pub fn start_in_a_file(variables: &[(&str, &str)]) -> Cloud {
        Cloud::start_on(Engine::File, variables)
    }

    fn start_on(engine: Engine, variables: &[(&str, &str)]) -> Cloud {
        let folder = tempfile::Builder::new().prefix("tutti-e2e-").tempdir().expect("a temporary folder");
        let nowhere: SocketAddr = ([127, 0, 0, 1], 0).into();
        let mut cloud = Cloud {
            data_dir: folder.path().join("data"),
            folder,
            child: None,
            ready: false,
            variables: Vec::new(),
            engine,
            api: nowhere,
            http: nowhere,
        };
        cloud.start_again(variables);
        cloud
    }

    /// Starts it again in the same folders, on the same ports if it had some.
    pub fn start_again(&mut self, variables: &[(&str, &str)]) {
        assert!(self.child.is_none(), "it runs already");
        self.variables = variables.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("dev.log"))
            .expect("a log file");
        let mut child = self
            .command()
            .args(["dev", "-o", "json", "--api", &self.api.to_string(), "--http", &self.http.to_string()])
            .arg("--data-dir")
            .arg(self.data_dir())
            .envs(self.engine.address().map(|address| ("TUTTI_STORE", address)))
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("tutti starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output"))
            .read_line(&mut line)
            .expect("its first line");
        self.child = Some(child);
        self.ready = !line.is_empty();
        if line.is_empty() {
            // It ended before it was ready, which some tests want.
            return;
        }
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let address = |key: &str| {
            let url = ready[key].as_str().unwrap_or_else(|| panic!("no {key} in {line}"));
            url.trim_start_matches("http://").parse().expect("an address")
        };
        (self.api, self.http) = (address("api"), address("http"));
    }

    /// Where it keeps everything.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    /// Where its state is, if not in its folder.
    pub fn store(&self) -> Option<String> {
        self.engine.address()
    }

    /// Lets it keep everything elsewhere from its next start on.
    pub fn move_to(&mut self, data_dir: &Path) {
        self.data_dir = data_dir.to_owned();
    }

    /// A folder for the test's own files.
    pub fn scratch(&self) -> PathBuf {
        let path = self.folder.path().join("scratch");
        std::fs::create_dir_all(&path).expect("a scratch folder");
        path
    }

    /// What the process has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("dev.log")).unwrap_or_default()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// The binary, with this cloud's configuration folder, and nothing of the surroundings.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command of the binary to its end.
    pub fn tutti(&self, arguments: &[&str]) -> Said {
        said(self.command().args(arguments).output().expect("tutti runs"))
    }

    /// Runs a command that must succeed, and gives its output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let said = self.tutti(arguments);
        assert_eq!(
            said.code,
            0,
            "tutti {}\n{}\n{}\n--- log\n{}",
            arguments.join(" "),
            said.out,
            said.err,
            self.log()
        );
        said.out
    }

    /// Runs a command and reads its JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let out = self.ok(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// Pushes the wasm sample as this version, with these environment variables.
    pub fn push_wasm(&self, version: &str, env: &[(&str, &str)]) {
        let folder = self.scratch().join(version.replace(['@', ':'], "-"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("hello.wasm");
        std::fs::copy(guest("hello-wasm/hello_wasm.wasm"), &file).expect("a copy of the guest");
        let variables: Vec<String> = env.iter().map(|(key, value)| format!("{key} = \"{value}\"")).collect();
        let manifest = format!("[service]\nenv = {{ {} }}\n", variables.join(", "));
        std::fs::write(folder.join("tutti.toml"), manifest).expect("a manifest");
        self.ok(&["push", file.to_str().expect("a path"), version]);
    }

    /// Pushes the Python sample as this version, with these lines in its `[service]` section and these environment
    /// variables. Each process has the cloud's [`Cloud::mark`] in its environment.
    pub fn push_python(&self, version: &str, lines: &str, env: &[(&str, &str)]) {
        let folder = self.scratch().join(version.replace(['@', ':'], "-"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let sample = root().join("samples/hello-http-python/main.py");
        std::fs::copy(sample, folder.join("main.py")).expect("a copy of the sample");
        std::fs::copy(root().join("crates/tutti/tests/e2e/programs/gate.py"), folder.join("gate.py"))
            .expect("a copy of the gate");
        let mark = self.mark();
        let variables: Vec<String> = env
            .iter()
            .chain(&[("MARK", &*mark)])
            .map(|(key, value)| format!("{key} = \"{value}\""))
            .collect();
        let manifest = format!(
            "[service]\nisolate = \"process\"\nrun = [\"python3\", \"-u\", \"gate.py\"]\n\
             health = {{ http = \"/healthz\" }}\nenv = {{ {} }}\n{lines}\n",
            variables.join(", ")
        );
        std::fs::write(folder.join("tutti.toml"), manifest).expect("a manifest");
        self.ok(&["push", folder.to_str().expect("a path"), version]);
    }

    /// A word that only this cloud's folders, and the environment of what it runs, have.
    pub fn mark(&self) -> String {
        self.folder.path().file_name().expect("a name").to_string_lossy().into_owned()
    }

    /// Every process that has to do with this cloud, but for `tutti dev` and its clients: instances and their shims.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let mark = self.mark();
        let own = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == binary());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let read = |what: &str| {
                let bytes = std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            let (line, environment) = (read("cmdline"), read("environ"));
            let is_shim = line.split(' ').nth(1) == Some("shim");
            let is_ours = line.contains(&mark) || environment.contains(&mark);
            if is_ours && !line.is_empty() && (is_shim || !own(pid)) {
                found.push((pid, line));
            }
        }
        found
    }

    /// The processes of instances, without their shims.
    pub fn programs(&self) -> Vec<u32> {
        let mut programs = self.processes();
        programs.retain(|(_, line)| line.split(' ').nth(1) != Some("shim"));
        programs.into_iter().map(|(pid, _)| pid).collect()
    }

    /// The secret of the admin token that the command line uses.
    pub fn token(&self) -> String {
        let folder = self.folder.path().join("config/tutti/tokens");
        let file = std::fs::read_dir(folder).expect("tokens").flatten().next().expect("a token").path();
        std::fs::read_to_string(file).expect("a token").trim().to_owned()
    }

    /// One call of the API with the admin token: status, and body as JSON.
    pub fn try_call(&self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<(u16, Value)> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nhost: api\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.token(),
            body.len()
        );
        let answer = try_request(self.api, &text)?;
        Ok((answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::Null)))
    }

    /// What the API has at this path.
    pub fn get_json(&self, path: &str) -> Value {
        let (status, body) =
            self.try_call("GET", path, None).unwrap_or_else(|error| panic!("{error}: {path}"));
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The items of a list of the API.
    pub fn items(&self, kind: &str) -> Vec<Value> {
        self.get_json(&format!("/v1/{kind}"))["items"].as_array().expect("items").clone()
    }

    /// One request with this `Host`.
    pub fn get(&self, host: &str, path: &str) -> Answer {
        request(self.http, &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("SIGKILL");
        child.wait().expect("it is gone");
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        signal(child.id(), "TERM");
        wait_for("tutti dev ends", || child.try_wait().expect("a status").is_some());
    }

    /// Waits until it has ended by itself, as with a crash point.
    pub fn wait_for_end(&mut self) {
        let mut child = self.child.take().expect("it runs");
        wait_for("tutti dev dies", || child.try_wait().expect("a status").is_some());
    }

    /// Whether it said that it is ready when it was started last, rather than end before.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("a status").is_none())
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), "TERM");
            let end = Instant::now() + Duration::from_secs(30);
            while Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
                pause();
            }
            // Already gone is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of tutti dev\n{}", self.log());
        }
    }
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) {
    let sent =
        Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status();
    sent.expect("kill runs");
}

/// What a finished command said.
pub fn said(output: Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// One raw HTTP/1.1 exchange on a connection of its own.
pub fn request(address: SocketAddr, text: &str) -> Answer {
    try_request(address, text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The same, for when it may fail.
pub fn try_request(address: SocketAddr, text: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(text.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { unchunk(body) } else { body.to_owned() };
    Ok(Answer { status: status.ok_or(std::io::ErrorKind::InvalidData)?, headers, body })
}

fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        body.push_str(after.get(..size).unwrap_or(after));
        rest = after.get(size + 2..).unwrap_or("");
    }
    body
}

/// A guest that `scripts/build-guests.sh` has built.
pub fn guest(name: &str) -> PathBuf {
    let path = root().join("target/guests").join(name);
    assert!(path.exists(), "{} is missing: run scripts/build-guests.sh", path.display());
    path
}

/// The binary under test: the one built with the tests, or `TUTTI_E2E_BINARY`, such as a release.
pub fn binary() -> PathBuf {
    std::env::var_os("TUTTI_E2E_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_tutti").into(), PathBuf::from)
}

/// The top of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout")
}

/// Waits until something holds, which must be within [`PATIENCE`].
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        pause();
    }
}

/// Waits until nothing is wrong any more, and says what was if that takes longer than [`PATIENCE`].
pub fn wait_until(what: &str, mut wrong: impl FnMut() -> Result<(), String>) {
    let end = Instant::now() + PATIENCE;
    while let Err(wrong) = wrong() {
        assert!(Instant::now() < end, "waited in vain: {what}: {wrong}");
        pause();
    }
}

/// Between two looks at something that cannot be awaited.
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
