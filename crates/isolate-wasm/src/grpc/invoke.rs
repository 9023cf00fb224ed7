//! One call of a component's function, inside a store that holds the call.

use super::{
    frame,
    host::Context,
    service::{Method, Service},
    status::Status,
};
use crate::state::State;
use bytes::Bytes;
use http::HeaderMap;
use wasmtime::{
    Result, Store, bail,
    component::{Instance, Resource, ResourceAny, ResourceDynamic, Val},
    error::Context as _,
};

/// What has become of a call.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: Status,
    /// The frame of the one reply, where the method does not stream replies.
    pub(crate) reply: Option<Bytes>,
    /// What the component added, unless it was sent before.
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: HeaderMap,
    /// What the service's log is told.
    pub(crate) note: Option<String>,
}

impl Finished {
    /// A call that did not come to its end.
    pub(crate) fn failed(status: Status) -> Finished {
        Finished { status, reply: None, headers: HeaderMap::new(), trailers: HeaderMap::new(), note: None }
    }
}

/// Calls a method with its one request, or with none where requests are a stream.
///
/// # Errors
/// The guest's failure: what it did is unknown, and its store is of no more use.
pub(crate) async fn invoke(
    store: &mut Store<State>,
    instance: &Instance,
    service: &Service,
    method: &Method,
    request: Option<Val>,
) -> Result<Finished> {
    let function =
        instance.get_func(&mut *store, method.function).context("a function of the service is gone")?;
    let context = ResourceAny::try_from_resource(Resource::<Context>::new_own(0), &mut *store)?;
    let mut lent = vec![context];
    for stream in [method.reader, method.writer].into_iter().flatten() {
        lent.push(ResourceDynamic::new_own(0, stream).try_into_resource_any(&mut *store)?);
    }
    let mut handles = lent.iter().copied().map(Val::Resource);
    let mut parameters = Vec::with_capacity(3);
    parameters.extend(handles.next());
    parameters.extend(request);
    parameters.extend(handles);
    let mut results = [Val::Bool(false)];
    function.call_async(&mut *store, &parameters, &mut results).await?;
    for handle in lent {
        handle.resource_drop_async(&mut *store).await?;
    }
    let [result] = results;
    let mut call = store.data_mut().call.take().context("the call is gone")?;
    let mut finished = Finished::failed(Status::ok());
    finished.headers = std::mem::take(&mut call.headers);
    finished.trailers = std::mem::take(&mut call.trailers);
    match result {
        Val::Result(Ok(None)) => {}
        Val::Result(Ok(Some(reply))) => {
            let mut frame = frame::begin();
            match service.codec.encode(method.output, &reply, call.most, &mut frame) {
                Ok(()) => finished.reply = Some(frame::finish(frame, call.encoding)),
                Err(unencodable) => {
                    finished.note =
                        Some(format!("{} gave a reply that cannot be sent: {unencodable}", method.name));
                    finished.status = Status::of_unencodable(&unencodable);
                }
            }
        }
        Val::Result(Err(Some(status))) => {
            finished.status = Status::from_val(&status);
            finished.note = finished.status.cut();
        }
        _ => bail!("a method's function gives a result"),
    }
    Ok(finished)
}
