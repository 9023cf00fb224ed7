//! On an operator: makes the token by which one more machine joins. A member of that name that nobody hears any more is
//! removed first: its machine was replaced.

use super::order::CONTROL_SOCKET;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tutti_api::{Client, members::CreateJoinToken};
use tutti_model::{ErrorCode, Kind, Millis, Problem, member::MachineRole, name::NodeName};

/// A machine that was heard within this lives: control calls one silent after as long.
const LIVES: Millis = Millis::seconds(15);

/// Who is to be admitted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) name: NodeName,
}

/// What admits it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Admitted {
    pub(crate) token: String,
    /// Whether a member of the name was removed.
    pub(crate) replaced: bool,
}

/// Makes the token, by this machine's own control.
///
/// # Errors
/// `conflict` if a machine of this name lives, and control's own.
pub(crate) async fn admit(asked: &Asked) -> Result<Admitted, Problem> {
    let client = Client::over_socket(Path::new(CONTROL_SOCKET));
    let (now, machines) = client.machines().await?;
    let known = machines.into_iter().find(|machine| machine.name == asked.name);
    let replaced = known.is_some();
    if let Some(known) = known {
        let heard = known.roles.iter().filter_map(|role| role.heard_at).max();
        if let Some(heard) = heard.filter(|heard| now.since(*heard) < LIVES) {
            let ago = now.since(heard).0 / 1000;
            return Err(Problem::conflict(format!(
                "{} was heard {ago} s ago, from a machine that is not the one of this address",
                asked.name
            ))
            .hint("give the new machine another name, or end the one that has it: tutti node remove NAME"));
        }
        match client.delete(Kind::Member, asked.name.as_str()).await {
            Err(problem) if problem.code != ErrorCode::NotFound => return Err(problem),
            _ => {}
        }
    }
    let create = CreateJoinToken {
        roles: [MachineRole::Agent].into(),
        member: Some(asked.name.clone()),
        expires_in: Some(Millis::seconds(3600)),
    };
    Ok(Admitted { token: client.create_join_token(&create).await?.token, replaced })
}
