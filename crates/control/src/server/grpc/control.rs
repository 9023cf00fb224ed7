//! `tutti.v1.Control`: what is asked of nodes.

use super::{
    Asked,
    proto::{self, NodeReadiness, PreloadRequest, PreloadResponse, control_server},
    words,
};
use tonic::{Request, Response, Status};
use tutti_api::wire::{NodePreload, Preload, Preloaded};
use tutti_model::{Problem, node::Readiness};

/// The service; what it needs of the API is in each request.
pub(super) struct Control;

#[tonic::async_trait]
impl control_server::Control for Control {
    async fn preload(&self, request: Request<PreloadRequest>) -> Result<Response<PreloadResponse>, Status> {
        let asked = Asked::of(&request)?;
        let request = request.into_inner();
        let (version, body) = wanted(&request).map_err(|problem| asked.refuse(problem))?;
        let body = serde_json::to_vec(&body).map_err(|error| {
            asked.refuse(Problem::internal(format!("a request cannot be written: {error}")))
        })?;
        let preloaded: Preloaded = asked.perform(vec![version], body.into()).await?;
        Ok(Response::new(PreloadResponse {
            nodes: preloaded.nodes.into_iter().map(said).collect(),
            ready: preloaded.ready,
        }))
    }
}

fn wanted(request: &PreloadRequest) -> Result<(String, Preload), Problem> {
    let version = words::version(&request.service, &request.version)?;
    let nodes = request.nodes.iter().map(|node| node.parse()).collect::<Result<_, _>>()?;
    let wait = request.wait.as_ref().map(|wait| words::millis("wait", wait)).transpose()?;
    Ok((version.to_string(), Preload { nodes, wait }))
}

fn said(node: NodePreload) -> NodeReadiness {
    let (readiness, took, reason) = match node.readiness {
        None => (proto::Readiness::Asked, None, String::new()),
        Some(Readiness::Ready { took }) => {
            (proto::Readiness::Ready, Some(words::duration(took)), String::new())
        }
        Some(Readiness::Delayed { reason }) => (proto::Readiness::Delayed, None, reason),
        Some(Readiness::Unrunnable { reason }) => (proto::Readiness::Unrunnable, None, reason),
    };
    NodeReadiness { node: node.node.to_string(), readiness: readiness.into(), took, reason }
}
