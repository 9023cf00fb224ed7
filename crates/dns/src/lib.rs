//! The authoritative DNS server of the cluster's own names, over UDP and TCP.
//!
//! It follows control for the hosts that services answer to and for the ingresses that live, keeps both in a file, and
//! answers by what it last knew for as long as control is away. What a name is answered is decided in
//! [`tutti_plan::names`]; here bytes become questions and answers bytes again, within limits.
//!
//! - [`wire`]: one message; [`serve`]: the sockets; [`rate`]: how much one network is told over UDP; [`follow`]: what
//!   control says; [`report`]: what control is told; [`kept`]: the file.

mod follow;
mod kept;
mod rate;
mod report;
mod serve;
mod wire;

use arc_swap::ArcSwapOption;
use kept::Kept;
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{Notify, watch},
};
use tutti_api::{client::ZoneClient, debug::DnsInspection};
use tutti_base::{Clock, Random, Tasks};
use tutti_model::{Problem, name::NodeName};
use tutti_plan::names::{NameServer, Names, NamesView};

/// What a DNS server is made of.
#[derive(Debug)]
pub struct DnsOptions {
    /// What it is called: one name for all its runs.
    pub name: NodeName,
    /// The bound UDP port.
    pub udp: UdpSocket,
    /// The bound TCP port, which is the same.
    pub tcp: TcpListener,
    /// The zone's control.
    pub zone: ZoneClient,
    /// The names that it answers for, with all below.
    pub zones: Vec<String>,
    /// The name servers of those; never empty.
    pub servers: Vec<NameServer>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Random,
    /// Where what it last knew is kept for a start without control.
    pub kept: PathBuf,
}

/// A DNS server.
#[derive(Debug)]
pub struct Dns {
    shared: Arc<Shared>,
    sockets: Mutex<Option<(UdpSocket, TcpListener)>>,
    address: SocketAddr,
}

/// What every task of it shares.
#[derive(Debug)]
struct Shared {
    name: NodeName,
    zone: ZoneClient,
    zones: Vec<String>,
    servers: Vec<NameServer>,
    clock: Arc<dyn Clock>,
    random: Random,
    path: PathBuf,
    /// What it answers by; none before anybody has said what there is.
    names: ArcSwapOption<Names>,
    /// What they were made from.
    known: Mutex<Kept>,
    /// Whether it answers by anything, and whether control has said it since the start.
    stands: watch::Sender<Stands>,
    /// Told when what is kept has changed.
    dirty: Notify,
    questions: AtomicU64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stands {
    answers: bool,
    told: bool,
}

impl Dns {
    /// A server that has read what it last knew, and does not answer yet.
    ///
    /// # Errors
    /// `internal` if the sockets have no address. An unreadable file is only logged: control knows better.
    pub fn new(options: DnsOptions) -> Result<Dns, Problem> {
        let address = options
            .udp
            .local_addr()
            .map_err(|error| Problem::internal(format!("the socket has no address: {error}")))?;
        let shared = Shared {
            name: options.name,
            zone: options.zone,
            zones: options.zones,
            servers: options.servers,
            clock: options.clock,
            random: options.random,
            path: options.kept,
            names: ArcSwapOption::empty(),
            known: Mutex::default(),
            stands: watch::Sender::default(),
            dirty: Notify::new(),
            questions: AtomicU64::new(0),
        };
        match kept::read(&shared.path) {
            Ok(last) => {
                shared.answer_by(last);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %shared.path.display(), %error, "what was last known cannot be read; waiting for control");
            }
        }
        let sockets = Mutex::new(Some((options.udp, options.tcp)));
        Ok(Dns { shared: Arc::new(shared), sockets, address })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has something to answer by, be it from its last run.
    pub async fn answers(&self) {
        // It fails only when nobody can say any more, and `self` could.
        let _ = self.shared.stands.subscribe().wait_for(|stands| stands.answers).await;
    }

    /// What it answers by, as it knows it itself. `control` is where it looks for control.
    #[must_use]
    pub fn inspect(&self, control: &str) -> DnsInspection {
        let shared = &self.shared;
        let known = shared.known();
        DnsInspection {
            name: shared.name.clone(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            dns: self.address.to_string(),
            control: control.to_owned(),
            told: shared.stands.borrow().told,
            zones: shared.zones.clone(),
            hosts: known.hosts.into_iter().collect(),
            addresses: known.addresses,
            questions: shared.questions.load(Ordering::Relaxed),
        }
    }

    /// Answers until `tasks` is to stop. Serves once; a second call does nothing.
    pub fn run(&self, tasks: &Tasks) {
        let Some((udp, tcp)) = self.sockets.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let shared = &self.shared;
        tasks.spawn("dns names", follow::follow(Arc::clone(shared), tasks.stopping()));
        tasks.spawn("dns file", kept::keep(Arc::clone(shared), tasks.stopping()));
        tasks.spawn("dns report", report::report(Arc::clone(shared), tasks.stopping()));
        tasks.spawn("dns udp", serve::udp(Arc::clone(shared), udp, tasks.stopping()));
        tasks.spawn("dns tcp", serve::tcp(Arc::clone(shared), tcp, tasks.stopping()));
    }
}

impl Shared {
    fn known(&self) -> Kept {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers by this from now on; says whether that is something new.
    fn answer_by(&self, known: Kept) -> bool {
        let mut before = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stands.borrow().answers && *before == known {
            return false;
        }
        let names = Names::new(NamesView {
            zones: &self.zones,
            hosts: &known.hosts,
            servers: &self.servers,
            addresses: &known.addresses,
        });
        *before = known;
        self.names.store(Some(Arc::new(names)));
        self.stands.send_modify(|stands| stands.answers = true);
        true
    }

    /// What is said to a message.
    fn respond(&self, message: &[u8], way: wire::Way) -> Option<Vec<u8>> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        wire::respond(message, self.names.load().as_deref(), way)
    }
}
