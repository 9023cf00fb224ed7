//! What guests are denied, and that they are told: a line in the instance's log says what it was and what to do instead.
//!
//! There are no sockets, no name lookups and no files for guests, but the interfaces for them exist, because the runtime
//! of a language asks for them. Here they say no. Requests have rules of their own, in [`outgoing`](crate::outgoing).

use crate::{log::Log, state::State};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use wasmtime::{
    Result, bail,
    component::{HasData, Linker, Resource},
};
use wasmtime_wasi::{
    filesystem::Descriptor,
    p2::{
        DynPollable, SocketError, SocketResult, TcpSocket, UdpSocket,
        bindings::{
            filesystem::preopens,
            sockets::{
                ip_name_lookup::{self, ResolveAddressStream},
                network::{self, ErrorCode, IpAddress, IpAddressFamily, Network},
                tcp_create_socket, udp_create_socket,
            },
        },
    },
    sockets::WasiSocketsView as _,
};

/// At most one line about requests in this time, so that a guest cannot fill its log with them.
const REQUESTS_EVERY: Duration = Duration::from_secs(1);
/// The same for each other kind. Some languages' runtimes look for files in every call, whatever the service's code does.
const OTHERS_EVERY: Duration = Duration::from_secs(60);
/// Longest name that is shown, in bytes: that of a domain.
const NAME_BYTES: usize = 253;

/// What may be denied; each kind has its own share of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Tcp,
    Udp,
    Lookup,
    Files,
}

const KINDS: usize = 5;

/// What was denied to the guests of an instance.
#[derive(Debug)]
pub(crate) struct Denials {
    log: Arc<Log>,
    begun: Instant,
    /// When the next line about each kind may be written, in milliseconds since `begun`.
    next: [AtomicU64; KINDS],
}

impl Denials {
    pub(crate) fn new(log: Arc<Log>) -> Denials {
        Denials { log, begun: Instant::now(), next: Default::default() }
    }

    /// Says that something was denied, unless that was said a moment ago.
    pub(crate) fn say(&self, kind: Kind, line: impl FnOnce() -> String) {
        let every = if kind == Kind::Request { REQUESTS_EVERY } else { OTHERS_EVERY };
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let pause = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        let due = |next: u64| (next <= now).then(|| now.saturating_add(pause));
        let Some(next) = self.next.get(kind as usize) else { return };
        if next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok() {
            self.log.note(&line());
        }
    }

    fn socket(&self, kind: Kind, what: &str) {
        self.say(kind, || {
            format!(
                "{what} was denied: components have no sockets; send HTTP requests (wasi:http/outgoing-handler) to \
                 hosts that are listed as outgoing in [service]"
            )
        });
    }
}

/// Puts what says no in the place of WASI's own.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    linker.allow_shadowing(true);
    preopens::add_to_linker::<State, Denied>(linker, no_access)?;
    tcp_create_socket::add_to_linker::<State, Denied>(linker, no_access)?;
    udp_create_socket::add_to_linker::<State, Denied>(linker, no_access)?;
    ip_name_lookup::add_to_linker::<State, Denied>(linker, no_access)?;
    linker.allow_shadowing(false);
    Ok(())
}

struct Denied;

impl HasData for Denied {
    type Data<'a> = NoAccess<'a>;
}

struct NoAccess<'a>(&'a mut State);

fn no_access(state: &mut State) -> NoAccess<'_> {
    NoAccess(state)
}

/// What the three below build on, as WASI has it.
impl network::Host for NoAccess<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> Result<ErrorCode> {
        error.downcast()
    }

    fn network_error_code(&mut self, error: Resource<wasmtime::Error>) -> Result<Option<ErrorCode>> {
        network::Host::network_error_code(&mut self.0.sockets(), error)
    }
}

impl network::HostNetwork for NoAccess<'_> {
    fn drop(&mut self, network: Resource<Network>) -> Result<()> {
        network::HostNetwork::drop(&mut self.0.sockets(), network)
    }
}

impl preopens::Host for NoAccess<'_> {
    /// Whoever opens a path asks for the folders that it may be in first.
    fn get_directories(&mut self) -> Result<Vec<(Resource<Descriptor>, String)>> {
        self.0.denials().say(Kind::Files, || {
            "files were asked for and there are none: components have no file system; build in what is only read, \
             pass settings in env in [service], and keep what must last in another service"
                .to_owned()
        });
        Ok(Vec::new())
    }
}

impl tcp_create_socket::Host for NoAccess<'_> {
    fn create_tcp_socket(&mut self, _family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        self.0.denials().socket(Kind::Tcp, "a TCP socket");
        Err(ErrorCode::AccessDenied.into())
    }
}

impl udp_create_socket::Host for NoAccess<'_> {
    async fn create_udp_socket(&mut self, _family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        self.0.denials().socket(Kind::Udp, "a UDP socket");
        Err(ErrorCode::AccessDenied.into())
    }
}

impl ip_name_lookup::Host for NoAccess<'_> {
    fn resolve_addresses(
        &mut self,
        _network: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ResolveAddressStream>> {
        let shown = name.get(..name.floor_char_boundary(NAME_BYTES)).unwrap_or_default();
        self.0.denials().socket(Kind::Lookup, &format!("looking up the address of {shown:?}"));
        Err(ErrorCode::PermanentResolverFailure.into())
    }
}

/// There are none, since no lookup is begun.
impl ip_name_lookup::HostResolveAddressStream for NoAccess<'_> {
    fn resolve_next_address(
        &mut self,
        _stream: Resource<ResolveAddressStream>,
    ) -> SocketResult<Option<IpAddress>> {
        Err(ErrorCode::AccessDenied.into())
    }

    fn subscribe(&mut self, _stream: Resource<ResolveAddressStream>) -> Result<Resource<DynPollable>> {
        bail!("no lookup was begun")
    }

    fn drop(&mut self, _stream: Resource<ResolveAddressStream>) -> Result<()> {
        Ok(())
    }
}
