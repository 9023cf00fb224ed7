//! `tutti agent`: one more node of a cloud on this machine, in a process of its own.
//!
//! What it runs in processes outlives it: ended by a signal, or killed, it leaves them to the next agent of the same
//! folder. Control and ingress may come and go meanwhile; it goes on with what it last knew.

use crate::{
    claim::Claim,
    dev::RELEASE,
    folder::DataFolder,
    keys, node_api,
    parts::{drivers, listen, no_socket},
    settings::{AgentSettings, capacity},
    stop::Stop,
};
use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;
use std::{
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};
use tokio::net::UnixListener;
use tutti_agent::{Agent, AgentOptions, Shutdown};
use tutti_api::{Client, client::ZoneClient};
use tutti_base::{Clock, Random, SystemClock, Tasks};
use tutti_model::{Digest, Problem, node::RoleAddress};
use tutti_proxy::wire;
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
    let agent = parts.agent(&settings, &folder)?;
    if stop_instances {
        return stop_left(&agent, print_json).await;
    }
    let stop = Stop::new()?;
    let (tasks, serving) = (Tasks::new(), Tasks::new());
    let listener = listen(&settings.socket).await?;

    // Nothing runs under a name before it is ours.
    tokio::select! {
        claimed = parts.claim(&settings, &folder, &agent) => claimed?,
        () = stop.asked(&tasks) => return Ok(()),
    }
    agent.run(tasks.clone())?;
    serve(listener, &settings, &agent, &serving);

    // What ran before runs again before anyone is told.
    let refused = tokio::select! {
        () = agent.registered() => {
            ready(&settings, &folder, print_json);
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

/// Serves requests for instances, and for logs, on the agent's own socket.
fn serve(listener: UnixListener, settings: &AgentSettings, agent: &Agent, serving: &Tasks) {
    let others = node_api::others(agent.log_source(), serving.stopping());
    let (hop, node, tasks) = (agent.node_proxy(), settings.node.clone(), serving.clone());
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
    zone: Arc<ZoneClient>,
    blobs: FolderBlobs,
}

impl Parts {
    async fn open(settings: &AgentSettings, folder: &DataFolder) -> Result<Parts, Problem> {
        let RoleAddress::Socket(control) = &settings.control else {
            return Err(no_socket(&settings.control));
        };
        Ok(Parts {
            clock: Arc::new(SystemClock),
            random: Random::from_os(),
            zone: Arc::new(ZoneClient::new(Client::over_socket(control))),
            blobs: FolderBlobs::open(folder.join("blobs")).await?,
        })
    }

    fn agent(&self, settings: &AgentSettings, folder: &DataFolder) -> Result<Agent, Problem> {
        let origin = Arc::new(FromControl(Arc::clone(&self.zone)));
        Agent::new(AgentOptions {
            node: settings.node.clone(),
            zone: Arc::clone(&self.zone) as _,
            drivers: drivers(folder.path(), &self.clock, &self.random)?,
            artifacts: Arc::new(RemoteArtifacts::new(origin, self.blobs.clone())),
            folder: folder.join("agent"),
            clock: Arc::clone(&self.clock),
            random: self.random.clone(),
            keyring: keys::of_node(folder.path())?,
            release: RELEASE.to_owned(),
            capacity: capacity(settings.bandwidth),
            address: Some(settings.socket.clone()),
        })
    }

    async fn claim(
        &self,
        settings: &AgentSettings,
        folder: &DataFolder,
        agent: &Agent,
    ) -> Result<(), Problem> {
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
    print(&match print_json {
        true => json!({ "stopped": stopped }).to_string(),
        false if stopped == 1 => "1 instance stopped".to_owned(),
        false => format!("{stopped} instances stopped"),
    });
    Ok(())
}

/// Says that everything serves.
fn ready(settings: &AgentSettings, folder: &DataFolder, print_json: bool) {
    let (agent, node, control) = (settings.socket.to_string(), &settings.node, settings.control.to_string());
    print(&match print_json {
        true => json!({ "ready": true, "agent": agent, "node": node, "control": control, "data_dir": folder.path() })
            .to_string(),
        false => format!(
            "tutti agent {RELEASE} is ready\n  node     {node}\n  agent    {agent}\n  control  {control}\n  data     {}\n\n\
             Ended by a signal it leaves its processes running, for the next agent of this folder.",
            folder.path().display()
        ),
    });
}

fn print(text: &str) {
    let mut out = io::stdout().lock();
    // Whoever started it may have gone; that is no reason to stop serving.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
