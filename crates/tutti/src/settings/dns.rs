//! What `tutti dns` is told.

use super::{Effective, address, control, log_format, node, socket};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};
use tutti_base::telemetry;
use tutti_model::{Problem, limits, name::NodeName, node::RoleAddress};
use tutti_plan::names::NameServer;

/// Most names that are given, and most name servers: more is a mistake.
const NAMES: usize = 64;

/// Settings as `tutti dns` uses them.
#[derive(Debug, Clone)]
pub(crate) struct DnsSettings {
    /// Folder of all that is kept.
    pub(crate) data_dir: PathBuf,
    /// Where control is reached.
    pub(crate) control: RoleAddress,
    /// Address that questions come to, over UDP and TCP.
    pub(crate) listen: SocketAddr,
    /// Whether nobody said which address that is.
    pub(crate) listen_is_default: bool,
    /// Where its owner may ask what it answers by; `None` if nobody said and the path of its own folder is too long.
    pub(crate) socket: Option<RoleAddress>,
    /// Folder of the membership.
    pub(crate) member_dir: PathBuf,
    /// Whether it was said where control is: then no membership is asked.
    pub(crate) alone: bool,
    /// What it is called, if no member of a cluster.
    pub(crate) name: NodeName,
    /// The names that it answers for, with all below: the host suffix first.
    pub(crate) zones: Vec<String>,
    /// The name servers of those; empty where nobody says.
    pub(crate) servers: Vec<NameServer>,
    /// What is logged.
    pub(crate) log: String,
    /// How it is logged.
    pub(crate) log_format: telemetry::Format,
}

/// A DNS name of letters, digits and hyphens, in lower case and without the root's dot.
pub(crate) fn dns_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (name.len() <= limits::DOMAIN_NAME_BYTES && name.split('.').all(is_label)).then_some(name)
}

fn listed<'a>(effective: &'a Effective, key: &str) -> impl Iterator<Item = &'a str> {
    effective.text(key).split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn zones(effective: &Effective, faults: &mut Vec<Problem>) -> Vec<String> {
    let mut zones = Vec::new();
    for key in ["host_suffix", "dns.names"] {
        for text in listed(effective, key) {
            match dns_name(text) {
                Some(name) => zones.push(name),
                None => faults.push(effective.fault(key, format!("\"{text}\" is no DNS name"))),
            }
        }
    }
    if zones.len() > NAMES {
        faults.push(effective.fault("dns.names", format!("more than {NAMES}")));
    }
    zones
}

/// `NAME[=ADDR]`, with commas between; one name may stand there with several addresses.
fn servers(effective: &Effective, faults: &mut Vec<Problem>) -> Vec<NameServer> {
    let (mut order, mut found) = (Vec::new(), BTreeMap::<String, Vec<IpAddr>>::new());
    for text in listed(effective, "dns.name_servers") {
        let (name, address) =
            text.split_once('=').map_or((text, None), |(name, address)| (name, Some(address)));
        let parsed =
            dns_name(name).and_then(|name| Some((name, address.map(str::parse::<IpAddr>).transpose().ok()?)));
        let Some((name, address)) = parsed else {
            let why = "write NAME=ADDR, with commas between, such as ns1.apps.example.com=192.0.2.1";
            faults.push(effective.fault("dns.name_servers", why));
            continue;
        };
        if !found.contains_key(&name) {
            order.push(name.clone());
        }
        found.entry(name).or_default().extend(address);
    }
    if order.len() > NAMES {
        faults.push(effective.fault("dns.name_servers", format!("more than {NAMES}")));
    }
    let server = |name: String| {
        let addresses = found.get(&name).cloned().unwrap_or_default();
        NameServer { name, addresses }
    };
    order.into_iter().map(server).collect()
}

impl TryFrom<&Effective> for DnsSettings {
    type Error = Vec<Problem>;

    fn try_from(effective: &Effective) -> Result<DnsSettings, Vec<Problem>> {
        let mut faults = Vec::new();
        let control = control(effective, "dns.control", &mut faults);
        let listen = address(effective, "dns.listen", &mut faults);
        let name = node(effective, "dns.name", &mut faults);
        let log_format = log_format(effective, &mut faults);
        let zones = zones(effective, &mut faults);
        let servers = servers(effective, &mut faults);
        let own = PathBuf::from(effective.text("dns.data_dir")).join("dns.sock");
        // It serves as well without: nobody but a person who looks at it comes there.
        let socket = match effective.is_default("dns.socket") {
            true => socket(effective, "dns.socket", &own, &mut Vec::new()),
            false => socket(effective, "dns.socket", &own, &mut faults),
        };
        match (control, listen, name) {
            (Some(control), Some(listen), Some(name)) if faults.is_empty() => Ok(DnsSettings {
                data_dir: PathBuf::from(effective.text("dns.data_dir")),
                control,
                listen,
                listen_is_default: effective.is_default("dns.listen"),
                socket,
                member_dir: PathBuf::from(effective.text("member_dir")),
                alone: !effective.is_default("dns.control"),
                name,
                zones,
                servers,
                log: effective.text("log").to_owned(),
                log_format,
            }),
            _ => Err(faults),
        }
    }
}
