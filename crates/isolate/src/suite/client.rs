//! One request to an instance, however it is reached.

use crate::contract::Target;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tutti_base::body;

/// The answer to `GET /`: status and body.
///
/// # Errors
/// Why there was none.
pub async fn get(target: &Target) -> Result<(u16, String), String> {
    match target {
        Target::Handler(handler) => {
            let request =
                http::Request::get("http://example.com/").body(body::empty()).map_err(|e| e.to_string())?;
            let response = handler.handle(request).await.map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            let bytes = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
        }
        Target::Address(address) => get_at(*address).await,
    }
}

async fn get_at(address: SocketAddr) -> Result<(u16, String), String> {
    let stream = tokio::net::TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(Io(stream)).await.map_err(|error| error.to_string())?;
    let request = http::Request::get("/").header("host", "example.com").body(Empty::<Bytes>::new());
    let exchange = async {
        let response = sender.send_request(request.map_err(|error| error.to_string())?).await;
        let response = response.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    };
    tokio::select! {
        answer = exchange => answer,
        _ = async { let _ = connection.await; std::future::pending::<()>().await } => Err("the connection ended".into()),
    }
}

/// A stream of the runtime as the HTTP client wants it.
struct Io(tokio::net::TcpStream);

impl hyper::rt::Read for Io {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        mut buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        // Small answers only: what is read is copied once.
        let mut bytes = [0; 4096];
        let room = bytes.len().min(buffer.remaining());
        let mut space = tokio::io::ReadBuf::new(bytes.get_mut(..room).unwrap_or_default());
        std::task::ready!(std::pin::Pin::new(&mut self.0).poll_read(context, &mut space))?;
        buffer.put_slice(space.filled());
        std::task::Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(context)
    }
}
