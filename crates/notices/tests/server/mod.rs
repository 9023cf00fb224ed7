//! A real NATS server of a test's own.

use std::{
    fmt::Debug,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    str::FromStr,
    time::Duration,
};

/// A server, on the same port at each start.
pub(crate) struct Server {
    port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Option<Server> {
        if Command::new("nats-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            println!("skipped: this test runs nats-server (Debian: nats-server), which is not installed");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut server = Server { port, arguments, child: None };
        server.run();
        Some(server)
    }

    pub(crate) fn run(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &port]).args(&self.arguments);
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Where it is, by this scheme.
    pub(crate) fn address<A: FromStr<Err: Debug>>(&self, scheme: &str) -> A {
        format!("{scheme}://127.0.0.1:{}", self.port).parse().unwrap()
    }

    /// Waits until it listens, without speaking to it.
    pub(crate) async fn listens(&self) {
        let listening = async {
            while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), listening).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
