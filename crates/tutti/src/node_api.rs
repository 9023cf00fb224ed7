//! What an agent answers beside the requests for its instances: the logs of its node, and on its socket, to whoever owns
//! the machine, what it runs and its metrics.

use crate::dev::RELEASE;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use http::{Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use std::{convert::Infallible, sync::Arc};
use tokio_util::sync::CancellationToken;
use tutti_api::{
    debug::{INSPECT, Inspection},
    logs::LogSource,
    node_logs,
};
use tutti_base::{
    Body, body,
    metrics::{END, Exposition},
};
use tutti_model::{Problem, log::LogQuery};
use tutti_proxy::wire::Others;

/// What [`INSPECT`] is answered with.
pub(crate) type Inspect = Arc<dyn Fn() -> BoxFuture<'static, Result<Inspection, Problem>> + Send + Sync>;

/// Where a role answers on its own socket with what it counts.
pub(crate) const METRICS: &str = "/metrics";

/// What a role answers there: its own families, and the release of its process.
pub(crate) fn metrics(own: &str) -> String {
    let mut text = Exposition::default();
    text.build(RELEASE);
    format!("{}{own}{END}", text.into_text())
}

/// The kind of that text.
pub(crate) const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The same as `others`, and what the agent runs and counts.
pub(crate) fn with_inspection(
    others: Others,
    inspect: Inspect,
    counted: Arc<dyn Fn() -> String + Send + Sync>,
) -> Others {
    Arc::new(move |request| match (request.method(), request.uri().path()) {
        (&Method::GET, INSPECT) => {
            let inspecting = inspect();
            async move { json(&inspecting.await).unwrap_or_else(|problem| refused(&problem)) }.boxed()
        }
        (&Method::GET, METRICS) => {
            let mut response = Response::new(body::full(metrics(&counted())));
            let kind = header::HeaderValue::from_static(METRICS_TYPE);
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            std::future::ready(response).boxed()
        }
        _ => others(request),
    })
}

fn json(inspection: &Result<Inspection, Problem>) -> Result<Response<Body>, Problem> {
    let inspection = inspection.as_ref().map_err(Clone::clone)?;
    let bytes = serde_json::to_vec(inspection).map_err(|error| Problem::internal(error.to_string()))?;
    let mut response = Response::new(body::full(bytes));
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// Answers until `stop`, which also ends logs that are followed.
pub(crate) fn others(logs: Arc<dyn LogSource>, stop: CancellationToken) -> Others {
    Arc::new(move |request| answer(Arc::clone(&logs), stop.clone(), request).boxed())
}

async fn answer(logs: Arc<dyn LogSource>, stop: CancellationToken, request: Request<Body>) -> Response<Body> {
    if request.uri().path() != node_logs::PATH {
        return said(StatusCode::NOT_FOUND, "this is an agent's socket: nothing is served at this path");
    }
    match *request.method() {
        Method::GET => return kept(logs.as_ref()).await.unwrap_or_else(|problem| refused(&problem)),
        Method::POST => {}
        _ => return said(StatusCode::METHOD_NOT_ALLOWED, "logs are asked for with POST"),
    }
    match read(logs, request).await {
        Ok(lines) => {
            let frames =
                lines.take_until(stop.cancelled_owned()).map(|line| Ok::<_, Infallible>(Frame::data(line)));
            let mut response =
                Response::new(StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync());
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/x-ndjson"));
            response
        }
        Err(problem) => refused(&problem),
    }
}

async fn kept(logs: &dyn LogSource) -> Result<Response<Body>, Problem> {
    let kept = serde_json::to_vec(&logs.kept().await?);
    let kept = kept.map_err(|error| Problem::internal(format!("the list cannot be written: {error}")))?;
    Ok(Response::new(body::full(kept)))
}

fn refused(problem: &Problem) -> Response<Body> {
    let status = StatusCode::from_u16(problem.code.http_status());
    said(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &problem.detail)
}

async fn read(
    logs: Arc<dyn LogSource>,
    request: Request<Body>,
) -> Result<impl futures_util::Stream<Item = Bytes> + Send + 'static, Problem> {
    let (mut body, mut bytes) = (request.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::invalid(format!("the query cannot be read: {error}")))?;
        bytes.extend_from_slice(frame.data_ref().map_or(&[][..], Bytes::as_ref));
        if bytes.len() > node_logs::QUERY_BYTES {
            let text = format!("the query is longer than {} bytes", node_logs::QUERY_BYTES);
            return Err(Problem::invalid(text));
        }
    }
    let query: LogQuery = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::invalid(format!("the query is not what is asked of logs: {error}")))?;
    Ok(node_logs::encode(logs.read(query).await?))
}

fn said(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(body::full(format!("{text}\n")));
    *response.status_mut() = status;
    response
}
