//! What stands in front of a service's calls: JSON, reflection, health and the service's OpenAPI document.
//!
//! None of it is the guest's: reflection, health and the document are answered from the descriptors without an instance,
//! and a JSON request becomes the protobuf call that it means, whose answer is written back as JSON. A gRPC call passes
//! untouched.

use super::{Calls, about::About, health, json, reflection, status::Status};
use async_trait::async_trait;
use http::{HeaderMap, Request, Response, header};
use std::sync::Arc;
use tutti_base::Body;
use tutti_isolate::{HandleError, Handler};

/// Takes every request of an instance that serves gRPC.
pub(crate) struct Front {
    calls: Arc<Calls>,
    about: Arc<About>,
}

impl Front {
    pub(crate) fn new(calls: Calls) -> Front {
        let about = Arc::clone(&calls.service.about);
        Front { calls: Arc::new(calls), about }
    }
}

#[async_trait]
impl Handler for Front {
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, HandleError> {
        if !speaks_grpc(request.headers()) {
            let behind = json::Behind {
                calls: Arc::clone(&self.calls) as Arc<dyn Handler>,
                about: Arc::clone(&self.about),
                message_bytes: self.calls.instance.message_bytes,
                timeout: self.calls.instance.timeout,
            };
            return json::answer(behind, request).await;
        }
        let path = request.uri().path();
        let instance = Arc::clone(&self.calls.instance);
        let answered = if let Some(method) = health::method(path) {
            health::answer(method, Arc::clone(&self.about), instance, request).await
        } else if reflection::is_for(path) {
            reflection::answer(Arc::clone(&self.about), &instance, request)
        } else {
            return self.calls.handle(request).await;
        };
        Ok(answered.unwrap_or_else(|status| failed(&status)))
    }
}

fn failed(status: &Status) -> Response<Body> {
    super::replies::alone(status, HeaderMap::new())
}

/// Anything that begins as gRPC's content type does is left to the calls, which know what of it they take.
fn speaks_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    kind.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"))
}
