//! What both ends of a connection are set up with.

use crate::{
    Chain, Expected, Identity, MemberTable,
    verify::{Clients, Servers},
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, UnixTime, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};
use std::sync::Arc;
use tutti_base::Clock;
use tutti_model::{Digest, Problem, member::MachineRole};

/// Members speak nothing older among each other.
const MEMBERS: &[&SupportedProtocolVersion] = &[&TLS13];
/// What stock clients and servers may speak.
const ANYONE: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// The time of certificates.
#[derive(Debug)]
struct Time(Arc<dyn Clock>);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_millis(self.0.now().0)))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn failed(error: impl std::fmt::Display) -> Problem {
    Problem::internal(format!("TLS cannot be set up: {error}"))
}

/// How a listener admits who connects.
#[derive(Debug, Clone)]
pub struct Listens {
    /// Who is known.
    pub table: Arc<MemberTable>,
    /// Members with one of these roles are admitted; any member if it is empty.
    pub roles: Vec<MachineRole>,
    /// A chain whose root vouches for members that are not in the table; their certificates must not have expired.
    /// Without, they are refused.
    pub issued: Option<Chain>,
    /// Whether it is for members alone: then a certificate is a must and TLS 1.3 is spoken. Otherwise anybody is
    /// admitted, and it is the server's business what those without a certificate may.
    pub members_only: bool,
}

/// What a listener is set up with. The certificate it shows is the identity's of that moment.
///
/// # Errors
/// `internal` if the library refuses, such as a root that is none.
pub fn listens(
    identity: Arc<Identity>,
    admits: Listens,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, Problem> {
    let provider = provider();
    let issued = match admits.issued.as_ref().and_then(Chain::root) {
        Some(root) => {
            let mut roots = RootCertStore::empty();
            roots.add(root.clone()).map_err(failed)?;
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            Some(verifier.build().map_err(failed)?)
        }
        None => None,
    };
    let clients = Clients {
        table: admits.table,
        roles: admits.roles,
        issued,
        mandatory: admits.members_only,
        algorithms: provider.signature_verification_algorithms,
    };
    let versions = if admits.members_only { MEMBERS } else { ANYONE };
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(Time(clock)))
        .with_protocol_versions(versions)
        .map_err(failed)?
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(identity);
    // A session that is resumed is not asked again who it is.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What a connection to a member is set up with: the member that is expected, known by its key; or, with `pin`, also
/// one that a root with this fingerprint vouches for. With an identity, whoever asks is told who we are.
///
/// # Errors
/// `internal` if the library refuses.
pub fn connects(
    identity: Option<Arc<Identity>>,
    table: Arc<MemberTable>,
    expected: Expected,
    pin: Option<Digest>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, Problem> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let servers = Servers { table: Some((table, expected)), pin, algorithms };
    client(provider, servers, MEMBERS, identity, clock)
}

/// What a member needs to connect to others as itself.
#[derive(Debug, Clone)]
pub struct MemberDial {
    /// Who we are.
    pub identity: Arc<Identity>,
    /// Who the others are.
    pub table: Arc<MemberTable>,
    /// The time of certificates.
    pub clock: Arc<dyn Clock>,
}

impl MemberDial {
    /// As [`connects`].
    ///
    /// # Errors
    /// As there.
    pub fn to(&self, expected: Expected, pin: Option<Digest>) -> Result<Arc<ClientConfig>, Problem> {
        let (identity, table) = (Some(Arc::clone(&self.identity)), Arc::clone(&self.table));
        connects(identity, table, expected, pin, Arc::clone(&self.clock))
    }
}

/// Whom a client outside of the cluster trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// The root with this fingerprint, which must be in the chain that is shown.
    Fingerprint(Digest),
    /// The authorities in this PEM.
    Authorities(String),
}

/// What a connection from outside of the cluster is set up with: from the command line, or a machine that joins. With
/// no pin the machine's own store of authorities is asked.
///
/// # Errors
/// `invalid` if the PEM holds no authority; `unavailable` if the machine has none.
pub fn connects_publicly(
    pin: Option<&Pin>,
    identity: Option<Arc<Identity>>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, Problem> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let roots = match pin {
        Some(Pin::Fingerprint(pin)) => {
            let servers = Servers { table: None, pin: Some(pin.clone()), algorithms };
            return client(provider, servers, ANYONE, identity, clock);
        }
        Some(Pin::Authorities(pem)) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let wrong = |error: &dyn std::fmt::Display| {
                    Problem::invalid(format!("the authorities' certificates cannot be read: {error}"))
                };
                roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
            }
            if roots.is_empty() {
                return Err(Problem::invalid("there is no certificate of an authority in it")
                    .hint("name a PEM file of certificates"));
            }
            roots
        }
        None => machines()?,
    };
    let config = ClientConfig::builder_with_details(provider, Arc::new(Time(clock)))
        .with_protocol_versions(ANYONE)
        .map_err(failed)?
        .with_root_certificates(roots);
    Ok(Arc::new(match identity {
        Some(identity) => config.with_client_cert_resolver(identity),
        None => config.with_no_client_auth(),
    }))
}

/// The authorities that this machine trusts.
fn machines() -> Result<RootCertStore, Problem> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(Problem::unavailable("this machine has no certificates of authorities")
            .hint("install the system's (ca-certificates), or name the cluster's own with --ca"));
    }
    Ok(roots)
}

fn client(
    provider: Arc<CryptoProvider>,
    servers: Servers,
    versions: &[&'static SupportedProtocolVersion],
    identity: Option<Arc<Identity>>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, Problem> {
    let config = ClientConfig::builder_with_details(provider, Arc::new(Time(clock)))
        .with_protocol_versions(versions)
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(servers));
    let mut config = match identity {
        Some(identity) => config.with_client_cert_resolver(identity),
        None => config.with_no_client_auth(),
    };
    // A session that is resumed is not asked again who it is.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
