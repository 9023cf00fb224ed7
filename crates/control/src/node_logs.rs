//! The logs of a zone: those of its nodes, merged.
//!
//! Control keeps no lines. It asks the nodes that run, or ran, the wanted instances, each over its own address, and
//! puts their lines in order of time. A node that does not answer is said in the output, as a line of Tutti's own about
//! its first instance, and keeps the others waiting only for [`tutti_api::node_logs::SILENCE`].

mod merge;
mod resume;

use crate::Objects;
use async_trait::async_trait;
use futures_util::{future, stream::BoxStream};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tutti_api::{
    client::NodeLogs,
    logs::{Kept, LogSource},
};
use tutti_model::{
    InstanceId, Problem,
    instance::InstanceSpec,
    log::{LogLine, LogQuery},
    name::NodeName,
    node::{NodeSpec, RoleAddress},
};
use tutti_pki::{Expected, MemberDial};

type Lines = BoxStream<'static, Result<LogLine, Problem>>;

/// The logs of every node of a zone.
#[derive(Debug)]
pub struct ZoneLogs {
    objects: Objects,
    here: Option<(NodeName, Arc<dyn LogSource>)>,
    /// Which node elsewhere keeps the lines of instances that control may no longer know, as of the last time that all
    /// were asked. Bounded by what each node keeps.
    places: Mutex<BTreeMap<InstanceId, NodeName>>,
    members: Option<MemberDial>,
}

impl ZoneLogs {
    /// The logs of the nodes that `objects` knows; those of the node in the same process, if there is one, by a call.
    #[must_use]
    pub fn new(objects: Objects, here: Option<(NodeName, Arc<dyn LogSource>)>) -> Self {
        ZoneLogs { objects, here, places: Mutex::default(), members: None }
    }

    /// With the way to nodes on other machines, as a member of the cluster.
    #[must_use]
    pub fn as_member(mut self, members: MemberDial) -> Self {
        self.members = Some(members);
        self
    }

    fn place(&self, id: &InstanceId) -> Option<NodeName> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// The wanted instances by the node they are on. One that control no longer knows may still have its lines here.
    async fn by_node(
        &self,
        instances: &[InstanceId],
    ) -> Result<BTreeMap<NodeName, Vec<InstanceId>>, Problem> {
        let mut nodes: BTreeMap<NodeName, Vec<InstanceId>> = BTreeMap::new();
        for id in instances {
            let node = match self.objects.find::<InstanceSpec>(id.as_str()).await? {
                Some(instance) => Some(instance.spec.node),
                None => self.place(id).or_else(|| self.here.as_ref().map(|(node, _)| node.clone())),
            };
            if let Some(node) = node {
                nodes.entry(node).or_default().push(id.clone());
            }
        }
        Ok(nodes)
    }
}

/// How long a node may take to say whose lines it keeps: it reads a list from its disk.
const KEPT_ANSWER: Duration = Duration::from_secs(2);

/// Where one node's lines are read, again after its stream broke off.
#[derive(Debug, Clone)]
struct At {
    objects: Objects,
    node: NodeName,
    members: Option<MemberDial>,
}

/// The logs of a node, wherever it is reached.
fn logs_at(
    node: &NodeName,
    address: &RoleAddress,
    members: Option<&MemberDial>,
) -> Result<NodeLogs, Problem> {
    NodeLogs::at(address, || {
        let members = members.ok_or_else(|| {
            Problem::unavailable(format!(
                "node {node} is on another machine, and this one is a member of no cluster"
            ))
        })?;
        members.to(Expected::Member(node.clone()), None)
    })
}

impl At {
    /// The node may have been started again with another address, so that it is looked up each time.
    async fn read(&self, query: LogQuery) -> Result<Lines, Problem> {
        let node = self.objects.get::<NodeSpec>(self.node.as_str()).await?;
        let address = node.status.address.ok_or_else(|| {
            Problem::unavailable(format!("node {} has not said where it is reached", self.node))
        })?;
        logs_at(&self.node, &address, self.members.as_ref())?.read(query).await
    }
}

#[async_trait]
impl LogSource for ZoneLogs {
    async fn read(&self, query: LogQuery) -> Result<Lines, Problem> {
        let mut parts = Vec::new();
        for (node, instances) in self.by_node(&query.instances).await? {
            let query = LogQuery { instances, ..query.clone() };
            match &self.here {
                Some((here, logs)) if *here == node => parts.push(logs.read(query).await?),
                _ => {
                    let at = At { objects: self.objects.clone(), node, members: self.members.clone() };
                    parts.push(resume::lines(at, query, Arc::clone(self.objects.clock())));
                }
            }
        }
        Ok(merge::lines(parts, query.tail, query.follow, self.objects.clock().now()))
    }

    /// Those of every node that answers; one that does not is left out.
    async fn kept(&self) -> Result<Vec<Kept>, Problem> {
        let nodes = self.objects.list::<NodeSpec>("").await?.items;
        let others = nodes.into_iter().filter_map(|node| {
            let address = node.status.address?;
            Some(async move {
                let logs = match logs_at(&node.spec.node, &address, self.members.as_ref()) {
                    Ok(logs) => logs,
                    Err(problem) => return (node.spec.node, Err(problem)),
                };
                let kept = tokio::time::timeout(KEPT_ANSWER, logs.kept()).await;
                (node.spec.node, kept.unwrap_or_else(|_| Err(Problem::unavailable("no answer"))))
            })
        });
        let (mut all, mut places) = (Vec::new(), BTreeMap::new());
        for (node, kept) in future::join_all(others).await {
            match kept {
                Ok(kept) => {
                    places.extend(kept.iter().map(|kept| (kept.instance.clone(), node.clone())));
                    all.extend(kept);
                }
                Err(problem) => tracing::debug!(%node, %problem, "a node does not say whose lines it keeps"),
            }
        }
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = places;
        if let Some((_, here)) = &self.here {
            all.extend(here.kept().await?);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests;
