//! `tutti join`: makes this machine a member of a cluster. It asks once, keeps the answer, and ends; what the machine
//! then runs is started by itself.

use crate::{
    dev::RELEASE,
    membership::{Kept, Membership},
    settings::JoinSettings,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::Uri;
use serde_json::json;
use std::sync::Arc;
use tutti_api::{Client, members::Join};
use tutti_base::{Clock, SystemClock};
use tutti_model::{ErrorCode, Problem, node::HostPort};
use tutti_pki::{Chain, Identity, Pin, connects_publicly};

/// The port that an agent listens on.
pub(crate) const AGENT_PORT: u16 = 7071;

/// Joins.
///
/// # Errors
/// `conflict` if the machine is a member already; `unauthenticated` for a token that is unknown by now;
/// `already_exists` if another machine has the name; `unavailable` if no control answers.
pub(crate) async fn run(settings: JoinSettings, print_json: bool) -> Result<(), Problem> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    if let Some(known) = Membership::find(&settings.member_dir, &clock)? {
        return Err(known.refuse_another(&settings.member_dir));
    }
    let identity = Arc::new(Identity::open(&settings.member_dir)?);
    let addresses = match settings.advertise.clone() {
        Some(address) => vec![address],
        None => vec![format!("{}:{AGENT_PORT}", settings.node).parse()?],
    };
    let join = Join {
        member: settings.node.clone(),
        roles: settings.roles.clone(),
        request: BASE64.encode(identity.request()?),
        addresses: addresses.clone(),
        release: RELEASE.to_owned(),
    };
    let root = settings.token.root().clone();
    let mut refused = Problem::invalid("no control is named");
    for control in &settings.controls {
        let joined = match client(control, &settings, &clock)?.join(&join).await {
            Ok(joined) => joined,
            // Another may answer.
            Err(problem) if matches!(problem.code, ErrorCode::Unavailable | ErrorCode::Timeout) => {
                refused = problem;
                continue;
            }
            Err(problem) => return Err(problem),
        };
        // Where it was reached just now comes first: that way is known to be one.
        let mut controls = vec![control.clone()];
        controls.extend(joined.controls.into_iter().filter(|other| other != control));
        let kept = Kept {
            cluster: joined.cluster,
            root,
            member: settings.node,
            roles: settings.roles,
            controls,
            addresses,
        };
        let chain = Chain::from_pem(&joined.chain)?;
        let membership = Membership::keep(&settings.member_dir, identity, chain, kept, &clock)?;
        print(&membership.kept, print_json);
        return Ok(());
    }
    Err(refused)
}

fn client(control: &HostPort, settings: &JoinSettings, clock: &Arc<dyn Clock>) -> Result<Client, Problem> {
    let base: Uri = format!("https://{control}")
        .parse()
        .map_err(|error| Problem::invalid(format!("address \"{control}\" cannot be used: {error}")))?;
    let pin = Pin::Fingerprint(settings.token.root().clone());
    Client::with_tls(&base, Some(settings.token.to_text()), || {
        connects_publicly(Some(&pin), None, Arc::clone(clock))
    })
}

fn print(kept: &Kept, print_json: bool) {
    let roles: Vec<&str> = kept.roles.iter().map(|role| role.as_str()).collect();
    if print_json {
        println!("{}", json!({ "cluster": kept.cluster, "member": kept.member, "roles": roles }));
        return;
    }
    println!("{} is a member of cluster {}", kept.member, kept.cluster);
    for role in roles {
        println!("  start its {role} with: tutti {role}");
    }
}
