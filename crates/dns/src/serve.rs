//! The sockets. A datagram is answered before the next is read: nothing waits here but in the kernel's own buffer, and an
//! answer takes microseconds. Connections have places, few of them for one sender, and little time.

use crate::{
    Shared,
    rate::Rates,
    wire::{QUESTION_BYTES, Way},
};
use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tutti_model::Millis;

/// Connections that are open at once; those that come beyond are closed at once, since who waits for a place asks
/// another server no sooner.
const CONNECTIONS: usize = 512;
/// Those of one sender: what a resolver has open that asks for many names at once.
const CONNECTIONS_PER_SENDER: usize = 16;
/// How long a connection may bring nothing, and an answer may not be taken.
const IDLE: Duration = Duration::from_secs(5);
/// How long a connection is kept, whatever it asks.
const LIFE: Duration = Duration::from_secs(60);
/// The pause after the machine could not take a connection, or a datagram.
const PAUSE: Millis = Millis(50);

/// Answers datagrams until `stopping`.
pub(crate) async fn udp(shared: Arc<Shared>, socket: UdpSocket, stopping: CancellationToken) {
    let mut rates = Rates::default();
    let mut message = vec![0; QUESTION_BYTES];
    loop {
        let received = tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            received = socket.recv_from(&mut message) => received,
        };
        let (length, from) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "a datagram could not be received");
                shared.clock.sleep(PAUSE).await;
                continue;
            }
        };
        let way = match rates.admits(from.ip(), shared.clock.now()) {
            true => Way::Udp,
            false => Way::UdpBrief,
        };
        let Some(answer) = respond(&shared, message.get(..length).unwrap_or_default(), way) else { continue };
        // Whoever cannot be reached asks again, or does not.
        if let Err(error) = socket.send_to(&answer, from).await {
            tracing::debug!(%error, "an answer could not be sent");
        }
    }
}

/// Answers connections until `stopping`.
pub(crate) async fn tcp(shared: Arc<Shared>, listener: TcpListener, stopping: CancellationToken) {
    let places = Places::default();
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            _ = open.join_next(), if !open.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let Some(place) = places.take(from.ip()) else { continue };
                let shared = Arc::clone(&shared);
                open.spawn(async move {
                    // Whatever goes wrong with it, its end is the answer.
                    let _ = tokio::time::timeout(LIFE, connection(&shared, stream)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be taken");
                shared.clock.sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let mut message = Vec::new();
    loop {
        tokio::time::timeout(IDLE, read(&mut stream, &mut message)).await.map_err(|_| late())??;
        let Some(answer) = respond(shared, &message, Way::Tcp) else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        tokio::time::timeout(IDLE, stream.write_all(&framed)).await.map_err(|_| late())??;
    }
}

/// Reads one message after its length.
async fn read(stream: &mut TcpStream, message: &mut Vec<u8>) -> io::Result<()> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUESTION_BYTES {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    message.resize(length, 0);
    stream.read_exact(message).await.map(drop)
}

/// What is said to a message, be it one that the library cannot take.
fn respond(shared: &Shared, message: &[u8], way: Way) -> Option<Vec<u8>> {
    match catch_unwind(AssertUnwindSafe(|| shared.respond(message, way))) {
        Ok(answer) => answer,
        Err(_) => {
            tracing::error!("a question made the server fail, and got no answer");
            None
        }
    }
}

/// The places for connections. Cloning shares them.
#[derive(Debug, Clone, Default)]
struct Places(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One that is taken; dropping it gives it back.
#[derive(Debug)]
struct Place {
    places: Places,
    sender: IpAddr,
}

impl Places {
    fn take(&self, sender: IpAddr) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let of_sender = open.get(&sender).copied().unwrap_or_default();
        if all >= CONNECTIONS || of_sender >= CONNECTIONS_PER_SENDER {
            return None;
        }
        open.insert(sender, of_sender + 1);
        Some(Place { places: self.clone(), sender })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.sender) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.sender)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sender_takes_all_places_and_all_senders_no_more_than_there_are() {
        let places = Places::default();
        let sender = |n: usize| IpAddr::V4(u32::try_from(n).unwrap().into());
        let of_one: Vec<Place> = std::iter::from_fn(|| places.take(sender(1))).collect();
        assert_eq!(of_one.len(), CONNECTIONS_PER_SENDER);
        let mut others: Vec<Place> = (2..2000).map_while(|n| places.take(sender(n))).collect();
        assert_eq!(of_one.len() + others.len(), CONNECTIONS);
        drop(of_one);
        others.extend((3000..4000).map_while(|n| places.take(sender(n))));
        assert_eq!(others.len(), CONNECTIONS);
        drop(others);
        assert!(places.0.lock().unwrap().is_empty());
    }
}
