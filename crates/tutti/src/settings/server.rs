//! What `tutti server` is told.

use super::{Effective, Settings, StoreAddress, blobs};
use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};
use tutti_model::{Problem, member::MachineRole, node::HostPort};

/// Where control listens where nobody says: for other machines, which is what a cluster is for.
const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7070);

/// Settings as `tutti server` uses them.
#[derive(Debug, Clone)]
pub(crate) struct ServerSettings {
    /// As of `tutti dev`, but that nothing is vouched for, and that it listens for other machines, unless it is said.
    pub(crate) control: Settings,
    /// Folder of the membership.
    pub(crate) member_dir: PathBuf,
    /// Where others reach it; `None` for what is found.
    pub(crate) advertise: Option<HostPort>,
    /// What the machine runs: control, and what is said.
    pub(crate) roles: BTreeSet<MachineRole>,
}

impl TryFrom<&Effective> for ServerSettings {
    type Error = Vec<Problem>;

    fn try_from(effective: &Effective) -> Result<ServerSettings, Vec<Problem>> {
        let mut faults = Vec::new();
        let advertise = super::advertise(effective, &mut faults);
        let mut roles = BTreeSet::from([MachineRole::Server]);
        if !effective.is_default("join.role") {
            roles.extend(
                super::join::roles(effective).map_err(|problem| faults.push(problem)).unwrap_or_default(),
            );
        }
        let mut control = Settings::try_from(effective).map_err(|mut others| {
            others.append(&mut faults);
            others
        })?;
        // What is pushed to one control is fetched from any.
        let alone = matches!(control.store, StoreAddress::Sqlite(_));
        if !alone && !blobs::are_shared(effective) {
            let why = "controls over one store need the same artifacts";
            faults.push(effective.fault("blobs", why).hint(
                "put them into a bucket: --blobs s3://BUCKET, or a folder that is the same on every control, and say so: --blobs shared:PATH",
            ));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        if effective.is_default("api") {
            control.api = API;
        }
        if effective.is_default("vouch") {
            control.vouch = false;
        }
        if effective.is_default("context") {
            "cluster".clone_into(&mut control.context);
        }
        let member_dir = PathBuf::from(effective.text("member_dir"));
        Ok(ServerSettings { control, member_dir, advertise, roles })
    }
}
