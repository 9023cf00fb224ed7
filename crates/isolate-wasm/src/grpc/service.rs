//! A component that serves gRPC: found to fit its service, linked, and its functions looked up, once for all calls.

use super::{about::About, codec::Codec, host};
use crate::state::State;
use prost_reflect::DescriptorPool;
use std::sync::Arc;
use tutti_model::version::WASM_INTERFACES;
use tutti_proto::{
    check, schema,
    schema::{MessageIndex, Schema},
    stored,
};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};

/// Faults of a component that are told at once.
const SHOWN: usize = 20;

/// A service whose methods can be called.
pub(crate) struct Service {
    pub(crate) codec: Arc<Codec>,
    /// Its full name, `com.example.HelloWorld`.
    pub(crate) name: String,
    /// What is told of it beside its calls.
    pub(crate) about: Arc<About>,
    pub(crate) pre: InstancePre<State>,
    /// Sorted by name.
    methods: Vec<Method>,
}

/// One method.
pub(crate) struct Method {
    pub(crate) name: String,
    pub(crate) input: MessageIndex,
    pub(crate) output: MessageIndex,
    /// The component's function.
    pub(crate) function: ComponentExportIndex,
    /// The type of the handle that a stream of requests is given as.
    pub(crate) reader: Option<u32>,
    /// The same for a stream of replies.
    pub(crate) writer: Option<u32>,
}

impl Method {
    pub(crate) fn streams(&self) -> bool {
        self.reader.is_some() || self.writer.is_some()
    }
}

/// Reads a descriptor set.
pub(crate) fn open_descriptors(bytes: &[u8]) -> Result<DescriptorPool, String> {
    stored::open(bytes).map_err(|fault| format!("its descriptor set cannot be used: {fault}"))
}

/// The services of the set that a component may be meant for: those of which it exports an interface of the name.
pub(crate) fn services_of(component: &Component, pool: &DescriptorPool) -> Vec<String> {
    let exported = |name: &str| {
        let schema = Schema::of_service(pool, name).ok();
        schema.as_ref().and_then(|schema| schema.service(name)).is_some_and(|service| {
            component
                .get_export_index(None, &*format!("{}/{}", service.wit_package, service.wit_name))
                .is_some()
        })
    };
    let mut names: Vec<String> = pool.services().map(|service| service.full_name().to_owned()).collect();
    names.retain(|name| exported(name));
    names
}

impl Service {
    /// Checks a component against a service and links it. `bytes` are the component's own.
    ///
    /// # Errors
    /// Everything in which it does not fit.
    pub(crate) fn link(
        linker: &Linker<State>,
        component: &Component,
        bytes: &[u8],
        pool: &DescriptorPool,
        name: &str,
    ) -> Result<Service, String> {
        let schema = Schema::of_service(pool, name).map_err(|faults| {
            let faults: Vec<String> = faults.iter().take(SHOWN).map(ToString::to_string).collect();
            format!("its descriptor set does not describe {name}: {}", faults.join("; "))
        })?;
        let service = schema.service(name).ok_or_else(|| format!("there is no service {name}"))?.clone();
        check::check(bytes, &schema, &service, &WASM_INTERFACES).map_err(|mismatches| {
            let shown: Vec<String> = mismatches.iter().take(SHOWN).map(ToString::to_string).collect();
            format!("the component does not implement {name}: {}", shown.join("; "))
        })?;
        let codec = Arc::new(Codec::new(schema));
        let mut linker = linker.clone();
        host::add_streams(&mut linker, &service, &codec)
            .map_err(|error| format!("the streams of {name} cannot be offered: {error:#}"))?;
        let pre = linker.instantiate_pre(component).map_err(|error| {
            format!("the component needs what the wasm isolate does not offer: {error:#}")
        })?;
        let mut methods = methods(component, &service)?;
        methods.sort_by(|one, other| one.name.cmp(&other.name));
        let about = Arc::new(About::new(pool, &service.name));
        Ok(Service { codec, name: service.name, about, pre, methods })
    }

    /// The method of a path, `/com.example.HelloWorld/SayHello`.
    pub(crate) fn method(&self, path: &str) -> Option<(usize, &Method)> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        if service != self.name {
            return None;
        }
        let at = self.methods.binary_search_by(|known| known.name.as_str().cmp(method)).ok()?;
        self.methods.get(at).map(|method| (at, method))
    }

    /// The method of an index that [`Service::method`] gave.
    pub(crate) fn method_at(&self, index: usize) -> Option<&Method> {
        self.methods.get(index)
    }
}

fn methods(component: &Component, service: &schema::Service) -> Result<Vec<Method>, String> {
    let name = format!("{}/{}", service.wit_package, service.wit_name);
    // An interface without functions leaves no trace in a component.
    if service.methods.is_empty() {
        return Ok(Vec::new());
    }
    let exports =
        component.get_export_index(None, &*name).ok_or_else(|| format!("it does not export {name}"))?;
    let position = |streams: &[schema::Stream], message: MessageIndex| {
        streams.iter().position(|stream| stream.message == message)
    };
    let method = |method: &schema::Method| {
        let function = component
            .get_export_index(Some(&exports), &*method.wit_name)
            .ok_or_else(|| format!("it does not export {} of {name}", method.wit_name))?;
        let reader = method.client_streaming.then(|| position(&service.readers, method.input)).flatten();
        let writer = method.server_streaming.then(|| position(&service.writers, method.output)).flatten();
        Ok(Method {
            name: method.name.clone(),
            input: method.input,
            output: method.output,
            function,
            reader: reader.map(host::reader_type),
            writer: writer.map(host::writer_type),
        })
    };
    service.methods.iter().map(method).collect()
}
