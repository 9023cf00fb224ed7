//! What `tutti agent` is told.

use super::{
    Effective, NoticesSettings, address, bandwidth, control, labels, log_format, node, notices, socket,
};
use std::{net::SocketAddr, path::PathBuf};
use tutti_base::telemetry;
use tutti_model::{Problem, name::NodeName, node::RoleAddress, quantity::Bandwidth, scheduling::Labels};

/// Settings as `tutti agent` uses them.
#[derive(Debug, Clone)]
pub(crate) struct AgentSettings {
    /// Folder of all that is kept.
    pub(crate) data_dir: PathBuf,
    /// Where control is reached.
    pub(crate) control: RoleAddress,
    /// Where this agent is reached.
    pub(crate) socket: RoleAddress,
    /// Name of this node.
    pub(crate) node: NodeName,
    /// Whether nobody said what it is called.
    pub(crate) node_is_default: bool,
    /// The node's bandwidth; `None` for what the kernel says.
    pub(crate) bandwidth: Option<Bandwidth>,
    /// The node's labels, beside those of every machine.
    pub(crate) labels: Labels,
    /// Where members of the cluster reach it, where the machine is one.
    pub(crate) listen: SocketAddr,
    /// Folder of the membership.
    pub(crate) member_dir: PathBuf,
    /// Whether it was said where control is: then no membership is asked.
    pub(crate) alone: bool,
    /// How NATS is reached, if notices go over it.
    pub(crate) notices: Option<NoticesSettings>,
    /// What is logged.
    pub(crate) log: String,
    /// How it is logged.
    pub(crate) log_format: telemetry::Format,
}

impl TryFrom<&Effective> for AgentSettings {
    type Error = Vec<Problem>;

    fn try_from(effective: &Effective) -> Result<AgentSettings, Vec<Problem>> {
        let mut faults = Vec::new();
        let data_dir = PathBuf::from(effective.text("agent.data_dir"));
        let control = control(effective, "agent.control", &mut faults);
        let own = socket(effective, "agent.socket", &data_dir.join("agent.sock"), &mut faults);
        let node = node(effective, "agent.node", &mut faults);
        let bandwidth = bandwidth(effective, "agent.bandwidth", &mut faults);
        let labels = labels(effective, "agent.labels", &mut faults);
        let log_format = log_format(effective, &mut faults);
        let notices = notices::read(effective, &mut faults);
        let listen = address(effective, "agent.listen", &mut faults);
        let alone = !effective.is_default("agent.control");
        match (control, own, node, listen) {
            (Some(control), Some(socket), Some(node), Some(listen)) if faults.is_empty() => {
                Ok(AgentSettings {
                    data_dir,
                    control,
                    socket,
                    node,
                    node_is_default: effective.is_default("agent.node"),
                    bandwidth,
                    labels,
                    listen,
                    member_dir: PathBuf::from(effective.text("member_dir")),
                    alone,
                    notices,
                    log: effective.text("log").to_owned(),
                    log_format,
                })
            }
            _ => Err(faults),
        }
    }
}
