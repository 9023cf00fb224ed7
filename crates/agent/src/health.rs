//! Whether an instance answers: probes by TCP, HTTP and gRPC health, over the network or by a call, each with a text
//! that a person can act on.
//!
//! How often, and what follows from an answer, is the runner's business.

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{net::TcpStream, sync::watch};
use tonic::codegen::{BoxFuture, Service};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tutti_base::{Body, Clock, Random, body};
use tutti_isolate::{HandleError, Handler, Target};
use tutti_model::{
    Millis,
    manifest::{Health, Probe},
};

/// Time between the first two probes of a starting instance: readiness is noticed within milliseconds.
const FIRST_PAUSE: Millis = Millis(5);
/// Longest time between probes of a starting instance: four connections a second are nothing to a slow starter.
const LONGEST_PAUSE: Millis = Millis(250);
/// How long an instance may take to come up before it is said what keeps it: most are ready well before, and what is
/// said is stored.
const PATIENCE: Millis = Millis::seconds(1);
/// Shortest time between two things said of one starting instance: what changes more often is not stored.
const SAY_EVERY: Millis = Millis::seconds(10);
/// Who asks.
const AGENT: HeaderValue = HeaderValue::from_static("tutti-probe");

/// Whether there is anything to ask a running instance again: a call without a probe of its own cannot stop answering.
pub(crate) fn is_lasting(probe: &Probe, target: &Target) -> bool {
    matches!((probe, target), (Probe::Tcp, Target::Handler(_)))
}

/// Time until a ready instance is asked first: anywhere within its interval, so that those that came up together are not
/// asked together for ever.
pub(crate) fn first_pause(interval: Millis, random: &Random) -> Millis {
    Millis(1 + random.below(interval.0.max(1)))
}

/// Returns once the instance answers its probe, or with the last fault once `health.start` is over. A fault that lasts is
/// put into `kept_by` meanwhile, for whoever wonders.
pub(crate) async fn until_ready(
    health: &Health,
    target: &Target,
    clock: &dyn Clock,
    kept_by: &watch::Sender<Option<String>>,
) -> Result<(), String> {
    let began = clock.now();
    let deadline = began.plus(health.start);
    let mut sayable = began.plus(PATIENCE);
    let mut pause = FIRST_PAUSE;
    loop {
        let fault = match probe(health, target).await {
            Ok(()) => return Ok(()),
            Err(fault) => fault,
        };
        let now = clock.now();
        if now >= sayable && kept_by.send_if_modified(|said| is_news(said, &fault)) {
            sayable = now.plus(SAY_EVERY);
        }
        let next = now.plus(pause);
        if next > deadline {
            return Err(fault);
        }
        clock.sleep_until(next).await;
        pause = Millis((pause.0 * 3 / 2).min(LONGEST_PAUSE.0));
    }
}

/// Replaces what was said, if the fault is another one.
fn is_news(said: &mut Option<String>, fault: &str) -> bool {
    let news = said.as_deref() != Some(fault);
    if news {
        *said = Some(fault.to_owned());
    }
    news
}

/// Asks once.
///
/// # Errors
/// What was asked and what came back, in one sentence without a period.
pub(crate) async fn probe(health: &Health, target: &Target) -> Result<(), String> {
    let asked = async {
        match (&health.probe, target) {
            (Probe::Tcp, Target::Handler(_)) => Ok(()),
            (Probe::Tcp, Target::Address(address)) => tcp(*address).await.map(drop),
            (Probe::Http(path), Target::Address(address)) => http_address(path, *address).await,
            (Probe::Http(path), Target::Handler(handler)) => http_handler(path, handler.as_ref()).await,
            (Probe::Grpc(service), Target::Address(address)) => grpc_address(service, *address).await,
            (Probe::Grpc(service), Target::Handler(handler)) => {
                grpc(service, "", HealthClient::new(Called(Arc::clone(handler)))).await
            }
        }
    };
    match tokio::time::timeout(health.timeout.duration(), asked).await {
        Ok(answer) => answer,
        Err(_) => {
            Err(format!("{} gave no answer within {}", question(&health.probe, target), health.timeout))
        }
    }
}

/// What is asked, for texts.
pub(crate) fn question(probe: &Probe, target: &Target) -> String {
    let whereto = match target {
        Target::Address(address) => format!(" on port {}", address.port()),
        Target::Handler(_) => String::new(),
    };
    match probe {
        Probe::Tcp => format!("connecting{whereto}"),
        Probe::Http(path) => format!("GET {path}{whereto}"),
        Probe::Grpc(service) if service.is_empty() => format!("the gRPC health check{whereto}"),
        Probe::Grpc(service) => format!("the gRPC health check of {service}{whereto}"),
    }
}

async fn tcp(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("nothing listens on port {}", address.port()),
        _ => format!("connecting to port {}: {error}", address.port()),
    })
}

async fn http_address(path: &str, address: SocketAddr) -> Result<(), String> {
    let asked = format!("GET {path} on port {}", address.port());
    let stream = TokioIo::new(tcp(address).await?);
    let failed = |error: hyper::Error| format!("{asked} failed: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(failed)?;
    let request =
        http_request(path, &address.to_string()).map_err(|error| format!("{asked} failed: {error}"))?;
    let answer = sender.send_request(request);
    // The connection is driven here and closed with the probe; the body is of no interest.
    tokio::pin!(connection, answer);
    let response = tokio::select! {
        biased;
        response = &mut answer => response.map_err(failed)?,
        ended = &mut connection => {
            ended.map_err(failed)?;
            answer.await.map_err(failed)?
        }
    };
    good(response.status(), &asked)
}

async fn http_handler(path: &str, handler: &dyn Handler) -> Result<(), String> {
    let asked = format!("GET {path}");
    let request =
        http_request(&format!("http://localhost{path}"), "localhost").map_err(|error| error.to_string())?;
    let response = handler.handle(request).await.map_err(|error| format!("{asked} failed: {error}"))?;
    good(response.status(), &asked)
}

fn http_request(uri: &str, host: &str) -> Result<Request<Body>, http::Error> {
    let request = Request::builder().method(Method::GET).uri(uri);
    request.header(header::HOST, host).header(header::USER_AGENT, AGENT).body(body::empty())
}

fn good(status: StatusCode, asked: &str) -> Result<(), String> {
    if (200..400).contains(&status.as_u16()) {
        Ok(())
    } else {
        Err(format!("{asked} answered {}", status.as_u16()))
    }
}

async fn grpc_address(service: &str, address: SocketAddr) -> Result<(), String> {
    // Tells a closed port plainly; the channel below would call it a transport error.
    drop(tcp(address).await?);
    let whereto = format!(" on port {}", address.port());
    let failed =
        |error: tonic::transport::Error| format!("the gRPC health check{whereto} failed: {}", chain(&error));
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).map_err(failed)?;
    grpc(service, &whereto, HealthClient::new(endpoint.connect().await.map_err(failed)?)).await
}

async fn grpc<T>(service: &str, whereto: &str, mut client: HealthClient<T>) -> Result<(), String>
where
    T: tonic::client::GrpcService<tonic::body::Body>,
    T::Error: Into<tonic::codegen::StdError>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    let asked = match service {
        "" => format!("the gRPC health check{whereto}"),
        service => format!("the gRPC health check of {service}{whereto}"),
    };
    let request = HealthCheckRequest { service: service.to_owned() };
    match client.check(request).await {
        Ok(answer) => match answer.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            other => Err(format!("{asked} said {}", other.as_str_name())),
        },
        Err(status) => Err(format!("{asked} failed: {:?}: {}", status.code(), status.message())),
    }
}

/// An error with all its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A handler as the gRPC client wants its transport.
struct Called(Arc<dyn Handler>);

impl Service<Request<tonic::body::Body>> for Called {
    type Response = http::Response<Body>;
    type Error = HandleError;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HandleError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        use http_body_util::BodyExt as _;
        let handler = Arc::clone(&self.0);
        let request = request.map(|body| body.map_err(|status| status.into()).boxed_unsync());
        Box::pin(async move { handler.handle(request).await })
    }
}

#[cfg(test)]
mod tests;
