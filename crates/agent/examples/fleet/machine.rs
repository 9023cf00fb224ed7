//! One machine of the fleet: a member with an agent whose zone says when what it watches has come.

use super::Failure;
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures_util::StreamExt as _;
use std::{collections::BTreeSet, path::Path, sync::Arc, time::Instant};
use tokio::sync::mpsc;
use tutti_agent::{Agent, AgentOptions};
use tutti_api::{
    Change, Client, WatchEvent, WatchStream, ZoneApi,
    client::ZoneClient,
    members::{self, CreateJoinToken, Join, Joined},
    zone::{HeartbeatAnswer, IngressReport, InstanceReport, NodeHeartbeat},
};
use tutti_base::{Clock, Random, SecretValues, SystemClock, Tasks};
use tutti_isolate::{Artifact, Artifacts, Recovery, mock::MockDriver};
use tutti_model::{
    Digest, InstanceId, Problem,
    instance::InstanceSpec,
    member::MachineRole,
    name::NodeName,
    node::{HostPort, NodeSpec, NodeStatus, Resources, RoleAddress},
    quantity::{Bandwidth, ByteSize, MilliCpu},
    scheduling::Labels,
    table::TableSpec,
    version::Isolate,
};
use tutti_pki::{Chain, Expected, Identity, JoinToken, MemberDial, MemberTable, Pin, connects_publicly};
use tutti_seal::{Keyring, SealingKey};

/// Something that came to one machine.
pub(crate) struct Arrival {
    pub(crate) what: Seen,
    pub(crate) at: Instant,
}

#[derive(Debug)]
pub(crate) enum Seen {
    /// The machine's own node, in this generation.
    Node { name: NodeName, generation: u64 },
    /// That another machine is a member no longer, by its name.
    Gone(String),
}

impl Seen {
    /// Whether who has seen this has seen what was wanted, too: a node's later generation holds the earlier one.
    pub(crate) fn holds(&self, wanted: &Seen) -> bool {
        match (self, wanted) {
            (Seen::Gone(name), Seen::Gone(wanted)) => name == wanted,
            (Seen::Node { name, generation }, Seen::Node { name: wanted, generation: least }) => {
                name == wanted && generation >= least
            }
            _ => false,
        }
    }
}

pub(crate) struct Machine {
    pub(crate) agent: Agent,
}

pub(crate) fn name(number: usize) -> Result<NodeName, Failure> {
    Ok(format!("n{number}").parse()?)
}

/// What is known of a cluster by who is a member of it.
pub(crate) struct Membership {
    identity: Arc<Identity>,
    root: Digest,
    controls: Vec<HostPort>,
}

impl Machine {
    /// Makes a machine a member, as `tutti join` does.
    pub(crate) async fn become_member(
        operator: &Client,
        control: &str,
        name: &NodeName,
        folder: &Path,
    ) -> Result<Membership, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let roles: BTreeSet<MachineRole> = [MachineRole::Agent].into();
        let create = CreateJoinToken { roles: roles.clone(), member: Some(name.clone()), expires_in: None };
        let token: JoinToken = operator.create_join_token(&create).await?.token.parse()?;
        std::fs::create_dir_all(folder)?;
        let identity = Arc::new(Identity::open(&folder.join("member"))?);
        let pin = Pin::Fingerprint(token.root().clone());
        let base = format!("https://{control}").parse()?;
        let joining = Client::with_tls(&base, Some(token.to_text()), || {
            connects_publicly(Some(&pin), None, Arc::clone(&clock))
        })?;
        let join = Join {
            member: name.clone(),
            roles,
            request: BASE64.encode(identity.request()?),
            addresses: vec![format!("{name}.invalid:7071").parse()?],
            release: "bench".into(),
        };
        let Joined { chain, .. } = joining.join(&join).await?;
        identity.take(Chain::from_pem(&chain)?)?;
        Ok(Membership { identity, root: token.root().clone(), controls: vec![control.parse()?] })
    }

    pub(crate) async fn join(
        operator: &Client,
        control: &str,
        number: usize,
        folder: &Path,
        (tasks, table): (&Tasks, &Arc<MemberTable>),
        arrivals: mpsc::UnboundedSender<Arrival>,
    ) -> Result<Machine, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let name = name(number)?;
        let known = Machine::become_member(operator, control, &name, folder).await?;
        let dial =
            MemberDial { identity: known.identity, table: Arc::clone(table), clock: Arc::clone(&clock) };
        let tls = dial.to(Expected::Role(MachineRole::Server), Some(known.root))?;
        let client = Client::of_cluster(&known.controls, tls)?;
        let told = arrivals.clone();
        let events = client.watch_members(None).inspect(move |event| {
            let Ok(WatchEvent::Changes { changes, .. }) = event else { return };
            for change in changes {
                if let Change::Delete { name } = change {
                    let _ = told.send(Arrival { what: Seen::Gone(name.clone()), at: Instant::now() });
                }
            }
        });
        let follows = Arc::clone(table);
        tasks.spawn("members", async move {
            // Every machine hears of every change, but one table for all is enough: each would hold the same.
            let mut events = events.boxed();
            match number {
                0 => members::follow(events, &follows, |_| {}).await,
                _ => while events.next().await.is_some() {},
            }
        });
        let agent = Agent::new(AgentOptions {
            node: name.clone(),
            zone: Arc::new(Told { zone: ZoneClient::new(client), arrivals }),
            drivers: vec![Arc::new(MockDriver::new(Isolate::Wasm, Recovery::Gone, Arc::clone(&clock)))],
            artifacts: Arc::new(Whatever),
            folder: folder.join("agent"),
            clock,
            random: Random::from_os(),
            keyring: Keyring::of(SealingKey::new(&zeroize::Zeroizing::new([7; tutti_seal::key::KEY_BYTES]))?),
            release: "bench".into(),
            capacity: Some(Resources {
                cpu: MilliCpu(64_000),
                memory: ByteSize(256 << 30),
                bandwidth: Bandwidth(0),
                disk: ByteSize(1 << 40),
            }),
            labels: Labels::default(),
            address: Some(RoleAddress::Port(format!("{name}.invalid:7071").parse()?)),
        })?;
        agent.run(tasks.clone())?;
        Ok(Machine { agent })
    }
}

/// Artifacts that nobody looks into: the mock driver runs nothing.
#[derive(Debug)]
struct Whatever;

#[async_trait]
impl Artifacts for Whatever {
    async fn fetch(&self, digest: &Digest) -> Result<Artifact, Problem> {
        Ok(Artifact { digest: digest.clone(), layers: Vec::new() })
    }
}

/// The zone over the wire, saying when the node's own object has come.
#[derive(Debug)]
struct Told {
    zone: ZoneClient,
    arrivals: mpsc::UnboundedSender<Arrival>,
}

#[async_trait]
impl ZoneApi for Told {
    fn watch_tables(&self, after: Option<u64>) -> WatchStream<TableSpec> {
        self.zone.watch_tables(after)
    }

    fn watch_instances(&self, node: &NodeName, after: Option<u64>) -> WatchStream<InstanceSpec> {
        self.zone.watch_instances(node, after)
    }

    fn watch_node(&self, node: &NodeName, after: Option<u64>) -> WatchStream<NodeSpec> {
        let told = self.arrivals.clone();
        let events = self.zone.watch_node(node, after).inspect(move |event| {
            let Ok(WatchEvent::Changes { changes, .. }) = event else { return };
            for change in changes {
                if let Change::Put(node) = change {
                    let what = Seen::Node { name: node.spec.node.clone(), generation: node.generation };
                    let _ = told.send(Arrival { what, at: Instant::now() });
                }
            }
        });
        events.boxed()
    }

    fn watch_nodes(&self, after: Option<u64>) -> WatchStream<NodeSpec> {
        self.zone.watch_nodes(after)
    }

    async fn register_node(&self, node: &NodeName, status: NodeStatus) -> Result<(), Problem> {
        self.zone.register_node(node, status).await
    }

    async fn heartbeat(&self, node: &NodeName, heartbeat: NodeHeartbeat) -> Result<HeartbeatAnswer, Problem> {
        self.zone.heartbeat(node, heartbeat).await
    }

    async fn report_instances(&self, node: &NodeName, reports: Vec<InstanceReport>) -> Result<(), Problem> {
        self.zone.report_instances(node, reports).await
    }

    async fn instance_secrets(
        &self,
        node: &NodeName,
        instance: &InstanceId,
    ) -> Result<SecretValues, Problem> {
        self.zone.instance_secrets(node, instance).await
    }

    async fn report_ingress(&self, report: IngressReport) -> Result<(), Problem> {
        self.zone.report_ingress(report).await
    }

    async fn leave_ingress(&self, ingress: &str) -> Result<(), Problem> {
        self.zone.leave_ingress(ingress).await
    }
}
