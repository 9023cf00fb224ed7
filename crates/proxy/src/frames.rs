//! HTTP/2 frames byte by byte, for tests that have to misbehave.

use std::sync::{Arc, Mutex};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GO_AWAY: u8 = 7;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// `GET http://a/`, all from the static table but the authority.
pub(crate) const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The next frame: kind, flags, stream, payload; `None` at the connection's end.
pub(crate) async fn read_frame(from: &mut TcpStream) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    from.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    from.read_exact(&mut payload).await.ok()?;
    Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}

/// What a server says to a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Say {
    /// 200, once the request is whole.
    Answer,
    /// At the request's head: this stream is refused.
    Refuse,
    /// At the request's head: the connection ends, and this was the last stream it looked at. It closes then.
    GoAway { last: u32 },
}

/// Whole requests, as they came: the connection's number and the body.
pub(crate) type Seen = Arc<Mutex<Vec<(usize, String)>>>;

/// A server that says `say(connection, stream)`.
pub(crate) async fn server(
    say: impl Fn(usize, u32) -> Say + Send + Sync + 'static,
) -> (std::net::SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let (noted, say) = (Arc::clone(&seen), Arc::new(say));
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let (noted, say) = (Arc::clone(&noted), Arc::clone(&say));
            tokio::spawn(async move { converse(stream, number, &*say, &noted).await });
        }
    });
    (address, seen)
}

async fn converse(mut stream: TcpStream, number: usize, say: &impl Fn(usize, u32) -> Say, seen: &Seen) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let mut body = String::new();
    while let Some((kind, flags, id, payload)) = read_frame(&mut stream).await {
        if kind == HEADERS {
            body.clear();
        }
        if kind == DATA {
            body.push_str(&String::from_utf8_lossy(&payload));
        }
        let whole = matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0;
        match (kind, say(number, id)) {
            (SETTINGS, _) if flags == 0 => {
                stream.write_all(&frame(SETTINGS, 1, 0, &[])).await.unwrap();
            }
            (HEADERS, Say::Refuse) => {
                stream.write_all(&frame(RESET, 0, id, &7u32.to_be_bytes())).await.unwrap();
            }
            (HEADERS, Say::GoAway { last }) => {
                let mut payload = last.to_be_bytes().to_vec();
                payload.extend(0u32.to_be_bytes());
                stream.write_all(&frame(GO_AWAY, 0, 0, &payload)).await.unwrap();
                return;
            }
            (HEADERS | DATA, Say::Answer) if whole => {
                seen.lock().unwrap().push((number, std::mem::take(&mut body)));
                // The status 200 of the static table.
                stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, id, &[0x88])).await.unwrap();
            }
            _ => {}
        }
    }
}
