//! `tutti dns`: answers for the names of a cloud, over UDP and TCP.
//!
//! It keeps what control last said in its folder, and answers by that for as long as control is away, from its start on.

use crate::{
    dev::RELEASE,
    folder::DataFolder,
    membership::Membership,
    parts::{bind, control_of_this_machine, listen, say},
    settings::DnsSettings,
    stop::Stop,
};
use serde_json::json;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::net::{TcpListener, UdpSocket};
use tutti_api::{
    Client,
    client::ZoneClient,
    debug::{INSPECT, Inspection},
};
use tutti_base::{Clock, Random, SystemClock, Tasks};
use tutti_control::server;
use tutti_dns::{Dns, DnsOptions};
use tutti_model::{Problem, member::MachineRole, name::NodeName};
use tutti_plan::names::NameServer;

/// How long tasks may take to end: what is known is written, and nothing is waited for.
const ENDING: Duration = Duration::from_secs(5);
/// How long the first word of control may take before it is said that it is waited for: it takes milliseconds.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// Where a member of a cluster answers where nobody says.
const OF_CLUSTER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 53);
/// How often a free port is looked for that is free for UDP and TCP.
const FREE_PORTS: usize = 16;

/// How control is reached from here, and what this server is to it.
#[derive(Debug)]
struct Ways {
    client: Client,
    name: NodeName,
    /// The machine's membership in a cluster.
    member: Option<Membership>,
}

impl Ways {
    /// As a member of a cluster, where the machine is one and nobody named another control; else over a socket.
    async fn find(settings: &DnsSettings) -> Result<Ways, Problem> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let membership = match settings.alone {
            true => None,
            false => Membership::find(&settings.member_dir, &clock)?,
        };
        match membership {
            Some(membership) => {
                membership.check_role(MachineRole::Dns)?;
                let (client, name) = (membership.client()?, membership.kept.member.clone());
                Ok(Ways { client, name, member: Some(membership) })
            }
            None => {
                let client = control_of_this_machine(&settings.control, "DNS server").await?;
                Ok(Ways { client, name: settings.name.clone(), member: None })
            }
        }
    }
}

/// Runs until a signal.
///
/// # Errors
/// Whatever keeps it from starting, or made it end.
pub(crate) async fn run(settings: DnsSettings, print_json: bool) -> Result<(), Problem> {
    let folder = DataFolder::take(&settings.data_dir)?;
    let opened = async {
        let ways = Ways::find(&settings).await?;
        let at =
            if ways.member.is_some() && settings.listen_is_default { OF_CLUSTER } else { settings.listen };
        Ok((ways, both(at).await?))
    };
    let (ways, (udp, tcp, address)) = match opened.await {
        Ok(opened) => opened,
        Err(refused) => {
            folder.abandon();
            return Err(refused);
        }
    };
    let stop = Stop::new()?;
    let tasks = Tasks::new();
    let dns = Arc::new(Dns::new(DnsOptions {
        name: ways.name.clone(),
        udp,
        tcp,
        zone: ZoneClient::new(ways.client.clone()),
        zones: settings.zones.clone(),
        servers: servers(&settings, address, ways.member.as_ref()),
        clock: Arc::new(SystemClock),
        random: Random::from_os(),
        kept: folder.join("names.json"),
    })?);
    let socket = match &settings.socket {
        Some(address) => Some(listen(address).await?),
        None => {
            tracing::warn!(
                "the path of the data folder is too long for a socket: what this server answers by cannot be asked for; --socket names another"
            );
            None
        }
    };
    if let Some(membership) = &ways.member {
        tokio::select! {
            () = membership.stay(&ways.client, Random::from_os(), &tasks) => {}
            () = stop.asked(&tasks) => return end(&tasks).await,
        }
    }
    let control = ways.client.base().to_owned();
    if let Some(socket) = socket {
        tasks.spawn("dns socket", server::serve_socket(socket, inspected(&dns, &control), tasks.clone()));
    }
    dns.run(&tasks);
    tokio::select! {
        () = first_word(&dns, &control) => ready(&ways.name, address, &control, &folder, print_json),
        () = stop.asked(&tasks) => {}
    }
    stop.asked(&tasks).await;
    end(&tasks).await
}

async fn end(tasks: &Tasks) -> Result<(), Problem> {
    let broken = tasks.stopping().is_cancelled();
    if !tasks.drain(ENDING).await {
        tracing::warn!("some tasks had not ended and were cut off");
    }
    if broken { Err(Problem::internal("a part of tutti failed; the log says which")) } else { Ok(()) }
}

/// One port for UDP and TCP.
async fn both(at: SocketAddr) -> Result<(UdpSocket, TcpListener, SocketAddr), Problem> {
    let mut refused = None;
    for _ in 0..FREE_PORTS {
        let (tcp, address) = bind("dns", at).await?;
        match UdpSocket::bind(address).await {
            Ok(udp) => return Ok((udp, tcp, address)),
            Err(error) => {
                let problem = Problem::unavailable(format!(
                    "dns cannot listen on {address} over UDP: {error}"
                ))
                .hint("stop what listens there, or choose another with --dns ADDR:PORT (:0 for a free port)");
                refused = Some(problem);
            }
        }
        if at.port() != 0 {
            break;
        }
    }
    Err(refused.unwrap_or_else(|| Problem::internal("no port was tried")))
}

/// The name servers that were said; where none were, this one, by the address that it is known to have.
fn servers(settings: &DnsSettings, at: SocketAddr, member: Option<&Membership>) -> Vec<NameServer> {
    if !settings.servers.is_empty() {
        return settings.servers.clone();
    }
    let addresses = match at.ip() {
        address if !address.is_unspecified() => vec![address],
        _ => member.map(Membership::ips).unwrap_or_default(),
    };
    if addresses.is_empty() {
        tracing::warn!("no address of a name server is known: say it with --name-servers NAME=ADDR");
    }
    let zone = settings.zones.first().map_or("localhost", String::as_str);
    vec![NameServer { name: format!("ns.{zone}"), addresses }]
}

/// What is answered on the server's own socket: what it answers by.
fn inspected(dns: &Arc<Dns>, control: &str) -> axum::Router {
    let (dns, control) = (Arc::clone(dns), control.to_owned());
    let inspect = move || std::future::ready(axum::Json(Inspection::Dns(dns.inspect(&control))));
    axum::Router::new().route(INSPECT, axum::routing::get(inspect))
}

/// Returns once there is something to answer by, be it from the last run.
async fn first_word(dns: &Dns, control: &str) {
    if tokio::time::timeout(FIRST_WORD, dns.answers()).await.is_err() {
        tracing::warn!(
            "control is away at {control}, and nothing is known from before; this server is ready when it is told what there is (where control has another socket, name it with --control unix:PATH)"
        );
        dns.answers().await;
    }
}

/// Says that it answers.
fn ready(name: &NodeName, address: SocketAddr, control: &str, folder: &DataFolder, print_json: bool) {
    let text = if print_json {
        json!({ "ready": true, "dns": address, "name": name, "control": control, "data_dir": folder.path() })
            .to_string()
    } else {
        format!(
            "tutti dns {RELEASE} is ready\n  name     {name}\n  dns      {address}, UDP and TCP\n  control  {control}\n  data     {}\n\n\
             While control is away it answers by what it last knew.",
            folder.path().display()
        )
    };
    say(&text);
}
