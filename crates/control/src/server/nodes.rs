//! Nodes and instances.

use super::{
    call::{Answer, Call},
    names, reply,
    subject::Subject,
};
use tutti_api::wire::{Cordon, NodeChange};
use tutti_model::{
    Problem, limits,
    node::{NODE_LABEL, NodeSpec},
    scheduling::Taint,
};

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
    edit(&call, |spec| {
        spec.cordoned = request.cordoned || request.draining;
        spec.draining = request.draining;
        Ok(())
    })
    .await
}

/// `PATCH /v1/nodes/{name}`
pub(super) async fn change(call: Call) -> Answer {
    let request: NodeChange = call.json()?;
    let own = NODE_LABEL;
    if request.labels.keys().any(|key| key.as_str() == own) {
        let problem = Problem::invalid(format!("the label {own} is the node's name, and cannot be changed"));
        return Err(problem.into());
    }
    edit(&call, |spec| {
        for (key, value) in &request.labels {
            match value {
                Some(value) => spec.labels.insert(key.clone(), value.clone()),
                None => spec.labels.remove(key),
            };
        }
        let goes = |taint: &Taint| {
            let is_replaced = |new: &Taint| (&new.key, new.effect) == (&taint.key, taint.effect);
            request.untaint.contains(&taint.key) || request.taint.iter().any(is_replaced)
        };
        spec.taints.retain(|taint| !goes(taint));
        spec.taints.extend(request.taint.iter().cloned());
        spec.taints.sort();
        spec.taints.dedup();
        for (what, count) in [("labels", spec.labels.len()), ("taints", spec.taints.len())] {
            if count > limits::NODE_LABELS {
                let most = limits::NODE_LABELS;
                return Err(Problem::invalid(format!("a node has at most {most} {what}, not {count}")));
            }
        }
        Ok(())
    })
    .await
}

/// Changes what is asked of a node, unless it is so already.
async fn edit(call: &Call, change: impl Fn(&mut NodeSpec) -> Result<(), Problem>) -> Answer {
    let Subject::Node(found) = &call.subject else {
        return Err(Problem::internal("what is to be changed is no node").into());
    };
    for _ in 0..names::ATTEMPTS {
        let mut node = call.app.objects.get::<NodeSpec>(&found.name).await?;
        let before = node.spec.clone();
        change(&mut node.spec)?;
        if node.spec == before {
            return Ok(reply::ok(&node));
        }
        node.generation += 1;
        if let Some(revision) = call.app.objects.write().update(&node).commit().await? {
            node.revision = revision;
            return Ok(reply::ok(&node));
        }
    }
    Err(names::busy("node", &found.name).into())
}
