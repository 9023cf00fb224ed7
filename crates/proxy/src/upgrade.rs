//! Connections that stop speaking HTTP: after `101 Switching Protocols` bytes are copied both ways until both sides
//! are done.

use http::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::{any::Any, sync::Arc};

/// Bytes held for each direction of a tunnel. WebSocket messages are small; a larger buffer would only cost memory for
/// each of thousands of idle tunnels.
const TUNNEL_BUFFER: usize = 8 * 1024;

/// Copies between two upgraded connections until both have ended; a slow side slows the other.
pub async fn tunnel(client: OnUpgrade, upstream: OnUpgrade) {
    let (client, upstream) = match tokio::try_join!(client, upstream) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "a protocol switch was not completed");
            return;
        }
    };
    let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
    // Either side may vanish without a word; that ends the tunnel and is no error of ours.
    let _ =
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, TUNNEL_BUFFER, TUNNEL_BUFFER)
            .await;
}

/// What an answer of 101 holds until its tunnel has ended.
#[derive(Clone, Default)]
pub(crate) struct Held(Vec<Arc<dyn Any + Send + Sync>>);

/// Ties `value` to the life of the tunnel that this answer of 101 begins: a count of running requests, a place in a
/// queue. It is dropped when the tunnel has ended.
pub fn hold<B>(response: &mut Response<B>, value: impl Send + Sync + 'static) {
    response.extensions_mut().get_or_insert_default::<Held>().0.push(Arc::new(value));
}
