//! Requests to a bucket: HTTP/1.1 over TLS by the one provider of this program. Signing and retries are the S3 client's;
//! here each attempt has its time.

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector as Connector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
        HttpResponse, HttpResponseBody, HttpService,
    },
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use std::{error::Error, io, sync::Arc, time::Duration};

/// How long a connection may take to be there: more than a lost packet costs, less than anyone likes to wait.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one attempt may take until its answer begins. A part is sent in that time, so that it is the slowest way to
/// a bucket: 420 kB a second.
const ATTEMPT: Duration = Duration::from_secs(20);
/// Connections that are kept for the next request; each is a few kilobytes.
const IDLE_CONNECTIONS: usize = 16;

/// Makes clients of this kind.
#[derive(Debug)]
pub(super) struct Connect;

impl Connector for Connect {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        // What follows adds TLS where the address says so.
        tcp.enforce_http(false);
        let https =
            HttpsConnectorBuilder::new()
                .with_tls_config(trust().map_err(|source| object_store::Error::Generic {
                    store: "S3",
                    source: Box::new(source),
                })?)
                .https_or_http()
                .enable_http1()
                .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(https);
        Ok(HttpClient::new(Requests(client)))
    }
}

/// The machine's certificate authorities. A server without TLS needs none.
fn trust() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

#[derive(Debug)]
struct Requests(Client<HttpsConnector<HttpConnector>, HttpRequestBody>);

#[async_trait]
impl HttpService for Requests {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = tokio::time::timeout(ATTEMPT, self.0.request(request)).await;
        let late = |_| {
            let why = format!("no answer in {} s", ATTEMPT.as_secs());
            HttpError::new(HttpErrorKind::Timeout, io::Error::new(io::ErrorKind::TimedOut, why))
        };
        let answer = answer.map_err(late)?.map_err(|error| {
            let kind = if error.is_connect() { HttpErrorKind::Connect } else { kind_of(&error) };
            HttpError::new(kind, error)
        })?;
        Ok(answer
            .map(|body| HttpResponseBody::new(body.map_err(|error| HttpError::new(kind_of(&error), error)))))
    }
}

/// What broke off may be asked again; what was not understood may not.
fn kind_of(error: &(dyn Error + 'static)) -> HttpErrorKind {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_timeout() {
                return HttpErrorKind::Timeout;
            }
            if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
                return HttpErrorKind::Interrupted;
            }
            if error.is_parse() {
                return HttpErrorKind::Decode;
            }
        }
        if error.is::<io::Error>() {
            return HttpErrorKind::Interrupted;
        }
        next = error.source();
    }
    HttpErrorKind::Unknown
}
