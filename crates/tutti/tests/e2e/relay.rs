//! A relay between two roles that holds back what goes through it, as a long or a crowded way does: all of it arrives, in
//! order, late. This kind of kernel has nothing for it.

use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    runtime::Runtime,
    sync::{mpsc, watch},
    time::{Duration, Instant, sleep_until},
};

/// Pieces on their way in one direction of one connection, and the most bytes of each: more wait at whoever sends.
const PIECES: usize = 256;
const PIECE_BYTES: usize = 16 * 1024;

/// The two ways through a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From who connects.
    There,
    /// Back to who connected.
    Back,
}

/// A relay that runs until it is dropped.
pub struct Relay {
    /// Where it is reached.
    pub address: SocketAddr,
    there: watch::Sender<Duration>,
    back: watch::Sender<Duration>,
    _runtime: Runtime,
}

impl Relay {
    /// From a free port of this address to `target`, without a delay.
    pub fn start(from: std::net::IpAddr, target: SocketAddr) -> Relay {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let listener = runtime.block_on(TcpListener::bind((from, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let (there, back) = (watch::Sender::new(Duration::ZERO), watch::Sender::new(Duration::ZERO));
        let (outward, homeward) = (there.subscribe(), back.subscribe());
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (outward, homeward) = (outward.clone(), homeward.clone());
                tokio::spawn(async move {
                    // Who is not there refuses whoever comes by the end of the connection.
                    let Ok(server) = TcpStream::connect(target).await else { return };
                    let _ = (client.set_nodelay(true), server.set_nodelay(true));
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::join!(
                        pass(from_client, to_server, outward),
                        pass(from_server, to_client, homeward)
                    );
                });
            }
        });
        Relay { address, there, back, _runtime: runtime }
    }

    /// From now on all takes so long, what is on its way already too.
    pub fn delay(&self, delay: Duration) {
        self.delay_one_way(Way::There, delay);
        self.delay_one_way(Way::Back, delay);
    }

    /// The same one way alone.
    pub fn delay_one_way(&self, way: Way, delay: Duration) {
        match way {
            Way::There => self.there.send_replace(delay),
            Way::Back => self.back.send_replace(delay),
        };
    }
}

/// Passes on what comes, each piece once it has been on its way for as long as is said then.
async fn pass(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut delay: watch::Receiver<Duration>,
) {
    let (on_its_way, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let reading = async move {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            match from.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(read) => piece.truncate(read),
            }
            if on_its_way.send((Instant::now(), piece)).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((came, piece)) = arriving.recv().await {
            loop {
                let due = came + *delay.borrow_and_update();
                tokio::select! {
                    () = sleep_until(due) => break,
                    Ok(()) = delay.changed() => {}
                }
            }
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}

#[test]
fn what_goes_through_a_relay_arrives_whole_and_as_late_as_is_said() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = Relay::start([127, 0, 0, 1].into(), listener.local_addr().unwrap());
    let mut client = std::net::TcpStream::connect(relay.address).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let mut answer = |client: &mut std::net::TcpStream, asked: &[u8]| {
        let began = std::time::Instant::now();
        client.write_all(asked).unwrap();
        let mut bytes = vec![0; asked.len()];
        server.read_exact(&mut bytes).unwrap();
        assert!(bytes == asked);
        server.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        began.elapsed()
    };
    let large: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
    answer(&mut client, &large);
    let late = Duration::from_millis(150);
    relay.delay(late);
    assert!(answer(&mut client, b"hello") >= 2 * late);
    relay.delay_one_way(Way::There, Duration::ZERO);
    assert!(answer(&mut client, b"hello") >= late);
    // What is held back is let go when the delay ends.
    relay.delay(Duration::from_secs(3600));
    client.write_all(b"held").unwrap();
    relay.delay(Duration::ZERO);
    let mut held = [0; 4];
    server.read_exact(&mut held).unwrap();
    assert_eq!(&held, b"held");
    drop(client);
    assert_eq!(server.read(&mut held).unwrap(), 0, "its end arrives too");
}
