//! TLS for the requests that guests make: who the other side is, and why it was not believed.
//!
//! Certificates are checked against the host's roots, which are read when the first guest asks for `https`: most agents
//! never need them, and they take memory. Which hosts may be reached at all is [`outgoing`](crate::outgoing)'s.

use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};
use rustls_native_certs::{CertificateResult, load_certs_from_paths, load_native_certs};
use std::{error::Error as StdError, io, path::PathBuf, sync::Arc};
use tokio::{net::TcpStream, sync::OnceCell};
use tokio_rustls::{TlsConnector, client::TlsStream};
use wasmtime_wasi_http::Error;

/// What a TLS connection says it will carry.
const PROTOCOL: &[u8] = b"http/1.1";

/// The client's side of TLS, shared by all guests of a node.
#[derive(Debug)]
pub(crate) struct Tls {
    roots: Option<PathBuf>,
    config: OnceCell<Arc<ClientConfig>>,
}

/// Why there is no connection: what the guest is told, and what its log is.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) error: Error,
    pub(crate) why: String,
}

impl Tls {
    /// Believes the roots of this file, in PEM, or the host's.
    pub(crate) fn new(roots: Option<PathBuf>) -> Arc<Tls> {
        Arc::new(Tls { roots, config: OnceCell::new() })
    }

    /// Agrees on keys with a server that can show that it is `host`, a name or an address.
    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, Fault> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Fault {
            error: Error::HttpRequestUriInvalid,
            why: "no certificate can be for a host of this name".to_owned(),
        })?;
        let config = self.config.get_or_try_init(|| self.load()).await?;
        TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(|error| Fault::of(&error))
    }

    /// Reads the roots. What fails is tried again with the next request: whoever runs the node may have mended it.
    async fn load(&self) -> Result<Arc<ClientConfig>, Fault> {
        let file = self.roots.clone();
        let read = tokio::task::spawn_blocking(move || match file {
            Some(file) => load_certs_from_paths(Some(&file), None),
            None => load_native_certs(),
        });
        let unusable = |why: String| Fault { error: Error::ConfigurationError, why };
        let found = read.await.map_err(|error| unusable(error.to_string()))?;
        config(found).map(Arc::new).map_err(unusable)
    }
}

fn config(found: CertificateResult) -> Result<ClientConfig, String> {
    let roots = roots(found.certs);
    if roots.is_empty() {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        let errors = if errors.is_empty() { String::new() } else { format!(" ({})", errors.join("; ")) };
        return Err(format!(
            "this node has no root certificates{errors}: install its distribution's (ca-certificates), or start it \
             with SSL_CERT_FILE set to a file of them"
        ));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // A session that is resumed would show a server that two tenants share this node.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// A host's store may have certificates that cannot be read; the others are good all the same.
fn roots(certificates: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    roots
}

impl Fault {
    fn of(error: &io::Error) -> Fault {
        match cause(error) {
            Some(tls) => Fault { error: code(tls), why: why(tls) },
            None if error.kind() == io::ErrorKind::UnexpectedEof => Fault {
                error: Error::ConnectionTerminated,
                why: "it closed the connection before keys were agreed on".to_owned(),
            },
            None => Fault { error: Error::TlsProtocolError, why: error.to_string() },
        }
    }
}

/// What of an error is TLS's own.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        // An error of input and output leaves out what it holds.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
}

/// What a guest is told of a connection that failed later: servers that want a certificate say so only then.
pub(crate) fn later(error: hyper::Error) -> Error {
    match cause(&error) {
        Some(tls) => code(tls),
        None => Error::from(error),
    }
}

fn code(error: &rustls::Error) -> Error {
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            Error::TlsCertificateError
        }
        rustls::Error::AlertReceived(alert) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        },
        _ => Error::TlsProtocolError,
    }
}

fn why(error: &rustls::Error) -> String {
    let certificate = match error {
        rustls::Error::InvalidCertificate(error) => error,
        rustls::Error::InvalidMessage(_) => return format!("it does not speak TLS there ({error})"),
        _ => return error.to_string(),
    };
    match certificate {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet".to_owned()
        }
        CertificateError::NotValidForName => "its certificate is for another name".to_owned(),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names = presented.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
            format!("its certificate is for other names: {names}")
        }
        CertificateError::UnknownIssuer => {
            "its certificate is signed by none of this node's root certificates; to trust a root of your own, start \
             the node with SSL_CERT_FILE set to a file of all that are to be trusted"
                .to_owned()
        }
        other => format!("its certificate is not valid: {other}"),
    }
}

/// Names of a certificate that are shown: some have hundreds.
const NAMES: usize = 5;

#[cfg(test)]
mod tests;
