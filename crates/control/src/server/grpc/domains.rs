//! `tutti.v1.Domains`: deployments.

use super::{
    Asked,
    proto::{
        AbortRequest, DeployRequest, Deployment, GetDeploymentRequest, RollbackRequest,
        WatchDeploymentRequest, domains_server,
    },
    words,
};
use crate::server::identity::Standing;
use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tonic::{Request, Response, Status};
use tutti_api::{Change, WatchEvent, WatchStream, wire::CreateDeployment};
use tutti_model::{DomainName, Problem, Resource, Share, deployment::DeploymentSpec};

/// The service; what it needs of the API is in each request.
pub(super) struct Domains;

#[tonic::async_trait]
impl domains_server::Domains for Domains {
    async fn deploy(&self, request: Request<DeployRequest>) -> Result<Response<Deployment>, Status> {
        let asked = Asked::of(&request)?;
        let body = wanted(request.get_ref()).map_err(|problem| asked.refuse(problem))?;
        let body = serde_json::to_vec(&body).map_err(|error| {
            asked.refuse(Problem::internal(format!("a request cannot be written: {error}")))
        })?;
        answer(&asked, Vec::new(), body.into()).await
    }

    async fn get_deployment(
        &self,
        request: Request<GetDeploymentRequest>,
    ) -> Result<Response<Deployment>, Status> {
        let asked = Asked::of(&request)?;
        answer(&asked, named(&asked, "deployment", request.into_inner().deployment)?, Bytes::new()).await
    }

    type WatchDeploymentStream = BoxStream<'static, Result<Deployment, Status>>;

    async fn watch_deployment(
        &self,
        request: Request<WatchDeploymentRequest>,
    ) -> Result<Response<Self::WatchDeploymentStream>, Status> {
        let asked = Asked::of(&request)?;
        let names = named(&asked, "deployment", request.into_inner().deployment)?;
        let first: Resource<DeploymentSpec> = asked.perform(names, Bytes::new()).await?;
        let events = asked.app.objects.watch::<DeploymentSpec>(Some(first.revision));
        let standing = Standing::new(&asked.app, &asked.caller);
        let (domain, name) = (first.spec.service.domain.clone(), first.name.clone());
        let watching = Watching { asked, standing, domain, name, events, next: Some(first), over: false };
        let states = stream::unfold(watching, |mut watching| async move {
            let state = watching.next().await?;
            Some((state, watching))
        });
        Ok(Response::new(states.boxed()))
    }

    async fn rollback(&self, request: Request<RollbackRequest>) -> Result<Response<Deployment>, Status> {
        let asked = Asked::of(&request)?;
        answer(&asked, named(&asked, "service", request.into_inner().service)?, Bytes::new()).await
    }

    async fn abort(&self, request: Request<AbortRequest>) -> Result<Response<Deployment>, Status> {
        let asked = Asked::of(&request)?;
        answer(&asked, named(&asked, "deployment", request.into_inner().deployment)?, Bytes::new()).await
    }
}

async fn answer(asked: &Asked, names: Vec<String>, body: Bytes) -> Result<Response<Deployment>, Status> {
    let deployment: Resource<DeploymentSpec> = asked.perform(names, body).await?;
    Ok(Response::new(words::deployment(&deployment)))
}

/// The one name that a request is about.
fn named(asked: &Asked, field: &str, name: String) -> Result<Vec<String>, Status> {
    match name.is_empty() {
        true => Err(asked.refuse(Problem::invalid(format!("{field} is empty")))),
        false => Ok(vec![name]),
    }
}

/// What REST would be asked.
fn wanted(request: &DeployRequest) -> Result<CreateDeployment, Problem> {
    let steps: Vec<Share> = match (request.percent, request.steps.as_slice()) {
        (percent, []) => vec![words::share(percent)?],
        (0.0, steps) => steps.iter().map(|percent| words::share(*percent)).collect::<Result<_, _>>()?,
        (_, [..]) => {
            return Err(Problem::invalid("percent and steps are both given").hint("leave one of them out"));
        }
    };
    Ok(CreateDeployment {
        version: words::version(&request.service, &request.version)?,
        steps,
        every: request.every.as_ref().map(|every| words::millis("every", every)).transpose()?,
        abort_if: request.abort_if.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
    })
}

/// A deployment that is being watched.
struct Watching {
    asked: Asked,
    standing: Standing,
    domain: DomainName,
    name: String,
    events: WatchStream<DeploymentSpec>,
    /// The state to be told next.
    next: Option<Resource<DeploymentSpec>>,
    over: bool,
}

impl Watching {
    async fn next(&mut self) -> Option<Result<Deployment, Status>> {
        loop {
            if self.over {
                return None;
            }
            if let Some(state) = self.next.take() {
                self.over = state.status.phase.is_final();
                return Some(Ok(words::deployment(&state)));
            }
            let event = tokio::select! {
                biased;
                // Whoever may see it no longer is told what is told of one that is not there.
                changed = self.standing.changed() => match changed {
                    Ok(caller) if caller.sees(&self.domain) => continue,
                    Ok(_) => Some(Err(Problem::not_found("deployment", &self.name))),
                    Err(problem) => Some(Err(problem)),
                },
                event = self.events.next() => event,
            };
            match event? {
                Ok(event) => self.heard(event),
                Err(problem) => {
                    self.over = true;
                    return Some(Err(self.asked.refuse(problem)));
                }
            }
        }
    }

    fn heard(&mut self, event: WatchEvent<DeploymentSpec>) {
        match event {
            WatchEvent::InitItem(state) if state.name == self.name => self.next = Some(*state),
            WatchEvent::Changes { changes, .. } => {
                for change in changes {
                    match change {
                        Change::Put(state) if state.name == self.name => self.next = Some(*state),
                        // It was forgotten with its service: nothing more will be said of it.
                        Change::Delete { name } if name == self.name => self.over = self.next.is_none(),
                        Change::Put(_) | Change::Delete { .. } => {}
                    }
                }
            }
            WatchEvent::Init | WatchEvent::InitItem(_) | WatchEvent::InitDone { .. } => {}
        }
    }
}
