//! How a control comes by the cluster's key: from another control, over TLS between the two.
//!
//! Who may write to the store may be a control, and says there by which key it is known; so a control that begins asks
//! those that the store names, and they know it by the store too.

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, select_ok},
};
use std::{sync::Arc, time::Duration};
use tutti_api::{Client, members::ClusterKey};
use tutti_base::Clock;
use tutti_control::{Objects, secrets::key_of_all};
use tutti_model::{
    Millis, Problem, cluster::MemberSpec, member::MachineRole, name::NodeName, node::HostPort,
};
use tutti_pki::{Expected, Identity, MemberDial, MemberTable};
use tutti_seal::Keyring;
use zeroize::Zeroizing;

/// How long one control may take: one that is there answers in milliseconds, but hears of a new member by its watch.
const ANSWER: Duration = Duration::from_secs(3);
/// The pause before all are asked again.
const PAUSE: Millis = Millis(500);
/// How long somebody is waited for who has the key: several machines that begin at once are ready within this.
const PATIENCE: Millis = Millis::seconds(30);

/// Takes the key over from whichever other control has it.
///
/// # Errors
/// `unavailable` if none gives it in time, with what to do.
pub(crate) async fn take(
    objects: &Objects,
    keyring: &Keyring,
    identity: &Arc<Identity>,
    own: &NodeName,
    clock: &Arc<dyn Clock>,
) -> Result<(), Problem> {
    let end = clock.now().plus(PATIENCE);
    let mut last = Problem::unavailable("no other control is known");
    tracing::info!("asking the other controls for the key of the cluster");
    while clock.now() < end {
        // All at once: some of them may be beginning too, and not answer yet.
        let asked = others(objects, own).await?.into_iter().map(|(name, control, table)| {
            let dial = MemberDial { identity: Arc::clone(identity), table, clock: Arc::clone(clock) };
            ask(name, control, dial).boxed()
        });
        match select_first(asked.collect()).await {
            Some(Ok((name, key))) => {
                keyring.take_over(&Zeroizing::new(key.key.clone())).await?;
                key_of_all(objects, keyring).await?;
                tracing::info!(control = %name, "the key of the cluster was handed over");
                return Ok(());
            }
            Some(Err(problem)) => last = problem,
            None => {}
        }
        clock.sleep(PAUSE).await;
    }
    Err(Problem::unavailable(format!("no other control hands the key of the cluster over: {}", last.detail))
        .hint("start a control that has it, or copy its key to this machine and name it with --key FILE"))
}

type Asked = BoxFuture<'static, Result<(NodeName, ClusterKey), Problem>>;

/// The first that succeeds, or else the last problem; `None` of nothing.
async fn select_first(asked: Vec<Asked>) -> Option<Result<(NodeName, ClusterKey), Problem>> {
    if asked.is_empty() {
        return None;
    }
    Some(select_ok(asked).await.map(|(given, _)| given))
}

async fn ask(name: NodeName, control: HostPort, dial: MemberDial) -> Result<(NodeName, ClusterKey), Problem> {
    let client = Client::of_cluster(&[control], dial.to(Expected::Member(name.clone()), None)?)?;
    let silent = || Problem::unavailable(format!("{name} does not answer"));
    let key = tokio::time::timeout(ANSWER, client.cluster_key()).await.map_err(|_| silent())??;
    Ok((name, key))
}

/// Controls other than this one, and the table that each is known by.
async fn others(
    objects: &Objects,
    own: &NodeName,
) -> Result<Vec<(NodeName, HostPort, Arc<MemberTable>)>, Problem> {
    let members = objects.list::<MemberSpec>("").await?.items;
    let table = Arc::<MemberTable>::default();
    table.hold(&members);
    let others = members.into_iter().filter_map(|member| {
        let name: NodeName = member.name.parse().ok().filter(|name| name != own)?;
        let runs = member.spec.roles.contains(&MachineRole::Server);
        Some((name, member.spec.api.filter(|_| runs)?, Arc::clone(&table)))
    });
    Ok(others.collect())
}
