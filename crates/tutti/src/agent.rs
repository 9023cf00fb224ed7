//! `tutti agent`: one more node of a cloud on this machine, in a process of its own.
//!
//! What it runs in processes outlives it: ended by a signal, or killed, it leaves them to the next agent of the same
//! folder. Control and ingress may come and go meanwhile; it goes on with what it last knew.

use crate::{
    claim::Claim,
    dev::RELEASE,
    folder::DataFolder,
    keys,
    membership::Membership,
    node_api, notices,
    parts::{bind, drivers, listen, no_socket, say},
    settings::{AgentSettings, capacity},
    stop::Stop,
};
use async_trait::async_trait;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use serde_json::json;
use std::{io, sync::Arc, time::Duration};
use tokio::net::{TcpListener, UnixListener};
use tutti_agent::{Agent, AgentOptions, Shutdown};
use tutti_api::{Client, ZoneApi, client::ZoneClient, debug::Inspection};
use tutti_base::{Clock, Random, SystemClock, Tasks};
use tutti_model::{Digest, Problem, member::MachineRole, name::NodeName, node::RoleAddress};
use tutti_pki::{Acceptor, Listens, listens};
use tutti_proxy::wire::{self, Guests};
use tutti_registry::{FolderBlobs, RemoteArtifacts, blobs::Pieces, remote::Origin};

/// How long running requests may take to finish when the process is to end.
const DRAIN: Duration = Duration::from_secs(10);
/// How long tasks may take to notice that it ends.
const ENDING: Duration = Duration::from_secs(5);

/// Runs until a signal; or stops what the last agent left, and returns.
///
/// # Errors
/// Whatever keeps it from starting, or made it end.
pub(crate) async fn run(
    settings: AgentSettings,
    stop_instances: bool,
    print_json: bool,
) -> Result<(), Problem> {
    let folder = DataFolder::take(&settings.data_dir)?;
    let parts = Parts::open(&settings, &folder).await?;
    if stop_instances {
        let agent = parts.agent(&settings, &folder, Arc::clone(&parts.zone) as _)?;
        return stop_left(&agent, print_json).await;
    }
    let (tasks, serving) = (Tasks::new(), Tasks::new());
    let agent = parts.agent(&settings, &folder, parts.noticed(&settings, &tasks).await?)?;
    let stop = Stop::new()?;
    let listener = listen(&settings.socket).await?;
    let port = parts.port(&settings).await?;

    // Nothing runs under a name before it is ours.
    tokio::select! {
        claimed = parts.claim(&settings, &folder, &agent) => claimed?,
        () = stop.asked(&tasks) => return Ok(()),
    }
    // Who comes once this node is known must be told from a stranger.
    tokio::select! {
        () = parts.stay_member(&tasks) => {}
        () = stop.asked(&tasks) => return Ok(()),
    }
    agent.run(tasks.clone())?;
    serve(listener, port, &parts, &settings, &agent, &serving);

    // What ran before runs again before anyone is told.
    let refused = tokio::select! {
        () = agent.registered() => {
            ready(&settings, &parts, &folder, print_json);
            tokio::select! {
                refused = agent.refused() => Some(refused),
                () = stop.asked(&tasks) => None,
            }
        }
        refused = agent.refused() => Some(refused),
        () = stop.asked(&tasks) => None,
    };
    end(&agent, &serving, &tasks, refused).await
}

/// Serves requests for instances, and for logs, on the agent's own socket, and to members of the cluster on its port.
fn serve(
    listener: UnixListener,
    port: Option<(TcpListener, Guests)>,
    parts: &Parts,
    settings: &AgentSettings,
    agent: &Agent,
    serving: &Tasks,
) {
    let others = node_api::others(agent.log_source(), serving.stopping());
    let (hop, node, tasks) = (agent.node_proxy(), parts.node.clone(), serving.clone());
    if let Some((port, guests)) = port {
        let (hop, node, others) = (Arc::clone(&hop), node.clone(), Arc::clone(&others));
        let serve = wire::serve_port(port, guests, hop, node, others, tasks.clone());
        serving.spawn("node port", serve);
    }
    // What all of a node's tenants run is its owner's business, and not that of every member who may send it requests.
    let (inspected, control) = (agent.clone(), parts.control(settings));
    let inspect: node_api::Inspect = Arc::new(move || {
        let (agent, control) = (inspected.clone(), control.clone());
        async move { agent.inspect(control).await.map(Inspection::Agent) }.boxed()
    });
    let counting = agent.clone();
    let others = node_api::with_inspection(others, inspect, Arc::new(move || counting.metrics()));
    serving.spawn("node socket", wire::serve(listener, hop, node, others, tasks));
}

/// Lets requests finish while new ones go elsewhere, and leaves what can run on by itself.
async fn end(agent: &Agent, serving: &Tasks, tasks: &Tasks, refused: Option<Problem>) -> Result<(), Problem> {
    tracing::info!("ending; processes are left running");
    let broken = tasks.stopping().is_cancelled();
    agent.take_no_more();
    if !serving.drain(DRAIN).await {
        tracing::warn!("some requests had not finished and were cut off");
    }
    agent.shutdown(Shutdown::Leave).await;
    if !tasks.drain(ENDING).await {
        tracing::warn!("some tasks had not ended in time");
    }
    match refused {
        Some(refused) => Err(refused),
        None if broken => Err(Problem::internal("a part of tutti failed; the log says which")),
        None => Ok(()),
    }
}

/// What the role is made of.
struct Parts {
    clock: Arc<dyn Clock>,
    random: Random,
    client: Client,
    zone: Arc<ZoneClient>,
    blobs: FolderBlobs,
    /// The node's name: the member's, where the machine is one.
    node: NodeName,
    /// Where the node is reached.
    address: RoleAddress,
    membership: Option<Membership>,
}

impl Parts {
    async fn open(settings: &AgentSettings, folder: &DataFolder) -> Result<Parts, Problem> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let membership = match settings.alone {
            true => None,
            false => Membership::find(&settings.member_dir, &clock)?,
        };
        let (client, node, address) = match &membership {
            Some(membership) => {
                membership.check_role(MachineRole::Agent)?;
                let member = &membership.kept.member;
                if !settings.node_is_default && settings.node != *member {
                    return Err(Problem::invalid(format!(
                        "this machine is member {member}, and its node is called the same, not {}",
                        settings.node
                    ))
                    .hint("leave out --node, or join under that name; a node of a control on this machine needs --control too"));
                }
                let address = membership.kept.addresses.first().cloned().ok_or_else(|| {
                    Problem::invalid("the membership does not say where this machine is reached")
                        .hint("join anew, with --advertise HOST:PORT")
                })?;
                (membership.client()?, membership.kept.member.clone(), RoleAddress::Port(address))
            }
            None => match &settings.control {
                RoleAddress::Socket(control) => {
                    (Client::over_socket(control), settings.node.clone(), settings.socket.clone())
                }
                RoleAddress::Port(_) => return Err(no_socket(&settings.control)),
            },
        };
        Ok(Parts {
            clock,
            random: Random::from_os(),
            zone: Arc::new(ZoneClient::new(client.clone())),
            client,
            blobs: FolderBlobs::open(folder.join("blobs")).await?,
            node,
            address,
            membership,
        })
    }

    /// Where control is, for people.
    fn control(&self, settings: &AgentSettings) -> String {
        match &self.membership {
            Some(_) => self.client.base().to_owned(),
            None => settings.control.to_string(),
        }
    }

    /// The port where other members come, if this machine is one.
    async fn port(&self, settings: &AgentSettings) -> Result<Option<(TcpListener, Guests)>, Problem> {
        let Some(membership) = &self.membership else { return Ok(None) };
        let (listener, _) = bind("listen", settings.listen).await?;
        let admits = Listens {
            table: Arc::clone(&membership.table),
            roles: Guests::ROLES.to_vec(),
            issued: None,
            members_only: true,
        };
        let config = listens(Arc::clone(&membership.identity), admits, Arc::clone(&self.clock))?;
        let acceptor = Arc::new(Acceptor::new(config));
        Ok(Some((listener, Guests { acceptor, table: Arc::clone(&membership.table) })))
    }

    /// Stays a member while this runs, if the machine is one. Returns once it is known who else is.
    async fn stay_member(&self, tasks: &Tasks) {
        if let Some(membership) = &self.membership {
            membership.stay(&self.client, self.random.clone(), tasks).await;
        }
    }

    /// The zone, as far as it is known what changes there.
    async fn noticed(&self, settings: &AgentSettings, tasks: &Tasks) -> Result<Arc<dyn ZoneApi>, Problem> {
        let cluster = self.membership.as_ref().map_or(notices::NO_CLUSTER, |it| it.kept.cluster.as_str());
        let (zone, topics) = (Arc::clone(&self.zone) as _, notices::of_node(&self.node));
        notices::heard(settings.notices.as_ref(), cluster, zone, &topics, tasks).await
    }

    fn agent(
        &self,
        settings: &AgentSettings,
        folder: &DataFolder,
        zone: Arc<dyn ZoneApi>,
    ) -> Result<Agent, Problem> {
        let origin = Arc::new(FromControl(Arc::clone(&self.zone)));
        Agent::new(AgentOptions {
            node: self.node.clone(),
            zone,
            drivers: drivers(folder.path(), &self.clock, &self.random)?,
            artifacts: Arc::new(RemoteArtifacts::new(origin, self.blobs.clone())),
            folder: folder.join("agent"),
            clock: Arc::clone(&self.clock),
            random: self.random.clone(),
            keyring: keys::of_node(folder.path())?,
            release: RELEASE.to_owned(),
            capacity: capacity(settings.bandwidth, folder.path()),
            labels: settings.labels.clone(),
            address: Some(self.address.clone()),
        })
    }

    async fn claim(
        &self,
        settings: &AgentSettings,
        folder: &DataFolder,
        agent: &Agent,
    ) -> Result<(), Problem> {
        if self.membership.is_some() {
            // The name is that of the key: nobody else can act under it.
            return Ok(());
        }
        let claim = Claim {
            node: &settings.node,
            address: &settings.socket,
            control: &settings.control,
            note: folder.join("claimed.json"),
        };
        claim.take(self.zone.as_ref(), agent.status().await, self.random.clone()).await
    }
}

/// Artifacts as control's registry has them.
#[derive(Debug)]
struct FromControl(Arc<ZoneClient>);

#[async_trait]
impl Origin for FromControl {
    async fn blob(&self, digest: &Digest) -> Result<Pieces, Problem> {
        Ok(self.0.blob(digest).await?.pieces.map_err(io::Error::other).boxed())
    }
}

async fn stop_left(agent: &Agent, print_json: bool) -> Result<(), Problem> {
    let stopped = agent.stop_left().await?;
    say(&match print_json {
        true => json!({ "stopped": stopped }).to_string(),
        false if stopped == 1 => "1 instance stopped".to_owned(),
        false => format!("{stopped} instances stopped"),
    });
    Ok(())
}

/// Says that everything serves.
fn ready(settings: &AgentSettings, parts: &Parts, folder: &DataFolder, print_json: bool) {
    let (agent, node) = (parts.address.to_string(), &parts.node);
    let control = parts.control(settings);
    say(&match print_json {
        true => json!({ "ready": true, "agent": agent, "node": node, "control": control, "data_dir": folder.path() })
            .to_string(),
        false => format!(
            "tutti agent {RELEASE} is ready\n  node     {node}\n  agent    {agent}\n  control  {control}\n  data     {}\n\n\
             Ended by a signal it leaves its processes running, for the next agent of this folder.",
            folder.path().display()
        ),
    });
}
