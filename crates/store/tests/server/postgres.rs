//! A PostgreSQL server of a test's own: in a folder that is removed with it, on a socket there, as a user that is not
//! root. It ends with the test, also when that is killed.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

/// How long a server may take to start, after a crash too.
const START: Duration = Duration::from_secs(60);
/// The first of the versions whose Debian packages are looked for.
const VERSIONS: std::ops::Range<u32> = 15..30;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    folder: tempfile::TempDir,
    programs: PathBuf,
    user: Option<(u32, u32)>,
    settings: Vec<String>,
    child: Option<Child>,
    databases: AtomicU32,
}

impl Server {
    /// One that does not run yet; `None`, after saying so, where there is no PostgreSQL.
    pub(crate) fn made() -> Option<Server> {
        let server = Server::empty()?;
        server.done(
            server
                .command("initdb")
                .args(["-U", "tutti", "--auth=trust", "--no-sync", "--locale=C", "-E", "UTF8", "-D"])
                .arg(server.data()),
        );
        Some(server)
    }

    /// One that runs and has everything from this one, now and as it comes.
    #[allow(dead_code, reason = "not every test has two")]
    pub(crate) fn standby(&self) -> Option<Server> {
        let mut server = Server::empty()?;
        let mut copy = server.command("pg_basebackup");
        copy.args(["-U", "tutti", "-c", "fast", "-R", "-h"]).arg(self.folder()).arg("-D").arg(server.data());
        server.done(&mut copy);
        server.run();
        Some(server)
    }

    fn empty() -> Option<Server> {
        let Some(programs) = programs() else {
            eprintln!("SKIPPED: this test needs PostgreSQL 15 or newer (Debian's package postgresql)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let user = another_user();
        let databases = AtomicU32::new(0);
        let server = Server { folder, programs, user, settings: Vec::new(), child: None, databases };
        if let Some((user, group)) = server.user {
            std::os::unix::fs::chown(server.folder.path(), Some(user), Some(group)).unwrap();
        }
        Some(server)
    }

    fn done(&self, command: &mut Command) {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// One that runs and keeps what it acknowledges.
    #[allow(dead_code, reason = "not every test is about the disk")]
    pub(crate) fn durable() -> Option<Server> {
        let mut server = Server::made()?;
        server.run();
        Some(server)
    }

    /// One that runs and does not wait for its disk: for what is not about that.
    #[allow(dead_code, reason = "not every test is about something else")]
    pub(crate) fn quick() -> Option<Server> {
        let mut server = Server::made()?;
        server.set("fsync=off");
        server.set("full_page_writes=off");
        server.run();
        Some(server)
    }

    /// What it is told when it is run next; the last word counts.
    pub(crate) fn set(&mut self, setting: impl Into<String>) {
        self.settings.push(setting.into());
    }

    /// Its folder, where it has its socket too.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    fn command(&self, program: &str) -> Command {
        self.owned(Command::new(self.programs.join(program)))
    }

    /// As the server's user, in a folder that any may be in.
    fn owned(&self, mut command: Command) -> Command {
        command.current_dir("/").env("LC_ALL", "C");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts it, again after it was killed: as often as it takes until what was killed has let go of its memory.
    pub(crate) fn run(&mut self) {
        let end = Instant::now() + START;
        while let Err(said) = self.try_run() {
            assert!(Instant::now() < end, "the server does not start:\n{said}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn try_run(&mut self) -> Result<(), String> {
        self.end();
        let postgres = self.command("postgres").get_program().to_owned();
        // The shell ends the server when this process goes: its end of the pipe is closed then.
        let script = "exec 3<&0; \"$@\" </dev/null 3<&- & server=$!
            { read -r _; kill -QUIT $server; } <&3 >/dev/null 2>&1 &
            wait $server";
        let mut command = self.owned(Command::new("sh"));
        command.args(["-c", script, "sh"]).arg(postgres).arg("-D").arg(self.data());
        let socket = format!("unix_socket_directories={}", self.folder().display());
        let all = [socket.as_str(), "listen_addresses=", "max_connections=60", "shared_buffers=32MB"];
        for setting in all.into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        self.child = Some(child);
        let (told, tells) = mpsc::channel();
        std::thread::spawn(move || {
            let mut said = String::new();
            // To the end, so that the server can go on writing.
            for line in log.lines().map_while(Result::ok) {
                if line.contains("ready to accept") {
                    let _once = told.send(Ok(()));
                }
                if said.len() < 10_000 {
                    said.push_str(&line);
                    said.push('\n');
                }
            }
            let _started = told.send(Err(said));
        });
        tells.recv_timeout(START).expect("the server neither starts nor ends")
    }

    /// The server's own process, which all others are children of.
    fn process(&self) -> u32 {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        file.lines().next().unwrap().parse().unwrap()
    }

    /// `kill -9` of all of its processes.
    #[allow(dead_code, reason = "not every test kills it")]
    pub(crate) fn kill(&mut self) {
        let server = self.process();
        let mut all = vec![server];
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(2)?.parse::<u32>().ok());
            if parent == Some(server) {
                all.extend(entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
            }
        }
        let pids = all.iter().map(ToString::to_string);
        // Some children may have gone with their parent.
        let _some = Command::new("kill").arg("-9").args(pids).stderr(Stdio::null()).status().unwrap();
        self.end();
    }

    /// Waits for the shell, and with it for the server.
    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            let _status = child.wait();
        }
    }

    /// Makes a database, and gives its address.
    pub(crate) fn database(&self) -> String {
        let name = format!("db{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.address(&name)
    }

    /// The address of a database.
    pub(crate) fn address(&self, database: &str) -> String {
        format!("postgres://tutti@/{database}?host={}", self.folder().display())
    }

    /// What `psql` answers.
    pub(crate) fn sql(&self, database: &str, statement: &str) -> String {
        self.sql_at(5432, database, statement)
    }

    /// The same of a server that is on another port.
    pub(crate) fn sql_at(&self, port: u16, database: &str, statement: &str) -> String {
        let output = self
            .command("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "tutti", "-h"])
            .arg(self.folder())
            .args(["-p", &port.to_string(), "-d", database, "-c", statement])
            .output()
            .unwrap();
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Gives a file in its folder that only the server may read.
    #[allow(dead_code, reason = "not every test has certificates")]
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((user, group)) = self.user {
            std::os::unix::fs::chown(&path, Some(user), Some(group)).unwrap();
        }
        path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// The folder of the server's programs: Debian keeps them off the path.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = VERSIONS.map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
    debian
        .chain(std::env::split_paths(&path))
        .find(|folder| ["initdb", "postgres", "psql"].iter().all(|program| folder.join(program).exists()))
}

/// Another user than root, which PostgreSQL refuses to run as; `None` if this process is not root's.
fn another_user() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut ids = line.split(':').skip(2).map(|id| id.parse().ok());
        Some((ids.next()??, ids.next()??))
    };
    Some(of("postgres").or_else(|| of("nobody")).expect("there is neither a user postgres nor nobody"))
}
