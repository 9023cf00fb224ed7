//! `tutti ingress`: one more way in to a cloud of this machine, in a process of its own.
//!
//! It keeps the tables that control last gave it in its folder, and serves by them for as long as control is away, from
//! its start on. How control and nodes are reached is told to it as [`Ways`], and is all that depends on where they are.

use crate::{
    dev::RELEASE,
    folder::DataFolder,
    membership::Membership,
    node_api, notices,
    parts::{bind, control_of_this_machine, listen, say},
    settings::IngressSettings,
    stop::Stop,
};
use serde_json::json;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::net::TcpListener;
use tutti_api::{
    Client, ZoneApi,
    client::ZoneClient,
    debug::{INSPECT, Inspection},
};
use tutti_base::{Clock, Random, SystemClock, Tasks};
use tutti_control::server;
use tutti_ingress::{Ingress, IngressOptions};
use tutti_model::{Problem, member::MachineRole, name::NodeName, node::RoleAddress};
use tutti_proxy::{
    serve::Limits,
    wire::{Dial, Members, NodeBook, Sockets, WireHop},
};

/// How long running requests may take to finish when the process is to end.
const DRAIN: Duration = Duration::from_secs(10);
/// How long it may take after them until control was told and tasks have ended.
const ENDING: Duration = Duration::from_secs(5);
/// How long the first tables may take before it is said that they are waited for: they take milliseconds.
const FIRST_TABLES: Duration = Duration::from_secs(2);

/// Where the ingress of a cluster listens where nobody says.
const OF_CLUSTER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 80);

/// How the rest of the cloud is reached from here.
#[derive(Debug)]
struct Ways {
    /// The zone's control.
    zone: Arc<dyn ZoneApi>,
    /// Connections to nodes.
    dial: Arc<dyn Dial>,
    /// What it is called.
    name: NodeName,
    /// Where control is, for people.
    control: String,
    /// The machine's membership in a cluster, with the way to its controls.
    member: Option<(Membership, Client)>,
}

impl Ways {
    /// As a member of a cluster, where the machine is one and nobody named another control; else over sockets.
    async fn find(settings: &IngressSettings) -> Result<Ways, Problem> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let membership = match settings.alone {
            true => None,
            false => Membership::find(&settings.member_dir, &clock)?,
        };
        match membership {
            Some(membership) => Ways::of_cluster(membership),
            None => Ways::of_this_machine(&settings.control, settings.name.clone()).await,
        }
    }

    /// To any of the cluster's controls, and to its nodes, over TLS.
    ///
    /// # Errors
    /// `forbidden` if the machine was not admitted for it.
    fn of_cluster(membership: Membership) -> Result<Ways, Problem> {
        membership.check_role(MachineRole::Ingress)?;
        let client = membership.client()?;
        Ok(Ways {
            zone: Arc::new(ZoneClient::new(client.clone())),
            dial: Arc::new(Members(membership.dial())),
            name: membership.kept.member.clone(),
            control: client.base().to_owned(),
            member: Some((membership, client)),
        })
    }

    /// Over sockets of this machine.
    ///
    /// # Errors
    /// As of [`control_of_this_machine`].
    async fn of_this_machine(control: &RoleAddress, name: NodeName) -> Result<Ways, Problem> {
        let zone = Arc::new(ZoneClient::new(control_of_this_machine(control, "ingress").await?));
        Ok(Ways { zone, dial: Arc::new(Sockets), name, control: control.to_string(), member: None })
    }
}

/// Runs until a signal.
///
/// # Errors
/// Whatever keeps it from starting, or made it end.
pub(crate) async fn run(settings: IngressSettings, print_json: bool) -> Result<(), Problem> {
    let folder = DataFolder::take(&settings.data_dir)?;
    let opened = async {
        let ways = Ways::find(&settings).await?;
        // Of a cluster it is what the world comes to, and else one more on this machine.
        let http = if ways.member.is_some() && settings.http_is_default { OF_CLUSTER } else { settings.http };
        Ok((ways, bind("http", http).await?))
    };
    let (ways, (http, address)) = match opened.await {
        Ok(opened) => opened,
        Err(refused) => {
            folder.abandon();
            return Err(refused);
        }
    };
    let stop = Stop::new()?;
    let tasks = Tasks::new();
    let cluster =
        ways.member.as_ref().map_or(notices::NO_CLUSTER, |(member, _)| member.kept.cluster.as_str());
    let (zone, topics) = (Arc::clone(&ways.zone), notices::of_ingress());
    let zone = notices::heard(settings.notices.as_ref(), cluster, zone, &topics, &tasks).await?;
    let public = public(&settings, address, &ways);
    let (ingress, hop) = ingress((http, public), &ways, zone, &folder)?;
    let socket = match &settings.socket {
        Some(address) => Some(listen(address).await?),
        None => {
            tracing::warn!(
                "the path of the data folder is too long for a socket: what this ingress routes by cannot be asked for; --socket names another"
            );
            None
        }
    };
    if let Some((membership, client)) = &ways.member {
        tokio::select! {
            () = membership.stay(client, Random::from_os(), &tasks) => {}
            () = stop.asked(&tasks) => return end(&tasks).await,
        }
    }
    if let Some(socket) = socket {
        let router = inspected(&ingress, hop, &ways.control);
        tasks.spawn("ingress socket", server::serve_socket(socket, router, tasks.clone()));
    }
    let (serving, of_ingress) = (Arc::clone(&ingress), tasks.clone());
    tasks.spawn("ingress", async move { serving.run(&of_ingress).await });

    tokio::select! {
        () = first_tables(&ingress, &ways.control) => ready(&ways, address, &folder, print_json),
        () = stop.asked(&tasks) => {}
    }
    stop.asked(&tasks).await;
    end(&tasks).await
}

/// Lets requests finish while new ones go elsewhere, and tells control that nobody need wait for this ingress any more.
async fn end(tasks: &Tasks) -> Result<(), Problem> {
    tracing::info!("ending; running requests are finished first");
    let broken = tasks.stopping().is_cancelled();
    if !tasks.drain(DRAIN + ENDING).await {
        tracing::warn!("some requests had not finished and were cut off");
    }
    if broken { Err(Problem::internal("a part of tutti failed; the log says which")) } else { Ok(()) }
}

/// What is answered on the ingress's own socket: what it routes by, and what it counts.
fn inspected(ingress: &Arc<Ingress>, hop: Arc<WireHop>, control: &str) -> axum::Router {
    let (counting, ingress, control) = (Arc::clone(ingress), Arc::clone(ingress), control.to_owned());
    let metrics = move || {
        let kind = [(axum::http::header::CONTENT_TYPE, node_api::METRICS_TYPE)];
        std::future::ready((kind, node_api::metrics(&counting.metrics())))
    };
    let inspect = move || {
        let inspection = Inspection::Ingress(ingress.inspect(RELEASE, &control, hop.out()));
        std::future::ready(axum::Json(inspection))
    };
    axum::Router::new()
        .route(INSPECT, axum::routing::get(inspect))
        .route(node_api::METRICS, axum::routing::get(metrics))
}

/// The addresses that names may lead to, beside the one that it listens on: those that were said, else, where it listens
/// on all, those that the machine is known by.
fn public(settings: &IngressSettings, http: SocketAddr, ways: &Ways) -> Vec<IpAddr> {
    if !settings.public.is_empty() || !http.ip().is_unspecified() {
        return settings.public.clone();
    }
    let found = ways.member.as_ref().map(|(member, _)| member.ips()).unwrap_or_default();
    if found.is_empty() {
        tracing::warn!(
            "no address is known that clients reach this ingress by, so that no name leads here; say it with --public ADDR"
        );
    }
    found
}

fn ingress(
    (http, public): (TcpListener, Vec<IpAddr>),
    ways: &Ways,
    zone: Arc<dyn ZoneApi>,
    folder: &DataFolder,
) -> Result<(Arc<Ingress>, Arc<WireHop>), Problem> {
    let random = Random::from_os();
    let nodes = Arc::<NodeBook>::default();
    let hop = Arc::new(WireHop::new(Arc::clone(&nodes), Arc::clone(&ways.dial), random.clone()));
    let ingress = Ingress::new(IngressOptions {
        name: run_name(&ways.name, &random),
        http,
        public,
        hop: Arc::clone(&hop) as _,
        nodes,
        zone,
        clock: Arc::new(SystemClock),
        random,
        snapshot: Some(folder.join("tables.json")),
        limits: Limits { drain: DRAIN, ..Limits::default() },
    })?;
    Ok((Arc::new(ingress), hop))
}

/// What control knows this run by. Drains wait for what each run acknowledges, so no two that live may be taken for one
/// another, whatever they are called, and also where control could not be asked first: hence a part that no other start
/// has. The dot keeps it apart from every name of another role.
fn run_name(name: &NodeName, random: &Random) -> String {
    format!("{name}.{:016x}", random.bits())
}

/// Returns once there are tables to serve by, be it those of the last run.
async fn first_tables(ingress: &Ingress, control: &str) {
    if ingress.has_tables() {
        return;
    }
    if tokio::time::timeout(FIRST_TABLES, ingress.reached_at_least(1)).await.is_err() {
        tracing::warn!(
            "control is away at {control}, and this ingress has no tables from before; it is ready when it has them (where control has another socket, name it with --control unix:PATH)"
        );
        ingress.reached_at_least(1).await;
    }
}

/// Says that everything serves.
fn ready(ways: &Ways, http: SocketAddr, folder: &DataFolder, print_json: bool) {
    let (name, control) = (&ways.name, &ways.control);
    let http = format!("http://{http}");
    let text = if print_json {
        json!({ "ready": true, "http": http, "name": name, "control": control, "data_dir": folder.path() })
            .to_string()
    } else {
        format!(
            "tutti ingress {RELEASE} is ready\n  name     {name}\n  http     {http}\n  control  {control}\n  data     {}\n\n\
             While control is away it serves by what it last knew.",
            folder.path().display()
        )
    };
    say(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_are_never_known_by_one_name_and_none_by_another_roles() {
        let (name, random): (NodeName, _) = ("front".parse().unwrap(), Random::seeded(1));
        let [first, second] = [run_name(&name, &random), run_name(&name, &random)];
        assert_ne!(first, second);
        assert!(first.strip_prefix("front.").is_some_and(|rest| rest.parse::<NodeName>().is_ok()), "{first}");
        assert!(first.parse::<NodeName>().is_err());
    }
}
