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
    time::Duration,
};

/// How long a server may take to start, after a crash too.
const START: Duration = Duration::from_secs(60);
/// The first of the versions whose Debian packages are looked for.
const VERSIONS: std::ops::Range<u32> = 15..30;

/// A running server.
#[derive(Debug)]
pub struct Server {
    folder: tempfile::TempDir,
    programs: PathBuf,
    user: Option<(u32, u32)>,
    settings: Vec<String>,
    child: Option<Child>,
    databases: AtomicU32,
}

impl Server {
    /// A server with these settings beside those that all have; `None`, after saying so, where there is no PostgreSQL.
    pub fn start(settings: &[&str]) -> Option<Server> {
        let Some(programs) = programs() else {
            eprintln!("SKIPPED: this test needs PostgreSQL 15 or newer (Debian's package postgresql)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server {
            folder,
            programs,
            user: another_user(),
            settings: settings.iter().map(ToString::to_string).collect(),
            child: None,
            databases: AtomicU32::new(0),
        };
        if let Some((user, group)) = server.user {
            std::os::unix::fs::chown(server.folder.path(), Some(user), Some(group)).unwrap();
        }
        let made = server
            .command("initdb")
            .args(["-U", "tutti", "--auth=trust", "--no-sync", "--locale=C", "-E", "UTF8", "-D"])
            .arg(server.data())
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        server.run();
        Some(server)
    }

    /// One whose fsync is off: for what is not about the disk.
    #[allow(dead_code, reason = "not every test has both")]
    pub fn quick() -> Option<Server> {
        Server::start(&["fsync=off", "full_page_writes=off"])
    }

    /// Its folder, where it has its socket too.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir("/").env("LC_ALL", "C");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts it, again after it was killed.
    pub fn run(&mut self) {
        drop(self.child.take());
        // The shell ends the server when this process goes: its end of the pipe is closed then.
        let mut command = self.command("postgres");
        let postgres = command.get_program().to_owned();
        command = Command::new("sh");
        command.current_dir("/").env("LC_ALL", "C");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command.args([
            "-c",
            "\"$@\" </dev/null & server=$!; read -r _; kill -QUIT $server; wait $server",
            "sh",
        ]);
        command.arg(postgres).arg("-D").arg(self.data());
        let socket = format!("unix_socket_directories={}", self.folder().display());
        let all = [
            &socket,
            "listen_addresses=",
            "max_connections=60",
            "shared_buffers=32MB",
            "log_checkpoints=off",
        ];
        for setting in all.into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        self.child = Some(child);
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            let mut said = Vec::new();
            for line in log.lines().map_while(Result::ok) {
                if line.contains("ready to accept connections") {
                    let _gone = ready.send(());
                }
                said.push(line);
                // What a failed start said is printed; the rest is read so that the server can go on.
                said.truncate(200);
            }
            if ready.send(()).is_ok() {
                eprintln!("the server ended: {}", said.join("\n"));
            }
        });
        is_ready.recv_timeout(START).expect("the server did not start");
    }

    /// The server's own process, which all others are children of.
    fn process(&self) -> u32 {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        file.lines().next().unwrap().parse().unwrap()
    }

    /// `kill -9` of all of its processes.
    #[allow(dead_code, reason = "not every test kills it")]
    pub fn kill(&mut self) {
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
    pub fn database(&self) -> String {
        let name = format!("db{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.address(&name)
    }

    /// The address of a database.
    pub fn address(&self, database: &str) -> String {
        format!("postgres://tutti@/{database}?host={}", self.folder().display())
    }

    /// What `psql` answers.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let output = self
            .command("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "tutti", "-h"])
            .arg(self.folder())
            .args(["-d", database, "-c", statement])
            .output()
            .unwrap();
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Gives a file in its folder that only the server may read.
    #[allow(dead_code, reason = "not every test has certificates")]
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
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
