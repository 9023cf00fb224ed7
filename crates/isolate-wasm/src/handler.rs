//! One request to a guest, up to the head of its answer.

use crate::{
    answer::Answer,
    guest::{Guest, Meter, Work},
    instance::Instance,
    state::State,
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
        bindings::{
            ProxyPre,
            http::types::{ErrorCode, Scheme},
        },
        body::HyperOutgoingBody,
    },
};

/// Takes the requests of an instance.
pub(crate) struct Requests {
    pub(crate) instance: Arc<Instance>,
    pub(crate) pre: ProxyPre<State>,
}

/// The head of an answer, or what the guest says instead.
type Head = Result<Response<HyperOutgoingBody>, ErrorCode>;

#[async_trait]
impl Handler for Requests {
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, HandleError> {
        let instance = &self.instance;
        let serving = instance.admit()?;
        let (guest, head) = begin(instance, &self.pre, request)?;
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

/// Makes an instance of the component and lets it go again: whether it can be run at all.
pub(crate) async fn try_out(instance: &Instance) -> Result<(), HandleError> {
    let meter = Arc::new(Meter::new(instance.timeout));
    let (mut store, outputs) = instance.store(&meter);
    let pre = instance.runnable.instance_pre().clone();
    let work: Work = Box::pin(async move {
        let result = pre.instantiate_async(&mut store).await.map(|_| ());
        outputs.finish().await;
        result
    });
    let guest = instance.guest(work, meter);
    tokio::time::timeout(instance.timeout, guest).await.unwrap_or(Err(HandleError::Time))
}

/// Makes a store and puts the request into it. The guest has not run yet.
fn begin(
    instance: &Instance,
    pre: &ProxyPre<State>,
    request: Request<Body>,
) -> Result<(Guest, oneshot::Receiver<Head>), HandleError> {
    let meter = Arc::new(Meter::new(instance.timeout));
    let pre = pre.clone();
    let (mut store, outputs) = instance.store(&meter);
    let (sender, head) = oneshot::channel();
    let scheme = match request.uri().scheme() {
        Some(scheme) if *scheme == uri::Scheme::HTTPS => Scheme::Https,
        _ => Scheme::Http,
    };
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(scheme, prepare(request)).map_err(|error| trap(&error))?;
    let answer = http.new_response_outparam(sender).map_err(|error| trap(&error))?;
    let work: Work = Box::pin(async move {
        let result = match pre.instantiate_async(&mut store).await {
            Ok(proxy) => proxy.wasi_http_incoming_handler().call_handle(&mut store, request, answer).await,
            Err(error) => Err(error),
        };
        // Its memory goes back before the log is waited for.
        drop(store);
        outputs.finish().await;
        result
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
    mut guest: Guest,
    mut head: oneshot::Receiver<Head>,
) -> Result<(Response<HyperOutgoingBody>, Option<Guest>), HandleError> {
    let (response, ended) = poll_fn(|context| {
        let polled = guest.poll(context)?;
        // A head can only come from the guest's turn that has just been.
        Poll::Ready(match (head.try_recv(), polled) {
            (Ok(Ok(response)), polled) => Ok((response, polled.is_ready())),
            (Ok(Err(code)), _) => Err(HandleError::Trap(format!("it answered with the error {code:?}"))),
            (Err(_), Poll::Ready(())) => Err(HandleError::Trap("it ended without an answer".to_owned())),
            (Err(_), Poll::Pending) => return Poll::Pending,
        })
    })
    .await?;
    Ok((response, (!ended).then_some(guest)))
}
