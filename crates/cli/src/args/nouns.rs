//! Commands of the form noun, verb.

use super::WaitArgs;
use clap::{Args, Subcommand};
use tutti_model::{
    DomainName, Millis,
    name::{NodeName, ServiceText, VersionText},
    route::RouteMatch,
    service::Upstream,
    token::Role,
};

/// One service, or every one.
#[derive(Debug, Clone, Args)]
pub struct OfService {
    /// Only of this service
    pub service: Option<ServiceText>,
}

/// Whether to delete without asking.
#[derive(Debug, Clone, Args)]
pub struct Sure {
    /// Don't ask
    #[arg(short, long)]
    pub yes: bool,
}

/// `tutti domain`
#[derive(Debug, Clone, Subcommand)]
pub enum DomainCommand {
    /// Create a domain
    Create {
        /// Its name, such as example.com
        domain: DomainName,
    },
    /// Show every domain
    List,
    /// Show one domain
    Show {
        /// Its name
        domain: DomainName,
    },
    /// Delete a domain that has no service
    Delete {
        /// Its name
        domain: DomainName,
    },
}

/// `tutti service`
#[derive(Debug, Clone, Subcommand)]
pub enum ServiceCommand {
    /// Create a service; push makes one as well
    Create {
        /// Its name, such as example.com:web
        service: ServiceText,
        /// Plain addresses that serve it, instead of versions
        #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',')]
        upstream: Vec<Upstream>,
    },
    /// Show every service
    List,
    /// Show what serves a service now
    Show {
        /// Its name
        service: ServiceText,
    },
    /// Delete a service with its versions and routes
    Delete {
        /// Its name
        service: ServiceText,
        /// Asking.
        #[command(flatten)]
        sure: Sure,
    },
}

/// `tutti version`
#[derive(Debug, Clone, Subcommand)]
pub enum VersionCommand {
    /// Show versions
    List(OfService),
    /// Show one version
    Show {
        /// Its name
        #[arg(value_name = "NAME@VERSION")]
        version: VersionText,
    },
    /// Delete a version that has no share
    Delete {
        /// Its name
        #[arg(value_name = "NAME@VERSION")]
        version: VersionText,
    },
}

/// A deployment, by its own id or by its service.
#[derive(Debug, Clone, Args)]
pub struct WhichDeployment {
    /// Its id (d-…), or the service that it is running for
    #[arg(value_name = "DEPLOYMENT|SERVICE")]
    pub deployment: String,
}

/// `tutti deployment`
#[derive(Debug, Clone, Subcommand)]
pub enum DeploymentCommand {
    /// Show deployments, the newest first
    List(OfService),
    /// Show one deployment with its history
    Show(WhichDeployment),
    /// Hold a deployment at the weights of now
    Pause(WhichDeployment),
    /// Let a paused deployment go on
    Resume(WhichDeployment),
    /// Move a deployment to the next step at once
    Promote {
        /// Which.
        #[command(flatten)]
        which: WhichDeployment,
        /// To the last step
        #[arg(long)]
        full: bool,
    },
    /// Return to the weights from before a deployment
    Abort {
        /// Which.
        #[command(flatten)]
        which: WhichDeployment,
        /// Waiting.
        #[command(flatten)]
        wait: WaitArgs,
    },
}

/// `tutti instance`
#[derive(Debug, Clone, Subcommand)]
pub enum InstanceCommand {
    /// Show instances, those that have ended too
    List(OfService),
    /// Show one instance
    Show {
        /// Its id (i-…)
        instance: tutti_model::InstanceId,
    },
}

/// `tutti route`
#[derive(Debug, Clone, Subcommand)]
pub enum RouteCommand {
    /// Lead a host, or what is below a path of it, to a service
    Create {
        /// Host and path, such as shop.example.com or shop.example.com/api
        #[arg(value_name = "HOST[/PATH]")]
        route: RouteMatch,
        /// Where it leads
        service: ServiceText,
    },
    /// Show routes
    List(OfService),
    /// Show one route
    Show {
        /// Host and path
        #[arg(value_name = "HOST[/PATH]")]
        route: RouteMatch,
    },
    /// Delete a route
    Delete {
        /// Host and path
        #[arg(value_name = "HOST[/PATH]")]
        route: RouteMatch,
    },
}

/// `tutti node`
#[derive(Debug, Clone, Subcommand)]
pub enum NodeCommand {
    /// Show every node
    List,
    /// Show one node, and what its isolates can do
    Show {
        /// Its name
        node: NodeName,
    },
    /// Let a node take no new instances
    Cordon {
        /// Its name
        node: NodeName,
    },
    /// Let a node take new instances again
    Uncordon {
        /// Its name
        node: NodeName,
    },
}

/// `tutti token`
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Create a token and show its secret, this once
    Create {
        /// A name for people, such as ci
        name: String,
        /// What it may do: admin, owner, deployer or viewer
        #[arg(long)]
        role: Role,
        /// Where; needed for every role but admin
        #[arg(long)]
        domain: Option<DomainName>,
        /// How long it works, such as 720h; for ever without this
        #[arg(long, value_name = "TIME")]
        expires_in: Option<Millis>,
    },
    /// Show every token, without its secret
    List,
    /// Delete a token: its secret works no longer
    Delete {
        /// Its name
        name: String,
    },
}

/// `tutti context`
#[derive(Debug, Clone, Subcommand)]
pub enum ContextCommand {
    /// Show the clouds that this command knows
    List,
    /// Speak to this one from now on
    Use {
        /// Its name
        name: String,
    },
}
