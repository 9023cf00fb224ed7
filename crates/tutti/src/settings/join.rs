//! What `tutti join` is told.

use super::Effective;
use std::{collections::BTreeSet, path::PathBuf};
use tutti_model::{
    Problem,
    member::MachineRole,
    name::NodeName,
    node::{HostPort, RoleAddress},
};
use tutti_pki::JoinToken;

/// Who admits this machine.
#[derive(Debug, Clone)]
pub(crate) enum Admission {
    /// Controls elsewhere, of which one that answers is enough, by a token.
    Token(Vec<HostPort>, JoinToken),
    /// A control of this machine, since its socket can be opened.
    Socket(PathBuf),
}

/// Settings as `tutti join` uses them.
#[derive(Debug, Clone)]
pub(crate) struct JoinSettings {
    /// Who admits this machine.
    pub(crate) admission: Admission,
    /// What it will run.
    pub(crate) roles: BTreeSet<MachineRole>,
    /// Its name.
    pub(crate) node: NodeName,
    /// Whether nobody said that name.
    pub(crate) node_is_default: bool,
    /// Where others reach it; `None` for its own name.
    pub(crate) advertise: Option<HostPort>,
    /// Folder of the membership.
    pub(crate) member_dir: PathBuf,
}

/// The roles that are named.
pub(super) fn roles(effective: &Effective) -> Result<BTreeSet<MachineRole>, Problem> {
    Ok(several::<MachineRole>(effective.text("join.role"))?.into_iter().collect())
}

/// Texts between commas, each read as what it is.
fn several<T: std::str::FromStr<Err = Problem>>(text: &str) -> Result<Vec<T>, Problem> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::parse).collect()
}

impl TryFrom<&Effective> for JoinSettings {
    type Error = Vec<Problem>;

    fn try_from(effective: &Effective) -> Result<JoinSettings, Vec<Problem>> {
        let mut faults = Vec::new();
        let advertise = super::advertise(effective, &mut faults);
        let node = super::node(effective, "node", &mut faults);
        let roles = roles(effective).map_err(|problem| faults.push(problem)).unwrap_or_default();
        let admission = admission(effective, &mut faults);
        match (admission, node) {
            (Some(admission), Some(node)) if faults.is_empty() => Ok(JoinSettings {
                admission,
                roles,
                node,
                node_is_default: effective.is_default("node"),
                advertise,
                member_dir: PathBuf::from(effective.text("member_dir")),
            }),
            _ => Err(faults),
        }
    }
}

fn admission(effective: &Effective, faults: &mut Vec<Problem>) -> Option<Admission> {
    let text = effective.text("join.controls").replace("https://", "");
    if text.starts_with("unix:") {
        return match text.parse() {
            Ok(RoleAddress::Socket(path)) => Some(Admission::Socket(path)),
            Ok(RoleAddress::Port(_)) => None,
            Err(problem) => {
                let problem: Problem = problem;
                faults.push(problem);
                None
            }
        };
    }
    if text.is_empty() {
        faults.push(Problem::invalid("no control is named").hint(
            "write: tutti join HOST:7070 --token TOKEN, or set TUTTI_JOIN_CONTROLS; on a control's own machine: tutti join unix:/PATH/control.sock",
        ));
    }
    let controls = several::<HostPort>(text.trim_end_matches('/'));
    let controls = controls.map_err(|problem| faults.push(problem)).ok();
    let token = match effective.text("join.token") {
        "" => Err(Problem::invalid("there is no join token").hint(
            "make one with: tutti token create --node, and give it with --token or TUTTI_JOIN_TOKEN; on a control's own machine none is needed: tutti join unix:/PATH/control.sock",
        )),
        text => text.parse(),
    };
    let token = token.map_err(|problem| faults.push(problem)).ok();
    Some(Admission::Token(controls?, token?))
}
