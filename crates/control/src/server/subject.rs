//! Which object an operation is about, and so in which domain the caller's right is checked: the one place of
//! authorization.
//!
//! A handler works on the subject that was authorized, never on the name again.

use super::{
    App,
    call::{Call, Caller, Query, read_json},
    lists::Visible,
    names,
};
use tutti_api::{
    operations::{Operation, Right},
    wire::{CreateDeployment, CreateRoute, CreateService, CreateVersion},
};
use tutti_model::{
    DomainName, ErrorCode, Kind, Problem, Resource, ServiceRef, UserName, VersionRef,
    deployment::DeploymentSpec,
    domain::DomainSpec,
    instance::InstanceSpec,
    member::MachineRole,
    name::{NodeName, ServiceText, VersionText},
    node::NodeSpec,
    route::{RouteMatch, RouteSpec},
    secret::SecretRef,
    token::Role,
    user::UserSpec,
};

/// What an operation is about.
#[derive(Debug, Clone)]
pub(super) enum Subject {
    /// The platform, or whatever of a list the caller may see.
    Platform,
    /// A domain that is there.
    Domain(Box<Resource<DomainSpec>>),
    /// A service, there or not, in a domain that is.
    Service(ServiceRef),
    /// A version, there or not, in a domain that is.
    Version(VersionRef),
    /// A deployment.
    Deployment(Box<Resource<DeploymentSpec>>),
    /// An instance.
    Instance(Box<Resource<InstanceSpec>>),
    /// A route.
    Route(Box<Resource<RouteSpec>>),
    /// A secret, there or not, in a domain that is.
    Secret(SecretRef),
    /// A node.
    Node(Box<Resource<NodeSpec>>),
    /// A user.
    User(Box<Resource<UserSpec>>),
}

impl Subject {
    /// The domain it lives in.
    pub(super) fn domain(&self) -> Option<DomainName> {
        match self {
            Subject::Platform | Subject::Node(_) | Subject::User(_) => None,
            Subject::Domain(domain) => DomainSpec::domain(domain),
            Subject::Service(service) => Some(service.domain.clone()),
            Subject::Version(version) => Some(version.service.domain.clone()),
            Subject::Deployment(deployment) => Some(deployment.spec.service.domain.clone()),
            Subject::Instance(instance) => Some(instance.spec.version.service.domain.clone()),
            Subject::Route(route) => Some(route.spec.service.domain.clone()),
            Subject::Secret(secret) => Some(secret.domain.clone()),
        }
    }

    /// How the log names it.
    pub(super) fn object(&self) -> String {
        match self {
            Subject::Platform => String::new(),
            Subject::Domain(domain) => domain.object(),
            Subject::Service(service) => format!("service {service}"),
            Subject::Version(version) => format!("version {version}"),
            Subject::Deployment(deployment) => deployment.object(),
            Subject::Instance(instance) => instance.object(),
            Subject::Route(route) => route.object(),
            Subject::Secret(secret) => format!("secret {secret}"),
            Subject::Node(node) => node.object(),
            Subject::User(user) => user.object(),
        }
    }
}

fn astray() -> Problem {
    Problem::internal("the operation is not about what its handler expects")
}

impl Call {
    /// The service it is about.
    pub(super) fn service(&self) -> Result<&ServiceRef, Problem> {
        match &self.subject {
            Subject::Service(service) => Ok(service),
            Subject::Version(version) => Ok(&version.service),
            _ => Err(astray()),
        }
    }

    /// The version it is about.
    pub(super) fn version(&self) -> Result<&VersionRef, Problem> {
        if let Subject::Version(version) = &self.subject { Ok(version) } else { Err(astray()) }
    }

    /// The secret it is about.
    pub(super) fn secret(&self) -> Result<&SecretRef, Problem> {
        if let Subject::Secret(secret) = &self.subject { Ok(secret) } else { Err(astray()) }
    }

    /// The domain it is about, as it was when the right was checked.
    pub(super) fn domain(&self) -> Result<&Resource<DomainSpec>, Problem> {
        if let Subject::Domain(domain) = &self.subject { Ok(domain) } else { Err(astray()) }
    }

    /// The deployment it is about.
    pub(super) fn deployment(&self) -> Result<&Resource<DeploymentSpec>, Problem> {
        if let Subject::Deployment(deployment) = &self.subject { Ok(deployment) } else { Err(astray()) }
    }
}

/// What a request is about, once the caller's right to it is checked.
///
/// # Errors
/// `not_found` for what is not there or in a domain where the caller has no role; `forbidden` where it has one that is
/// too weak.
pub(super) async fn authorize(
    app: &App,
    operation: &Operation,
    caller: &Caller,
    names: &[String],
    query: &Query,
    body: &[u8],
) -> Result<Subject, Problem> {
    check_member(operation, caller)?;
    if matches!(operation.right, Right::Public | Right::Anyone) {
        return Ok(Subject::Platform);
    }
    if operation.right == Right::Node {
        check_node(operation, caller, names)?;
        return Ok(Subject::Platform);
    }
    if operation.right == Right::Join {
        check_joining(operation, caller)?;
        return Ok(Subject::Platform);
    }
    if operation.right == Right::Admin && !caller.is_admin() {
        return Err(forbidden(operation, caller, None, "an admin's token"));
    }
    let name = names.first().map_or("", String::as_str);
    let deploys = matches!(operation.right, Right::Deploy | Right::Own);
    let subject = match operation.id {
        "create_service" => service(app, caller, true, &read_json::<CreateService>(body)?.service).await?,
        "create_version" => version(app, caller, true, &read_json::<CreateVersion>(body)?.version).await?,
        "create_deployment" => {
            version(app, caller, true, &read_json::<CreateDeployment>(body)?.version).await?
        }
        "create_route" => service(app, caller, true, &read_json::<CreateRoute>(body)?.service).await?,
        "explain" => {
            let kind: Kind = name.parse()?;
            let name = names.get(1).map_or("", String::as_str);
            named(app, caller, false, kind, name).await?
        }
        "logs" => logs(app, caller, query).await?,
        _ => match kind_of(operation.path) {
            Some(kind) => named(app, caller, deploys, kind, name).await?,
            None => Subject::Platform,
        },
    };
    check(operation, caller, &subject)?;
    Ok(subject)
}

/// Refuses a member's certificate where it counts for nothing: it is no user, and has no role in any domain.
pub(super) fn check_member(operation: &Operation, caller: &Caller) -> Result<(), Problem> {
    let Caller::Member { member, .. } = caller else { return Ok(()) };
    if matches!(operation.right, Right::Public | Right::Node) {
        return Ok(());
    }
    let what = operation.id.replace('_', " ");
    Err(Problem::new(
        ErrorCode::Forbidden,
        format!("{what} needs a token; member \"{}\" has none", member.name),
    )
    .hint("a member's certificate lets it act for its own node, ingress and DNS server; for all else send a token"))
}

/// Checks who wants to join: whoever holds the control socket, or the bearer of a join token, who may nothing else.
fn check_joining(operation: &Operation, caller: &Caller) -> Result<(), Problem> {
    match caller {
        Caller::Machine | Caller::Joining(_) => Ok(()),
        Caller::Anonymous | Caller::Bearer(_) | Caller::Member { .. } => {
            Err(forbidden(operation, caller, None, "a join token"))
        }
    }
}

/// Checks who acts for a node or an ingress: whoever holds the control socket for any, a member for its own.
pub(super) fn check_node(operation: &Operation, caller: &Caller, names: &[String]) -> Result<(), Problem> {
    let member = match caller {
        Caller::Machine => return Ok(()),
        Caller::Member { member, .. } => member,
        Caller::Anonymous | Caller::Joining(_) | Caller::Bearer(_) => {
            return Err(for_nodes(operation, caller));
        }
    };
    let name = names.first().map_or("", String::as_str);
    let (role, own) = match operation.path {
        // Whom to admit, every role must know.
        "/v1/zone/members" => return Ok(()),
        path if path.starts_with("/v1/zone/members/{name}") => {
            return match name == member.name.as_str() {
                true => Ok(()),
                false => Err(not_own(operation, &member.name, name)),
            };
        }
        // What an ingress needs to know of its zone.
        "/v1/zone/tables" | "/v1/zone/nodes" => (MachineRole::Ingress, true),
        // What a DNS server needs to know: where names lead, and nothing of what serves them.
        "/v1/zone/hosts" | "/v1/zone/ingresses" => (MachineRole::Dns, true),
        "/v1/zone/dns/{name}" => (MachineRole::Dns, name == member.name.as_str()),
        "/v1/zone/key" | "/v1/zone/figures" => (MachineRole::Server, true),
        // Whoever knows the digest of an artifact was told to run it.
        "/v1/zone/blobs/{digest}" => (MachineRole::Agent, true),
        path if path.starts_with("/v1/zone/nodes/{name}") => {
            (MachineRole::Agent, name == member.name.as_str())
        }
        path if path.starts_with("/v1/zone/ingresses/{name}") => {
            (MachineRole::Ingress, is_ingress_of(name, &member.name))
        }
        // What is not here is for nobody.
        _ => return Err(for_nodes(operation, caller)),
    };
    if own && member.is(role) {
        return Ok(());
    }
    if !own {
        return Err(not_own(operation, &member.name, name));
    }
    let what = operation.id.replace('_', " ");
    let text = format!("{what}: member \"{}\" has not the role {role}", member.name);
    Err(Problem::new(ErrorCode::Forbidden, text).hint(OWN))
}

/// What a member's certificate is good for.
const OWN: &str = "a member's certificate lets it act for its own node, ingress and DNS server";

fn not_own(operation: &Operation, member: &NodeName, name: &str) -> Problem {
    let what = operation.id.replace('_', " ");
    let text = format!("{what}: member \"{member}\" may not act for \"{name}\"");
    Problem::new(ErrorCode::Forbidden, text).hint(OWN)
}

/// Whether an ingress of this id runs on this member: the id is the member's name, or that and a dot and more. No
/// name has a dot, so that no member's is the beginning of another's.
fn is_ingress_of(ingress: &str, member: &NodeName) -> bool {
    let rest = ingress.strip_prefix(member.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Checks the right of an operation against the caller's role in a domain. Whether the caller sees the domain at all
/// was checked when the subject was found.
pub(super) fn check(operation: &Operation, caller: &Caller, subject: &Subject) -> Result<(), Problem> {
    if operation.right == Right::Node {
        // Those are about no object of a domain: [`check_node`] is for them.
        return Err(for_nodes(operation, caller));
    }
    let role = match subject.domain() {
        Some(domain) => caller.role_in(&domain),
        None if caller.is_admin() => Some(Role::Admin),
        None => None,
    };
    let (enough, wanted) = match operation.right {
        Right::Public | Right::Anyone | Right::Join | Right::Node => (true, ""),
        Right::View => (role.is_some(), "an admin's token"),
        Right::Deploy => {
            (matches!(role, Some(Role::Admin | Role::Owner | Role::Deployer)), "the role deployer or owner")
        }
        Right::Own => (matches!(role, Some(Role::Admin | Role::Owner)), "the role owner"),
        Right::Admin => (role == Some(Role::Admin), "an admin's token"),
    };
    if enough { Ok(()) } else { Err(forbidden(operation, caller, subject.domain().as_ref(), wanted)) }
}

/// Checks a right in a domain that the caller was found to see.
pub(super) fn check_domain(
    operation: &Operation,
    right: Right,
    caller: &Caller,
    domain: &DomainName,
) -> Result<(), Problem> {
    let operation = Operation { right, ..operation.clone() };
    let subject = Subject::Service(ServiceRef {
        domain: domain.clone(),
        service: "any".parse().map_err(|_| astray())?,
    });
    check(&operation, caller, &subject)
}

/// What only nodes and ingresses may, asked for by somebody else.
fn for_nodes(operation: &Operation, caller: &Caller) -> Problem {
    Problem::new(
        ErrorCode::Forbidden,
        format!(
            "{} is for agents, ingresses and DNS servers; {} may not, and no token may",
            operation.id.replace('_', " "),
            caller.shown()
        ),
    )
    .hint("on control's own machine the control socket in its data folder takes it")
}

fn forbidden(operation: &Operation, caller: &Caller, domain: Option<&DomainName>, wanted: &str) -> Problem {
    let Caller::Bearer(bearer) = caller else {
        return Problem::new(ErrorCode::Unauthenticated, "this needs a token, and the request has none");
    };
    let token = &bearer.token;
    let who = match (&bearer.user, domain.and_then(|domain| Some((domain, caller.role_in(domain)?)))) {
        (Some((user, _)), Some((domain, role))) => format!("user \"{user}\" is a {role} of {domain} here"),
        (Some((user, _)), None) => format!("token \"{token}\" is user \"{user}\"'s"),
        (None, Some((domain, role))) => format!("token \"{token}\" is a {role} of {domain}"),
        (None, None) => match caller.domains().and_then(|domains| domains.into_iter().next()) {
            Some((domain, role)) => format!("token \"{token}\" is a {role} of {domain}"),
            None => format!("token \"{token}\" has no role"),
        },
    };
    let problem = Problem::new(
        ErrorCode::Forbidden,
        format!("{} needs {wanted}; {who}", operation.id.replace('_', " ")),
    );
    match domain {
        Some(domain) => problem.hint(format!("ask an owner of {domain}, or an admin")),
        None => problem.hint("ask an admin for a token that may"),
    }
}

/// The kind that the segment before `{name}` names.
fn kind_of(path: &str) -> Option<Kind> {
    let mut segments = path.trim_start_matches("/v1/").split('/');
    let plural = segments.next()?;
    segments.next().filter(|segment| *segment == "{name}")?;
    Kind::ALL.into_iter().find(|kind| kind.plural() == plural)
}

async fn service(app: &App, caller: &Caller, deploys: bool, text: &ServiceText) -> Result<Subject, Problem> {
    let found = match deploys {
        true => names::own_service(app, caller, text).await,
        false => names::service(app, caller, text).await,
    };
    found.map(Subject::Service)
}

async fn version(app: &App, caller: &Caller, deploys: bool, text: &VersionText) -> Result<Subject, Problem> {
    let found = match deploys {
        true => names::own_service(app, caller, &text.service).await,
        false => names::service(app, caller, &text.service).await,
    };
    found.map(|service| Subject::Version(service.at(text.version.clone())))
}

async fn named(
    app: &App,
    caller: &Caller,
    deploys: bool,
    kind: Kind,
    name: &str,
) -> Result<Subject, Problem> {
    Ok(match kind {
        Kind::Domain => Subject::Domain(Box::new(names::existing_domain(app, caller, &name.parse()?).await?)),
        Kind::Service => service(app, caller, deploys, &name.parse()?).await?,
        Kind::Version => version(app, caller, deploys, &name.parse()?).await?,
        Kind::Deployment => Subject::Deployment(seen(app, caller, name).await?),
        Kind::Instance => Subject::Instance(seen(app, caller, name).await?),
        Kind::Route => Subject::Route(seen(app, caller, &name.parse::<RouteMatch>()?.to_string()).await?),
        Kind::Secret => {
            let secret: SecretRef = name.parse()?;
            names::existing_domain(app, caller, &secret.domain).await?;
            Subject::Secret(secret)
        }
        Kind::Node if caller.is_admin() => Subject::Node(seen(app, caller, name).await?),
        Kind::User if caller.is_admin() => {
            Subject::User(seen(app, caller, name.parse::<UserName>()?.as_str()).await?)
        }
        Kind::Token | Kind::Member | Kind::Pool if caller.is_admin() => Subject::Platform,
        Kind::Node
        | Kind::Pool
        | Kind::Token
        | Kind::User
        | Kind::Claim
        | Kind::Alias
        | Kind::Quota
        | Kind::Zone
        | Kind::Table
        | Kind::Ingress
        | Kind::Presence
        | Kind::Leader
        | Kind::Cluster
        | Kind::Authority
        | Kind::Member
        | Kind::JoinToken
        | Kind::Audit
        | Kind::Event
        | Kind::Report
        | Kind::Assignment => {
            return Err(if caller.is_admin() {
                Problem::invalid(format!("a {kind} cannot be explained"))
                    .hint("explain takes domain, service, version, deployment, instance, route or node")
            } else {
                Problem::new(ErrorCode::Forbidden, format!("a {kind} is shown to admins only"))
                    .hint("ask an admin, or ask about a service, version, deployment, instance or route")
            });
        }
    })
}

/// The object of this name, if it is in a domain that the caller sees.
async fn seen<S: Visible>(app: &App, caller: &Caller, name: &str) -> Result<Box<Resource<S>>, Problem> {
    // What cannot be a key was never stored.
    let object = match name.len() <= tutti_model::limits::STORE_KEY_BYTES / 2 {
        true => app.objects.find::<S>(name).await?,
        false => None,
    };
    let sees = |object: &Resource<S>| match S::domain(object) {
        Some(domain) => caller.sees(&domain),
        None => caller.is_admin(),
    };
    match object.filter(sees) {
        Some(object) => Ok(Box::new(object)),
        None => Err(names::missing::<S>(app, caller, name).await),
    }
}

async fn logs(app: &App, caller: &Caller, query: &Query) -> Result<Subject, Problem> {
    match (query.get("service"), query.get("version"), query.get("instance")) {
        (Some(text), None, None) => service(app, caller, false, &text.parse()?).await,
        (None, Some(text), None) => version(app, caller, false, &text.parse()?).await,
        (None, None, Some(name)) => match named(app, caller, false, Kind::Instance, name).await {
            Err(problem) if problem.code == ErrorCode::NotFound => gone(app, caller, name, problem).await,
            found => found,
        },
        _ => Err(Problem::invalid("logs are of one thing: give service, version or instance")
            .hint("for example ?service=example.com:web")),
    }
}

/// The version of an instance that only its lines are left of, or the problem that there is none.
async fn gone(app: &App, caller: &Caller, name: &str, missing: Problem) -> Result<Subject, Problem> {
    let kept = app.logs.kept().await?;
    let Some(kept) = kept.into_iter().find(|kept| kept.instance.as_str() == name) else {
        return Err(missing);
    };
    let version = names::version(app, caller, &kept.version.to_string().parse()?).await;
    // Whoever may not know of its domain is told that it is not there.
    version.map(Subject::Version).map_err(|_| missing)
}
