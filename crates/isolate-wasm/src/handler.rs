//! One request to a guest, up to the head of its answer.

use crate::{
    answer::Answer,
    guest::{Guest, Meter, Work},
    instance::Instance,
    state,
};
use async_trait::async_trait;
use http::{HeaderValue, Request, Response, header, uri};
use http_body_util::BodyExt as _;
use std::{future::poll_fn, sync::Arc, task::Poll};
use tokio::sync::oneshot;
use tutti_base::{Body, body::BodyError};
use tutti_isolate::{HandleError, Handler};
use wasmtime_wasi_http::{
    Error as HttpError, WasiHttpView as _,
    p2::{
        bindings::http::types::{ErrorCode, Scheme},
        body::HyperOutgoingBody,
    },
};

/// Takes the requests of an instance.
pub(crate) struct Requests(pub(crate) Arc<Instance>);

/// The head of an answer, or what the guest says instead.
type Head = Result<Response<HyperOutgoingBody>, ErrorCode>;

#[async_trait]
impl Handler for Requests {
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, HandleError> {
        let instance = &self.0;
        let serving = instance.admit()?;
        let (guest, head) = begin(instance, request)?;
        let outcome = tokio::select! {
            biased;
            outcome = tokio::time::timeout(instance.timeout, head_of(guest, head)) => outcome.unwrap_or(Err(HandleError::Time)),
            () = instance.stopped().cancelled() => Err(HandleError::Trap("the instance was stopped".to_owned())),
        };
        match outcome {
            Ok((response, guest)) => {
                let (parts, body) = response.into_parts();
                let length = parts.headers.get(header::CONTENT_LENGTH).and_then(length);
                let answer = Answer::new(body, guest, Arc::clone(instance), serving, length);
                Ok(Response::from_parts(parts, answer.boxed_unsync()))
            }
            Err(failure) => {
                instance.log_failure(&failure);
                Err(failure)
            }
        }
    }
}

fn length(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.parse().ok()
}

/// Makes a store and puts the request into it. The guest has not run yet.
fn begin(
    instance: &Instance,
    request: Request<Body>,
) -> Result<(Guest, oneshot::Receiver<Head>), HandleError> {
    let meter = Arc::new(Meter::new(instance.timeout));
    let pre = instance.runnable.pre.clone();
    let gauge = Arc::clone(&instance.memory_held);
    let mut store = state::store(pre.engine(), instance.wasi(), instance.memory, gauge, Arc::clone(&meter));
    let (sender, head) = oneshot::channel();
    let scheme = match request.uri().scheme() {
        Some(scheme) if *scheme == uri::Scheme::HTTPS => Scheme::Https,
        _ => Scheme::Http,
    };
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(scheme, prepare(request)).map_err(|error| trap(&error))?;
    let answer = http.new_response_outparam(sender).map_err(|error| trap(&error))?;
    let work: Work = Box::pin(async move {
        let proxy = pre.instantiate_async(&mut store).await?;
        proxy.wasi_http_incoming_handler().call_handle(&mut store, request, answer).await
    });
    Ok((instance.guest(work, meter), head))
}

fn trap(error: &wasmtime::Error) -> HandleError {
    HandleError::Trap(error.root_cause().to_string())
}

/// The engine insists on an authority, which HTTP/1.0 need not have, and on its own kind of error.
fn prepare(
    mut request: Request<Body>,
) -> Request<impl hyper::body::Body<Data = bytes::Bytes, Error = HttpError> + Send + 'static> {
    let readable = request.headers().get(header::HOST).is_some_and(|host| host.to_str().is_ok());
    if request.uri().authority().is_none() && !readable {
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
    }
    request.map(|body| {
        body.map_err(|error: BodyError| HttpError::InternalError(Some(format!("request body: {error}"))))
    })
}

/// Runs the guest until it has given the head of its answer; gives the guest as well, unless it has ended by then.
async fn head_of(
    guest: Guest,
    mut head: oneshot::Receiver<Head>,
) -> Result<(Response<HyperOutgoingBody>, Option<Guest>), HandleError> {
    let mut guest = Some(guest);
    let found = poll_fn(|context| {
        let Some(running) = &mut guest else {
            return Poll::Ready(Err(HandleError::Trap("polled after its end".to_owned())));
        };
        let ended = running.poll(context);
        if let Poll::Ready(Err(failure)) = ended {
            return Poll::Ready(Err(failure));
        }
        // A head can only come from the guest's turn that has just been.
        match (head.try_recv(), ended) {
            (Ok(Ok(response)), ended) => Poll::Ready(Ok((response, ended.is_ready()))),
            (Ok(Err(code)), _) => {
                Poll::Ready(Err(HandleError::Trap(format!("it answered with the error {code:?}"))))
            }
            (Err(_), Poll::Ready(_)) => {
                Poll::Ready(Err(HandleError::Trap("it ended without an answer".to_owned())))
            }
            (Err(_), Poll::Pending) => Poll::Pending,
        }
    })
    .await;
    let (response, ended) = found?;
    Ok((response, if ended { None } else { guest }))
}
