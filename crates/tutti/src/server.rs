//! `tutti server`: one of a cluster's controls. All state is in the store, so that any of them serves any request.

use crate::{
    control::{Around, Control},
    dev::RELEASE,
    figures,
    folder::DataFolder,
    handover,
    membership::{Kept, Membership},
    notices::{self, Telling},
    parts::{bind, listen, say},
    ready::{Access, Api},
    recovery,
    settings::ServerSettings,
    stop::Stop,
};
use serde_json::json;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tutti_base::{Clock, Secret, SystemClock, Tasks};
use tutti_control::{
    cluster::{Cluster, follow_members},
    leadership,
    node_logs::ZoneLogs,
    secrets::key_of_all,
    server,
};
use tutti_model::{Problem, cluster::MemberSpec, member::MachineRole, node::HostPort};
use tutti_pki::{Acceptor, Identity, Listens, listens};

/// How long running requests may take to finish when the process is to end.
const DRAIN: Duration = Duration::from_secs(10);

/// How a control begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begins {
    /// As the member that the machine is.
    Again,
    /// The machine becomes a member first.
    Init,
    /// The machine becomes a member, in the place of one of its name that is gone; and that is all.
    Enrols,
}

/// How long a member of this machine's name may take to answer before it counts as gone.
const GONE_AFTER: Duration = Duration::from_secs(5);

/// Runs until a signal. With `init` it makes this machine a member first.
///
/// # Errors
/// Whatever keeps it from starting, or made it end.
pub(crate) async fn run(settings: ServerSettings, begins: Begins, print_json: bool) -> Result<(), Problem> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let known = Membership::find(&settings.member_dir, &clock)?;
    let init = begins != Begins::Again;
    match &known {
        Some(known) if init => return Err(known.refuse_another(&settings.member_dir)),
        Some(known) => known.check_role(MachineRole::Server)?,
        None if init => {}
        None => {
            return Err(Problem::conflict("this machine is a member of no cluster")
                .hint("begin or join one over the same store with: tutti server --init"));
        }
    }
    let folder = DataFolder::take(&settings.control.data_dir)?;
    let (api, address) = bind("api", settings.control.api).await?;
    let socket = listen(&settings.control.socket).await?;
    let this = Member(Control::open(&settings.control, &folder, clock).await?);
    let advertised = this.advertised(&settings, known.as_ref(), address).await?;
    if begins == Begins::Enrols {
        this.forget_gone(&settings).await?;
        return this.enrol(&settings, known, &advertised).await.map(drop);
    }
    let (cluster, membership) = this.enrol(&settings, known, &advertised).await?;

    let tasks = Tasks::new();
    let stop = Stop::new()?;
    follow_members(&this.0.objects, Arc::clone(&membership.table), &tasks).await?;
    this.renew(&cluster, &membership, &advertised, &tasks);
    server::ensure_defaults(&this.0.objects, false).await?;
    let first_token = server::ensure_admin_token(&this.0.objects).await?;
    figures::tell(
        &this.0.objects,
        this.0.observed.clone(),
        membership.kept.member.clone(),
        membership.dial(),
        Arc::clone(&this.0.clock),
        &tasks,
    );
    let telling =
        notices::tell(settings.control.notices.as_ref(), cluster.id(), &this.0.objects, &tasks).await?;
    leadership::start(
        membership.kept.member.clone(),
        this.0.reconciling(&settings.control, Some(cluster.fingerprint())),
        &tasks,
    );
    let router = this.0.api(&settings.control, this.around(&cluster, &membership, telling), &tasks)?;
    let recovery_key = match init && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        // Where nobody looks, it would stand in a log: then it is made by `tutti store recovery-key`.
        true => recovery::make(&**this.0.objects.store(), &this.0.keyring, &this.0.random, true).await?,
        false => None,
    };
    let acceptor = this.acceptor(&membership)?;
    tasks.spawn("api", server::serve_tls(api, router.clone(), acceptor, tasks.clone()));
    tasks.spawn("socket", server::serve_socket(socket, router, tasks.clone()));

    let found = Api { base: format!("https://{advertised}"), root: Some(cluster.fingerprint().clone()) };
    let context = &settings.control.context;
    let access = match &first_token {
        Some(_) => Access::grant(context, folder.path(), &found, first_token)?,
        // Whoever holds the cluster's token has it from the first control; each further one has its socket.
        None => Access { token_file: None, shown: None },
    };
    Ready { found, cluster: &cluster, membership: &membership, folder: &folder, access }.print(print_json);
    if let Some(key) = &recovery_key {
        say(&format!("The recovery key, which opens backups, shown this once:\n  {}\n", key.as_str()));
    }
    stop.asked(&tasks).await;
    tracing::info!("ending");
    let broken = tasks.stopping().is_cancelled();
    if !tasks.drain(DRAIN).await {
        tracing::warn!("some requests had not finished and were cut off");
    }
    if broken { Err(Problem::internal("a part of tutti failed; the log says which")) } else { Ok(()) }
}

/// Control, becoming and staying a member.
struct Member(Control);

impl Member {
    /// Where others are told to find this one: as it is said, else the address that it listens on, else as they were told
    /// before, else its name.
    async fn advertised(
        &self,
        settings: &ServerSettings,
        known: Option<&Membership>,
        bound: SocketAddr,
    ) -> Result<HostPort, Problem> {
        if let Some(said) = &settings.advertise {
            return Ok(said.clone());
        }
        if !bound.ip().is_unspecified() {
            return Ok(HostPort::from(bound));
        }
        let Some(known) = known else { return format!("{}:{}", settings.control.node, bound.port()).parse() };
        let member = known.kept.member.as_str();
        let before = self.0.objects.find::<MemberSpec>(member).await?.and_then(|member| member.spec.api);
        before.map_or_else(|| format!("{member}:{}", bound.port()).parse(), Ok)
    }

    /// Makes this machine a member that runs control, with the cluster's key, and its certificate good.
    async fn enrol(
        &self,
        settings: &ServerSettings,
        known: Option<Membership>,
        advertised: &HostPort,
    ) -> Result<(Cluster, Membership), Problem> {
        let Some(known) = known else { return self.begin(settings, advertised).await };
        let cluster = self.own_cluster(&known).await?;
        let known = known.with_roles(&settings.roles)?;
        let (member, identity) = (&known.kept.member, &known.identity);
        cluster.enrol_control(member, &identity.key(), advertised, &known.kept.roles).await?;
        if self.0.keyring.is_missing() {
            handover::take(&self.0.objects, &self.0.keyring, identity, member, &self.0.clock).await?;
        }
        // Where it is reached may be another address than before. Without the key of the cluster the last one serves on.
        let request = identity.request()?;
        match cluster.vouch(&request, member, std::slice::from_ref(advertised)).await {
            Ok(chain) => known.take_chain(chain)?,
            Err(problem) => tracing::warn!(%problem, "this machine's certificate is not made anew"),
        }
        Ok((cluster, known))
    }

    /// Removes a member of this machine's name that does not answer any more: this one was installed in its place, over
    /// the same store.
    async fn forget_gone(&self, settings: &ServerSettings) -> Result<(), Problem> {
        let name = &settings.control.node;
        let Some(known) = self.0.objects.find::<MemberSpec>(name.as_str()).await? else { return Ok(()) };
        if let Some(api) = &known.spec.api {
            let there = tokio::net::TcpStream::connect((api.host(), api.port()));
            // At its own address this very process listens, and asks nobody.
            let is_own = settings.advertise.as_ref() == Some(api);
            if !is_own && matches!(tokio::time::timeout(GONE_AFTER, there).await, Ok(Ok(_))) {
                return Err(tutti_control::cluster::taken(name));
            }
        }
        tracing::warn!(member = %name, "a member of this name is gone, and this machine takes its place");
        self.0.objects.write().delete(&known).commit().await?;
        Ok(())
    }

    /// The first start: of the cluster too, if there is none yet.
    async fn begin(
        &self,
        settings: &ServerSettings,
        advertised: &HostPort,
    ) -> Result<(Cluster, Membership), Problem> {
        // One that is made here for a cluster that another machine then makes is replaced by that one's.
        let is_ours = self.0.keyring.is_missing();
        if Cluster::find(&self.0.objects, &self.0.keyring).await?.is_none() {
            self.0.keyring.make_if_missing()?;
        }
        let cluster = Cluster::ensure(&self.0.objects, &self.0.keyring).await?;
        let (member, addresses) = (settings.control.node.clone(), vec![advertised.clone()]);
        let identity = Arc::new(Identity::open(&settings.member_dir)?);
        cluster.enrol_control(&member, &identity.key(), advertised, &settings.roles).await?;
        if is_ours && key_of_all(&self.0.objects, &self.0.keyring).await.is_err() {
            identity.vouch_for_itself(&cluster.member(&member)?)?;
            handover::take(&self.0.objects, &self.0.keyring, &identity, &member, &self.0.clock).await?;
        }
        let chain = cluster.vouch(&identity.request()?, &member, &addresses).await?;
        let kept = Kept {
            cluster: cluster.id().to_owned(),
            root: cluster.fingerprint().clone(),
            member,
            roles: settings.roles.clone(),
            controls: vec![advertised.clone()],
            addresses,
        };
        let membership = Membership::keep(&settings.member_dir, identity, chain, kept, &self.0.clock)?;
        Ok((cluster, membership))
    }

    /// The cluster in the store, which must be the one that this machine is a member of.
    async fn own_cluster(&self, known: &Membership) -> Result<Cluster, Problem> {
        let found = Cluster::find(&self.0.objects, &self.0.keyring).await?;
        let own = &known.kept.cluster;
        match found {
            Some(found) if found.id() == own => Ok(found),
            found => {
                let what = found.map_or_else(|| "no cluster".to_owned(), |it| format!("cluster {}", it.id()));
                Err(Problem::conflict(format!(
                    "the store holds {what}, and this machine is a member of cluster {own}"
                ))
                .hint("name the cluster's store with --store, or another folder with --member-dir"))
            }
        }
    }

    fn renew(&self, cluster: &Cluster, membership: &Membership, advertised: &HostPort, tasks: &Tasks) {
        let (cluster, own, advertised) = (cluster.clone(), membership.clone(), advertised.clone());
        let ask = move || {
            let (cluster, own, advertised) = (cluster.clone(), own.clone(), advertised.clone());
            async move {
                let request = own.identity.request()?;
                cluster.vouch(&request, &own.kept.member, &[advertised]).await
            }
        };
        membership.renew_by(ask, self.0.random.clone(), tasks);
    }

    /// Anyone may come with a token; who shows a member's key is known by it.
    fn acceptor(&self, membership: &Membership) -> Result<Arc<Acceptor>, Problem> {
        let admits = Listens {
            table: Arc::clone(&membership.table),
            roles: Vec::new(),
            issued: membership.identity.chain(),
            members_only: false,
        };
        let config = listens(Arc::clone(&membership.identity), admits, Arc::clone(&self.0.clock))?;
        Ok(Arc::new(Acceptor::new(config)))
    }

    fn around(&self, cluster: &Cluster, membership: &Membership, telling: Telling) -> Around {
        Around {
            control: membership.kept.member.clone(),
            logs: Arc::new(ZoneLogs::new(self.0.objects.clone(), None).as_member(membership.dial())),
            metrics: Arc::new(String::new),
            telling,
            cluster: Some((cluster.clone(), Arc::clone(&membership.table))),
        }
    }
}

/// Everything that serves.
struct Ready<'a> {
    found: Api,
    cluster: &'a Cluster,
    membership: &'a Membership,
    folder: &'a DataFolder,
    access: Access,
}

impl Ready<'_> {
    fn print(&self, print_json: bool) {
        say(&if print_json { self.json() } else { self.text() });
    }

    fn json(&self) -> String {
        json!({
            "ready": true,
            "api": self.found.base,
            "cluster": self.cluster.id(),
            "root": self.cluster.fingerprint(),
            "member": self.membership.kept.member,
            "data_dir": self.folder.path(),
            "token_file": self.access.token_file,
        })
        .to_string()
    }

    fn text(&self) -> String {
        let mut text = format!(
            "tutti server {RELEASE} is ready\n  cluster  {}\n  root     {}\n  member   {}\n  api      {}\n  data     {}\n",
            self.cluster.id(),
            self.cluster.fingerprint(),
            self.membership.kept.member,
            self.found.base,
            self.folder.path().display(),
        );
        if let Some(file) = &self.access.token_file {
            text.push_str(&format!("  token    {}\n", file.display()));
        }
        let shown: Option<&Secret<String>> = self.access.shown.as_ref();
        if let Some(secret) = shown.filter(|_| std::io::IsTerminal::is_terminal(&std::io::stdout())) {
            text.push_str(&format!("\nThe admin token, shown this once:\n  {}\n", secret.reveal()));
        }
        text.push_str("\nFor the next machine: tutti token create --node");
        text
    }
}
