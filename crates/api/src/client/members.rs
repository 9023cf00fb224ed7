//! Joining a cluster, and staying known in it.

use super::Client;
use crate::{
    WatchStream,
    machines::{Machine, Machines},
    members::{ClusterKey, CreateJoinToken, CreatedJoinToken, Join, Joined, Renew},
    zone::Figures,
};
use tutti_model::{Problem, Timestamp, cluster::MemberSpec, name::NodeName};

impl Client {
    /// Makes a token that admits one machine.
    ///
    /// # Errors
    /// `conflict` where there is no cluster, and control's own.
    pub async fn create_join_token(&self, create: &CreateJoinToken) -> Result<CreatedJoinToken, Problem> {
        self.call_with("create_join_token", &[], create).await
    }

    /// Makes this machine a member; the client's token is the join token.
    ///
    /// # Errors
    /// `unauthenticated` for a token that is unknown by now, `already_exists` for a name that another machine has.
    pub async fn join(&self, join: &Join) -> Result<Joined, Problem> {
        self.call_with("join", &[], join).await
    }

    /// A new certificate for this member's key.
    ///
    /// # Errors
    /// `unauthenticated` if it was removed, and control's own.
    pub async fn renew(&self, member: &NodeName, renew: &Renew) -> Result<Joined, Problem> {
        self.call_with("renew_certificate", &[member.as_str()], renew).await
    }

    /// The key of the cluster, for a member that runs control.
    ///
    /// # Errors
    /// `forbidden` for any other, `unavailable` if that control has it not itself.
    pub async fn cluster_key(&self) -> Result<ClusterKey, Problem> {
        self.call("read_cluster_key", &[], &super::Query::default()).await
    }

    /// Every machine, over as many pages as it takes, and the control's time.
    ///
    /// # Errors
    /// `forbidden` for anyone but an admin, and whatever the API answers.
    pub async fn machines(&self) -> Result<(Timestamp, Vec<Machine>), Problem> {
        let (mut all, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let query = super::Query::default().with_some("cursor", cursor.as_ref());
            let mut page: Machines = self.call("list_machines", &[], &query).await?;
            all.append(&mut page.items);
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok((page.now, all));
            }
        }
    }

    /// One machine, with what its instances use.
    ///
    /// # Errors
    /// `not_found`, and whatever the API answers.
    pub async fn machine(&self, name: &NodeName) -> Result<Machine, Problem> {
        self.call("get_machine", &[name.as_str()], &super::Query::default()).await
    }

    /// Tells a control what nodes and ingresses told this one.
    ///
    /// # Errors
    /// `forbidden` for a member that runs no control.
    pub async fn tell_figures(&self, figures: &Figures) -> Result<(), Problem> {
        let outgoing = self.outgoing_with("tell_figures", &[], figures)?;
        let response = self.send(outgoing).await?;
        self.whole(response).await.map(drop)
    }

    /// The members of the zone, and their changes; see [`Client::watch`].
    #[must_use]
    pub fn watch_members(&self, after: Option<u64>) -> WatchStream<MemberSpec> {
        self.watch_at("watch_zone_members", &[], after)
    }
}
