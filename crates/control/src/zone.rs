//! The zone's interface, served from the store: what agents and ingresses of this zone see and say.

use crate::{Objects, observed::Observed, secrets, server::audit};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use tutti_api::{
    Change, WatchEvent, WatchStream, ZoneApi,
    zone::{HeartbeatAnswer, IngressReport, InstanceReport, NodeHeartbeat},
};
use tutti_base::SecretValues;
use tutti_model::{
    InstanceId, Millis, Problem, Resource, Timestamp,
    control::PresenceSpec,
    ingress::{IngressSpec, IngressStatus},
    instance::{InstanceSpec, LEASES_PER_NODE},
    name::NodeName,
    node::{NodeSpec, NodeStatus},
    pool::PoolSpec,
    resource::Object,
    table::TableSpec,
};
use tutti_plan::{happened, pool::labels, zone::is_leased};
use tutti_seal::Keyring;
use tutti_store::StoreError;

/// An ingress that is silent for this long no longer counts: nobody waits for its acknowledgement.
const INGRESS_TTL: Millis = Millis::seconds(10);

/// How often a write is decided anew when what it was decided from had changed. Two writers (the agent's reports and
/// the zone's goals) share an instance, so a few in a row are ordinary; more means that something spins.
const ATTEMPTS: usize = 16;

/// The zone's interface over its own store.
#[derive(Debug, Clone)]
pub struct LocalZone {
    objects: Objects,
    observed: Observed,
    keyring: Keyring,
}

impl LocalZone {
    /// The interface of the zone that `objects` belongs to, whose secrets are sealed with `keyring`.
    #[must_use]
    pub const fn new(objects: Objects, observed: Observed, keyring: Keyring) -> Self {
        LocalZone { objects, observed, keyring }
    }

    /// Forgets one ingress, so that nobody waits until its lease has run out. Only for one that is known to be dead:
    /// others in processes of their own live on while control starts anew, and must be waited for.
    ///
    /// # Errors
    /// The store's own.
    pub async fn forget_ingress(&self, ingress: &str) -> Result<(), Problem> {
        if let Some(ingress) = self.objects.find::<IngressSpec>(ingress).await? {
            // A refusal means that its lease has just expired.
            self.objects.write().delete(&ingress).commit().await?;
        }
        Ok(())
    }

    /// Stores the first of these reports, as many as go into one transaction, and says how many.
    async fn report_batch(&self, node: &NodeName, reports: &[InstanceReport]) -> Result<usize, Problem> {
        for _ in 0..ATTEMPTS {
            let mut write = self.objects.write();
            let mut taken = 0;
            for report in reports {
                // Each with what it means.
                if write.room() < 2 {
                    break;
                }
                taken += 1;
                let Some(mut instance) = self.objects.find::<InstanceSpec>(report.instance.as_str()).await?
                else {
                    continue;
                };
                if instance.spec.node != *node {
                    return Err(not_here(&report.instance, node));
                }
                if !instance.status.state.may_become(report.status.state) || instance.status == report.status
                {
                    continue;
                }
                let before = std::mem::replace(&mut instance.status, report.status.clone());
                let event = happened::of_instance(self.objects.clock().now(), &before, &instance);
                write = write.update(&instance).tell(event);
            }
            if write.operations() == 0 || write.commit().await?.is_some() {
                return Ok(taken);
            }
        }
        Err(Problem::conflict(format!("the instances of node {node} change too fast to take its report")))
    }

    /// What is asked of a node that comes for the first time: nothing; of one that a pool has made, that it has the pool's
    /// labels and taints from its first moment, so that nothing runs there that they keep away.
    async fn new_node(&self, node: &NodeName) -> Result<NodeSpec, Problem> {
        let new = NodeSpec::new(node.clone());
        let pools = self.objects.list::<PoolSpec>("").await?.items;
        let own = pools.into_iter().find(|pool| pool.status.machines.iter().any(|it| it.name == *node));
        Ok(match own {
            Some(pool) => NodeSpec { labels: labels(&pool.spec), taints: pool.spec.taints, ..new },
            None => new,
        })
    }

    /// Notes that a node is heard, and keeps its presence in the store.
    async fn hear(&self, now: Timestamp, node: &NodeName, heartbeat: NodeHeartbeat) -> Result<(), Problem> {
        if let Some(lease) = self.observed.heartbeat(now, node, heartbeat) {
            match self.objects.store().keep_alive(lease).await {
                Ok(()) => return Ok(()),
                Err(StoreError::LeaseGone(_)) => self.observed.present(node, None),
                Err(error) => return Err(error.into()),
            }
        }
        for _ in 0..ATTEMPTS {
            let lease = self.objects.store().grant(crate::observed::NODE_SILENCE).await?;
            let write = match self.objects.find::<PresenceSpec>(node.as_str()).await? {
                // The node was heard by another control until now, or by this one's last life.
                Some(known) => self.objects.write().update_leased(&known, lease),
                None => {
                    let made = self.objects.make(node.as_str(), PresenceSpec { node: node.clone() });
                    self.objects.write().create_leased(&made, lease)
                }
            };
            if write.commit().await?.is_some() {
                self.observed.present(node, Some(lease));
                return Ok(());
            }
            self.objects.store().revoke(lease).await?;
        }
        Err(Problem::conflict(format!("the presence of node {node} changes too fast to be kept")))
    }

    /// Which of these singletons' instances may run on: those of this node that are not to stop. Read from the store and
    /// from no cache: once it is written that one is to stop, no control gives it another lease.
    async fn leases(&self, node: &NodeName, asked: &[InstanceId]) -> Result<HeartbeatAnswer, Problem> {
        let mut answer = HeartbeatAnswer::default();
        for instance in asked.iter().take(LEASES_PER_NODE) {
            let found = self.objects.find::<InstanceSpec>(instance.as_str()).await?;
            if found.is_some_and(|found| is_leased(&found, node)) {
                answer.leases.push(instance.clone());
            }
        }
        Ok(answer)
    }

    async fn store_ingress(&self, report: &IngressReport) -> Result<(), Problem> {
        for _ in 0..ATTEMPTS {
            let (known, _) = self.observed.ingress(report);
            let lease = match known {
                Some(lease) => lease,
                None => self.objects.store().grant(INGRESS_TTL).await?,
            };
            let status = IngressStatus { reached: report.reached };
            let write = match self.objects.find::<IngressSpec>(&report.ingress).await? {
                Some(mut object) => {
                    object.spec = report.spec.clone();
                    object.status = status;
                    self.objects.write().update_leased(&object, lease)
                }
                None => {
                    let mut object = self.objects.make(&report.ingress, report.spec.clone());
                    object.status = status;
                    self.objects.write().create_leased(&object, lease)
                }
            };
            match write.commit().await {
                Ok(Some(_)) => {
                    self.observed.ingress_stored(&report.ingress, lease, report.reached);
                    return Ok(());
                }
                Ok(None) => {}
                // Its lease has expired: it starts again with another.
                Err(problem) if problem.code == tutti_model::ErrorCode::NotFound => {
                    self.observed.ingress_left(&report.ingress);
                }
                Err(problem) => return Err(problem),
            }
        }
        Err(Problem::conflict(format!("ingress {} cannot be stored", report.ingress)))
    }
}

/// A name has one living holder, known by its address: two agents of one name would run the same instances twice.
fn taken(known: &Resource<NodeSpec>) -> Problem {
    let holder = match &known.status.address {
        Some(address) => format!("the agent at {address}"),
        None => "the node in control's own process".to_owned(),
    };
    let text = format!("node name \"{}\" is taken by {holder}", known.name);
    Problem::new(tutti_model::ErrorCode::AlreadyExists, text).hint(format!(
        "choose another with --node; a name is free {} s after its agent was last heard",
        crate::observed::NODE_SILENCE.0 / 1000
    ))
}

/// What a node says or asks of another's instance.
fn not_here(instance: &InstanceId, node: &NodeName) -> Problem {
    Problem::new(tutti_model::ErrorCode::Forbidden, format!("instance {instance} is not on node {node}"))
}

/// After so many transactions of which nothing was wanted a watch says how far it is, so that whoever resumes it need
/// not begin anew: well below what every store retains, and no more than a hundredth of the traffic.
const TELL_AFTER: usize = 128;

/// Keeps the objects of a watch that `keep` wants, for a `keep` that never changes its mind about an object. Deletions
/// of others pass too, since who never knew an object does not miss it.
fn only<S: Object>(
    stream: WatchStream<S>,
    keep: impl Fn(&tutti_model::Resource<S>) -> bool + Send + Sync + 'static,
) -> WatchStream<S> {
    let mut left_out = 0;
    let filtered = stream.filter_map(move |event| {
        let event = match event {
            Ok(WatchEvent::InitItem(object)) => keep(&object).then_some(Ok(WatchEvent::InitItem(object))),
            Ok(WatchEvent::Changes { revision, changes }) => {
                let changes: Vec<_> = changes
                    .into_iter()
                    .filter_map(|change| match change {
                        Change::Put(object) if !keep(&object) => None,
                        change => Some(change),
                    })
                    .collect();
                left_out = if changes.is_empty() { left_out + 1 } else { 0 };
                let tells = !changes.is_empty() || left_out % TELL_AFTER == 0;
                tells.then_some(Ok(WatchEvent::Changes { revision, changes }))
            }
            other => Some(other),
        };
        std::future::ready(event)
    });
    filtered.boxed()
}

#[async_trait]
impl ZoneApi for LocalZone {
    fn watch_tables(&self, after: Option<u64>) -> WatchStream<TableSpec> {
        self.objects.watch(after)
    }

    fn watch_instances(&self, node: &NodeName, after: Option<u64>) -> WatchStream<InstanceSpec> {
        let node = node.clone();
        only(self.objects.watch(after), move |instance| instance.spec.node == node)
    }

    fn watch_node(&self, node: &NodeName, after: Option<u64>) -> WatchStream<NodeSpec> {
        let node = node.clone();
        only(self.objects.watch(after), move |object| object.spec.node == node)
    }

    fn watch_nodes(&self, after: Option<u64>) -> WatchStream<NodeSpec> {
        self.objects.watch(after)
    }

    async fn register_node(&self, node: &NodeName, status: NodeStatus) -> Result<(), Problem> {
        for _ in 0..ATTEMPTS {
            let found = self.objects.find::<NodeSpec>(node.as_str()).await?;
            let now = self.objects.clock().now();
            if let Some(known) = &found
                && known.status.address != status.address
                && self.objects.find::<PresenceSpec>(node.as_str()).await?.is_some()
            {
                return Err(taken(known));
            }
            self.hear(now, node, NodeHeartbeat::default()).await?;
            let write = match found {
                Some(known) if known.status == status => return Ok(()),
                Some(mut known) => {
                    let before = std::mem::replace(&mut known.status, status.clone());
                    let event = happened::of_node(now, Some(&before), &known);
                    self.objects.write().update(&known).tell(event)
                }
                None => {
                    let spec = self.new_node(node).await?;
                    let mut object = self.objects.make(node.as_str(), spec);
                    object.status = status.clone();
                    let event = happened::of_node(now, None, &object);
                    self.objects.write().create(&object).tell(event)
                }
            };
            if write.commit().await?.is_some() {
                return Ok(());
            }
        }
        Err(Problem::conflict(format!("node {node} changes too fast to be registered")))
    }

    async fn heartbeat(&self, node: &NodeName, heartbeat: NodeHeartbeat) -> Result<HeartbeatAnswer, Problem> {
        let asked = heartbeat.leases.clone();
        self.hear(self.objects.clock().now(), node, heartbeat).await?;
        self.leases(node, &asked).await
    }

    async fn report_instances(&self, node: &NodeName, reports: Vec<InstanceReport>) -> Result<(), Problem> {
        let mut left = reports.as_slice();
        while !left.is_empty() {
            let taken = self.report_batch(node, left).await?;
            left = left.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    async fn instance_secrets(
        &self,
        node: &NodeName,
        instance: &InstanceId,
    ) -> Result<SecretValues, Problem> {
        let found = self.objects.get::<InstanceSpec>(instance.as_str()).await?;
        if found.spec.node != *node {
            return Err(not_here(instance, node));
        }
        let values = secrets::of_instance(&self.objects, &self.keyring, &found.spec).await?;
        audit::note_secrets(node, &found.spec);
        Ok(values)
    }

    async fn report_ingress(&self, report: IngressReport) -> Result<(), Problem> {
        self.observed.said(self.objects.clock().now(), &report);
        let (lease, is_new) = self.observed.ingress(&report);
        if let Some(lease) = lease {
            match self.objects.store().keep_alive(lease).await {
                Ok(()) if !is_new => return Ok(()),
                Ok(()) => {}
                Err(StoreError::LeaseGone(_)) => {
                    self.observed.ingress_left(&report.ingress);
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.store_ingress(&report).await
    }

    async fn leave_ingress(&self, ingress: &str) -> Result<(), Problem> {
        if let Some(lease) = self.observed.ingress_left(ingress) {
            self.objects.store().revoke(lease).await?;
        }
        Ok(())
    }
}
