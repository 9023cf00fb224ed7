//! A server of buckets for tests: moto's, in the Python that `TUTTI_TEST_PYTHON` names. It keeps everything in memory.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long it may take to be there: Python reads much before.
const READY: Duration = Duration::from_secs(60);

/// Whom it knows: anyone.
#[allow(dead_code, reason = "each of the programs that have this uses a part")]
pub(crate) const KEYS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "test-key"), ("AWS_SECRET_ACCESS_KEY", "test-secret")];

const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=test-key/20260101/us-east-1/s3/aws4_request, \
    SignedHeaders=host, Signature=0";

/// The server, running or not. Dropping it kills it.
pub(crate) struct Moto {
    python: PathBuf,
    address: SocketAddr,
    child: Child,
}

impl Moto {
    /// `None`, which is said, without moto.
    #[allow(dead_code, reason = "each of the programs that have this uses a part")]
    pub(crate) fn start() -> Option<Moto> {
        Moto::start_at(Ipv4Addr::LOCALHOST)
    }

    /// The same at another address of this machine.
    pub(crate) fn start_at(address: Ipv4Addr) -> Option<Moto> {
        let python = std::env::var_os("TUTTI_TEST_PYTHON").map(PathBuf::from);
        let has_moto = |python: &PathBuf| {
            let seen = Command::new(python).args(["-c", "import moto.server"]).stderr(Stdio::null()).status();
            seen.is_ok_and(|status| status.success())
        };
        let Some(python) = python.filter(has_moto) else {
            println!("skipped: this test runs moto, and TUTTI_TEST_PYTHON names no Python that has it");
            return None;
        };
        let address = TcpListener::bind((address, 0)).unwrap().local_addr().unwrap();
        let child = run(&python, address);
        let moto = Moto { python, address, child };
        moto.wait();
        Some(moto)
    }

    /// Where it is.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends a request as one that knows the keys, whose signature it does not check, and gives the answer.
    pub(crate) fn send(&self, method: &str, path: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\nAuthorization: {SIGNED}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Makes a bucket.
    pub(crate) fn make(&self, bucket: &str) {
        let answer = self.send("PUT", &format!("/{bucket}"), b"");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// It dies, with all it had.
    #[allow(dead_code, reason = "each of the programs that have this uses a part")]
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// It is there again, and empty.
    #[allow(dead_code, reason = "each of the programs that have this uses a part")]
    pub(crate) fn run(&mut self) {
        self.child = run(&self.python, self.address);
        self.wait();
    }

    fn wait(&self) {
        let end = Instant::now() + READY;
        while TcpStream::connect(self.address).is_err() {
            assert!(Instant::now() < end, "moto is not there after {READY:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn run(python: &PathBuf, address: SocketAddr) -> Child {
    Command::new(python)
        .args(["-c", "from moto.server import main; main()"])
        .args(["-H", &address.ip().to_string(), "-p", &address.port().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
