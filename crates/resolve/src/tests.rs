//! Against a name server on a local port, over UDP and TCP.

use super::*;
use hickory_resolver::proto::{
    op::{Message, MessageType},
    rr::{Record, rdata::TXT},
};
use std::time::Instant;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
};

/// What the server says of each name; `None` is silence.
fn reply(question: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
    let asked = Message::from_vec(question).unwrap();
    let query = asked.queries.first().unwrap().clone();
    let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
    reply.metadata.message_type = MessageType::Response;
    reply.metadata.recursion_available = true;
    reply.add_query(query.clone());
    let text = |reply: &mut Message, texts: &[&str]| {
        let texts = TXT::new(texts.iter().map(|text| (*text).to_owned()).collect());
        reply.add_answer(Record::from_rdata(query.name().clone(), 1, RData::TXT(texts)));
    };
    match query.name().to_ascii().as_str() {
        "good.test." => {
            text(&mut reply, &["other=1"]);
            text(&mut reply, &["tutti-", "verify=x"]);
        }
        "long.test." if !over_tcp => reply.metadata.truncation = true,
        "long.test." => (0..60).for_each(|_| text(&mut reply, &["sixty records of some length"])),
        "many.test." => (0..100).for_each(|_| text(&mut reply, &["a"])),
        "empty.test." => {}
        "broken.test." => reply.metadata.response_code = ResponseCode::ServFail,
        "closed.test." => reply.metadata.response_code = ResponseCode::Refused,
        "silent.test." => return None,
        _ => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    Some(reply.to_vec().unwrap())
}

/// One port that is free for UDP and for TCP. A port that the kernel finds free for one may be taken
/// for the other, by a connection of another test for instance, so several are tried.
async fn both() -> (UdpSocket, TcpListener) {
    const TRIES: usize = 64;
    for _ in 0..TRIES {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port was free for both UDP and TCP in {TRIES} tries");
}

/// Starts the server, which ends with the test's runtime.
async fn server() -> SocketAddr {
    let (udp, tcp) = both().await;
    let address = udp.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            if let Some(reply) = reply(&buffer[..length], false) {
                udp.send_to(&reply, from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            tokio::spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut question = vec![0; length.into()];
                    stream.read_exact(&mut question).await.unwrap();
                    let Some(reply) = reply(&question, true) else { return };
                    stream.write_u16(reply.len().try_into().unwrap()).await.unwrap();
                    stream.write_all(&reply).await.unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn records_are_read_and_every_failure_is_told_apart() {
    let resolver = TxtResolver::of(server().await).unwrap();
    let ask = async |name: &str| resolver.txt(name).await;
    assert_eq!(ask("good.test").await.unwrap(), ["other=1", "tutti-verify=x"]);
    assert_eq!(ask("empty.test").await, Err(TxtFault::NoRecord));
    assert_eq!(ask("absent.test").await, Err(TxtFault::NoName));
    assert_eq!(ask("broken.test").await, Err(TxtFault::Refused("Server Failure".into())));
    assert!(matches!(ask("closed.test").await, Err(TxtFault::Refused(_))));
    assert_eq!(ask("long.test").await.unwrap().len(), 60, "an answer that UDP does not hold comes over TCP");
    assert_eq!(ask("many.test").await.unwrap().len(), RECORDS);
}

#[tokio::test]
async fn silence_and_nobody_end_in_time() {
    let resolver = TxtResolver::of(server().await).unwrap();
    let asked = Instant::now();
    assert!(matches!(resolver.txt("silent.test").await, Err(TxtFault::Timeout(_))));
    assert!(asked.elapsed() < IN_ALL + Duration::from_secs(2));
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let gone = TxtResolver::of(nobody.local_addr().unwrap()).unwrap();
    drop(nobody);
    assert!(matches!(gone.txt("good.test").await, Err(TxtFault::Unreachable(_) | TxtFault::Timeout(_))));
}
