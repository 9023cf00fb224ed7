//! What is known of a service beside its code: descriptors, HTTP rules, its OpenAPI document. Made when it is first asked
//! for, because most instances are called over gRPC only, and an idle one should weigh little.

use bytes::Bytes;
use prost_reflect::{DescriptorPool, MethodDescriptor, ServiceDescriptor};
use std::sync::{Arc, OnceLock};
use tutti_proto::{docs::Docs, openapi, paths::Routes, stored};

/// OpenAPI wants a version of the document. Versions with the same descriptors share one, and an answer's `tutti-version`
/// says which of them gave it.
const VERSION: &str = "1";

/// A service's description.
#[derive(Debug)]
pub(crate) struct About {
    /// Its full name.
    pub(crate) service: String,
    /// The serialized descriptor set.
    set: Vec<u8>,
    opened: OnceLock<Option<Arc<Opened>>>,
    document: OnceLock<Bytes>,
}

/// The description, opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) pool: DescriptorPool,
    pub(crate) service: ServiceDescriptor,
    /// Its HTTP rules; none where they do not hold, which a push refuses.
    pub(crate) routes: Routes,
}

impl About {
    /// The description of the service of this name.
    pub(crate) fn new(pool: &DescriptorPool, service: &str) -> About {
        About {
            service: service.to_owned(),
            set: pool.encode_to_vec(),
            opened: OnceLock::new(),
            document: OnceLock::new(),
        }
    }

    /// The description; `None` only if it does not hold together, which is found at a version's start.
    pub(crate) fn open(&self) -> Option<Arc<Opened>> {
        let opened = self.opened.get_or_init(|| {
            let pool = stored::open(&self.set).ok()?;
            let service = pool.get_service_by_name(&self.service)?;
            let routes = Routes::of(&service).unwrap_or_default();
            Some(Arc::new(Opened { pool, service, routes }))
        });
        opened.clone()
    }

    /// The OpenAPI document.
    pub(crate) fn document(&self) -> Option<Bytes> {
        let opened = self.open()?;
        let document = self.document.get_or_init(|| {
            let docs = Docs::of(&opened.pool);
            openapi::document(&opened.service, VERSION, &opened.routes, &docs).to_string().into()
        });
        Some(document.clone())
    }
}

impl Opened {
    /// A method by its name.
    pub(crate) fn method(&self, name: &str) -> Option<MethodDescriptor> {
        self.service.methods().find(|method| method.name() == name)
    }
}
