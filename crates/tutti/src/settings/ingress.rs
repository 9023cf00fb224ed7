//! What `tutti ingress` is told.

use super::{Effective, NoticesSettings, address, control, log_format, node, notices, socket};
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};
use tutti_base::telemetry;
use tutti_model::{Problem, limits, name::NodeName, node::RoleAddress};

/// Settings as `tutti ingress` uses them.
#[derive(Debug, Clone)]
pub(crate) struct IngressSettings {
    /// Folder of all that is kept.
    pub(crate) data_dir: PathBuf,
    /// Where control is reached.
    pub(crate) control: RoleAddress,
    /// Address that clients come to.
    pub(crate) http: SocketAddr,
    /// The addresses by which clients reach it, where they are others.
    pub(crate) public: Vec<IpAddr>,
    /// Whether nobody said which address that is.
    pub(crate) http_is_default: bool,
    /// Where its owner may ask what it routes by; `None` if nobody said and the path of its own folder is too long.
    pub(crate) socket: Option<RoleAddress>,
    /// Folder of the membership.
    pub(crate) member_dir: PathBuf,
    /// Whether it was said where control is: then no membership is asked.
    pub(crate) alone: bool,
    /// What it is called; of the form of a node's name, since a member of a cluster runs it under its own.
    pub(crate) name: NodeName,
    /// How NATS is reached, if notices go over it.
    pub(crate) notices: Option<NoticesSettings>,
    /// What is logged.
    pub(crate) log: String,
    /// How it is logged.
    pub(crate) log_format: telemetry::Format,
}

fn public(effective: &Effective, faults: &mut Vec<Problem>) -> Vec<IpAddr> {
    let texts = effective.text("ingress.public").split(',').map(str::trim).filter(|text| !text.is_empty());
    let parsed = texts.map(str::parse).collect::<Result<Vec<IpAddr>, _>>();
    match parsed {
        Ok(addresses) if addresses.len() <= limits::INGRESS_ADDRESSES => return addresses,
        Ok(_) => {
            let why = format!("more than {}", limits::INGRESS_ADDRESSES);
            faults.push(effective.fault("ingress.public", why));
        }
        Err(_) => {
            let why = "write addresses with commas between, such as 192.0.2.1,2001:db8::1";
            faults.push(effective.fault("ingress.public", why));
        }
    }
    Vec::new()
}

impl TryFrom<&Effective> for IngressSettings {
    type Error = Vec<Problem>;

    fn try_from(effective: &Effective) -> Result<IngressSettings, Vec<Problem>> {
        let mut faults = Vec::new();
        let control = control(effective, "ingress.control", &mut faults);
        let http = address(effective, "ingress.http", &mut faults);
        let public = public(effective, &mut faults);
        let name = node(effective, "ingress.name", &mut faults);
        let log_format = log_format(effective, &mut faults);
        let notices = notices::read(effective, &mut faults);
        let own = PathBuf::from(effective.text("ingress.data_dir")).join("ingress.sock");
        // It serves as well without: nobody but a person who looks at it comes there.
        let socket = match effective.is_default("ingress.socket") {
            true => socket(effective, "ingress.socket", &own, &mut Vec::new()),
            false => socket(effective, "ingress.socket", &own, &mut faults),
        };
        match (control, http, name) {
            (Some(control), Some(http), Some(name)) if faults.is_empty() => Ok(IngressSettings {
                data_dir: PathBuf::from(effective.text("ingress.data_dir")),
                control,
                http,
                public,
                socket,
                http_is_default: effective.is_default("ingress.http"),
                member_dir: PathBuf::from(effective.text("member_dir")),
                alone: !effective.is_default("ingress.control"),
                name,
                notices,
                log: effective.text("log").to_owned(),
                log_format,
            }),
            _ => Err(faults),
        }
    }
}
