//! One line for each request that changes something: who, what, on which object, with which outcome. What nodes and
//! ingresses say every second or so is left out. What a node is given of secrets has its line too, though nothing changes.
//!
//! What was committed is also kept, with what was before and after: [`crate::author`] writes those records, and
//! [`super::audits`] lists them. What was refused is in the log alone, so that nobody can push records out by asking
//! for what they may not.

use super::call::Caller;
use http::{Method, StatusCode};
use tutti_api::operations::{Operation, Right};
use tutti_model::{instance::InstanceSpec, name::NodeName, secret::SecretRef};

/// Whether requests of this method may change something.
pub(super) fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// What is said again and again by every node, ingress and DNS server: nobody asked for it, and its log would bury the
/// rest.
const SAID_AGAIN: &[&str] =
    &["heartbeat_node", "report_instances", "report_ingress", "report_dns", "tell_figures"];

/// Whether a request for this operation is noted.
pub(super) fn is_noted(operation: &Operation) -> bool {
    changes(&operation.method) && !SAID_AGAIN.contains(&operation.id)
}

/// Whether what a request for this operation commits is kept as a record. What machines say of themselves is nobody's
/// decision, and there would be no end to it.
pub(super) fn is_recorded(operation: &Operation) -> bool {
    changes(&operation.method) && operation.right != Right::Node
}

/// Notes how a request ended.
pub(super) fn note(request_id: &str, caller: &Caller, operation: &str, object: &str, status: StatusCode) {
    let (token, status) = (caller.token(), status.as_u16());
    tracing::info!(target: "tutti::audit", request_id, token, operation, object, status, "request");
}

/// Notes that a node was given the secrets of an instance: their names, never more.
pub(crate) fn note_secrets(node: &NodeName, instance: &InstanceSpec) {
    let name = |name: &tutti_model::secret::SecretName| {
        let domain = instance.version.service.domain.clone();
        SecretRef { domain, name: name.clone() }.to_string()
    };
    let names: Vec<String> = instance.manifest.secrets.values().map(name).collect();
    let (object, secrets) = (format!("instance {}", instance.instance), names.join(" "));
    let operation = "read_instance_secrets";
    tracing::info!(target: "tutti::audit", %node, operation, object, secrets, "given to a node");
}

/// Notes that a machine was given the cluster's key.
pub(super) fn note_key(caller: &Caller) {
    let (token, operation) = (caller.token(), "read_cluster_key");
    tracing::info!(target: "tutti::audit", token, operation, "the key of the cluster was given to a control");
}

/// Notes how a request for the registry ended. A push is several of them, and none changes what anybody sees: what does
/// is the version made of them, which has its line. So only what was refused stands out.
pub(super) fn note_registry(
    request_id: &str,
    caller: &Caller,
    operation: &str,
    path: &str,
    status: StatusCode,
) {
    if status.is_client_error() || status.is_server_error() {
        return note(request_id, caller, operation, path, status);
    }
    let (token, status) = (caller.token(), status.as_u16());
    tracing::debug!(target: "tutti::audit", request_id, token, operation, object = path, status, "request");
}
