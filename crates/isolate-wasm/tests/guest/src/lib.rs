//! A component that misbehaves on request: one path for each way that a guest can be a burden to its host.

use std::{env, hint::black_box, time::Duration};
use wasip2::{
    clocks::monotonic_clock,
    exports::http::incoming_handler::Guest,
    http::{
        outgoing_handler,
        types::{
            ErrorCode, Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingRequest,
            OutgoingResponse, ResponseOutparam, Scheme,
        },
    },
    io::streams::{OutputStream, StreamError},
};

struct Hostile;

wasip2::http::proxy::export!(Hostile);

impl Guest for Hostile {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let number = |name: &str| value(query, name).and_then(|text| text.parse::<u64>().ok());
        match path {
            // What the suite of all drivers asks for.
            "/" => text(answer, "hello"),
            "/hello" => text(answer, "hello\n"),
            "/env" => text(
                answer,
                &env::vars().map(|(name, value)| format!("{name}={value}\n")).collect::<String>(),
            ),
            "/headers" => text(answer, &headers(&request)),
            "/echo" => echo(&request, answer),
            "/log" => {
                for index in 0..number("lines").unwrap_or(1) {
                    println!("{} {index}", value(query, "line").unwrap_or("line"));
                }
                eprint!("to standard error, without an end");
                text(answer, "logged\n");
            }
            "/slow" => {
                sleep(number("ms").unwrap_or(0));
                text(answer, "slow\n");
            }
            "/stream" => stream(answer, number("events").unwrap_or(3), number("ms").unwrap_or(0)),
            "/tail" => {
                text(answer, "first\n");
                sleep(number("ms").unwrap_or(0));
                println!("tail done");
            }
            "/spin" => spin(),
            "/spin-after-head" => respond(answer, &[], |out| {
                out.blocking_write_and_flush(b"head\n")?;
                spin()
            }),
            "/bomb" => bomb(),
            "/fill" => {
                let held = vec![1u8; usize::try_from(number("bytes").unwrap_or(0)).unwrap()];
                text(answer, &format!("{}\n", black_box(&held).len()));
            }
            "/trap" => panic!("a panic on purpose"),
            "/overflow" => text(answer, &format!("{}\n", descend(0))),
            "/silent" => {}
            "/refuse" => {
                ResponseOutparam::set(answer, Err(ErrorCode::InternalError(Some("no thanks".to_owned()))))
            }
            "/handles" => handles(),
            "/fetch" => text(answer, &fetch()),
            "/files" => text(answer, &format!("{:?}\n", std::fs::read_dir("/").map(|_| "read it"))),
            "/connect" => text(answer, &format!("{:?}\n", std::net::TcpStream::connect("127.0.0.1:1"))),
            "/udp" => text(answer, &format!("{:?}\n", std::net::UdpSocket::bind("127.0.0.1:0"))),
            "/lookup" => {
                let found = std::net::ToSocketAddrs::to_socket_addrs("api.example.org:80");
                text(answer, &format!("{:?}\n", found.map(|_| "found it")));
            }
            "/random" => text(answer, &format!("{:?}\n", wasip2::random::random::get_random_bytes(16))),
            _ => text(answer, "unknown\n"),
        }
    }
}

fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn sleep(milliseconds: u64) {
    let span = u64::try_from(Duration::from_millis(milliseconds).as_nanos()).unwrap();
    monotonic_clock::subscribe_duration(span).block();
}

fn spin() -> ! {
    let mut count = 0u64;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}

fn bomb() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1u8; 1 << 20]));
    }
}

fn handles() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(Fields::new());
    }
}

#[allow(unconditional_recursion)]
fn descend(depth: u64) -> u64 {
    let ballast = black_box([depth; 64]);
    descend(depth + 1) + ballast[0]
}

fn headers(request: &IncomingRequest) -> String {
    let fields = request.headers().entries();
    let lines = fields.iter().map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value)));
    let authority = request.authority().unwrap_or_default();
    format!("authority {authority}\n{}", lines.collect::<String>())
}

fn fetch() -> String {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).unwrap();
    request.set_authority(Some("127.0.0.1:1")).unwrap();
    request.set_path_with_query(Some("/")).unwrap();
    match outgoing_handler::handle(request, None) {
        Err(error) => format!("{error:?}\n"),
        Ok(future) => {
            future.subscribe().block();
            format!(
                "{:?}\n",
                future.get().map(|result| result.map(|result| result.map(|response| response.status())))
            )
        }
    }
}

fn echo(request: &IncomingRequest, answer: ResponseOutparam) {
    let incoming = request.consume().unwrap();
    let input = incoming.stream().unwrap();
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().unwrap();
    ResponseOutparam::set(answer, Ok(response));
    let out = body.write().unwrap();
    loop {
        match out.blocking_splice(&input, 64 * 1024) {
            Ok(_) => {}
            Err(StreamError::Closed) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    drop(out);
    drop(input);
    let trailers = IncomingBody::finish(incoming);
    trailers.subscribe().block();
    let trailers = trailers.get().unwrap().unwrap().unwrap();
    // The fields belong to the request; an answer needs its own.
    let trailers = trailers.map(|fields| Fields::from_list(&fields.entries()).unwrap());
    OutgoingBody::finish(body, trailers).unwrap();
}

fn stream(answer: ResponseOutparam, events: u64, pause: u64) {
    respond(answer, &[("content-type", "text/event-stream")], |out| {
        for event in 1..=events {
            out.blocking_write_and_flush(format!("data: {event}\n\n").as_bytes())?;
            sleep(pause);
        }
        Ok(())
    });
}

fn text(answer: ResponseOutparam, text: &str) {
    let length = text.len().to_string();
    respond(answer, &[("content-length", &length)], |out| {
        text.as_bytes().chunks(4096).try_for_each(|piece| out.blocking_write_and_flush(piece))
    });
}

fn respond(
    answer: ResponseOutparam,
    headers: &[(&str, &str)],
    write: impl FnOnce(&OutputStream) -> Result<(), StreamError>,
) {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).unwrap();
    }
    let response = OutgoingResponse::new(fields);
    let body = response.body().unwrap();
    ResponseOutparam::set(answer, Ok(response));
    let out = body.write().unwrap();
    let written = write(&out);
    drop(out);
    if written.is_ok() {
        let _ = OutgoingBody::finish(body, None);
    }
}
