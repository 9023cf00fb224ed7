//! A gRPC service's artifact: its component laid against its descriptors, as both are stored. What a client has checked
//! counts for nothing here.
//!
//! That the component can be compiled and linked is the nodes' to find out.

use super::super::{App, reply::Refusal};
use futures_util::TryStreamExt as _;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tutti_base::sha256;
use tutti_model::{
    Digest, ErrorCode, Problem, limits,
    nearest::nearest,
    version::{COMPONENT_TYPE, DESCRIPTOR_SET_TYPE, Isolate, VersionSpec, WASM_INTERFACES},
};
use tutti_proto::{check, limits as proto_limits, paths::Routes, schema::Schema, stored};

/// Artifacts checked at once: each may be in memory whole, and take a core for a second.
const CHECKS: usize = 1;
static CHECKED: Semaphore = Semaphore::const_new(CHECKS);

/// An OCI manifest, as far as it is read here.
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: Digest,
}

/// Checks a version whose artifact says that it is a gRPC service; any other is none of this module's business.
///
/// # Errors
/// Every way in which the component is not what the descriptors declare; descriptors that don't hold together or declare
/// no such service; layers other than these two.
pub(super) async fn check(app: &App, spec: &VersionSpec) -> Result<(), Refusal> {
    let bytes = read(app, &spec.artifact, limits::OCI_MANIFEST_BYTES).await?;
    // What is no manifest has no layers to check; that there is one was asked before.
    let layers =
        serde_json::from_slice::<Manifest>(&bytes).map(|manifest| manifest.layers).unwrap_or_default();
    if layers.iter().all(|layer| layer.media_type != DESCRIPTOR_SET_TYPE) {
        return Ok(());
    }
    let [component, descriptors] = layers.as_slice() else {
        return Err(refused(spec, "has other layers beside a component and its descriptors").into());
    };
    if component.media_type != COMPONENT_TYPE || descriptors.media_type != DESCRIPTOR_SET_TYPE {
        return Err(refused(spec, "has its layers in another order than component, descriptors").into());
    }
    if spec.isolate != Isolate::Wasm {
        return Err(refused(
            spec,
            "is a wasm component with its .proto, and the version is for another isolate",
        )
        .into());
    }
    let _turn = CHECKED.acquire().await.map_err(|_| Problem::unavailable("this server is stopping"))?;
    let descriptors = read(app, &descriptors.digest, proto_limits::SET_BYTES).await?;
    let component = read(app, &component.digest, proto_limits::COMPONENT_BYTES).await?;
    let service = spec.version.service.service.to_string();
    let found = tokio::task::spawn_blocking(move || mismatches(&component, &descriptors, &service)).await;
    let faults =
        found.map_err(|error| Problem::internal(format!("checking the component ended early: {error}")))?;
    if faults.is_empty() { Ok(()) } else { Err(Refusal::faults("the component", &faults)) }
}

fn refused(spec: &VersionSpec, why: &str) -> Problem {
    Problem::invalid(format!("artifact {} {why}", spec.artifact))
        .hint("push it with: tutti push API.proto COMPONENT.wasm NAME@VERSION")
}

/// What is wrong with a component that is to serve what these descriptors declare.
fn mismatches(component: &[u8], descriptors: &[u8], service: &str) -> Vec<Problem> {
    let pool = match stored::open(descriptors) {
        Ok(pool) => pool,
        Err(fault) => return vec![Problem::invalid(format!("the descriptors: {fault}"))],
    };
    if pool.get_service_by_name(service).is_none() {
        let names: Vec<String> = pool.services().map(|service| service.full_name().to_owned()).collect();
        let problem = Problem::invalid(format!("the descriptors declare no service \"{service}\""));
        return vec![match nearest(service, names.iter().map(String::as_str)) {
            Some(near) => problem.hint(format!("did you mean {near}?")),
            None => problem,
        }];
    }
    let schema = match Schema::of_service(&pool, service) {
        Ok(schema) => schema,
        Err(faults) => return faults.iter().map(|fault| Problem::invalid(fault.to_string())).collect(),
    };
    let Some(found) = schema.service(service) else { return Vec::new() };
    let checked = check::check(component, &schema, found, &WASM_INTERFACES);
    let mismatches = checked.err().unwrap_or_default();
    let rules = pool.get_service_by_name(service).and_then(|service| Routes::of(&service).err());
    let rules = rules.unwrap_or_default().into_iter().map(|fault| Problem::invalid(fault.to_string()));
    mismatches.iter().map(|mismatch| Problem::invalid(mismatch.to_string())).chain(rules).collect()
}

/// A stored blob, whole and with the bytes that its digest says.
async fn read(app: &App, digest: &Digest, most: usize) -> Result<Vec<u8>, Problem> {
    let Some(blob) = app.blobs.blob(digest).await? else {
        return Err(
            Problem::new(ErrorCode::NotFound, format!("there is no blob {digest}")).hint("push it again")
        );
    };
    let too_large = || Problem::invalid(format!("blob {digest} has more than {most} bytes"));
    let size = usize::try_from(blob.size).ok().filter(|size| *size <= most).ok_or_else(too_large)?;
    let mut bytes = Vec::with_capacity(size);
    let mut pieces = blob.pieces;
    while let Some(piece) = pieces.try_next().await? {
        if bytes.len().saturating_add(piece.len()) > most {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    if sha256::digest(&bytes) != *digest {
        return Err(Problem::unavailable(format!("blob {digest} is damaged on disk")).hint("push it again"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
