//! What a component calls while it serves a call: the interface `tutti:grpc/call`, and its service's streams.

use super::{call::Call, codec, codec::Codec, frame, metadata::MetadataValue, status::Status};
use crate::state::State;
use std::sync::Arc;
use tutti_proto::{
    schema::{MessageIndex, Service},
    wit::CALL_INTERFACE,
};
use wasmtime::{
    AsContextMut as _, Result, StoreContextMut, bail,
    component::{Linker, Resource, ResourceType, Val},
    error::Context as _,
};

/// The resource `context`. There is one call in a store at a time, so that it holds nothing.
pub(crate) struct Context;

/// Offers `tutti:grpc/call` to every component.
pub(crate) fn add_call_to_linker(linker: &mut Linker<State>) -> Result<()> {
    let mut interface = linker.instance(CALL_INTERFACE)?;
    interface.resource("context", ResourceType::host::<Context>(), |_, _| Ok(()))?;
    interface.func_wrap("[method]context.metadata", |mut store: Store<'_>, (_,): (Resource<Context>,)| {
        Ok((call(&mut store)?.metadata(),))
    })?;
    interface
        .func_wrap("[method]context.remaining", |mut store: Store<'_>, (_,): (Resource<Context>,)| {
            Ok((call(&mut store)?.remaining(),))
        })?;
    interface.func_wrap("[method]context.add-header", |mut store: Store<'_>, entry: Entry| {
        Ok((call(&mut store)?.add_header(&entry.1, &entry.2),))
    })?;
    interface.func_wrap("[method]context.add-trailer", |mut store: Store<'_>, entry: Entry| {
        Ok((call(&mut store)?.add_trailer(&entry.1, &entry.2),))
    })
}

type Store<'a> = StoreContextMut<'a, State>;
type Entry = (Resource<Context>, String, MetadataValue);

fn call<'a>(store: &'a mut Store<'_>) -> Result<&'a mut Call> {
    store.data_mut().call.as_deref_mut().context("there is no call")
}

/// The number that tells a resource's type from the others of its service.
pub(super) fn reader_type(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX / 2).saturating_mul(2)
}

/// The same for a stream of replies.
pub(super) fn writer_type(index: usize) -> u32 {
    reader_type(index).saturating_add(1)
}

/// Offers a service's own streams to its component.
pub(super) fn add_streams(linker: &mut Linker<State>, service: &Service, codec: &Arc<Codec>) -> Result<()> {
    if service.readers.is_empty() && service.writers.is_empty() {
        return Ok(());
    }
    let mut interface = linker.instance(&format!("{}/{}", service.wit_package, service.wit_streams))?;
    for (index, stream) in service.readers.iter().enumerate() {
        let (codec, message) = (Arc::clone(codec), stream.message);
        interface.resource(
            &stream.wit_name,
            ResourceType::host_dynamic(reader_type(index)),
            |_, _| Ok(()),
        )?;
        interface.func_new_async(
            &format!("[method]{}.read", stream.wit_name),
            move |mut store, _, parameters, results| {
                let codec = Arc::clone(&codec);
                Box::new(async move {
                    release(&mut store, parameters).await?;
                    let answer = match read(&mut store, &codec, message).await? {
                        Ok(value) => Ok(Some(Box::new(Val::Option(value.map(Box::new))))),
                        Err(status) => Err(Some(Box::new(status.to_val()))),
                    };
                    give(results, answer)
                })
            },
        )?;
    }
    for (index, stream) in service.writers.iter().enumerate() {
        let (codec, message) = (Arc::clone(codec), stream.message);
        interface.resource(
            &stream.wit_name,
            ResourceType::host_dynamic(writer_type(index)),
            |_, _| Ok(()),
        )?;
        interface.func_new_async(
            &format!("[method]{}.write", stream.wit_name),
            move |mut store, _, parameters, results| {
                let codec = Arc::clone(&codec);
                Box::new(async move {
                    release(&mut store, parameters).await?;
                    let value = parameters.get(1).context("a reply is missing")?;
                    let answer = match write(&mut store, &codec, message, value).await? {
                        Ok(()) => Ok(None),
                        Err(status) => Err(Some(Box::new(status.to_val()))),
                    };
                    give(results, answer)
                })
            },
        )?;
    }
    Ok(())
}

fn give(results: &mut [Val], answer: Result<Option<Box<Val>>, Option<Box<Val>>>) -> Result<()> {
    match results {
        [result] => *result = Val::Result(answer),
        _ => bail!("a stream's function has one result"),
    }
    Ok(())
}

/// A handle that a function was lent must be given back before it returns.
async fn release(store: &mut Store<'_>, parameters: &[Val]) -> Result<()> {
    match parameters.first() {
        Some(Val::Resource(lent)) => lent.resource_drop_async(store.as_context_mut()).await,
        _ => bail!("a stream is missing"),
    }
}

async fn read(
    store: &mut Store<'_>,
    codec: &Codec,
    message: MessageIndex,
) -> Result<Result<Option<Val>, Status>> {
    let call = call(store)?;
    let bytes = match call.read().await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Ok(None)),
        Err(status) => return Ok(Err(status)),
    };
    Ok(match codec.decode(message, &bytes, codec::value_bytes(call.most)) {
        Ok((value, _)) => Ok(Some(value)),
        Err(malformed) => Err(Status::of_malformed(&malformed)),
    })
}

async fn write(
    store: &mut Store<'_>,
    codec: &Codec,
    message: MessageIndex,
    value: &Val,
) -> Result<Result<(), Status>> {
    let call = call(store)?;
    let mut frame = frame::begin();
    if let Err(unencodable) = codec.encode(message, value, call.most, &mut frame) {
        return Ok(Err(Status::of_unencodable(&unencodable)));
    }
    let frame = frame::finish(frame, call.encoding);
    Ok(call.write(frame).await)
}
