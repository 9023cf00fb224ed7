//! What a client's connections are made of: TCP or TLS to an address, or a socket file of this machine.

use super::CONNECT;
use futures_util::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use std::{
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::net::{TcpStream, UnixStream};
use tower::Service;
use tutti_base::socket;
use tutti_model::node::HostPort;
use tutti_pki::{ClientConfig, client::TlsStream};

/// The port of https where none is said.
const HTTPS: u16 = 443;

/// Makes connections. Cloning shares what it knows.
#[derive(Debug, Clone)]
pub(super) enum Connector {
    /// To the host and port of the request.
    Tcp(HttpConnector),
    /// To the host and port of the request, over TLS, within a time.
    Tls(Arc<ClientConfig>, Duration),
    /// To this socket file, whatever host the request names.
    Socket(Arc<PathBuf>),
    /// The same, for a person's command.
    PersonsSocket(Arc<PathBuf>),
}

impl Connector {
    pub(super) fn tcp() -> Connector {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        Connector::Tcp(connector)
    }

    pub(super) const fn tls(config: Arc<ClientConfig>, limit: Duration) -> Connector {
        Connector::Tls(config, limit)
    }

    pub(super) fn socket(path: &Path) -> Connector {
        Connector::Socket(Arc::new(path.to_owned()))
    }

    pub(super) fn persons_socket(path: &Path) -> Connector {
        Connector::PersonsSocket(Arc::new(path.to_owned()))
    }
}

type ConnectError = Box<dyn std::error::Error + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = Transport;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Transport, ConnectError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        match self {
            Connector::Tcp(connector) => connector.poll_ready(context).map_err(Into::into),
            Connector::Tls(..) | Connector::Socket(_) | Connector::PersonsSocket(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self {
            Connector::Tcp(connector) => {
                let connecting = connector.call(uri);
                Box::pin(async move { Ok(Transport::Tcp(connecting.await?)) })
            }
            Connector::Tls(config, limit) => {
                let (config, limit) = (Arc::clone(config), *limit);
                Box::pin(async move {
                    let host = uri.host().unwrap_or_default();
                    let port = uri.port_u16().unwrap_or(HTTPS);
                    let address = format!("{host}:{port}").parse::<HostPort>()?;
                    let dialed = tokio::time::timeout(limit, tutti_pki::dial(config, &address)).await;
                    let stream = dialed.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                    Ok(Transport::Tls(Box::new(TokioIo::new(stream))))
                })
            }
            Connector::Socket(path) => {
                let path = Arc::clone(path);
                Box::pin(async move {
                    // It waits only while the listener's queue is full.
                    let connected = tokio::time::timeout(CONNECT, socket::connect(&path)).await;
                    let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                    Ok(Transport::Socket(TokioIo::new(stream)))
                })
            }
            Connector::PersonsSocket(path) => {
                let path = Arc::clone(path);
                Box::pin(async move {
                    let connected = tokio::time::timeout(CONNECT, socket::connect_as_person(&path)).await;
                    let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                    Ok(Transport::Socket(TokioIo::new(stream)))
                })
            }
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(super) enum Transport {
    Tcp(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
    Socket(TokioIo<UnixStream>),
}

impl Connection for Transport {
    fn connected(&self) -> Connected {
        match self {
            Transport::Tcp(stream) => stream.connected(),
            Transport::Tls(_) | Transport::Socket(_) => Connected::new(),
        }
    }
}

impl Read for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
            Transport::Socket(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl Write for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
            Transport::Socket(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
            Transport::Socket(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
            Transport::Socket(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Transport::Tcp(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
            Transport::Socket(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(context, pieces),
            Transport::Socket(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }
}
