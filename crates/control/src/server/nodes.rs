//! Nodes and instances.

use super::{
    call::{Answer, Call},
    names, reply,
    subject::Subject,
};
use tutti_api::wire::Cordon;
use tutti_model::{Problem, node::NodeSpec};

/// `GET /v1/instances/{name}`
pub(super) async fn get_instance(call: Call) -> Answer {
    match &call.subject {
        Subject::Instance(instance) => Ok(reply::ok(instance)),
        _ => Err(Problem::internal("get_instance is not about an instance").into()),
    }
}

/// `GET /v1/nodes/{name}`
pub(super) async fn get(call: Call) -> Answer {
    match &call.subject {
        Subject::Node(node) => Ok(reply::ok(node)),
        _ => Err(Problem::internal("get_node is not about a node").into()),
    }
}

/// `PUT /v1/nodes/{name}/cordon`
pub(super) async fn cordon(call: Call) -> Answer {
    let request: Cordon = call.json()?;
    let Subject::Node(found) = &call.subject else {
        return Err(Problem::internal("cordon_node is not about a node").into());
    };
    for _ in 0..names::ATTEMPTS {
        let mut node = call.app.objects.get::<NodeSpec>(&found.name).await?;
        let cordoned = request.cordoned || request.draining;
        if (node.spec.cordoned, node.spec.draining) == (cordoned, request.draining) {
            return Ok(reply::ok(&node));
        }
        (node.spec.cordoned, node.spec.draining) = (cordoned, request.draining);
        node.generation += 1;
        if let Some(revision) = call.app.objects.write().update(&node).commit().await? {
            node.revision = revision;
            return Ok(reply::ok(&node));
        }
    }
    Err(names::busy("node", &found.name).into())
}
