//! The whole tree of commands: what the client has, and what starts a role.

mod backup;
mod common;
mod dns;
mod ingress;

pub(crate) use {dns::DnsArgs, ingress::IngressArgs};

use crate::{
    bootstrap::{BootstrapArgs, Verb},
    server::Begins,
    settings::{Effective, Sources},
};
use backup::{BackupArgs, RestoreArgs, StateArgs};
use clap::{Args, Parser, Subcommand};
use common::{ControlArgs, Given, RoleArgs};
use std::{collections::BTreeMap, path::PathBuf};
use tutti_cli::{ClientCommand, Globals};
use tutti_model::Problem;

/// Your own cloud, in one binary.
#[derive(Debug, Parser)]
#[command(name = "tutti", version, arg_required_else_help = true, max_term_width = 80)]
pub(crate) struct Tutti {
    /// For every command.
    #[command(flatten)]
    pub(crate) globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do with a store.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Copy everything into another, empty store, and see that both have the same
    ///
    /// Nothing may run over either. A copy that is cut off is begun anew by the same command; until it is whole, its
    /// target is not opened.
    Migrate(MigrateArgs),
    /// Make a new recovery key, which opens backups made from then on, and show it once
    RecoveryKey(StateArgs),
}

/// Flags of `tutti store migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// The store that there is: sqlite:PATH or etcd://HOST:PORT[,HOST:PORT…]
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// The one that it is copied into
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole cloud on this machine: control, agent and ingress in one process
    Dev(DevArgs),
    /// Run another node of a cloud on this machine: instances and their proxy
    Agent(AgentArgs),
    /// Run a control of a cluster on this machine: API, registry and the loops
    Server(ServerArgs),
    /// Make this machine a member of a cluster
    Join(JoinArgs),
    /// Run another ingress of a cloud on this machine: a way in that serves on while control is away
    Ingress(IngressArgs),
    /// Answer for the names of a cloud: a DNS server that answers on while control is away
    Dns(DnsArgs),
    /// Write the state of a cloud into one encrypted file, while it runs or not
    Backup(BackupArgs),
    /// Fill an empty store from a backup
    Restore(RestoreArgs),
    /// Make bare hosts a cluster, as a file says, or bring one back that its store holds
    Bootstrap(BootstrapArgs),
    /// What `tutti bootstrap` does on a host; what, it is told on standard input.
    #[command(hide = true)]
    Host {
        /// What.
        verb: Verb,
    },
    /// Keep the units of `tutti bootstrap` running on a host without systemd.
    #[command(hide = true)]
    Supervise,
    /// Look after the store itself, with no cloud running over it
    #[command(subcommand)]
    Store(StoreCommand),
    /// Whatever is a client of a cloud.
    #[command(flatten)]
    Client(ClientCommand),
}

/// `tutti dev`. A flag wins over its variable, and that over `tutti.toml`.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// Address of the ingress, HTTP/1.1 and HTTP/2 [env: TUTTI_LISTEN_HTTP] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT")]
    http: Option<String>,
    /// Bandwidth of this node, such as 1Gbit [env: TUTTI_BANDWIDTH] [default: what the kernel says]
    #[arg(long, value_name = "BANDWIDTH")]
    bandwidth: Option<String>,
    /// Labels of this node, for the constraints of services [env: TUTTI_LABELS]
    #[arg(long, value_name = "KEY=VALUE,…")]
    labels: Option<String>,
    #[command(flatten)]
    role: RoleArgs,
}

impl DevArgs {
    /// The effective settings of this command.
    ///
    /// # Errors
    /// Every fault in every source.
    pub(crate) fn effective(&self, globals: &Globals) -> Result<Effective, Vec<Problem>> {
        let own = [
            ("http", &self.http),
            ("bandwidth", &self.bandwidth),
            ("labels", &self.labels),
            ("context", &globals.context),
        ];
        effective(&[&own, &self.control.given(), &self.role.given()], self.role.config.as_ref())
    }
}

/// `tutti server`. A flag wins over its variable, and that over `tutti.toml`.
#[derive(Debug, Args)]
#[command(after_help = "\
The first time it is started with --init: that makes a cluster in the store, or joins the one that \
is there. All controls of a cluster have the same store, and hand its key to each other.")]
pub(crate) struct ServerArgs {
    /// Make this machine a member that runs control, of a new cluster if the store holds none
    #[arg(long)]
    init: bool,
    /// With `--init`: become a member, in the place of one of this name that is gone, and end.
    #[arg(long, hide = true, requires = "init")]
    enrol: bool,
    #[command(flatten)]
    control: ControlArgs,
    /// Folder of this machine's key and certificate [env: TUTTI_MEMBER_DIR]
    #[arg(long, value_name = "PATH")]
    member_dir: Option<String>,
    /// Where other machines reach this one's API [env: TUTTI_ADVERTISE] [default: the address it listens on, or its name]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// What this machine runs for the cluster beside control: agent, ingress, dns, registry, builder [env: TUTTI_JOIN_ROLE]
    #[arg(long = "role", value_name = "ROLE,…")]
    beside: Option<String>,
    #[command(flatten)]
    role: RoleArgs,
}

impl ServerArgs {
    /// How it begins.
    pub(crate) const fn begins(&self) -> Begins {
        match (self.init, self.enrol) {
            (true, true) => Begins::Enrols,
            (true, false) => Begins::Init,
            (false, _) => Begins::Again,
        }
    }

    /// The effective settings of this command.
    ///
    /// # Errors
    /// Every fault in every source.
    pub(crate) fn effective(&self, globals: &Globals) -> Result<Effective, Vec<Problem>> {
        let own = [
            ("member_dir", &self.member_dir),
            ("advertise", &self.advertise),
            ("join.role", &self.beside),
            ("context", &globals.context),
        ];
        effective(&[&own, &self.control.given(), &self.role.given()], self.role.config.as_ref())
    }
}

/// `tutti join`. A flag wins over its variable, and that over `tutti.toml`.
#[derive(Debug, Args)]
#[command(after_help = "\
Then start what the machine was admitted for: tutti agent, ingress, dns, server. The token \
comes from tutti token create --node and is given with --token, where others see it in the list of \
processes while this runs, or in TUTTI_JOIN_TOKEN. On a control's own machine its owner needs none: \
tutti join unix:/PATH/control.sock --role ROLE admits it for more, or another of its member folders.")]
pub(crate) struct JoinArgs {
    /// Addresses of controls, as HOST:PORT[,HOST:PORT…], or unix:/PATH of a control's socket here [env: TUTTI_JOIN_CONTROLS]
    #[arg(value_name = "URL")]
    controls: Option<String>,
    /// What this machine will run: server, agent, ingress, dns, registry, builder [env: TUTTI_JOIN_ROLE] [default: agent,ingress]
    #[arg(long, value_name = "ROLE,…")]
    role: Option<String>,
    /// Name of this machine [env: TUTTI_NODE] [default: the host's name]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Where other machines reach this one's agent [env: TUTTI_ADVERTISE] [default: its name, and port 7071]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Folder of this machine's key and certificate [env: TUTTI_MEMBER_DIR]
    #[arg(long, value_name = "PATH")]
    member_dir: Option<String>,
    /// Where to read settings from [default: tutti.toml here, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl JoinArgs {
    /// The effective settings of this command.
    ///
    /// # Errors
    /// Every fault in every source.
    pub(crate) fn effective(&self, globals: &Globals) -> Result<Effective, Vec<Problem>> {
        // One of another kind is for the API, and stands in the environment.
        let token = globals.token.as_ref().map(|token| token.reveal().clone());
        let token = token.filter(|token| token.trim_start().starts_with("tuttijoin_"));
        let given = [
            ("join.controls", &self.controls),
            ("join.token", &token),
            ("join.role", &self.role),
            ("node", &self.node),
            ("advertise", &self.advertise),
            ("member_dir", &self.member_dir),
        ];
        effective(&[&given], self.config.as_ref())
    }
}

/// `tutti agent`. A flag wins over its variable, and that over `tutti.toml`.
#[derive(Debug, Args)]
#[command(after_help = "\
It ends at SIGTERM or SIGINT and leaves its processes running: the next agent of the same \
folder takes them up. To stop them: tutti agent --stop-instances, once it has ended.")]
pub(crate) struct AgentArgs {
    /// Where control is reached [env: TUTTI_AGENT_CONTROL] [default: control.sock in the data folder of tutti dev]
    #[arg(long, value_name = "unix:/PATH")]
    control: Option<String>,
    /// Folder of all that is kept [env: TUTTI_AGENT_DATA_DIR]
    #[arg(long, value_name = "PATH")]
    data_dir: Option<String>,
    /// Where this agent is reached [env: TUTTI_AGENT_SOCKET] [default: agent.sock in the data folder]
    #[arg(long, value_name = "unix:/PATH")]
    socket: Option<String>,
    /// Folder of this machine's key and certificate, if it is a member of a cluster [env: TUTTI_MEMBER_DIR]
    #[arg(long, value_name = "PATH")]
    member_dir: Option<String>,
    /// Where members of the cluster reach this agent [env: TUTTI_AGENT_LISTEN] [default: 0.0.0.0:7071]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Name of this node, another than every other's [env: TUTTI_AGENT_NODE] [default: the host's name and -agent]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Bandwidth of this node, such as 1Gbit [env: TUTTI_AGENT_BANDWIDTH] [default: what the kernel says]
    #[arg(long, value_name = "BANDWIDTH")]
    bandwidth: Option<String>,
    /// Labels of this node, for the constraints of services [env: TUTTI_AGENT_LABELS]
    #[arg(long, value_name = "KEY=VALUE,…")]
    labels: Option<String>,
    #[command(flatten)]
    role: RoleArgs,
    /// Stop the instances that the last agent of this data folder left running, and end
    #[arg(long)]
    pub(crate) stop_instances: bool,
}

impl AgentArgs {
    /// The effective settings of this command.
    ///
    /// # Errors
    /// Every fault in every source.
    pub(crate) fn effective(&self) -> Result<Effective, Vec<Problem>> {
        let given = [
            ("agent.control", &self.control),
            ("agent.data_dir", &self.data_dir),
            ("agent.socket", &self.socket),
            ("member_dir", &self.member_dir),
            ("agent.listen", &self.listen),
            ("agent.node", &self.node),
            ("agent.bandwidth", &self.bandwidth),
            ("agent.labels", &self.labels),
        ];
        effective(&[&given, &self.role.given()], self.role.config.as_ref())
    }
}

fn effective(given: &[&[Given<'_>]], config: Option<&PathBuf>) -> Result<Effective, Vec<Problem>> {
    let flags: BTreeMap<&'static str, String> =
        given.concat().into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?.clone()))).collect();
    let mut sources = Sources { flags, ..surroundings() };
    if let Some(path) = config {
        let text = std::fs::read_to_string(path).map_err(|error| {
            vec![Problem::invalid(format!("the settings in {} cannot be read: {error}", path.display()))]
        })?;
        sources.file = Some((path.clone(), text));
    }
    Effective::read(&sources)
}

/// What the surroundings say: the environment, and a `tutti.toml` here.
#[must_use]
pub(crate) fn surroundings() -> Sources {
    let path = PathBuf::from("tutti.toml");
    let file = std::fs::read_to_string(&path).ok().map(|text| (path, text));
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("TUTTI_") || name.starts_with("AWS_"));
    Sources { file, variables: variables.collect(), flags: BTreeMap::new() }
}

/// Settings as rows of `tutti config`: what, value, where from.
pub(crate) fn rows(effective: &Effective) -> Vec<(String, String, String)> {
    let rows = effective.rows();
    rows.map(|(setting, value, origin)| {
        // What lies in the data folder unless said otherwise is shown by what that means.
        let value = match (&*value, setting.key) {
            ("", "agent.control" | "ingress.control" | "dns.control") => {
                "in the data folder of tutti dev".to_owned()
            }
            ("", "resolver") => "this machine's".to_owned(),
            ("", "s3.endpoint") => "$AWS_ENDPOINT_URL, else Amazon's".to_owned(),
            ("", "s3.region") => "$AWS_REGION, else us-east-1".to_owned(),
            ("", "ingress.public") => "where it listens".to_owned(),
            ("", "dns.names") => "none".to_owned(),
            ("", "dns.name_servers") => "this one".to_owned(),
            ("", "notices") => "none".to_owned(),
            ("", "notices_credentials") => "none".to_owned(),
            ("", "notices_ca") => "this machine's".to_owned(),
            ("", "key") => "in the configuration folder".to_owned(),
            ("", _) => "in the data folder".to_owned(),
            _ => value.into_owned(),
        };
        (setting.shown(), value, origin.to_string())
    })
    .chain(effective.pool_rows())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    /// Made anew by: `tutti reference > docs/reference/cli.md`.
    #[test]
    fn the_reference_is_what_the_whole_program_prints() {
        let page = include_str!("../../../docs/reference/cli.md");
        let printed = tutti_cli::reference::markdown(&Tutti::command());
        let differs = page.lines().zip(printed.lines()).find(|(page, printed)| page != printed);
        assert_eq!(differs, None, "make it anew: tutti reference > docs/reference/cli.md");
        assert_eq!(page.trim_end(), printed.trim_end());
    }

    #[test]
    fn help_fits_80_columns_however_wide_the_terminal_is() {
        let mut command = Tutti::command();
        command.build();
        for command in std::iter::once(&command).chain(command.get_subcommands()) {
            let help = command.clone().render_long_help().to_string();
            let long: Vec<&str> = help.lines().filter(|line| line.chars().count() > 80).collect();
            assert!(long.is_empty(), "{}: {long:#?}", command.get_name());
        }
    }
}
