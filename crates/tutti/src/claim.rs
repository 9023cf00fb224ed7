//! Whose a node's name is, before an agent runs anything under it: two agents of one name would run the same instances.
//!
//! A name belongs to an address, and one process listens there. An agent whose address is the name's goes on; another
//! takes a name over only once nobody listens at its address any more, and control has not heard of it for a while.

use crate::parts::no_socket;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};
use tokio::time::Instant;
use tutti_api::{WatchEvent, ZoneApi};
use tutti_base::{Backoff, Random, socket};
use tutti_model::{
    ErrorCode, Millis, Problem,
    name::NodeName,
    node::{NodeStatus, RoleAddress},
};

/// Longest wait for control's answer, before it counts as away.
const ANSWER: Duration = Duration::from_secs(5);
/// The first pause before control is tried again, and the longest.
const PAUSES: (Millis, Millis) = (Millis(100), Millis::seconds(2));
/// How long a name whose last holder is gone is waited for: control frees it 10 s after it was last heard.
const TAKING_OVER: Duration = Duration::from_secs(15);

/// What an agent claims.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    /// The name.
    pub(crate) node: &'a NodeName,
    /// Where this agent listens.
    pub(crate) address: &'a RoleAddress,
    /// Where control is reached.
    pub(crate) control: &'a RoleAddress,
    /// Where it is noted that the name was ours.
    pub(crate) note: PathBuf,
}

/// What is noted.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    node: NodeName,
    address: RoleAddress,
}

/// Why there is no answer yet.
enum Wait {
    /// Control cannot be asked.
    Away(Problem),
    /// The last holder is gone, but control has heard it lately.
    Fresh(Problem),
}

impl Claim<'_> {
    /// Returns once the name is ours, as far as can be known: an agent that had it keeps it while control is away.
    ///
    /// # Errors
    /// `already_exists` if another agent of this name lives; `forbidden` if another user listens where control should.
    pub(crate) async fn take(
        &self,
        zone: &dyn ZoneApi,
        status: NodeStatus,
        random: Random,
    ) -> Result<(), Problem> {
        let begun = Instant::now();
        let mut pauses = Backoff::new(PAUSES.0, PAUSES.1, random);
        loop {
            match self.ask(zone, status.clone()).await? {
                None => return self.keep(),
                Some(Wait::Away(problem)) if self.is_noted() => {
                    tracing::warn!(%problem, "control is away; what ran here before is taken up");
                    return Ok(());
                }
                Some(Wait::Away(problem)) => {
                    if pauses.failures() == 0 {
                        tracing::warn!(%problem, "control is away, and this node has never run before; trying again until it answers (where it has another socket, name it with --control unix:PATH)");
                    }
                }
                Some(Wait::Fresh(problem)) if begun.elapsed() > TAKING_OVER => return Err(problem),
                Some(Wait::Fresh(problem)) => {
                    if pauses.failures() == 0 {
                        tracing::info!(%problem, "its last agent is gone; waiting until the name is free");
                    }
                }
            }
            tokio::time::sleep(pauses.fail().duration()).await;
        }
    }

    /// Asks control whose the name is, and for it; `None` once it is ours.
    async fn ask(&self, zone: &dyn ZoneApi, status: NodeStatus) -> Result<Option<Wait>, Problem> {
        let RoleAddress::Socket(path) = self.control else { return Err(no_socket(self.control)) };
        if let Err(error) = socket::connect(path).await {
            return match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    let text = format!("control at {} is not this user's: {error}", self.control);
                    Err(Problem::new(ErrorCode::Forbidden, text).hint(
                        "run the agent as the user that runs tutti dev, or name another with --control",
                    ))
                }
                _ => Ok(Some(Wait::Away(
                    Problem::unavailable(format!("no control answers at {}: {error}", self.control))
                        .hint("start one with: tutti dev"),
                ))),
            };
        }
        match tokio::time::timeout(ANSWER, self.claim(zone, status)).await {
            Ok(claimed) => claimed,
            Err(_) => Ok(Some(Wait::Away(Problem::unavailable("no answer from control")))),
        }
    }

    async fn claim(&self, zone: &dyn ZoneApi, status: NodeStatus) -> Result<Option<Wait>, Problem> {
        let holder = match self.holder(zone).await {
            Ok(Some(Some(address))) if address == *self.address => return Ok(None),
            Ok(Some(Some(RoleAddress::Socket(path)))) if socket::connect(&path).await.is_ok() => {
                let text =
                    format!("node name \"{}\" is taken by the agent at unix:{}", self.node, path.display());
                return Err(Problem::new(ErrorCode::AlreadyExists, text)
                    .hint("choose another with --node, or stop that agent"));
            }
            Ok(holder) => holder,
            Err(problem) => return Ok(Some(Wait::Away(problem))),
        };
        match zone.register_node(self.node, status).await {
            Ok(()) => Ok(None),
            // A node in control's own process lives as surely as that does.
            Err(problem) if problem.code == ErrorCode::AlreadyExists && holder != Some(None) => {
                Ok(Some(Wait::Fresh(problem)))
            }
            Err(problem)
                if matches!(
                    problem.code,
                    ErrorCode::Unavailable | ErrorCode::Timeout | ErrorCode::Conflict | ErrorCode::Internal
                ) =>
            {
                Ok(Some(Wait::Away(problem)))
            }
            Err(problem) => Err(problem),
        }
    }

    /// The address that control has for the name; `None` if it does not know the name.
    async fn holder(&self, zone: &dyn ZoneApi) -> Result<Option<Option<RoleAddress>>, Problem> {
        let mut events = zone.watch_node(self.node, None);
        let mut found = None;
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::InitItem(node) => found = Some(node.status.address),
                WatchEvent::InitDone { .. } => return Ok(found),
                WatchEvent::Init | WatchEvent::Changes { .. } => {}
            }
        }
        Err(Problem::unavailable("control did not say whose the name is"))
    }

    fn is_noted(&self) -> bool {
        let noted = std::fs::read(&self.note).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        noted.is_some_and(|noted: Noted| noted == self.noted())
    }

    fn noted(&self) -> Noted {
        Noted { node: self.node.clone(), address: self.address.clone() }
    }

    fn keep(&self) -> Result<(), Problem> {
        if self.is_noted() {
            return Ok(());
        }
        let write = || {
            let new = self.note.with_extension("new");
            let mut file = std::fs::File::create(&new)?;
            file.write_all(&serde_json::to_vec(&self.noted())?)?;
            file.sync_all()?;
            std::fs::rename(&new, &self.note)
        };
        write().map_err(|error: io::Error| {
            Problem::unavailable(format!("{} cannot be written: {error}", self.note.display()))
                .hint("check that the disk is writable and has room")
        })
    }
}
