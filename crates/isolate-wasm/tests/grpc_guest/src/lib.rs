//! A component that serves gRPC, well and badly: what the tests of the wasm isolate call.

wit_bindgen::generate!({ path: "wit", world: "echo-server", generate_all });

use com::example::com_example_types::MisdeedWhat;
use exports::com::example::echo::{
    AllTypes, Chunk, ChunkReader, ChunkWriter, Context, Description, Failure, Guest, HelloRequest,
    HelloResponse, Misdeed, Nothing, Status, Summary, Wanted,
};
use std::{
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tutti::grpc::call::{Code, MetadataValue};
use wasip2::{
    clocks::monotonic_clock,
    http::{
        outgoing_handler,
        types::{ErrorCode, Fields, Method, OutgoingRequest, Scheme},
    },
};

struct Echo;

export!(Echo);

/// Calls that this instance has counted.
static COUNTED: AtomicU64 = AtomicU64::new(0);

impl Guest for Echo {
    fn say_hello(_: &Context, request: HelloRequest) -> Result<HelloResponse, Status> {
        Ok(HelloResponse { talk_to_me: !request.name.is_empty() })
    }

    fn all(_: &Context, request: AllTypes) -> Result<AllTypes, Status> {
        Ok(request)
    }

    fn upload(_: &Context, requests: &ChunkReader) -> Result<Summary, Status> {
        let mut summary = Summary { chunks: 0, bytes: 0 };
        while let Some(chunk) = requests.read()? {
            summary.chunks += 1;
            summary.bytes += chunk.data.len() as u64;
            // "Enough": it ends although there is more.
            if chunk.number == 999 {
                break;
            }
        }
        Ok(summary)
    }

    fn download(context: &Context, wanted: Wanted, replies: &ChunkWriter) -> Result<(), Status> {
        let size = usize::try_from(wanted.bytes).unwrap();
        for number in 0..wanted.chunks {
            sleep(wanted.pause);
            if number == 0 {
                context.add_header("x-first", &MetadataValue::Text("yes".to_owned())).unwrap();
            }
            replies.write(&Chunk { data: vec![7; size], number })?;
            eprintln!("wrote {number}");
        }
        if context.add_header("x-late", &MetadataValue::Text("no".to_owned())).is_ok() && wanted.chunks > 0 {
            return Err(failed(Code::Internal, "a header was taken after a reply"));
        }
        context.add_trailer("x-sent", &MetadataValue::Text(wanted.chunks.to_string())).unwrap();
        Ok(())
    }

    fn talk(_: &Context, requests: &ChunkReader, replies: &ChunkWriter) -> Result<(), Status> {
        while let Some(chunk) = requests.read()? {
            match chunk.number {
                // Says no more and ends.
                999 => break,
                998 => return Err(failed(Code::FailedPrecondition, "998")),
                997 => spin(),
                _ => replies.write(&chunk)?,
            }
        }
        Ok(())
    }

    fn fail(context: &Context, failure: Failure) -> Result<Nothing, Status> {
        context.add_header("x-header", &MetadataValue::Text("head".to_owned())).unwrap();
        context.add_trailer("x-trailer-bin", &MetadataValue::Binary(vec![1, 2, 3])).unwrap();
        let code = match failure.code {
            5 => Code::NotFound,
            16 => Code::Unauthenticated,
            _ => Code::Cancelled,
        };
        Err(Status { code, message: failure.message, details: failure.details })
    }

    fn describe(context: &Context, _: Nothing) -> Result<Description, Status> {
        let mut description = Description {
            text: Vec::new(),
            binary: Vec::new(),
            remaining: context.remaining(),
            refused: Vec::new(),
        };
        for (name, value) in context.metadata() {
            match value {
                MetadataValue::Text(text) => description.text.push((name, text)),
                MetadataValue::Binary(bytes) => description.binary.push((name, bytes)),
            }
        }
        for name in ["grpc-status", "content-type", "not a name"] {
            description.refused.extend(context.add_header(name, &MetadataValue::Text("x".to_owned())).err());
            description.refused.extend(context.add_trailer(name, &MetadataValue::Text("x".to_owned())).err());
        }
        Ok(description)
    }

    fn misbehave(context: &Context, misdeed: Misdeed) -> Result<Chunk, Status> {
        let data = match misdeed.what {
            Some(MisdeedWhat::Spin(_)) => spin(),
            Some(MisdeedWhat::Bomb(_)) => bomb(),
            Some(MisdeedWhat::Recurse(_)) => vec![u8::from(descend(0) != 0)],
            Some(MisdeedWhat::Tables(_)) => tables(),
            Some(MisdeedWhat::Storm(_)) => loop {
                black_box(context.metadata());
                black_box(context.remaining());
            },
            Some(MisdeedWhat::Huge(bytes)) => vec![1; usize::try_from(bytes).unwrap()],
            Some(MisdeedWhat::Panic(_)) => panic!("a panic on purpose"),
            Some(MisdeedWhat::Sleep(milliseconds)) => {
                sleep(milliseconds);
                Vec::new()
            }
            Some(MisdeedWhat::Exit(_)) => std::process::exit(3),
            Some(MisdeedWhat::Files(_)) => {
                format!("{:?}", std::fs::read_dir("/").map(|_| "read it").map_err(|error| error.to_string()))
                    .into()
            }
            Some(MisdeedWhat::Connect(_)) => {
                let connected = std::net::TcpStream::connect("127.0.0.1:1");
                format!("{:?}", connected.map_err(|error| error.to_string())).into()
            }
            Some(MisdeedWhat::Print(line)) => {
                println!("{line}");
                Vec::new()
            }
            None => Vec::new(),
        };
        Ok(Chunk { data, number: 0 })
    }

    fn count(_: &Context, _: Nothing) -> Result<Summary, Status> {
        Ok(Summary { chunks: COUNTED.fetch_add(1, Ordering::Relaxed) + 1, bytes: 0 })
    }

    fn fetch(_: &Context, wanted: Wanted) -> Result<HelloRequest, Status> {
        match fetch(&wanted.url) {
            Ok(name) => Ok(HelloRequest { name }),
            Err(error) => Err(failed(Code::Unavailable, &format!("{error:?}"))),
        }
    }
}

fn failed(code: Code, message: &str) -> Status {
    Status { code, message: message.to_owned(), details: Vec::new() }
}

fn sleep(milliseconds: u64) {
    if milliseconds > 0 {
        let nanoseconds = Duration::from_millis(milliseconds).as_nanos() as u64;
        monotonic_clock::subscribe_duration(nanoseconds).block();
    }
}

fn spin() -> ! {
    let mut number = 0u64;
    loop {
        number = black_box(number.wrapping_add(1));
    }
}

fn bomb() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1u8; 1 << 20]));
    }
}

#[allow(unconditional_recursion)]
fn descend(depth: u64) -> u64 {
    let here = black_box([depth; 64]);
    descend(depth + 1) + here[(depth % 64) as usize]
}

/// Core WebAssembly's tables cannot be grown from Rust; the handles that stand for host resources are in one too.
fn tables() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(black_box(monotonic_clock::subscribe_duration(1 << 40)));
    }
}

fn fetch(url: &str) -> Result<String, ErrorCode> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some((_, rest)) => (Scheme::Http, rest),
        None => (Scheme::Http, url),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let request = OutgoingRequest::new(Fields::new());
    request.set_method(&Method::Get).unwrap();
    request.set_scheme(Some(&scheme)).unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some(&format!("/{path}"))).unwrap();
    let answer = outgoing_handler::handle(request, None)?;
    answer.subscribe().block();
    let response = answer.get().unwrap().unwrap()?;
    let body = response.consume().unwrap();
    let stream = body.stream().unwrap();
    let mut text = Vec::new();
    while let Ok(bytes) = stream.blocking_read(4096) {
        text.extend(bytes);
    }
    Ok(format!("{} {}", response.status(), String::from_utf8_lossy(&text)))
}
