//! What a machine keeps of its membership in a cluster, for every role that it runs: its key with the certificate, who
//! else is a member, and where controls are. In a folder of its own, which only its user opens.

pub(crate) mod beside;

use crate::dev::RELEASE;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio_util::sync::CancellationToken;
use tutti_api::{
    Cache, Client,
    members::{self, Renew},
};
use tutti_base::{Backoff, Clock, Random, Tasks};
use tutti_model::{
    Digest, ErrorCode, Millis, Problem, Resource, cluster::MemberSpec, member::MachineRole, name::NodeName,
    node::HostPort,
};
use tutti_pki::{Chain, Expected, Identity, MemberDial, MemberTable};

/// What it is a member of, and as what.
const MEMBERSHIP: &str = "membership.json";
/// The members as they were last heard of.
const MEMBERS: &str = "members.json";
/// The first pause before control is asked again for a certificate, and the longest.
const PAUSES: (Millis, Millis) = (Millis::seconds(5), Millis::seconds(600));

/// What is kept of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The cluster's id.
    pub(crate) cluster: String,
    /// The digest of its root.
    pub(crate) root: Digest,
    /// This machine's name.
    pub(crate) member: NodeName,
    /// What it was admitted for.
    pub(crate) roles: BTreeSet<MachineRole>,
    /// Where controls are reached.
    pub(crate) controls: Vec<HostPort>,
    /// Where this machine is reached.
    pub(crate) addresses: Vec<HostPort>,
}

/// A machine's membership.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    folder: PathBuf,
    pub(crate) kept: Kept,
    pub(crate) identity: Arc<Identity>,
    pub(crate) table: Arc<MemberTable>,
    /// Cancelled once the table is filled.
    told: CancellationToken,
    clock: Arc<dyn Clock>,
}

impl Membership {
    /// That which is kept in this folder; `None` if this machine is no member.
    ///
    /// # Errors
    /// What cannot be read, with its place.
    pub(crate) fn find(folder: &Path, clock: &Arc<dyn Clock>) -> Result<Option<Membership>, Problem> {
        let Some(kept) = read::<Kept>(&folder.join(MEMBERSHIP))? else { return Ok(None) };
        let membership = Membership {
            folder: folder.to_owned(),
            kept,
            identity: Arc::new(Identity::open(folder)?),
            table: Arc::default(),
            told: CancellationToken::new(),
            clock: Arc::clone(clock),
        };
        if let Some(chain) = membership.identity.chain() {
            membership.put_beside(&chain);
        }
        if let Some(members) = read::<Vec<Resource<MemberSpec>>>(&folder.join(MEMBERS))? {
            membership.table.hold(&members);
            membership.told.cancel();
        }
        Ok(Some(membership))
    }

    /// Keeps a new one.
    ///
    /// # Errors
    /// What cannot be written, with its place.
    pub(crate) fn keep(
        folder: &Path,
        identity: Arc<Identity>,
        chain: Chain,
        kept: Kept,
        clock: &Arc<dyn Clock>,
    ) -> Result<Membership, Problem> {
        identity.take(chain.clone())?;
        write(folder, MEMBERSHIP, &kept)?;
        beside::put(folder, &chain)?;
        Ok(Membership {
            folder: folder.to_owned(),
            kept,
            identity,
            table: Arc::default(),
            told: CancellationToken::new(),
            clock: Arc::clone(clock),
        })
    }

    /// Shows this certificate from now on, and has others that use it read it.
    ///
    /// # Errors
    /// As of [`Identity::take`]; then the old one stays.
    pub(crate) fn take_chain(&self, chain: Chain) -> Result<(), Problem> {
        self.identity.take(chain.clone())?;
        self.put_beside(&chain);
        beside::tell(&self.folder);
        Ok(())
    }

    fn put_beside(&self, chain: &Chain) {
        if let Err(problem) = beside::put(&self.folder, chain) {
            tracing::warn!(%problem, "other programs have not the key and root of this machine");
        }
    }

    /// Refuses what would make this machine a member once more.
    pub(crate) fn refuse_another(&self, folder: &Path) -> Problem {
        let Kept { member, cluster, .. } = &self.kept;
        Problem::conflict(format!("this machine is member {member} of cluster {cluster} already")).hint(
            format!(
                "to leave it: tutti node remove {member}, and then remove the folder {}",
                folder.display()
            ),
        )
    }

    /// Refuses a role that the machine was not admitted for.
    ///
    /// # Errors
    /// `forbidden`, with what to do.
    pub(crate) fn check_role(&self, role: MachineRole) -> Result<(), Problem> {
        if self.kept.roles.contains(&role) {
            return Ok(());
        }
        let text = format!("member {} was not admitted for the role {role}", self.kept.member);
        Err(Problem::new(ErrorCode::Forbidden, text)
            .hint(format!(
                "a machine's roles are those it joins with. On a control's own machine: tutti join \
                 unix:/PATH/control.sock --role {role}; elsewhere: tutti node remove {}, and then, with an empty {}, \
                 tutti join URL --token TOKEN --role {role}",
                self.kept.member,
                self.folder.display()
            )))
    }

    /// With these roles beside those it has, which only a machine may give itself that has the cluster's store.
    ///
    /// # Errors
    /// What cannot be written, with its place.
    pub(crate) fn with_roles(mut self, more: &BTreeSet<MachineRole>) -> Result<Membership, Problem> {
        if !self.kept.roles.is_superset(more) {
            self.kept.roles.extend(more);
            write(&self.folder, MEMBERSHIP, &self.kept)?;
        }
        Ok(self)
    }

    /// With more roles that control has admitted it for: its new certificate, and where it is reached then.
    ///
    /// # Errors
    /// What cannot be written, with its place.
    pub(crate) fn admit(
        mut self,
        roles: &BTreeSet<MachineRole>,
        addresses: Vec<HostPort>,
        chain: Chain,
    ) -> Result<Membership, Problem> {
        self.identity.take(chain)?;
        self.kept.roles.extend(roles);
        self.kept.addresses = addresses;
        write(&self.folder, MEMBERSHIP, &self.kept)?;
        Ok(self)
    }

    /// The addresses that it is reached at, where it says addresses and not names.
    pub(crate) fn ips(&self) -> Vec<IpAddr> {
        self.kept.addresses.iter().filter_map(|address| address.host().parse().ok()).collect()
    }

    /// How this machine reaches other members.
    pub(crate) fn dial(&self) -> MemberDial {
        MemberDial {
            identity: Arc::clone(&self.identity),
            table: Arc::clone(&self.table),
            clock: Arc::clone(&self.clock),
        }
    }

    /// A client of any of the cluster's controls.
    ///
    /// # Errors
    /// `invalid` if none is known.
    pub(crate) fn client(&self) -> Result<Client, Problem> {
        let expected = Expected::Role(MachineRole::Server);
        let tls = self.dial().to(expected, Some(self.kept.root.clone()))?;
        Client::of_cluster(&self.kept.controls, tls)
    }

    /// Follows who is a member, and has the certificate renewed, while this runs. Returns once it is known who is a member,
    /// be it from the last run: before that nobody can be told from a stranger.
    pub(crate) async fn stay(&self, client: &Client, random: Random, tasks: &Tasks) {
        self.follow(client, tasks);
        self.renew(client, random, tasks);
        self.told.cancelled().await;
    }

    /// Keeps who is a member for the next start, too.
    fn follow(&self, client: &Client, tasks: &Tasks) {
        let (this, events, stopping) = (self.clone(), client.watch_members(None), tasks.stopping());
        tasks.spawn("members", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = members::follow(events, &this.table, |members| this.take(members)) => {}
            }
        });
    }

    fn take(&self, members: &Cache<MemberSpec>) {
        self.told.cancel();
        let all: Vec<&Resource<MemberSpec>> = members.iter().collect();
        if let Err(problem) = write(&self.folder, MEMBERS, &all) {
            tracing::warn!(%problem, "who is a member is not kept for the next start");
        }
        let controls: Vec<HostPort> = all.iter().filter_map(|member| member.spec.api.clone()).collect();
        if controls.is_empty() || controls == self.kept.controls {
            return;
        }
        // Read again by whoever starts next; a running client has those that it began with. The machine may have been
        // admitted for more meanwhile.
        let kept = read::<Kept>(&self.folder.join(MEMBERSHIP)).ok().flatten();
        let kept = Kept { controls, ..kept.unwrap_or_else(|| self.kept.clone()) };
        if let Err(problem) = write(&self.folder, MEMBERSHIP, &kept) {
            tracing::warn!(%problem, "where controls are is not kept for the next start");
        }
    }

    /// Has the certificate renewed while this runs, at half of its life.
    fn renew(&self, client: &Client, random: Random, tasks: &Tasks) {
        let (this, client) = (self.clone(), client.clone());
        let asking = move || {
            let (this, client) = (this.clone(), client.clone());
            async move {
                let request = Renew {
                    request: BASE64.encode(this.identity.request()?),
                    addresses: this.kept.addresses.clone(),
                    release: RELEASE.to_owned(),
                };
                Chain::from_pem(&client.renew(&this.kept.member, &request).await?.chain)
            }
        };
        self.renew_by(asking, random, tasks);
    }

    /// As [`Membership::renew`], by whatever gives a new chain.
    pub(crate) fn renew_by<F>(
        &self,
        ask: impl Fn() -> F + Send + Sync + 'static,
        random: Random,
        tasks: &Tasks,
    ) where
        F: Future<Output = Result<Chain, Problem>> + Send,
    {
        let (this, stopping) = (self.clone(), tasks.stopping());
        tasks.spawn("certificate", async move {
            let mut pauses = Backoff::new(PAUSES.0, PAUSES.1, random);
            loop {
                let due = this.identity.renew_at().unwrap_or_default();
                tokio::select! {
                    () = stopping.cancelled() => return,
                    () = this.clock.sleep_until(due) => {}
                }
                let renewed = ask().await.and_then(|chain| this.take_chain(chain));
                match renewed {
                    Ok(()) => {
                        pauses.succeed();
                        tracing::info!("this machine's certificate was renewed");
                    }
                    Err(problem) => {
                        // Those who know the key admit it without one that is good.
                        tracing::warn!(%problem, "this machine's certificate is not renewed; trying again");
                        let pause = pauses.fail();
                        tokio::select! {
                            () = stopping.cancelled() => return,
                            () = this.clock.sleep(pause) => {}
                        }
                    }
                }
            }
        });
    }
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, Problem> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Problem::unavailable(format!("{} cannot be read: {error}", path.display()))
    };
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| unreadable(&error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(&error)),
    }
}

/// Replaces a file whole. Several roles of a machine write here, so each has a name of its own until then.
fn write(folder: &Path, name: &str, value: &impl Serialize) -> Result<(), Problem> {
    let (path, new) = (folder.join(name), folder.join(format!("{name}.{}", std::process::id())));
    let written = || {
        let _ = fs::remove_file(&new);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    written().map_err(|error: io::Error| {
        Problem::unavailable(format!("{} cannot be written: {error}", path.display()))
    })
}
