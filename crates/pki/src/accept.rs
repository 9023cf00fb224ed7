//! Handshakes of those who connect, so bounded that who is slow or silent keeps nobody out.

use crate::{MemberId, chain};
use rustls::ServerConfig;
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tutti_model::Digest;

/// Longest time for a handshake: two round trips, a few lost packets, and a busy machine.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at once. A further one ends the oldest: a peer that means it is done in milliseconds, so the oldest is
/// the one that says nothing.
pub const HANDSHAKES: usize = 256;

/// Who is at the other end of a connection: what the handshake proved, and what the certificate said besides. Whether
/// that is a member, and of which roles, the table of members says, at each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The digest of its key, which it has proved to have.
    pub key: Digest,
    /// Whom its certificate names. Worth something only where the listener verified the chain; for a known key the
    /// table's word counts.
    pub named: Option<MemberId>,
}

/// Accepts connections on a listener.
pub struct Acceptor {
    tls: TlsAcceptor,
    limit: Duration,
    most: usize,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    next: u64,
    /// The oldest first.
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor")
            .field("limit", &self.limit)
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

/// Gives the place of a handshake back.
struct Place<'a>(&'a Acceptor, u64);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut pending = self.0.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.waiting.retain(|(number, _)| *number != self.1);
    }
}

impl Acceptor {
    /// With the bounds of this module.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Acceptor::within(config, HANDSHAKE, HANDSHAKES)
    }

    /// With bounds of one's own.
    #[must_use]
    pub fn within(config: Arc<ServerConfig>, limit: Duration, most: usize) -> Self {
        Acceptor { tls: TlsAcceptor::from(config), limit, most: most.max(1), pending: Mutex::default() }
    }

    /// Does the handshake with whoever has connected. Gives who it is, if it showed a certificate.
    ///
    /// # Errors
    /// What was wrong with the peer; `TimedOut` if it took too long or others came meanwhile.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, Option<PeerIdentity>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (place, ended) = self.enter();
        let handshake = tokio::time::timeout(self.limit, self.tls.accept(stream));
        let slow = |why: &str| io::Error::new(io::ErrorKind::TimedOut, why.to_owned());
        let stream = tokio::select! {
            biased;
            done = handshake => done.map_err(|_| slow("the peer did not finish its handshake in time"))??,
            _ = ended => return Err(slow("the peer had not finished its handshake when many others came")),
        };
        drop(place);
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let peer = match shown {
            Some(certificate) => {
                let key = chain::key_digest(certificate).map_err(io::Error::other)?;
                Some(PeerIdentity { key, named: chain::named(certificate) })
            }
            None => None,
        };
        Ok((stream, peer))
    }

    fn enter(&self) -> (Place<'_>, oneshot::Receiver<()>) {
        let (end, ended) = oneshot::channel();
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.waiting.len() >= self.most {
            // Dropping its sender ends it.
            pending.waiting.pop_front();
        }
        let number = pending.next;
        pending.next += 1;
        pending.waiting.push_back((number, end));
        (Place(self, number), ended)
    }
}
