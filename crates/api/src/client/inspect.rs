//! Asking a role of this machine, at its own socket, what it does.

use super::Client;
use crate::debug::{INSPECT, Inspection};
use http::{HeaderMap, Method};
use std::path::Path;
use tutti_base::body;
use tutti_model::{ErrorCode, Problem};

/// What the agent, ingress or DNS server that listens on this socket file does. It is a person that asks.
///
/// # Errors
/// `unavailable` if nobody listens there, `forbidden` if that is another user, `invalid` if it is none of these.
pub async fn inspect(socket: &Path) -> Result<Inspection, Problem> {
    let client = Client::over_persons_socket(socket, None)?;
    let asked =
        client.exchange(Method::GET, INSPECT, HeaderMap::new(), body::empty(), Some(super::ANSWER)).await;
    let response = client.judge(asked).await.map_err(|problem| match problem.code {
        ErrorCode::Unavailable => Problem::unavailable(format!("nobody answers at {}", client.base())).hint(
            "name the socket of a role that runs: agent.sock, ingress.sock or dns.sock in its data folder",
        ),
        ErrorCode::NotFound => {
            Problem::invalid(format!("no agent, ingress or DNS server listens at {}", client.base()))
                .hint("a control is asked over its socket by any command, with --api unix:/PATH")
        }
        _ => problem,
    })?;
    let bytes = client.whole(response).await?;
    serde_json::from_slice(&bytes).map_err(|error| super::fault::unreadable(client.base(), &error))
}
