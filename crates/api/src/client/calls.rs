//! One method for each operation.

use super::{Client, Query, fault, lines::Lines};
use crate::debug::Reconcilers;
use crate::pools::SetPool;
use crate::wire::{
    ClusterStatus, Cordon, CreateDeployment, CreateRoute, CreateService, CreateToken, CreateVersion,
    CreatedToken, Explanation, NodeChange, Page, Preload, Preloaded, ProblemBody, Promote, Release, Scale,
    ServiceSummary, SetSecret, WhoAmI,
};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tutti_model::{
    Kind, Problem, Resource, Timestamp,
    deployment::DeploymentSpec,
    log::LogLine,
    name::ServiceText,
    node::NodeSpec,
    pool::{PoolName, PoolSpec},
    resource::Object,
    route::RouteSpec,
    secret::{SecretRef, SecretSpec},
    service::ServiceSpec,
    version::VersionSpec,
};

/// Most pages that a list is read over before it is given up: at [`tutti_model::limits::PAGE_SIZE`] objects each, more
/// than one control is made for.
const PAGES: usize = 2000;

/// Which objects of a kind are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of this domain.
    pub domain: Option<String>,
    /// Those of this service.
    pub service: Option<String>,
}

impl Filter {
    /// Only those of this service, given by its full name.
    #[must_use]
    pub fn service(service: impl ToString) -> Self {
        Filter { domain: None, service: Some(service.to_string()) }
    }

    pub(super) fn query(&self, query: Query) -> Query {
        query.with_some("domain", self.domain.as_ref()).with_some("service", self.service.as_ref())
    }
}

/// Whose lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogScope {
    /// Of every instance of a service.
    Service(String),
    /// Of every instance of a version.
    Version(String),
    /// Of one instance.
    Instance(String),
}

/// Which lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsRequest {
    /// Whose.
    pub scope: LogScope,
    /// The last so many of what is there; `None` for all.
    pub tail: Option<usize>,
    /// Captured at or after this moment.
    pub since: Option<Timestamp>,
    /// Whether to go on as new ones come.
    pub follow: bool,
    /// Only of instances that have ended.
    pub previous: bool,
}

impl Client {
    /// Gives one object.
    ///
    /// # Errors
    /// `not_found`, and whatever the API answers.
    pub async fn get<S: Object>(&self, name: &str) -> Result<Resource<S>, Problem> {
        self.call(&format!("get_{}", S::KIND), &[name], &Query::default()).await
    }

    /// Gives every object, over as many pages as there are, in name order.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn list<S: Object>(&self, filter: &Filter) -> Result<Vec<Resource<S>>, Problem> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES {
            let mut page = self.page::<S>(filter, cursor.as_deref()).await?;
            items.append(&mut page.items);
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(items);
            }
        }
        Err(Problem::internal(format!("the list of {} does not end", S::KIND.plural())))
    }

    /// Gives one page of a list, from a cursor on.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn page<S: Object>(
        &self,
        filter: &Filter,
        cursor: Option<&str>,
    ) -> Result<Page<Resource<S>>, Problem> {
        let query = filter.query(Query::default()).with_some("cursor", cursor);
        self.call(&format!("list_{}", S::KIND.plural()), &[], &query).await
    }

    /// Which release answers.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn release(&self) -> Result<Release, Problem> {
        self.call("release", &[], &Query::default()).await
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn whoami(&self) -> Result<WhoAmI, Problem> {
        self.call("whoami", &[], &Query::default()).await
    }

    /// Whether all is well.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn status(&self) -> Result<ClusterStatus, Problem> {
        self.call("status", &[], &Query::default()).await
    }

    /// Why an object is as it is.
    ///
    /// # Errors
    /// `not_found`, and whatever the API answers.
    pub async fn explain(&self, kind: Kind, name: &str) -> Result<Explanation, Problem> {
        self.call("explain", &[kind.as_str(), name], &Query::default()).await
    }

    /// How the loops of the control that answers fare.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn reconcilers(&self) -> Result<Reconcilers, Problem> {
        self.call("debug_reconcilers", &[], &Query::default()).await
    }

    /// The last lines that the control which answers logged.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn control_log(&self) -> Result<String, Problem> {
        self.text("debug_log").await
    }

    /// Figures for Prometheus.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn metrics(&self) -> Result<String, Problem> {
        self.text("metrics").await
    }

    /// The API as an OpenAPI document.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn openapi(&self) -> Result<String, Problem> {
        self.text("openapi").await
    }

    /// Whether the API serves.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn health(&self) -> Result<(), Problem> {
        self.call_for_nothing("health", &[]).await
    }

    async fn text(&self, id: &str) -> Result<String, Problem> {
        let response = self.send(self.outgoing(id, &[], &Query::default())?).await?;
        let bytes = self.whole(response).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Makes a service.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn create_service(&self, create: &CreateService) -> Result<Resource<ServiceSpec>, Problem> {
        self.call_with("create_service", &[], create).await
    }

    /// Makes a version of a pushed artifact.
    ///
    /// # Errors
    /// `already_exists` if the version has other content, and whatever the API answers.
    pub async fn create_version(&self, create: &CreateVersion) -> Result<Resource<VersionSpec>, Problem> {
        self.call_with("create_version", &[], create).await
    }

    /// Starts a rollout.
    ///
    /// # Errors
    /// `conflict`, naming the running one, and whatever the API answers.
    pub async fn create_deployment(
        &self,
        create: &CreateDeployment,
    ) -> Result<Resource<DeploymentSpec>, Problem> {
        self.call_with("create_deployment", &[], create).await
    }

    /// Makes a route.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn create_route(&self, create: &CreateRoute) -> Result<Resource<RouteSpec>, Problem> {
        self.call_with("create_route", &[], create).await
    }

    /// Sets a secret's value: makes it, or replaces what it was.
    ///
    /// # Errors
    /// `unavailable` without the key that secrets are sealed under, and whatever the API answers.
    pub async fn set_secret(
        &self,
        secret: &SecretRef,
        set: &SetSecret,
    ) -> Result<Resource<SecretSpec>, Problem> {
        self.call_with("set_secret", &[&secret.to_string()], set).await
    }

    /// Makes a token; its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn create_token(&self, create: &CreateToken) -> Result<CreatedToken, Problem> {
        self.call_with("create_token", &[], create).await
    }

    /// Removes an object.
    ///
    /// # Errors
    /// `not_found`, `conflict` if it is in use, and whatever the API answers.
    pub async fn delete(&self, kind: Kind, name: &str) -> Result<(), Problem> {
        self.call_for_nothing(&format!("delete_{kind}"), &[name]).await
    }

    /// What serves a service now.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn service_summary(&self, service: &ServiceText) -> Result<ServiceSummary, Problem> {
        self.call("service_summary", &[&service.to_string()], &Query::default()).await
    }

    /// Sets the number of workers; `None` leaves it to the manifest.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn scale(
        &self,
        service: &ServiceText,
        workers: Option<u32>,
    ) -> Result<Resource<ServiceSpec>, Problem> {
        self.call_with("scale_service", &[&service.to_string()], &Scale { workers }).await
    }

    /// Returns to the previous weights, or aborts the running deployment; gives the deployment that does it.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn rollback(&self, service: &ServiceText) -> Result<Resource<DeploymentSpec>, Problem> {
        self.call("rollback_service", &[&service.to_string()], &Query::default()).await
    }

    /// Holds a deployment at the weights of now.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn pause(&self, deployment: &str) -> Result<Resource<DeploymentSpec>, Problem> {
        self.call("pause_deployment", &[deployment], &Query::default()).await
    }

    /// Lets a deployment go on.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn resume(&self, deployment: &str) -> Result<Resource<DeploymentSpec>, Problem> {
        self.call("resume_deployment", &[deployment], &Query::default()).await
    }

    /// Moves a deployment to the next step, or with `full` to the last, at once.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn promote(&self, deployment: &str, full: bool) -> Result<Resource<DeploymentSpec>, Problem> {
        self.call_with("promote_deployment", &[deployment], &Promote { full }).await
    }

    /// Returns to the weights from before a deployment.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn abort(&self, deployment: &str) -> Result<Resource<DeploymentSpec>, Problem> {
        self.call("abort_deployment", &[deployment], &Query::default()).await
    }

    /// Asks nodes to hold a version ready to start, and gives what each of them has made of it.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn preload(&self, version: &str, preload: &Preload) -> Result<Preloaded, Problem> {
        self.call_with("preload_version", &[version], preload).await
    }

    /// Says whether a node takes new instances.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn cordon(&self, node: &str, cordoned: bool) -> Result<Resource<NodeSpec>, Problem> {
        self.call_with("cordon_node", &[node], &Cordon { cordoned, draining: false }).await
    }

    /// Has what runs on a node run elsewhere, and lets it take nothing new.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn drain(&self, node: &str) -> Result<Resource<NodeSpec>, Problem> {
        self.call_with("cordon_node", &[node], &Cordon { cordoned: true, draining: true }).await
    }

    /// Makes a node pool, or replaces what is asked of it.
    ///
    /// # Errors
    /// `conflict` while it is being removed, and whatever the API answers.
    pub async fn set_pool(&self, pool: &PoolName, asked: &SetPool) -> Result<Resource<PoolSpec>, Problem> {
        self.call_with("set_pool", &[pool.as_str()], asked).await
    }

    /// Changes a node's labels and taints.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn change_node(&self, node: &str, change: &NodeChange) -> Result<Resource<NodeSpec>, Problem> {
        self.call_with("change_node", &[node], change).await
    }

    /// Lines of instances, in order of their time. A followed log ends when its source does; it does not resume by
    /// itself, since only its reader knows which lines it has.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn logs(
        &self,
        request: &LogsRequest,
    ) -> Result<BoxStream<'static, Result<LogLine, Problem>>, Problem> {
        let query = match &request.scope {
            LogScope::Service(name) => Query::default().with("service", name),
            LogScope::Version(name) => Query::default().with("version", name),
            LogScope::Instance(name) => Query::default().with("instance", name),
        };
        let query = query
            .with_some("tail", request.tail)
            .with_some("since", request.since.map(|since| since.0))
            .with_some("follow", request.follow.then_some(true))
            .with_some("previous", request.previous.then_some(true));
        let response = self.send(self.outgoing("logs", &[], &query)?).await?;
        let base = self.base.clone();
        let lines = Lines::new(&base, response, false);
        Ok(stream::unfold(Some((lines, base)), |state| async {
            let (mut lines, base) = state?;
            match lines.next().await {
                Ok(None) => None,
                Err(problem) => Some((Err(problem), None)),
                Ok(Some(line)) => match read(&base, &line) {
                    Ok(line) => Some((Ok(line), Some((lines, base)))),
                    Err(problem) => Some((Err(problem), None)),
                },
            }
        })
        .boxed())
    }
}

fn read(base: &str, line: &[u8]) -> Result<LogLine, Problem> {
    serde_json::from_slice(line).map_err(|error| match serde_json::from_slice::<ProblemBody>(line) {
        Ok(body) => fault::of_body(body),
        Err(_) => fault::unreadable(base, &error),
    })
}
