//! A service in a hundred lines: a WebAssembly component that answers HTTP.
//!
//! Build it with `cargo build --release --target wasm32-wasip2`, then
//!
//! ```text
//! tutti push target/wasm32-wasip2/release/hello_wasm.wasm example.com:web@1.0
//! tutti deploy example.com:web@1.0 100%
//! curl http://web.example.com.localhost:8080/
//! ```
//!
//! Tutti makes a new instance of the component for every request and calls [`Hello::handle`] in it, so that requests
//! cannot see each other's data, and nothing that is kept in a variable is there for the next one.

use std::env;
use wasip2::{
    clocks::monotonic_clock,
    exports::http::incoming_handler::Guest,
    http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam},
    io::streams::{OutputStream, StreamError},
};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match (request.method(), path) {
            (Method::Get | Method::Head, "/") => text(answer, 200, &greeting()),
            (Method::Get, "/env") => text(answer, 200, &environment()),
            (Method::Get, "/stream") => stream(answer),
            (Method::Post | Method::Put, "/echo") => echo(&request, answer),
            (_, "/log") => {
                // Standard output and standard error are the service's log: see `tutti logs -f`.
                println!("{}", query.strip_prefix("line=").unwrap_or("hello, log"));
                text(answer, 200, "logged\n");
            }
            _ => text(answer, 404, "try /, /env, /stream, /log?line=TEXT, or POST to /echo\n"),
        }
    }
}

/// `Hello from wasm, version 1.0`: the words come from the manifest's `[service.env]`, the version from Tutti.
fn greeting() -> String {
    let words = env::var("GREETING").unwrap_or_else(|_| "Hello from wasm".to_owned());
    let version = env::var("VERSION").or_else(|_| env::var("TUTTI_VERSION"));
    format!("{words}, version {}\n", version.as_deref().unwrap_or("dev"))
}

fn environment() -> String {
    env::vars().map(|(name, value)| format!("{name}={value}\n")).collect()
}

/// Answers with a text that is known whole.
fn text(answer: ResponseOutparam, status: u16, text: &str) {
    let length = text.len().to_string().into_bytes();
    let headers = [("content-type", b"text/plain; charset=utf-8".to_vec()), ("content-length", length)];
    respond(answer, status, &headers, |out| out.blocking_write_and_flush(text.as_bytes()));
}

/// Sends the request's body back while it still comes in.
fn echo(request: &IncomingRequest, answer: ResponseOutparam) {
    const PIECE: u64 = 64 * 1024;
    let Ok(body) = request.consume() else { return text(answer, 400, "the request has no body\n") };
    let Ok(input) = body.stream() else { return text(answer, 400, "the request has no body\n") };
    respond(answer, 200, &[("content-type", b"application/octet-stream".to_vec())], |out| {
        loop {
            // The host moves the bytes; they never enter this component's memory.
            match out.blocking_splice(&input, PIECE) {
                Ok(_) => {}
                Err(StreamError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    });
}

/// Five server-sent events, a tenth of a second apart.
fn stream(answer: ResponseOutparam) {
    const PAUSE_NANOSECONDS: u64 = 100_000_000;
    respond(answer, 200, &[("content-type", b"text/event-stream".to_vec())], |out| {
        for event in 1..=5 {
            out.blocking_write_and_flush(format!("data: {event}\n\n").as_bytes())?;
            monotonic_clock::subscribe_duration(PAUSE_NANOSECONDS).block();
        }
        Ok(())
    });
}

/// Sends the head of an answer, then its body as `write` produces it.
fn respond(
    answer: ResponseOutparam,
    status: u16,
    headers: &[(&str, Vec<u8>)],
    write: impl FnOnce(&OutputStream) -> Result<(), StreamError>,
) {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value).expect("the names and values above are valid");
    }
    let response = OutgoingResponse::new(fields);
    response.set_status_code(status).expect("the statuses above are valid");
    let body = response.body().expect("taken once");
    ResponseOutparam::set(answer, Ok(response));

    let out = body.write().expect("taken once");
    let written = write(&out);
    drop(out);
    // A body that isn't finished, such as when the client has gone, is shown to the client as broken off.
    if written.is_ok() {
        let _ = OutgoingBody::finish(body, None);
    }
}
