//! `tutti join`: makes this machine a member of a cluster, by a token; or, on a control's own machine, by the right to
//! open its socket, and then for more than it was admitted for before, too. It asks once, keeps the answer, and ends; what
//! the machine then runs is started by itself.

use crate::{
    dev::RELEASE,
    membership::{Kept, Membership},
    parts::say,
    settings::{Admission, JoinSettings},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::Uri;
use serde_json::json;
use std::{collections::BTreeSet, path::Path, sync::Arc};
use tutti_api::{
    Client,
    client::Filter,
    members::{Join, Joined},
};
use tutti_base::{Clock, SystemClock};
use tutti_model::{
    ErrorCode, Problem, cluster::MemberSpec, member::MachineRole, name::NodeName, node::HostPort,
};
use tutti_pki::{Chain, Identity, JoinToken, Pin, connects_publicly, fingerprint};

/// The port that an agent listens on.
pub(crate) const AGENT_PORT: u16 = 7071;

/// Joins.
///
/// # Errors
/// `conflict` if the machine is a member already; `unauthenticated` for a token that is unknown by now;
/// `already_exists` if another machine has the name; `unavailable` if no control answers.
pub(crate) async fn run(settings: JoinSettings, print_json: bool) -> Result<(), Problem> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let known = Membership::find(&settings.member_dir, &clock)?;
    let membership = match (&settings.admission, known) {
        (Admission::Socket(socket), Some(known)) => further(&settings, socket, known).await?,
        (Admission::Token(..), Some(known)) => return Err(known.refuse_another(&settings.member_dir)),
        (_, None) => new(&settings, &clock).await?,
    };
    print(&membership.kept, print_json);
    Ok(())
}

/// Makes the machine a member.
async fn new(settings: &JoinSettings, clock: &Arc<dyn Clock>) -> Result<Membership, Problem> {
    let identity = Arc::new(Identity::open(&settings.member_dir)?);
    let member = settings.node.clone();
    let addresses = vec![reached_at(settings, &member)?];
    let join = asked(&member, &settings.roles, &identity, &addresses)?;
    let (joined, first, root) = match &settings.admission {
        Admission::Socket(socket) => {
            (Client::over_persons_socket(socket, None)?.join(&join).await?, None, None)
        }
        Admission::Token(controls, token) => {
            let (joined, control) = by_token(controls, token, &join, clock).await?;
            (joined, Some(control), Some(token.root().clone()))
        }
    };
    let chain = Chain::from_pem(&joined.chain)?;
    // Who owns the machine that the control runs on believes it; who comes from elsewhere has a token to go by.
    let root = match root.or_else(|| chain.root().map(fingerprint)) {
        Some(root) => root,
        None => return Err(Problem::internal("control gave a certificate without the root above it")),
    };
    // Where it was reached just now comes first: that way is known to be one.
    let mut controls: Vec<HostPort> = first.into_iter().collect();
    let others: Vec<HostPort> =
        joined.controls.into_iter().filter(|other| !controls.contains(other)).collect();
    controls.extend(others);
    let roles = settings.roles.clone();
    let kept = Kept { cluster: joined.cluster, root, member, roles, controls, addresses };
    Membership::keep(&settings.member_dir, identity, chain, kept, clock)
}

/// Has a machine that is a member admitted for more, by a control of the same cluster that runs on it.
async fn further(settings: &JoinSettings, socket: &Path, known: Membership) -> Result<Membership, Problem> {
    let Kept { member, cluster, roles: has, addresses: before, .. } = known.kept.clone();
    if !settings.node_is_default && settings.node != member {
        return Err(known.refuse_another(&settings.member_dir));
    }
    if has.is_superset(&settings.roles) {
        let refused = known.refuse_another(&settings.member_dir);
        let runs: Vec<&str> = has.iter().map(|role| role.as_str()).collect();
        return Err(refused.hint(format!("it may run {}; name more with --role", runs.join(", "))));
    }
    let client = Client::over_persons_socket(socket, None)?;
    // A control of another cluster would take it for a new machine.
    let members = client.list::<MemberSpec>(&Filter::default()).await?;
    let own = known.identity.key();
    if !members.iter().any(|there| there.name == member.as_str() && there.spec.key == own) {
        let text = format!(
            "this machine is member {member} of cluster {cluster}, and unix:{} is not of that",
            socket.display()
        );
        return Err(Problem::conflict(text)
            .hint("name the socket of a control of that cluster, or another folder with --member-dir"));
    }
    let more: BTreeSet<MachineRole> = settings.roles.difference(&has).copied().collect();
    let mut addresses = Vec::new();
    // The agent's comes first, by which other members reach it.
    if more.contains(&MachineRole::Agent) {
        addresses.push(reached_at(settings, &member)?);
    }
    let others: Vec<HostPort> = before.into_iter().filter(|address| !addresses.contains(address)).collect();
    addresses.extend(others);
    let joined = client.join(&asked(&member, &more, &known.identity, &addresses)?).await?;
    known.admit(&more, addresses, Chain::from_pem(&joined.chain)?)
}

/// Where other members reach this machine's agent.
fn reached_at(settings: &JoinSettings, member: &NodeName) -> Result<HostPort, Problem> {
    match settings.advertise.clone() {
        Some(address) => Ok(address),
        None => format!("{member}:{AGENT_PORT}").parse(),
    }
}

fn asked(
    member: &NodeName,
    roles: &BTreeSet<MachineRole>,
    identity: &Identity,
    addresses: &[HostPort],
) -> Result<Join, Problem> {
    Ok(Join {
        member: member.clone(),
        roles: roles.clone(),
        request: BASE64.encode(identity.request()?),
        addresses: addresses.to_vec(),
        release: RELEASE.to_owned(),
    })
}

/// Asks the controls one after the other; gives the answer of the first that answers, and where that is.
async fn by_token(
    controls: &[HostPort],
    token: &JoinToken,
    join: &Join,
    clock: &Arc<dyn Clock>,
) -> Result<(Joined, HostPort), Problem> {
    let mut refused = Problem::invalid("no control is named");
    for control in controls {
        match client(control, token, clock)?.join(join).await {
            Ok(joined) => return Ok((joined, control.clone())),
            // Another may answer.
            Err(problem) if matches!(problem.code, ErrorCode::Unavailable | ErrorCode::Timeout) => {
                refused = problem;
            }
            Err(problem) => return Err(problem),
        }
    }
    Err(refused)
}

fn client(control: &HostPort, token: &JoinToken, clock: &Arc<dyn Clock>) -> Result<Client, Problem> {
    let base: Uri = format!("https://{control}")
        .parse()
        .map_err(|error| Problem::invalid(format!("address \"{control}\" cannot be used: {error}")))?;
    let pin = Pin::Fingerprint(token.root().clone());
    Client::with_tls(&base, Some(token.to_text()), || connects_publicly(Some(&pin), None, Arc::clone(clock)))
}

fn print(kept: &Kept, print_json: bool) {
    if print_json {
        let roles: Vec<&str> = kept.roles.iter().map(|role| role.as_str()).collect();
        say(&json!({ "cluster": kept.cluster, "member": kept.member, "roles": roles }).to_string());
        return;
    }
    let mut text = format!("{} is a member of cluster {}", kept.member, kept.cluster);
    for role in &kept.roles {
        text.push_str(&format!("\n  {}", how_it_starts(*role)));
    }
    say(&text);
}

fn how_it_starts(role: MachineRole) -> String {
    match role {
        // Members may be admitted for them before there is a program that needs it.
        MachineRole::Registry | MachineRole::Builder => {
            format!("this release has no {role} of its own to start; the role is kept for one that has")
        }
        MachineRole::Server | MachineRole::Agent | MachineRole::Ingress | MachineRole::Dns => {
            format!("start its {role} with: tutti {role}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn nobody_is_told_to_start_what_is_no_command() {
        let cli = crate::args::Tutti::command();
        for role in MachineRole::ALL {
            let is_told = how_it_starts(role).contains(&format!("tutti {role}"));
            assert_eq!(is_told, cli.find_subcommand(role.as_str()).is_some(), "{role}");
        }
    }
}
