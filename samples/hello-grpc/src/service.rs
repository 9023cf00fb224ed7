//! The service of `proto/hello.proto`. The messages and the dispatch, which a code generator would write, stand here by
//! hand, so that building the sample needs no generator.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio_stream::StreamExt as _;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::http,
    metadata::{Ascii, MetadataValue},
    server::{Grpc, NamedService, ServerStreamingService, UnaryService},
};
use tonic_prost::ProstCodec;

/// The most that `Count` counts to: enough for any test of a long stream, and not for ever.
const COUNT_MOST: u32 = 1_000_000;

#[derive(Clone, PartialEq, prost::Message)]
pub struct HelloRequest {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct HelloResponse {
    #[prost(bool, tag = "1")]
    pub talk_to_me: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct CountRequest {
    #[prost(uint32, tag = "1")]
    pub to: u32,
    #[prost(uint32, tag = "2")]
    pub every_ms: u32,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct CountResponse {
    #[prost(uint32, tag = "1")]
    pub n: u32,
}

/// What the service does.
#[derive(Debug, Clone)]
pub struct Hello {
    version: MetadataValue<Ascii>,
}

impl Hello {
    pub fn new(version: &str) -> Result<Self, Box<dyn std::error::Error>> {
        Ok(Hello { version: version.parse()? })
    }

    fn answer<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        response.metadata_mut().insert("sample-version", self.version.clone());
        response
    }
}

impl UnaryService<HelloRequest> for Hello {
    type Response = HelloResponse;
    type Future = Ready<Result<Response<HelloResponse>, Status>>;

    fn call(&mut self, request: Request<HelloRequest>) -> Self::Future {
        let talk_to_me = !request.get_ref().name.is_empty();
        ready(Ok(self.answer(HelloResponse { talk_to_me })))
    }
}

type CountStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<CountResponse, Status>> + Send>>;

impl ServerStreamingService<CountRequest> for Hello {
    type Response = CountResponse;
    type ResponseStream = CountStream;
    type Future = Ready<Result<Response<CountStream>, Status>>;

    fn call(&mut self, request: Request<CountRequest>) -> Self::Future {
        let CountRequest { to, every_ms } = *request.get_ref();
        if to > COUNT_MOST {
            return ready(Err(Status::invalid_argument(format!("{to} is more than {COUNT_MOST}"))));
        }
        let numbers = tokio_stream::iter((1..=to).map(|n| Ok(CountResponse { n })));
        let numbers: CountStream = match every_ms {
            0 => Box::pin(numbers),
            every => Box::pin(numbers.throttle(Duration::from_millis(every.into()))),
        };
        ready(Ok(self.answer(numbers)))
    }
}

/// The service on the wire: path to method.
#[derive(Debug, Clone)]
pub struct HelloWorld(Hello);

impl HelloWorld {
    pub const fn new(hello: Hello) -> Self {
        HelloWorld(hello)
    }
}

impl NamedService for HelloWorld {
    const NAME: &'static str = "com.example.HelloWorld";
}

impl tonic::codegen::Service<http::Request<Body>> for HelloWorld {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let hello = self.0.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/com.example.HelloWorld/SayHello" => {
                    let codec = ProstCodec::<HelloResponse, HelloRequest>::default();
                    Grpc::new(codec).unary(hello, request).await
                }
                "/com.example.HelloWorld/Count" => {
                    let codec = ProstCodec::<CountResponse, CountRequest>::default();
                    Grpc::new(codec).server_streaming(hello, request).await
                }
                other => Status::unimplemented(format!("there is no method {other}")).into_http(),
            })
        })
    }
}
