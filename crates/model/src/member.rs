//! Members: machines of a cluster, and what each runs for it.

use crate::{Problem, name::NodeName, nearest::nearest};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};

/// What a member runs for its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineRole {
    /// Control: the API and the loops.
    Server,
    /// Runs instances; its node has the member's name.
    Agent,
    /// The way in.
    Ingress,
    /// Answers for the cluster's names.
    Dns,
    /// Keeps artifacts.
    Registry,
    /// Builds artifacts.
    Builder,
}

impl MachineRole {
    /// All of them.
    pub const ALL: [MachineRole; 6] = [
        MachineRole::Server,
        MachineRole::Agent,
        MachineRole::Ingress,
        MachineRole::Dns,
        MachineRole::Registry,
        MachineRole::Builder,
    ];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            MachineRole::Server => "server",
            MachineRole::Agent => "agent",
            MachineRole::Ingress => "ingress",
            MachineRole::Dns => "dns",
            MachineRole::Registry => "registry",
            MachineRole::Builder => "builder",
        }
    }
}

impl fmt::Display for MachineRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MachineRole {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let known = || Self::ALL.iter().map(|role| role.as_str());
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| {
            let problem = Problem::invalid(format!("\"{text}\" is not a role of a member"));
            match nearest(text, known()) {
                Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
                None => problem.hint(format!("known: {}", known().collect::<Vec<_>>().join(", "))),
            }
        })
    }
}

/// Who a key belongs to, as the table of members says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The member's name; an agent's node has the same.
    pub name: NodeName,
    /// What it runs.
    pub roles: BTreeSet<MachineRole>,
}

impl Membership {
    /// Whether it runs this.
    #[must_use]
    pub fn is(&self, role: MachineRole) -> bool {
        self.roles.contains(&role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_as_it_is_written() {
        for role in MachineRole::ALL {
            assert_eq!(role.to_string().parse::<MachineRole>().unwrap(), role);
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{role}\""));
        }
        assert_eq!("agnet".parse::<MachineRole>().unwrap_err().hint.unwrap(), "did you mean \"agent\"?");
    }
}
