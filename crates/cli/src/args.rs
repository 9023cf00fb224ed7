//! The tree of commands, as clap reads it. What each does is in `commands`.

mod api;
mod nouns;
mod pool;

pub use api::{ApiArgs, BindgenArgs, Language, NewArgs};
pub use nouns::{
    AliasCommand, ContextCommand, DebugCommand, DeploymentCommand, DomainCommand, InstanceCommand, LabelEdit,
    MemberCommand, NodeCommand, RouteCommand, SecretCommand, ServiceCommand, TaintEdit, TokenCommand,
    UserCommand, VersionCommand,
};
pub use pool::{PoolArgs, PoolCommand};

use crate::Format;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use std::{convert::Infallible, path::PathBuf};
use tutti_base::Secret;
use tutti_model::{
    Millis, Share,
    deployment::AbortIf,
    name::{NodeName, ServiceText, VersionText},
};

/// Your own cloud, in one binary.
#[derive(Debug, Parser)]
#[command(name = "tutti", version, arg_required_else_help = true, max_term_width = 80)]
pub struct Cli {
    /// For every command.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: ClientCommand,
}

/// The tree without what the binary adds.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Address of the API, such as http://127.0.0.1:7070, or unix:/PATH of control's socket, which asks its owner and root
    /// for no token [env: TUTTI_API]
    // A text, and read by us: a role command may have an `--api` of its own under the same id.
    #[arg(long, global = true, value_name = "URL")]
    pub api: Option<String>,
    /// Secret of the token to use; others on this machine can see it, so prefer the next one [env: TUTTI_TOKEN]
    #[arg(long, global = true, value_name = "SECRET", value_parser = secret, conflicts_with = "token_file")]
    pub token: Option<Secret<String>>,
    /// File with the secret of the token to use
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// File with the certificates of the authorities that vouch for an https API, or sha256:FINGERPRINT of the
    /// cluster's root [default: those of this machine] [env: TUTTI_CA]
    #[arg(long, global = true, value_name = "FILE")]
    pub ca: Option<String>,
    /// Which of the known clouds to speak to [env: TUTTI_CONTEXT]
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// How results are written
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

fn secret(text: &str) -> Result<Secret<String>, Infallible> {
    Ok(Secret::new(text.to_owned()))
}

/// Every command that is a client of the API.
#[derive(Debug, Clone, Subcommand)]
pub enum ClientCommand {
    /// Make a project that serves what a .proto declares
    New(NewArgs),
    /// Write the interface (WIT) that a component for a .proto is written against
    Bindgen(BindgenArgs),
    /// Store a wasm component, a program or a folder as a new version
    Push(PushArgs),
    /// Give a version a share of its service's traffic
    Deploy(DeployArgs),
    /// Return to the weights from before the last deployment
    Rollback(RollbackArgs),
    /// Show what serves, and whether all is well
    Status(WatchArgs),
    /// Show running instances
    Ps(PsArgs),
    /// Show what instances write
    Logs(LogsArgs),
    /// Say why something is as it is
    Explain(ExplainArgs),
    /// Show who changed what, newest first
    Audit(AuditArgs),
    /// Show what happened by itself, newest last
    Events(EventsArgs),
    /// Set how many workers serve a service
    Scale(ScaleArgs),
    /// Tenants' namespaces
    #[command(subcommand)]
    Domain(DomainCommand),
    /// People, who belong to domains
    #[command(subcommand)]
    User(UserCommand),
    /// What is served
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Immutable builds of services
    #[command(subcommand)]
    Version(VersionCommand),
    /// Rollouts of versions
    #[command(subcommand)]
    Deployment(DeploymentCommand),
    /// Running copies of versions
    #[command(subcommand)]
    Instance(InstanceCommand),
    /// Hosts and paths, and where they lead
    #[command(subcommand)]
    Route(RouteCommand),
    /// Values that versions are given in their environment, and that nobody is shown
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Machines that run instances
    #[command(subcommand)]
    Node(NodeCommand),
    /// Machines that come when nothing fits, and go when nothing needs them
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Who may do what
    #[command(subcommand)]
    Token(TokenCommand),
    /// What to look at, or to send, when the cloud itself is not well
    #[command(subcommand)]
    Debug(DebugCommand),
    /// Show the effective settings, and where each came from
    Config,
    /// Clouds that this command knows
    #[command(subcommand)]
    Context(ContextCommand),
    /// Print a script that completes commands in a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the reference of every command as Markdown
    #[command(hide = true)]
    Reference,
}

/// `tutti push`
#[derive(Debug, Clone, Args)]
#[command(override_usage = "tutti push [OPTIONS] <PATH> <NAME@VERSION>\n       \
    tutti push [OPTIONS] <API.proto> <COMPONENT.wasm> <NAME@VERSION>")]
pub struct PushArgs {
    /// A wasm component, an executable file, or a folder (all of it but .git); for a gRPC service its .proto, then its
    /// component
    #[arg(value_name = "PATH", required = true, num_args = 1..=2)]
    pub paths: Vec<PathBuf>,
    /// What it is to be called, such as example.com:web@1.0
    #[arg(value_name = "NAME@VERSION")]
    pub version: VersionText,
    /// Its manifest; without this, the tutti.toml in the folder or beside the file, if there is one
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// Folder that the .proto's imports are looked up in; may be given several times [default: the file's own folder]
    #[arg(long, value_name = "DIR")]
    pub proto_path: Vec<PathBuf>,
    /// Return once it is stored, without waiting until a node holds it ready to start
    #[arg(long)]
    pub no_wait: bool,
    /// Longest to wait until a node holds it ready to start, such as 10s; nodes go on after that [default: 2m]
    #[arg(long, value_name = "TIME", conflicts_with = "no_wait")]
    pub timeout: Option<Millis>,
}

/// Whether to wait for a rollout.
#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// Wait until it has ended [default]
    #[arg(long, overrides_with = "no_wait")]
    pub wait: bool,
    /// Return once it has begun
    #[arg(long, overrides_with = "wait")]
    pub no_wait: bool,
    /// Longest to wait, such as 2m; it goes on after that
    #[arg(long, value_name = "TIME", conflicts_with = "no_wait")]
    pub timeout: Option<Millis>,
}

/// `tutti deploy`
#[derive(Debug, Clone, Args)]
#[command(override_usage = "tutti deploy [OPTIONS] <NAME@VERSION> <SHARE>\n       \
    tutti deploy [OPTIONS] <NAME@VERSION> --steps <SHARE,…> --every <TIME>")]
pub struct DeployArgs {
    /// Which version, such as example.com:web@1.1
    #[arg(value_name = "NAME@VERSION")]
    pub version: VersionText,
    /// Its share of the traffic, such as 100%, 10% or 0.1%
    #[arg(required_unless_present = "steps", conflicts_with = "steps")]
    pub share: Option<Share>,
    /// Several shares, one after the other, such as 1%,10%,50%,100%
    #[arg(long, value_name = "SHARE,…", value_delimiter = ',', requires = "every")]
    pub steps: Vec<Share>,
    /// How long each step is observed before the next, such as 30s
    #[arg(long, value_name = "TIME", requires = "steps")]
    pub every: Option<Millis>,
    /// When to give up and return to the weights from before, such as 'error_rate>1%,p99>500ms'
    #[arg(long, value_name = "CONDITION,…", value_delimiter = ',', requires = "steps")]
    pub abort_if: Vec<AbortIf>,
    /// Waiting.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `tutti rollback`
#[derive(Debug, Clone, Args)]
pub struct RollbackArgs {
    /// Which service
    pub service: ServiceText,
    /// Waiting.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `tutti status`
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// Stay, and show every change
    #[arg(short, long)]
    pub watch: bool,
}

/// `tutti ps`
#[derive(Debug, Clone, Args)]
pub struct PsArgs {
    /// Only of this service
    pub service: Option<ServiceText>,
    /// Stay, and show every change
    #[arg(short, long)]
    pub watch: bool,
}

/// `tutti logs`
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// A service, a version (NAME@VERSION) or an instance (i-…)
    #[arg(value_name = "SERVICE|VERSION|INSTANCE")]
    pub of: String,
    /// Stay, and show new lines as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Only of instances that have ended
    #[arg(short, long, conflicts_with = "follow")]
    pub previous: bool,
    /// Show at most the last N lines [default: 100, or all with --since]
    #[arg(long, value_name = "N")]
    pub tail: Option<usize>,
    /// Show lines of the last so long, such as 5m
    #[arg(long, value_name = "TIME")]
    pub since: Option<Millis>,
}

/// `tutti explain`
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// KIND/NAME, or a name that says what it is: d-…, i-…, NAME@VERSION, a service, a host
    #[arg(value_name = "OBJECT")]
    pub object: String,
}

/// `tutti audit`
#[derive(Debug, Clone, Args)]
pub struct AuditArgs {
    /// Only changes of this object: KIND/NAME, or its name
    #[arg(value_name = "OBJECT")]
    pub object: Option<String>,
    /// Only what this token, user or member asked for
    #[arg(long, value_name = "NAME")]
    pub who: Option<String>,
    /// Only changes of the last so long, such as 5m
    #[arg(long, value_name = "TIME")]
    pub since: Option<Millis>,
    /// Show at most the newest N
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
}

/// `tutti events`
#[derive(Debug, Clone, Args)]
pub struct EventsArgs {
    /// Only those of this service
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<ServiceText>,
    /// Only those on this node
    #[arg(long, value_name = "NODE")]
    pub node: Option<NodeName>,
    /// Only those of the last so long, such as 5m
    #[arg(long, value_name = "TIME")]
    pub since: Option<Millis>,
    /// Show at most the newest N
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// Stay, and show what happens
    #[arg(short, long)]
    pub follow: bool,
}

/// `tutti scale`
#[derive(Debug, Clone, Args)]
pub struct ScaleArgs {
    /// Which service
    pub service: ServiceText,
    /// How many workers serve its whole traffic, or auto to leave it to the manifest
    #[arg(value_name = "N|auto")]
    pub workers: Workers,
}

/// How many workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers(pub Option<u32>);

impl std::str::FromStr for Workers {
    type Err = tutti_model::Problem;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Workers(None)),
            _ => text.parse().ok().filter(|count| *count > 0).map(|count| Workers(Some(count))).ok_or_else(
                || {
                    tutti_model::Problem::invalid(format!(
                        "\"{text}\" is neither a number of workers from 1 nor \"auto\""
                    ))
                },
            ),
        }
    }
}
