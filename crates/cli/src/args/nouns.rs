//! Commands of the form noun, verb.

use super::WaitArgs;
use clap::{Args, Subcommand};
use std::{path::PathBuf, str::FromStr};
use tutti_model::{
    DomainName, Millis, Problem, UserName,
    domain::MemberRole,
    member::MachineRole,
    name::{NodeName, ServiceText, VersionText},
    quantity::{ByteSize, MilliCpu},
    route::RouteMatch,
    scheduling::{LabelKey, LabelValue, Taint, label},
    secret::SecretRef,
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

/// `tutti debug`
#[derive(Debug, Clone, Subcommand)]
pub enum DebugCommand {
    /// Show how the loops of the control that answers fare: their last run, errors, and what waits
    Reconcilers,
    /// Show what an agent, ingress or DNS server of this machine does, as it knows it itself, also while control is away
    Inspect {
        /// Its socket: agent.sock, ingress.sock or dns.sock in its data folder
        #[arg(value_name = "unix:/PATH")]
        socket: String,
    },
    /// Write what there is to know of the cloud into one file, without secrets, to be looked at elsewhere
    Bundle {
        /// The file, a .tar.gz; it must not be there yet [default: tutti-debug-TIME.tar.gz]
        file: Option<PathBuf>,
    },
}

/// `tutti domain`
#[derive(Debug, Clone, Subcommand)]
pub enum DomainCommand {
    /// Create a domain, or say which DNS record proves that it is yours
    Create {
        /// Its name, such as example.com
        domain: DomainName,
    },
    /// Look up the DNS record of a domain or alias, and create it
    Verify {
        /// Its name
        domain: DomainName,
    },
    /// Show what you have not proved yet, and the records that do
    Claims,
    /// Forget a domain or alias that you have not proved
    Forget {
        /// Its name
        domain: DomainName,
    },
    /// Show every domain that you see
    List,
    /// Show one domain with its members
    Show {
        /// Its name
        domain: DomainName,
    },
    /// Delete a domain that has no service
    Delete {
        /// Its name
        domain: DomainName,
    },
    /// Other names that a domain's services answer under
    #[command(subcommand)]
    Alias(AliasCommand),
    /// Who belongs to a domain
    #[command(subcommand)]
    Member(MemberCommand),
    /// Invite a user to a domain
    Invite {
        /// The domain
        domain: DomainName,
        /// The user, such as ada or ada@example.com
        user: UserName,
        /// What they may do: owner, deployer or viewer
        #[arg(long)]
        role: MemberRole,
    },
    /// Show what you are invited to
    Invitations,
    /// Accept an invitation
    Accept {
        /// The domain
        domain: DomainName,
    },
    /// Decline an invitation
    Decline {
        /// The domain
        domain: DomainName,
    },
    /// Show the most that a domain may have beside what it has, or as an admin change it
    Quota {
        /// The domain
        domain: DomainName,
        /// Most instances, both versions counted while one replaces the other; or none
        #[arg(long, value_name = "N")]
        instances: Option<LimitArg<u32>>,
        /// Most cpu of all instances together, such as 250m or 2; or none
        #[arg(long, value_name = "CPU")]
        cpu: Option<LimitArg<MilliCpu>>,
        /// Most memory of all instances together, such as 512Mi; or none
        #[arg(long, value_name = "SIZE")]
        memory: Option<LimitArg<ByteSize>>,
        /// Most versions that are kept; or none
        #[arg(long, value_name = "N")]
        versions: Option<LimitArg<u32>>,
    },
    /// Leave a domain
    Leave {
        /// The domain
        domain: DomainName,
    },
}

/// A limit to set, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitArg<T>(pub Option<T>);

impl<T: FromStr<Err: std::fmt::Display>> FromStr for LimitArg<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(LimitArg(None)),
            text => {
                text.parse().map(|limit| LimitArg(Some(limit))).map_err(|error: T::Err| error.to_string())
            }
        }
    }
}

/// `tutti domain alias`
#[derive(Debug, Clone, Subcommand)]
pub enum AliasCommand {
    /// Add another name, or say which DNS record proves that it is yours
    Add {
        /// The domain
        domain: DomainName,
        /// The other name, such as example.org
        alias: DomainName,
    },
    /// Remove another name
    Remove {
        /// The domain
        domain: DomainName,
        /// The other name
        alias: DomainName,
    },
}

/// `tutti domain member`
#[derive(Debug, Clone, Subcommand)]
pub enum MemberCommand {
    /// Show members and invitations
    List {
        /// The domain
        domain: DomainName,
    },
    /// Give a member another role
    Set {
        /// The domain
        domain: DomainName,
        /// The member
        user: UserName,
        /// What they may do: owner, deployer or viewer
        #[arg(long)]
        role: MemberRole,
    },
    /// Take a member out, or an invitation back
    Remove {
        /// The domain
        domain: DomainName,
        /// The member
        user: UserName,
    },
}

/// `tutti user`
#[derive(Debug, Clone, Subcommand)]
pub enum UserCommand {
    /// Create a user and show the secret of the first token, this once
    Create {
        /// A handle such as ada, or an address such as ada@example.com
        user: UserName,
    },
    /// Show every user
    List,
    /// Delete a user with all tokens and memberships
    Delete {
        /// The name
        user: UserName,
        /// Asking.
        #[command(flatten)]
        sure: Sure,
    },
    /// Show whose token you use, and what you may do where
    Me,
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
    /// Ask nodes to hold a version ready to start, and show what each makes of it
    Preload {
        /// Its name
        #[arg(value_name = "NAME@VERSION")]
        version: VersionText,
        /// Ask this node, as often as there are nodes to ask; every node that could run it without this
        #[arg(long = "node", value_name = "NODE")]
        nodes: Vec<NodeName>,
        /// How long to wait for them, at most 20s
        #[arg(long, value_name = "TIME", default_value = "20s", conflicts_with = "no_wait")]
        timeout: Millis,
        /// Don't wait
        #[arg(long)]
        no_wait: bool,
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

/// `tutti secret`
#[derive(Debug, Clone, Subcommand)]
pub enum SecretCommand {
    /// Set a secret's value, from standard input or a file; instances that start after it have it
    #[command(after_help = "\
One line end at the end of the value is left out. The value is never an argument, which others on \
this machine could see: printf %s \"$KEY\" | tutti secret set example.com:api-key")]
    Set {
        /// The secret, such as example.com:api-key
        #[arg(value_name = "DOMAIN:NAME")]
        secret: SecretRef,
        /// Read the value from this file
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Show secrets, without their values
    List {
        /// Only of this domain
        domain: Option<DomainName>,
    },
    /// Show one secret, without its value
    Show {
        /// The secret
        #[arg(value_name = "DOMAIN:NAME")]
        secret: SecretRef,
    },
    /// Delete a secret that no deployed version names
    Delete {
        /// The secret
        #[arg(value_name = "DOMAIN:NAME")]
        secret: SecretRef,
    },
}

/// One change of a node's labels.
#[derive(Debug, Clone)]
pub enum LabelEdit {
    /// `KEY=VALUE` or `KEY`.
    Set(LabelKey, LabelValue),
    /// `KEY-`.
    Remove(LabelKey),
}

impl FromStr for LabelEdit {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text.strip_suffix('-') {
            Some(key) if !text.contains('=') => Ok(LabelEdit::Remove(key.parse()?)),
            _ => label(text).map(|(key, value)| LabelEdit::Set(key, value)),
        }
    }
}

/// One change of a node's taints.
#[derive(Debug, Clone)]
pub enum TaintEdit {
    /// `KEY[=VALUE]:EFFECT`.
    Set(Taint),
    /// `KEY-`.
    Remove(LabelKey),
}

impl FromStr for TaintEdit {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text.strip_suffix('-') {
            Some(key) => Ok(TaintEdit::Remove(key.parse()?)),
            None => text.parse().map(TaintEdit::Set),
        }
    }
}

/// `tutti node`
#[derive(Debug, Clone, Subcommand)]
pub enum NodeCommand {
    /// Show every node, and every other member of the cluster
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
    /// Have what runs on a node run elsewhere, and let it take nothing new
    ///
    /// What serves there goes on until others can, so nothing is lost; what finds no room elsewhere stays. Ends when
    /// nothing is left.
    Drain {
        /// Its name
        node: NodeName,
        /// Whether and how long it is waited for
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Let a node take new instances again
    Uncordon {
        /// Its name
        node: NodeName,
    },
    /// Give a node labels, for the constraints of services, or take some from it
    Label {
        /// Its name
        node: NodeName,
        /// KEY=VALUE or KEY to set one, KEY- to remove it
        #[arg(required = true, value_name = "LABEL")]
        labels: Vec<LabelEdit>,
    },
    /// Keep instances away from a node that do not tolerate it, or let them come again
    ///
    /// With NoSchedule no new ones are placed there; with NoExecute those that run there move elsewhere, too. A service
    /// tolerates a taint by [service.placement] tolerations in its manifest.
    Taint {
        /// Its name
        node: NodeName,
        /// KEY[=VALUE]:NoSchedule or :NoExecute to set one, KEY- to remove it
        #[arg(required = true, value_name = "TAINT")]
        taints: Vec<TaintEdit>,
    },
    /// Remove a machine from the cluster, reachable or not
    Remove {
        /// Its name
        node: NodeName,
    },
}

/// `tutti token`
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Create a token and show its secret, this once
    Create {
        /// A name for people, such as ci; with --node the machine's, which it is else free to choose
        #[arg(required_unless_present = "node")]
        name: Option<String>,
        /// One that admits a machine to the cluster, once, for tutti join
        #[arg(long, conflicts_with_all = ["user", "role", "domain"])]
        node: bool,
        /// What that machine may run at most (server, agent, ingress, dns, registry, builder), with commas; agent and
        /// ingress without this
        #[arg(long, value_name = "ROLE,…", requires = "node", value_delimiter = ',')]
        runs: Vec<MachineRole>,
        /// Whose it is; a user's own without this, --role and --domain
        #[arg(long)]
        user: Option<UserName>,
        /// What it may do (admin, owner, deployer or viewer); a user's at most that
        #[arg(long)]
        role: Option<Role>,
        /// Where; needed for every role but admin, and a user's everywhere
        #[arg(long)]
        domain: Option<DomainName>,
        /// How long it works, such as 720h; for ever without this, and with --node for a day
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
