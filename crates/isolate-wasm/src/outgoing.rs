//! Requests that guests make themselves: to the hosts of the manifest's `outgoing`, and to no other.
//!
//! A name may lead anywhere, so that the address it resolves to is looked at too: private ones are reached only where
//! the manifest names the address itself.

use crate::{
    denied::{Denials, Kind},
    state::BODY_PIECE_BYTES,
    tls::{self, Tls},
};
use http::{Request, Response, Uri, uri::Scheme};
use http_body_util::BodyExt as _;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tutti_model::manifest::{Destination, Host};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks, io::TokioIo};

/// Requests that the guests of an instance have under way at once: a handful for each of its own requests, well below
/// what sockets a process may have.
const AT_ONCE: usize = 256;
/// Longest time to connect, TLS included, and to wait for the head of an answer, whatever a guest asks for: its own caller waits.
const CONNECT: Duration = Duration::from_secs(10);
const FIRST_BYTE: Duration = Duration::from_secs(60);
/// Addresses of a name that are tried.
const TRIES: usize = 4;

/// What the guests of an instance may reach.
#[derive(Debug)]
pub(crate) struct Policy {
    allowed: Vec<Destination>,
    denials: Denials,
    tls: Arc<Tls>,
    under_way: Arc<Semaphore>,
}

/// A request's host and port.
#[derive(Debug, Clone)]
struct To {
    host: String,
    port: u16,
    tls: bool,
    /// Whether the manifest names the address itself.
    by_address: bool,
}

impl Policy {
    pub(crate) fn new(allowed: &[Destination], denials: Denials, tls: Arc<Tls>) -> Arc<Policy> {
        let under_way = Arc::new(Semaphore::new(AT_ONCE));
        Arc::new(Policy { allowed: allowed.to_vec(), denials, tls, under_way })
    }

    /// Decides about a request.
    fn decide(&self, uri: &Uri) -> Result<To, Error> {
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        let tls = uri.scheme() != Some(&Scheme::HTTP);
        let default_port = if tls { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(default_port);
        let host = authority.host();
        let Some(entry) = self.allowed.iter().find(|entry| entry.allows(host, port, default_port)) else {
            let port = if port == default_port { String::new() } else { format!(":{port}") };
            self.note(format!(
                "a request to {host}{port} was denied; to allow it, add \"{host}{port}\" to outgoing in [service]"
            ));
            return Err(Error::HttpRequestDenied);
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(To { host, port, tls, by_address: matches!(entry.host, Host::Address(_)) })
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.under_way).try_acquire_owned().map_err(|_| {
            self.note(format!("a request was denied: {AT_ONCE} are under way"));
            Error::ConnectionLimitReached
        })
    }

    fn note(&self, line: String) {
        self.denials.say(Kind::Request, || line);
    }
}

/// One guest's hook for its requests.
pub(crate) struct Outgoing(pub(crate) Arc<Policy>);

impl Outgoing {
    pub(crate) fn denials(&self) -> &Denials {
        &self.0.denials
    }
}

/// A connection, with or without TLS.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

type Sent = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _ended: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let policy = Arc::clone(&self.0);
        match policy.decide(request.uri()).and_then(|to| Ok((to, policy.place()?))) {
            Ok((to, place)) => Box::new(send(policy, to, request, options, place)),
            Err(error) => Box::new(std::future::ready(Err(error))),
        }
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_PIECE_BYTES
    }
}

async fn send(
    policy: Arc<Policy>,
    to: To,
    mut request: Request<WasiBody>,
    options: Option<RequestOptions>,
    place: OwnedSemaphorePermit,
) -> Sent {
    let within = |asked: Option<Duration>, most: Duration| asked.map_or(most, |asked| asked.min(most));
    let connect_time = within(options.and_then(|options| options.connect_timeout), CONNECT);
    let first_byte = within(options.and_then(|options| options.first_byte_timeout), FIRST_BYTE);
    let stream = tokio::time::timeout(connect_time, open(&policy, &to))
        .await
        .map_err(|_| Error::ConnectionTimeout)??;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Only a proxy is told scheme and authority.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    let mut connection = Box::pin(connection);
    let answer = async {
        let mut answer = std::pin::pin!(sender.send_request(request));
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // It has ended, and the answer says how.
            _ = &mut connection => answer.await,
        }
    };
    let response = tokio::time::timeout(first_byte, answer)
        .await
        .map_err(|_| Error::ConnectionReadTimeout)?
        .map_err(tls::later)?;
    let ended = async move {
        let result = connection.await.map_err(tls::later);
        drop(place);
        result
    };
    Ok((response.map(|body| body.map_err(tls::later).boxed_unsync()), Box::new(ended)))
}

async fn open(policy: &Policy, to: &To) -> Result<Box<dyn Connection>, Error> {
    let stream = connect(policy, to).await?;
    if !to.tls {
        return Ok(Box::new(stream));
    }
    match policy.tls.connect(&to.host, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(fault) => {
            policy.note(format!("a request to https://{}:{} failed: {}", to.host, to.port, fault.why));
            Err(fault.error)
        }
    }
}

async fn connect(policy: &Policy, to: &To) -> Result<TcpStream, Error> {
    let found = tokio::net::lookup_host((to.host.as_str(), to.port))
        .await
        .map_err(|_| Error::DnsError { rcode: None, info_code: None })?;
    let mut failure = Error::DestinationNotFound;
    let mut private = None;
    let mut tries = 0;
    for address in found {
        if !to.by_address && !is_public(address.ip()) {
            private = Some(address);
            continue;
        }
        if tries == TRIES {
            break;
        }
        tries += 1;
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => failure = Error::Connect(error),
        }
    }
    match private {
        Some(address) if tries == 0 => {
            policy.note(denied_address(to, address));
            Err(Error::DestinationIpProhibited)
        }
        _ => Err(failure),
    }
}

fn denied_address(to: &To, address: SocketAddr) -> String {
    format!(
        "a request to {} was denied: it leads to {}, which is not a public address; to allow it, add the address \
         itself to outgoing in [service], and send requests to it",
        to.host,
        address.ip()
    )
}

/// Whether an address is one of the internet's, rather than of this machine, its network, or nobody.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => is_public_v4(inner),
            None => {
                let [first, second, ..] = address.segments();
                // Global unicast (2000::/3), without documentation (2001:db8::/32, 3fff::/20) and what stands for
                // other protocols (2001::/23).
                first & 0xe000 == 0x2000
                    && !(first == 0x2001 && (second == 0x0db8 || second < 0x0200))
                    && !(first == 0x3fff && second < 0x1000)
            }
        },
    }
}

/// The address of version 4 that one of version 6 leads to: mapped, 6to4, or translated.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [first, second, third, .., high, low] = address.segments();
    let join = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    if first == 0x2002 {
        Some(join(second, third))
    } else if first == 0x0064 && second == 0xff9b {
        Some(join(high, low))
    } else {
        address.to_ipv4_mapped()
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_multicast()
        || address.is_documentation();
    // "This network", carriers' networks, protocol assignments, benchmarks, and what is reserved.
    !special
        && a != 0
        && !(a == 100 && (64..128).contains(&b))
        && !(a == 192 && b == 0 && c == 0)
        && !(a == 198 && (b == 18 || b == 19))
        && a < 240
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for public in
            ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "2002:0808:0808::1"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.2.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::1",
            "2001:db8::1",
            "2001::1",
            "fec0::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }
}
