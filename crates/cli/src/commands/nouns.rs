//! Commands of the form noun, verb, and `tutti scale`.

use super::{
    Session,
    deploy::{Wanted, follow, serving},
    machines, now, preload, ps, show, tables,
};
use crate::{
    args::{
        DeploymentCommand, InstanceCommand, LabelEdit, NodeCommand, RouteCommand, ScaleArgs, ServiceCommand,
        TaintEdit, TokenCommand, VersionCommand, WaitArgs,
    },
    exit::Failed,
    text::{count, service as short, since},
    ui::Tone,
};
use tutti_api::{
    client::Filter,
    members::CreateJoinToken,
    wire::{CreateRoute, CreateService, CreateToken, NodeChange, Preload},
};
use tutti_model::{
    DeploymentId, ErrorCode, Kind, Problem, Resource,
    deployment::DeploymentSpec,
    instance::InstanceSpec,
    name::{NodeName, ServiceText},
    resource::Object,
    route::RouteSpec,
    service::ServiceSpec,
    token::TokenSpec,
    version::VersionSpec,
};

/// Says that an object was created, or gives it.
fn made<S: Object>(session: &Session<'_>, object: &Resource<S>) -> Result<(), Failed> {
    session.ui.result(object, || format!("{} created\n", object.object()))
}

pub(super) async fn service(session: &Session<'_>, command: ServiceCommand) -> Result<(), Failed> {
    match command {
        ServiceCommand::Create { service, upstream } => made(
            session,
            &session.client.create_service(&CreateService { service, upstreams: upstream }).await?,
        ),
        ServiceCommand::List => {
            let services: Vec<Resource<ServiceSpec>> = session.client.list(&Filter::default()).await?;
            session.ui.result(&services, || tables::services(&services, now()).show(session.ui))
        }
        ServiceCommand::Show { service } => {
            let summary = session.client.service_summary(&service).await?;
            let found = session.client.get::<ServiceSpec>(&service.to_string()).await?;
            session.ui.result(&summary, || serving(&summary, found.status.previous.as_ref(), session.ui))
        }
        ServiceCommand::Delete { service, sure } => {
            let question = format!("delete service {service} with its versions and routes?");
            if !sure.yes && !session.ui.confirm(&question)? {
                return session.done("nothing was deleted");
            }
            session.client.delete(Kind::Service, &service.to_string()).await?;
            session.done(&format!(
                "service {service} is being deleted\nsee how far it is with: tutti explain {service}"
            ))
        }
    }
}

pub(super) async fn scale(session: &Session<'_>, args: &ScaleArgs) -> Result<(), Failed> {
    let service = session.client.scale(&args.service, args.workers.0).await?;
    session.ui.result(&service, || match service.spec.workers {
        Some(workers) => {
            format!("{} is to have {}\n", short(&service.spec.service), count(workers, "worker"))
        }
        None => format!(
            "{} has as many workers as its load asks for, between min and max of its manifest\n",
            short(&service.spec.service)
        ),
    })
}

pub(super) async fn version(session: &Session<'_>, command: VersionCommand) -> Result<(), Failed> {
    match command {
        VersionCommand::List(of) => {
            let filter = session.filter(of.service.as_ref()).await?;
            let versions: Vec<Resource<VersionSpec>> = session.client.list(&filter).await?;
            session.ui.result(&versions, || tables::versions(&versions, now()).show(session.ui))
        }
        VersionCommand::Show { version } => {
            show::show::<VersionSpec>(session, &version.to_string(), |version, ui| {
                show::version(version, ui, now())
            })
            .await
        }
        VersionCommand::Preload { version, nodes, timeout, no_wait } => {
            let wait = (!no_wait).then_some(timeout);
            preload::preload(session, &version, Preload { nodes, wait }).await
        }
        VersionCommand::Delete { version } => session.delete(Kind::Version, &version.to_string()).await,
    }
}

pub(super) async fn deployment(session: &Session<'_>, command: DeploymentCommand) -> Result<(), Failed> {
    let client = &session.client;
    match command {
        DeploymentCommand::List(of) => {
            let filter = session.filter(of.service.as_ref()).await?;
            let mut deployments: Vec<Resource<DeploymentSpec>> = client.list(&filter).await?;
            deployments.sort_by(|a, b| (b.created_at, &b.name).cmp(&(a.created_at, &a.name)));
            session.ui.result(&deployments, || tables::deployments(&deployments, now()).show(session.ui))
        }
        DeploymentCommand::Show(which) => {
            let id = which_deployment(session, &which.deployment).await?;
            show::show::<DeploymentSpec>(session, &id, |found, ui| show::deployment(found, ui, now())).await
        }
        DeploymentCommand::Pause(which) => {
            let id = which_deployment(session, &which.deployment).await?;
            moved(session, &client.pause(&id).await?, "is paused")
        }
        DeploymentCommand::Resume(which) => {
            let id = which_deployment(session, &which.deployment).await?;
            moved(session, &client.resume(&id).await?, "goes on")
        }
        DeploymentCommand::Promote { which, full } => {
            let id = which_deployment(session, &which.deployment).await?;
            let deployment = client.promote(&id, full).await?;
            moved(session, &deployment, if full { "goes to its last step" } else { "goes to its next step" })
        }
        DeploymentCommand::Abort { which, wait } => abort(session, &which.deployment, &wait).await,
    }
}

async fn abort(session: &Session<'_>, which: &str, wait: &WaitArgs) -> Result<(), Failed> {
    let id = which_deployment(session, which).await?;
    let deployment = session.client.abort(&id).await?;
    follow(session, deployment, wait, Wanted::Undone).await
}

fn moved(session: &Session<'_>, deployment: &Resource<DeploymentSpec>, how: &str) -> Result<(), Failed> {
    session.ui.result(deployment, || {
        format!("deployment {} of {} {how}\n", deployment.name, short(&deployment.spec.service))
    })
}

/// The id of a deployment that is named by it, or by the service that it is running for.
async fn which_deployment(session: &Session<'_>, which: &str) -> Result<String, Failed> {
    if which.parse::<DeploymentId>().is_ok() {
        return Ok(which.to_owned());
    }
    if which.starts_with("d-") {
        // No service's name either: a person who writes this means a deployment.
        let problem = Problem::invalid(format!(
            "\"{which}\" is not a deployment's id: it is \"d-\" and ten letters or digits"
        ));
        return Err(problem.hint("see what there is: tutti deployment list").into());
    }
    let service: ServiceText = which.parse()?;
    let found = session.client.get::<ServiceSpec>(&service.to_string()).await?;
    match found.status.deployment {
        Some(id) => Ok(id.to_string()),
        None => Err(Problem::new(
            ErrorCode::NotFound,
            format!("service {} has no running deployment", found.name),
        )
        .hint(format!("tutti deployment list {} shows those that have ended", found.name))
        .into()),
    }
}

pub(super) async fn instance(session: &Session<'_>, command: InstanceCommand) -> Result<(), Failed> {
    match command {
        InstanceCommand::List(of) => {
            let filter = session.filter(of.service.as_ref()).await?;
            let mut instances: Vec<Resource<InstanceSpec>> = session.client.list(&filter).await?;
            ps::sort(&mut instances);
            session.ui.result(&instances, || tables::instances(&instances, now()).show(session.ui))
        }
        InstanceCommand::Show { instance } => {
            show::show::<InstanceSpec>(session, instance.as_str(), |found, ui| {
                show::instance(found, ui, now())
            })
            .await
        }
    }
}

pub(super) async fn route(session: &Session<'_>, command: RouteCommand) -> Result<(), Failed> {
    match command {
        RouteCommand::Create { route, service } => {
            let route = session.client.create_route(&CreateRoute { r#match: route, service }).await?;
            session.ui.result(&route, || format!("{} leads to {}\n", route.name, route.spec.service))
        }
        RouteCommand::List(of) => {
            let filter = session.filter(of.service.as_ref()).await?;
            let routes: Vec<Resource<RouteSpec>> = session.client.list(&filter).await?;
            session.ui.result(&routes, || tables::routes(&routes, now()).show(session.ui))
        }
        RouteCommand::Show { route } => {
            show::show::<RouteSpec>(session, &route.to_string(), |route, ui| show::route(route, ui, now()))
                .await
        }
        RouteCommand::Delete { route } => session.delete(Kind::Route, &route.to_string()).await,
    }
}

pub(super) async fn node(session: &Session<'_>, command: NodeCommand) -> Result<(), Failed> {
    match command {
        NodeCommand::List => machines::list(session).await,
        NodeCommand::Show { node } => machines::show(session, &node).await,
        NodeCommand::Cordon { node } => {
            let node = session.client.cordon(node.as_str(), true).await?;
            session.ui.result(&node, || {
                format!(
                    "node {0} takes no new instances\nlet it again with: tutti node uncordon {0}\n",
                    node.name
                )
            })
        }
        NodeCommand::Drain { node, wait } => super::drain::drain(session, &node, &wait).await,
        NodeCommand::Uncordon { node } => {
            let node = session.client.cordon(node.as_str(), false).await?;
            session.ui.result(&node, || format!("node {} takes new instances\n", node.name))
        }
        NodeCommand::Label { node, labels } => {
            let mut change = NodeChange::default();
            for edit in labels {
                match edit {
                    LabelEdit::Set(key, value) => change.labels.insert(key, Some(value)),
                    LabelEdit::Remove(key) => change.labels.insert(key, None),
                };
            }
            changed(session, &node, &change).await
        }
        NodeCommand::Taint { node, taints } => {
            let mut change = NodeChange::default();
            for edit in taints {
                match edit {
                    TaintEdit::Set(taint) => change.taint.push(taint),
                    TaintEdit::Remove(key) => change.untaint.push(key),
                }
            }
            changed(session, &node, &change).await
        }
        NodeCommand::Remove { node } => session.delete(Kind::Member, node.as_str()).await,
    }
}

async fn changed(session: &Session<'_>, node: &NodeName, change: &NodeChange) -> Result<(), Failed> {
    let node = session.client.change_node(node.as_str(), change).await?;
    session.ui.result(&node, || {
        let taints = show::taints(&node);
        let taints = if taints.is_empty() { "no taints".to_owned() } else { format!("taints {taints}") };
        format!("node {} has labels {}, and {taints}\n", node.name, show::labels(&node))
    })
}

pub(super) async fn token(session: &Session<'_>, command: TokenCommand) -> Result<(), Failed> {
    match command {
        TokenCommand::Create { name, node: true, runs, expires_in, .. } => {
            let member = name.map(|name| name.parse()).transpose()?;
            let create = CreateJoinToken { roles: runs.into_iter().collect(), member, expires_in };
            let created = session.client.create_join_token(&create).await?;
            session.ui.result(&created, || {
                let shown = session.ui.paint(Tone::Title, &created.token);
                let (api, life) = (session.client.base(), since(now(), created.expires_at));
                let api = api.trim_start_matches("https://");
                format!(
                    "one machine may join with this, shown this once and good for {life}:\n{shown}\n\
                     on that machine: tutti join {api} --token TOKEN\n"
                )
            })
        }
        TokenCommand::Create { name, user, role, domain, expires_in, .. } => {
            let name = name.unwrap_or_default();
            let created =
                session.client.create_token(&CreateToken { name, user, role, domain, expires_in }).await?;
            session.ui.result(&created, || {
                let shown = session.ui.paint(Tone::Title, &created.secret);
                format!("token {} created; its secret is shown this once:\n{shown}\n", created.name)
            })
        }
        TokenCommand::List => {
            let tokens: Vec<Resource<TokenSpec>> = session.client.list(&Filter::default()).await?;
            session.ui.result(&tokens, || tables::tokens(&tokens, now()).show(session.ui))
        }
        TokenCommand::Delete { name } => session.delete(Kind::Token, &name).await,
    }
}
