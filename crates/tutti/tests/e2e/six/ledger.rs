//! Steady load, with a ledger: every request and every write, when it was sent and what became of it. What went wrong is
//! compared with what was done to the machines at that time.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two requests of one client.
const PACE: Duration = Duration::from_millis(25);
/// How long a client leaves an ingress alone that did not take its connection.
const LEFT_ALONE: Duration = Duration::from_secs(1);
/// How long it may take until a machine that is gone is sent nothing more.
pub const UNTIL_OUT: Duration = Duration::from_secs(3);

/// A request that was not answered with 200.
#[derive(Debug, Clone)]
pub struct Failure {
    pub sent: Instant,
    pub ended: Instant,
    pub ingress: Ipv4Addr,
    pub what: String,
}

/// What was done to machines, and which requests may have failed by it.
#[derive(Debug, Clone)]
pub struct Harm {
    pub what: String,
    pub at: Instant,
    /// Machines that were gone for their clients; none for one that may be noticed by nobody.
    pub gone: Vec<Ipv4Addr>,
    /// Words by which an answer says that it was sent to one of them.
    pub named: Vec<String>,
}

impl Harm {
    /// Whether a request may have failed by it: it was in flight there, or sent there before that was known.
    fn explains(&self, failure: &Failure) -> bool {
        let in_time = failure.ended >= self.at && failure.sent <= self.at + UNTIL_OUT;
        let sent_there =
            self.gone.contains(&failure.ingress) || self.named.iter().any(|name| failure.what.contains(name));
        in_time && sent_there
    }
}

#[derive(Default)]
struct Counts {
    answered: u64,
    failures: Vec<Failure>,
    /// Which instance the singleton's signs of life named, one after the other.
    beats: Vec<String>,
}

/// Clients that send requests, until it is dropped.
pub struct Ledger {
    counts: Arc<Mutex<Counts>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    harms: Vec<Harm>,
}

impl Ledger {
    /// So many clients, each of which knows all these ingresses.
    pub fn start(clients: usize, ingresses: &[Ipv4Addr], host: &str) -> Ledger {
        let (counts, stop) = (Arc::<Mutex<Counts>>::default(), Arc::<AtomicBool>::default());
        let threads = (0..clients).map(|number| {
            let (counts, stop) = (Arc::clone(&counts), Arc::clone(&stop));
            let (ingresses, host) = (ingresses.to_vec(), host.to_owned());
            std::thread::spawn(move || client(number, &ingresses, &host, &counts, &stop))
        });
        Ledger {
            counts: Arc::clone(&counts),
            threads: threads.collect(),
            stop: Arc::clone(&stop),
            harms: Vec::new(),
        }
    }

    /// Hears the singleton's signs of life, at the address that is given.
    pub fn hear(&mut self, at: Ipv4Addr) -> SocketAddr {
        let socket = UdpSocket::bind((at, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (counts, stop) = (Arc::clone(&self.counts), Arc::clone(&self.stop));
        self.threads.push(std::thread::spawn(move || {
            let mut text = [0; 64];
            while !stop.load(Ordering::Relaxed) {
                let Ok(length) = socket.recv(&mut text) else { continue };
                let name = String::from_utf8_lossy(&text[..length]).into_owned();
                let mut counts = counts.lock().unwrap();
                if counts.beats.last() != Some(&name) {
                    counts.beats.push(name);
                }
            }
        }));
        address
    }

    /// Notes what is about to be done.
    pub fn harm(&mut self, what: &str, gone: &[Ipv4Addr], named: &[&str]) {
        println!("{what}: {} requests answered, {} failed before", self.answered(), self.failures().len());
        let named = named.iter().map(ToString::to_string).collect();
        self.harms.push(Harm { what: what.to_owned(), at: Instant::now(), gone: gone.to_vec(), named });
    }

    pub fn answered(&self) -> u64 {
        self.counts.lock().unwrap().answered
    }

    fn failures(&self) -> Vec<Failure> {
        self.counts.lock().unwrap().failures.clone()
    }

    /// The instances of the singleton that have run, in the order in which they did.
    pub fn ran(&self) -> Vec<String> {
        self.counts.lock().unwrap().beats.clone()
    }

    /// What failed so far and is explained by nothing that was done; and by what the others are.
    pub fn unexplained(&self) -> (Vec<Failure>, Vec<(String, usize)>) {
        let (mut left, mut explained): (_, Vec<(String, usize)>) =
            (Vec::new(), self.harms.iter().map(|harm| (harm.what.clone(), 0)).collect());
        for failure in self.failures() {
            match self.harms.iter().position(|harm| harm.explains(&failure)) {
                Some(index) => explained[index].1 += 1,
                None => left.push(failure),
            }
        }
        (left, explained)
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn client(number: usize, ingresses: &[Ipv4Addr], host: &str, counts: &Mutex<Counts>, stop: &AtomicBool) {
    let mut alone: Vec<Option<Instant>> = vec![None; ingresses.len()];
    let mut turn = number;
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(PACE);
        turn += 1;
        let order = (0..ingresses.len()).map(|offset| (turn + offset) % ingresses.len());
        let free = order.filter(|index| alone[*index].is_none_or(|until| until <= Instant::now()));
        for index in free.collect::<Vec<_>>() {
            let (sent, ingress) = (Instant::now(), ingresses[index]);
            let Ok(stream) = TcpStream::connect_timeout(&(ingress, 80).into(), UNTIL_OUT) else {
                // Nothing was sent, so another is asked.
                alone[index] = Some(Instant::now() + LEFT_ALONE);
                continue;
            };
            let answer = ask(stream, host);
            let mut counts = counts.lock().unwrap();
            match answer {
                Ok(()) => counts.answered += 1,
                Err(what) => counts.failures.push(Failure { sent, ended: Instant::now(), ingress, what }),
            }
            break;
        }
    }
}

fn ask(mut stream: TcpStream, host: &str) -> Result<(), String> {
    let told = |error: std::io::Error| error.to_string();
    stream.set_read_timeout(Some(PATIENCE)).map_err(told)?;
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(told)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(told)?;
    if answer.starts_with(b"HTTP/1.1 200") {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&answer).into_owned())
    }
}
