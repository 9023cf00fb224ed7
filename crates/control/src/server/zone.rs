//! The zone's interface over HTTP: the watches and reports of agents and ingresses, and the artifacts that agents
//! fetch. It puts [`tutti_api::ZoneApi`] on the wire and decides nothing.
//!
//! Watches and blobs take places of their own, and requests turns of their own, so that no tenant's token can keep a
//! node's signs of life out.

use super::{
    call::{Answer, Call, Caller, read_json},
    reply, watches,
};
use axum::{body::Body, response::Response};
use futures_util::StreamExt as _;
use http::{HeaderValue, header};
use tutti_api::{
    WatchEvent, WatchStream,
    zone::{Figures, IngressReport, InstanceReport, NodeHeartbeat},
};
use tutti_model::{
    Digest, ErrorCode, InstanceId, Problem, limits, name::NodeName, node::NodeStatus, resource::Object,
};

/// `GET /v1/zone/tables`
pub(super) async fn watch_tables(call: Call) -> Answer {
    let after = after(&call)?;
    watch(&call, call.app.zone.watch_tables(after), after)
}

/// `GET /v1/zone/nodes`
pub(super) async fn watch_nodes(call: Call) -> Answer {
    let after = after(&call)?;
    watch(&call, call.app.zone.watch_nodes(after), after)
}

/// `GET /v1/zone/nodes/{name}`
pub(super) async fn watch_node(call: Call) -> Answer {
    let after = after(&call)?;
    watch(&call, call.app.zone.watch_node(&node(&call)?, after), after)
}

/// `GET /v1/zone/nodes/{name}/instances`
pub(super) async fn watch_instances(call: Call) -> Answer {
    let after = after(&call)?;
    watch(&call, call.app.zone.watch_instances(&node(&call)?, after), after)
}

/// `PUT /v1/zone/nodes/{name}/status`
pub(super) async fn register_node(call: Call) -> Answer {
    let status: NodeStatus = call.json()?;
    call.app.zone.register_node(&node(&call)?, status).await?;
    Ok(reply::no_content())
}

/// `PUT /v1/zone/nodes/{name}/heartbeat`
pub(super) async fn heartbeat_node(call: Call) -> Answer {
    let heartbeat: NodeHeartbeat = call.json()?;
    Ok(reply::ok(&call.app.zone.heartbeat(&node(&call)?, heartbeat).await?))
}

/// `POST /v1/zone/nodes/{name}/reports`
pub(super) async fn report_instances(call: Call) -> Answer {
    let reports: Vec<InstanceReport> = call.json()?;
    call.app.zone.report_instances(&node(&call)?, reports).await?;
    Ok(reply::no_content())
}

/// `GET /v1/zone/nodes/{name}/instances/{instance}/secrets`
pub(super) async fn read_instance_secrets(call: Call) -> Answer {
    let instance: InstanceId = call.names.get(1).map_or("", String::as_str).parse()?;
    Ok(reply::ok(&call.app.zone.instance_secrets(&node(&call)?, &instance).await?))
}

/// `PUT /v1/zone/ingresses/{name}`
pub(super) async fn report_ingress(call: Call) -> Answer {
    let report: IngressReport = read_json(&call.body)?;
    let name = ingress(&call)?;
    if report.ingress != name {
        return Err(
            Problem::invalid(format!("ingress {name} cannot report for ingress {}", report.ingress)).into()
        );
    }
    call.app.zone.report_ingress(report).await?;
    Ok(reply::no_content())
}

/// `PUT /v1/zone/figures`
pub(super) async fn tell_figures(call: Call) -> Answer {
    let figures: Figures = read_json(&call.body)?;
    let now = call.app.objects.clock().now();
    if let Caller::Member { member, .. } = &call.caller {
        call.app.observed.control_told(now, &member.name, &figures.release);
    }
    call.app.observed.told(now, &figures);
    Ok(reply::no_content())
}

/// `DELETE /v1/zone/ingresses/{name}`
pub(super) async fn leave_ingress(call: Call) -> Answer {
    call.app.zone.leave_ingress(ingress(&call)?).await?;
    Ok(reply::no_content())
}

/// `GET /v1/zone/blobs/{digest}`
pub(super) async fn read_blob(call: Call) -> Answer {
    let digest: Digest = call.name().parse()?;
    let place = call.app.node_streams.open(&call.caller.account())?;
    let Some(blob) = call.app.blobs.blob(&digest).await? else {
        return Err(Problem::new(ErrorCode::NotFound, format!("there is no blob {digest}"))
            .object(format!("blob {digest}"))
            .hint("push the artifact again")
            .into());
    };
    // A reader that got fewer bytes than were said knows that something went wrong; why is in our log.
    let told = digest.clone();
    let pieces = blob.pieces.map(move |piece| {
        let _open = &place;
        piece.inspect_err(|problem| tracing::error!(%problem, blob = %told, "a blob cannot be read"))
    });
    let mut response =
        Response::new(Body::from_stream(pieces.map(|piece| piece.map_err(std::io::Error::other))));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(blob.size));
    Ok(response)
}

pub(super) fn watch<S: Object>(call: &Call, events: WatchStream<S>, after: Option<u64>) -> Answer {
    let place = call.app.node_streams.open(&call.caller.account())?;
    let (identity, caller) = (call.app.identity.clone(), call.caller.clone());
    let clock = call.app.objects.clock().clone();
    let events = watches::lively(&call.app, events, Some, after, place);
    // Whoever resumes is answered at once: it knows then that nothing more comes because nothing more is.
    let known = after.map(|revision| Ok(WatchEvent::Changes { revision, changes: Vec::new() }));
    let events = futures_util::stream::iter(known).chain(events);
    // Nothing more goes to a member that was removed meanwhile: it is told so, and that is the end.
    let events = events.scan(false, move |ended, event| {
        let said = match identity.again(&caller, clock.now()) {
            _ if *ended => None,
            Ok(_) => Some(event),
            Err(problem) => {
                *ended = true;
                Some(Err(problem))
            }
        };
        std::future::ready(said)
    });
    Ok(reply::lines(events))
}

pub(super) fn after(call: &Call) -> Result<Option<u64>, Problem> {
    call.query.read("after", "a revision")
}

fn node(call: &Call) -> Result<NodeName, Problem> {
    call.name().parse()
}

/// The name of an ingress, which must fit a store key.
fn ingress(call: &Call) -> Result<&str, Problem> {
    let name = call.name();
    if name.len() > limits::SERVICE_NAME_BYTES {
        return Err(Problem::invalid(format!(
            "the name of an ingress has at most {} bytes",
            limits::SERVICE_NAME_BYTES
        )));
    }
    Ok(name)
}
