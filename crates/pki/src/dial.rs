//! Connections that we open.

use rustls::{ClientConfig, pki_types::ServerName};
use std::{io, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tutti_model::node::HostPort;

/// Connects to a port and does the handshake, by what `config` expects there. The caller bounds its time.
///
/// # Errors
/// What the host says, or `InvalidData` with why who is there was refused.
pub async fn dial(config: Arc<ClientConfig>, address: &HostPort) -> io::Result<TlsStream<TcpStream>> {
    let host = address.host();
    let stream = TcpStream::connect((host.as_str(), address.port())).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}
