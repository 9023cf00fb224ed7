//! What nodes and ingresses tell one control, the others are told each second: each of them shows it, and the one that
//! leads decides by it. What is lost is said again a second later.

use crate::dev::RELEASE;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tutti_api::{Cache, Client, zone::Figures};
use tutti_base::{Clock, Tasks};
use tutti_control::{Objects, observed::Observed};
use tutti_model::{
    Millis, Problem, cluster::MemberSpec, member::MachineRole, name::NodeName, node::HostPort,
};
use tutti_pki::{Expected, MemberDial};

/// Time between two tellings: as often as ingresses report.
const PAUSE: Millis = Millis::seconds(1);
/// Most nodes in one request.
const NODES_TOLD: usize = 32;
/// How long another control may take; then it is told more the next time.
const ANSWER: Duration = Duration::from_secs(1);

/// Tells the other controls of the cluster, while this runs.
pub(crate) fn tell(
    objects: &Objects,
    observed: Observed,
    own: NodeName,
    dial: MemberDial,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
) {
    let (mut members, stopping) = (objects.watch::<MemberSpec>(None), tasks.stopping());
    tasks.spawn("figures", async move {
        let (mut known, mut others) = (Cache::<MemberSpec>::default(), BTreeMap::new());
        loop {
            let pause = clock.sleep(PAUSE);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    biased;
                    () = stopping.cancelled() => return,
                    Some(event) = futures_util::StreamExt::next(&mut members) => match event {
                        Ok(event) => drop(known.apply(event)),
                        Err(problem) => tracing::debug!(%problem, "the watch over members goes on"),
                    },
                    () = &mut pause => break,
                }
            }
            keep_clients(&mut others, &known, &own, &dial);
            let parts = parts(observed.fresh(clock.now()));
            let told = others.iter().map(|(name, (_, client))| {
                let parts = &parts;
                async move {
                    for figures in parts {
                        let said = tokio::time::timeout(ANSWER, client.tell_figures(figures)).await;
                        if !matches!(said, Ok(Ok(()))) {
                            tracing::debug!(control = %name, "was not told all figures of this second");
                            return;
                        }
                    }
                }
            });
            futures_util::future::join_all(told).await;
        }
    });
}

/// What goes into one request each: what an ingress says is as much as may stand in one, and what a node says at most
/// 200 KiB. There is always one, which says that this control lives.
fn parts(figures: Figures) -> Vec<Figures> {
    let of = |nodes: &[_], ingresses| Figures {
        nodes: nodes.to_vec(),
        ingresses,
        dns: Vec::new(),
        release: RELEASE.to_owned(),
    };
    // DNS servers say two words each, and go with the first.
    let Figures { nodes, ingresses, mut dns, .. } = figures;
    let (first, others) = nodes.split_at(nodes.len().min(NODES_TOLD));
    let of_nodes = std::iter::once(first).chain(others.chunks(NODES_TOLD)).map(|nodes| of(nodes, Vec::new()));
    let parts = of_nodes.chain(ingresses.into_iter().map(|report| of(&[], vec![report])));
    parts.map(|part| Figures { dns: std::mem::take(&mut dns), ..part }).collect()
}

/// One client for each other control, made anew where its address has changed.
fn keep_clients(
    clients: &mut BTreeMap<NodeName, (HostPort, Client)>,
    members: &Cache<MemberSpec>,
    own: &NodeName,
    dial: &MemberDial,
) {
    let others: BTreeMap<NodeName, HostPort> = members
        .iter()
        .filter(|member| member.spec.roles.contains(&MachineRole::Server))
        .filter_map(|member| Some((member.name.parse().ok()?, member.spec.api.clone()?)))
        .filter(|(name, _)| name != own)
        .collect();
    clients.retain(|name, (address, _)| others.get(name) == Some(address));
    for (name, address) in others {
        if clients.contains_key(&name) {
            continue;
        }
        match client(&name, &address, dial) {
            Ok(client) => drop(clients.insert(name, (address, client))),
            Err(problem) => tracing::warn!(control = %name, %problem, "cannot be told any figures"),
        }
    }
}

fn client(name: &NodeName, address: &HostPort, dial: &MemberDial) -> Result<Client, Problem> {
    Client::of_cluster(std::slice::from_ref(address), dial.to(Expected::Member(name.clone()), None)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_api::zone::{DnsReport, NodeHeartbeat};

    #[test]
    fn something_is_told_always_and_not_too_much_at_once() {
        let told = |nodes: usize| {
            let node = |n: usize| (format!("n{n}").parse().unwrap(), NodeHeartbeat::default());
            let parts = parts(Figures { nodes: (0..nodes).map(node).collect(), ..Figures::default() });
            assert!(parts.iter().all(|part| part.release == RELEASE));
            parts.iter().map(|part| part.nodes.len()).collect::<Vec<_>>()
        };
        let report = DnsReport { server: "d1".parse().unwrap(), release: String::new() };
        let parts = parts(Figures { dns: vec![report.clone()], ..Figures::default() });
        assert_eq!(parts.iter().map(|part| part.dns.clone()).collect::<Vec<_>>(), [vec![report]]);
        assert_eq!(told(0), [0]);
        assert_eq!(told(NODES_TOLD), [NODES_TOLD]);
        assert_eq!(told(NODES_TOLD + 1), [NODES_TOLD, 1]);
    }
}
