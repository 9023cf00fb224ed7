//! What each command does.

mod audit;
mod bindgen;
mod bundle;
mod config;
mod debug;
mod deploy;
mod domain;
mod drain;
mod events;
mod explain;
#[cfg(test)]
pub(crate) mod fixtures;
mod logs;
mod machines;
mod nouns;
mod pool;
mod preload;
mod ps;
mod push;
mod secret;
mod show;
mod status;
mod tables;
mod watch;

use crate::{ClientCommand, Globals, Program, effective::Effective, exit::Failed, ui::Ui};
use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};
use tutti_api::{Client, client::Filter};
use tutti_model::{
    DomainName, ErrorCode, Kind, Problem, Resource, ServiceRef, Timestamp, domain::DomainSpec,
    name::ServiceText, token::Role,
};

/// What every command that speaks to a cloud has.
pub(crate) struct Session<'a> {
    pub(crate) client: Client,
    pub(crate) ui: &'a Ui,
}

/// Runs one command.
pub(crate) async fn run(
    globals: &Globals,
    command: ClientCommand,
    program: &Program,
    ui: &Ui,
) -> Result<(), Failed> {
    match &command {
        ClientCommand::Bindgen(args) => return bindgen::bindgen(args, ui),
        ClientCommand::New(args) => return bindgen::new(args, ui),
        ClientCommand::Config => return config::config(globals, program, ui),
        ClientCommand::Context(context) => return config::context(globals, context, ui),
        ClientCommand::Completions { shell } => return config::completions(*shell, program, ui),
        ClientCommand::Reference => return Ok(ui.print(&crate::reference::markdown(&program.command))?),
        _ => {}
    }
    let effective = Effective::of_process(globals)?;
    let session = Session { client: effective.client()?, ui };
    dispatch(&session, command).await.map_err(|failed| match failed {
        Failed::Problem(problem) => Failed::Problem(without_token(problem, &effective)),
        failed => failed,
    })
}

async fn dispatch(session: &Session<'_>, command: ClientCommand) -> Result<(), Failed> {
    match command {
        ClientCommand::Push(args) => push::push(session, &args).await,
        ClientCommand::Deploy(args) => deploy::deploy(session, &args).await,
        ClientCommand::Rollback(args) => deploy::rollback(session, &args).await,
        ClientCommand::Status(args) => status::status(session, args.watch).await,
        ClientCommand::Ps(args) => ps::ps(session, &args).await,
        ClientCommand::Logs(args) => logs::logs(session, &args).await,
        ClientCommand::Explain(args) => explain::explain(session, &args.object).await,
        ClientCommand::Audit(args) => audit::audit(session, &args).await,
        ClientCommand::Events(args) => events::events(session, &args).await,
        ClientCommand::Debug(command) => debug::debug(session, &command).await,
        ClientCommand::Scale(args) => nouns::scale(session, &args).await,
        ClientCommand::Domain(command) => domain::domain(session, command).await,
        ClientCommand::User(command) => domain::user(session, command).await,
        ClientCommand::Service(command) => nouns::service(session, command).await,
        ClientCommand::Version(command) => nouns::version(session, command).await,
        ClientCommand::Deployment(command) => nouns::deployment(session, command).await,
        ClientCommand::Instance(command) => nouns::instance(session, command).await,
        ClientCommand::Route(command) => nouns::route(session, command).await,
        ClientCommand::Secret(command) => secret::secret(session, command).await,
        ClientCommand::Node(command) => nouns::node(session, command).await,
        ClientCommand::Pool(command) => pool::pool(session, command).await,
        ClientCommand::Token(command) => nouns::token(session, command).await,
        // Done before there is a session.
        ClientCommand::Bindgen(_)
        | ClientCommand::New(_)
        | ClientCommand::Config
        | ClientCommand::Context(_)
        | ClientCommand::Completions { .. }
        | ClientCommand::Reference => Ok(()),
    }
}

/// Says how to come by a token, where none was sent and one is needed.
fn without_token(problem: Problem, effective: &Effective) -> Problem {
    match problem.code {
        ErrorCode::Unauthenticated if effective.token.is_none() => problem
            .hint("name a token with TUTTI_TOKEN or --token-file, or on a control's machine, as its user or root, its socket \
                with --api unix:/PATH; tutti dev writes a context that has a token"),
        _ => problem,
    }
}

/// This machine's time. Ages are shown by it.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Session<'_> {
    /// The service that a person means to push to: as control does, the longest domain wins that they may deploy to.
    pub(crate) async fn resolve_own(&self, service: &ServiceText) -> Result<ServiceRef, Problem> {
        if service.domain.is_none() {
            let deploys = |role: &Role| matches!(role, Role::Owner | Role::Deployer);
            let mine = self.client.whoami().await?.domains;
            let own: BTreeSet<DomainName> =
                mine.into_iter().filter(|(_, role)| deploys(role)).map(|(domain, _)| domain).collect();
            if let Ok(found) = service.resolve(&own) {
                return Ok(found);
            }
        }
        self.resolve(service).await
    }

    /// The service that a person means.
    pub(crate) async fn resolve(&self, service: &ServiceText) -> Result<ServiceRef, Problem> {
        if let Some(domain) = &service.domain {
            return Ok(ServiceRef { domain: domain.clone(), service: service.service.clone() });
        }
        let domains: Vec<Resource<DomainSpec>> = self.client.list(&Filter::default()).await?;
        let registered: BTreeSet<DomainName> =
            domains.iter().filter_map(|domain| domain.name.parse().ok()).collect();
        service.resolve(&registered)
    }

    /// Those of a service, or all.
    pub(crate) async fn filter(&self, service: Option<&ServiceText>) -> Result<Filter, Problem> {
        Ok(match service {
            Some(service) => Filter::service(self.resolve(service).await?),
            None => Filter::default(),
        })
    }

    /// Removes an object and says so.
    pub(crate) async fn delete(&self, kind: Kind, name: &str) -> Result<(), Failed> {
        self.client.delete(kind, name).await?;
        self.done(&format!("{kind} {name} deleted"))
    }

    /// Says that something is done, to people only: programs have the exit code.
    pub(crate) fn done(&self, text: &str) -> Result<(), Failed> {
        match self.ui.format {
            crate::Format::Table => Ok(self.ui.print(text)?),
            crate::Format::Json | crate::Format::Yaml => Ok(()),
        }
    }
}
