//! `tutti server`: one of a cluster's controls. All state is in the store, so that any of them serves any request.

use crate::{
    artifacts::{Pushed, ToAgents},
    dev::RELEASE,
    folder::DataFolder,
    handover, keys,
    membership::{Kept, Membership},
    parts::{absolute, bind, listen, store},
    ready::{Access, Api},
    settings::ServerSettings,
    stop::Stop,
};
use serde_json::json;
use std::{io::Write as _, net::SocketAddr, sync::Arc, time::Duration};
use tutti_base::{Clock, Random, Secret, SystemClock, Tasks};
use tutti_control::{
    Objects,
    cluster::{Cluster, follow_members},
    leadership,
    node_logs::ZoneLogs,
    observed::Observed,
    reconcile::ReconcileOptions,
    secrets::key_of_all,
    server::{self, ServerOptions},
    zone::LocalZone,
};
use tutti_model::{Problem, member::MachineRole, name::ZoneName, node::HostPort};
use tutti_pki::{Acceptor, Identity, Listens, listens};
use tutti_registry::{FolderBlobs, Registry};
use tutti_resolve::TxtResolver;
use tutti_seal::Keyring;

/// How long running requests may take to finish when the process is to end.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs until a signal. With `init` it makes this machine a member first.
///
/// # Errors
/// Whatever keeps it from starting, or made it end.
pub(crate) async fn run(settings: ServerSettings, init: bool, print_json: bool) -> Result<(), Problem> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let known = Membership::find(&settings.member_dir, &clock)?;
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
    let parts = Parts::open(&settings, &folder, clock).await?;
    let advertised = advertised(&settings, address)?;
    let (cluster, membership) = parts.enrol(&settings, known, &advertised).await?;

    let tasks = Tasks::new();
    let stop = Stop::new()?;
    follow_members(&parts.objects, Arc::clone(&membership.table), &tasks).await?;
    parts.renew(&cluster, &membership, &tasks);
    server::ensure_defaults(&parts.objects, false).await?;
    let first_token = server::ensure_admin_token(&parts.objects).await?;
    leadership::start(membership.kept.member.clone(), parts.reconciling(&settings), &tasks);
    let router = parts.api(&settings, &cluster, &membership, &tasks)?;
    let acceptor = parts.acceptor(&membership)?;
    tasks.spawn("api", server::serve_tls(api, router.clone(), acceptor, tasks.clone()));
    tasks.spawn("socket", server::serve_socket(socket, router, tasks.clone()));

    let found = Api { base: format!("https://{advertised}"), root: Some(cluster.fingerprint().clone()) };
    let context = &settings.control.context;
    let access = match &first_token {
        Some(_) => Access::grant(&parts.objects, context, folder.path(), &found, first_token).await?,
        // Whoever holds the cluster's token has it from the first control; each further one has its socket.
        None => Access { token_file: None, shown: None },
    };
    Ready { found, cluster: &cluster, membership: &membership, folder: &folder, access }.print(print_json);
    stop.asked(&tasks).await;
    tracing::info!("ending");
    let broken = tasks.stopping().is_cancelled();
    if !tasks.drain(DRAIN).await {
        tracing::warn!("some requests had not finished and were cut off");
    }
    if broken { Err(Problem::internal("a part of tutti failed; the log says which")) } else { Ok(()) }
}

/// Where others are told to find this one: as it is said, else the address that it listens on, else its name.
fn advertised(settings: &ServerSettings, bound: SocketAddr) -> Result<HostPort, Problem> {
    match &settings.advertise {
        Some(said) => Ok(said.clone()),
        None if !bound.ip().is_unspecified() => Ok(HostPort::from(bound)),
        None => format!("{}:{}", settings.control.node, bound.port()).parse(),
    }
}

/// What the role is made of.
struct Parts {
    clock: Arc<dyn Clock>,
    random: Random,
    objects: Objects,
    observed: Observed,
    zone: Arc<LocalZone>,
    keyring: Keyring,
    blobs: FolderBlobs,
}

impl Parts {
    async fn open(
        settings: &ServerSettings,
        folder: &DataFolder,
        clock: Arc<dyn Clock>,
    ) -> Result<Parts, Problem> {
        let random = Random::from_os();
        let store = store(&settings.control.store, folder, &clock, &random).await?;
        let blobs = FolderBlobs::open(absolute(folder, &settings.control.blobs)).await?;
        let objects = Objects::new(store, ZoneName::local(), Arc::clone(&clock), random.clone());
        let observed = Observed::new();
        let keyring = keys::of(settings.control.key.as_ref(), folder.path());
        let zone = Arc::new(LocalZone::new(objects.clone(), observed.clone(), keyring.clone()));
        Ok(Parts { clock, random, objects, observed, zone, keyring, blobs })
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
        let (member, identity) = (&known.kept.member, &known.identity);
        cluster.enrol_control(member, &identity.key(), advertised).await?;
        if self.keyring.is_missing() {
            handover::take(&self.objects, &self.keyring, identity, member, &self.clock).await?;
        }
        // Where it is reached may be another address than before. Without the key of the cluster the last one serves on.
        let request = identity.request()?;
        match cluster.vouch(&request, member, std::slice::from_ref(advertised)).await {
            Ok(chain) => identity.take(chain)?,
            Err(problem) => tracing::warn!(%problem, "this machine's certificate is not made anew"),
        }
        Ok((cluster, known))
    }

    /// The first start: of the cluster too, if there is none yet.
    async fn begin(
        &self,
        settings: &ServerSettings,
        advertised: &HostPort,
    ) -> Result<(Cluster, Membership), Problem> {
        // One that is made here for a cluster that another machine then makes is replaced by that one's.
        let is_ours = self.keyring.is_missing();
        if Cluster::find(&self.objects, &self.keyring).await?.is_none() {
            self.keyring.make_if_missing()?;
        }
        let cluster = Cluster::ensure(&self.objects, &self.keyring).await?;
        let (member, addresses) = (settings.control.node.clone(), vec![advertised.clone()]);
        let identity = Arc::new(Identity::open(&settings.member_dir)?);
        cluster.enrol_control(&member, &identity.key(), advertised).await?;
        if is_ours && key_of_all(&self.objects, &self.keyring).await.is_err() {
            identity.vouch_for_itself(&cluster.member(&member)?)?;
            handover::take(&self.objects, &self.keyring, &identity, &member, &self.clock).await?;
        }
        let chain = cluster.vouch(&identity.request()?, &member, &addresses).await?;
        let kept = Kept {
            cluster: cluster.id().to_owned(),
            root: cluster.fingerprint().clone(),
            member,
            roles: [MachineRole::Server].into(),
            controls: vec![advertised.clone()],
            addresses,
        };
        let membership = Membership::keep(&settings.member_dir, identity, chain, kept, &self.clock)?;
        Ok((cluster, membership))
    }

    /// The cluster in the store, which must be the one that this machine is a member of.
    async fn own_cluster(&self, known: &Membership) -> Result<Cluster, Problem> {
        let found = Cluster::find(&self.objects, &self.keyring).await?;
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

    fn renew(&self, cluster: &Cluster, membership: &Membership, tasks: &Tasks) {
        let (cluster, own) = (cluster.clone(), membership.clone());
        let ask = move || {
            let (cluster, own) = (cluster.clone(), own.clone());
            async move {
                let request = own.identity.request()?;
                cluster.vouch(&request, &own.kept.member, &own.kept.addresses).await
            }
        };
        membership.renew_by(ask, self.random.clone(), tasks);
    }

    fn reconciling(&self, settings: &ServerSettings) -> ReconcileOptions {
        ReconcileOptions {
            objects: self.objects.clone(),
            observed: self.observed.clone(),
            host_suffixes: vec![settings.control.host_suffix.clone()],
        }
    }

    /// Anyone may come with a token; who shows a member's key is known by it.
    fn acceptor(&self, membership: &Membership) -> Result<Arc<Acceptor>, Problem> {
        let admits = Listens {
            table: Arc::clone(&membership.table),
            roles: Vec::new(),
            issued: membership.identity.chain(),
            members_only: false,
        };
        let config = listens(Arc::clone(&membership.identity), admits, Arc::clone(&self.clock))?;
        Ok(Arc::new(Acceptor::new(config)))
    }

    fn api(
        &self,
        settings: &ServerSettings,
        cluster: &Cluster,
        membership: &Membership,
        tasks: &Tasks,
    ) -> Result<axum::Router, Problem> {
        let registry =
            Registry::new(Arc::new(self.blobs.clone()), Arc::clone(&self.clock), self.random.clone());
        let (tidying, stopping) = (registry.clone(), tasks.stopping());
        tasks.spawn("registry", async move { tidying.tidy(stopping).await });
        let txt = match settings.control.resolver {
            Some(server) => TxtResolver::of(server),
            None => TxtResolver::of_this_machine(),
        };
        Ok(server::router(ServerOptions {
            objects: self.objects.clone(),
            zone: Arc::clone(&self.zone) as _,
            keyring: self.keyring.clone(),
            blobs: Arc::new(ToAgents(self.blobs.clone())),
            logs: Arc::new(ZoneLogs::new(self.objects.clone(), None).as_member(membership.dial())),
            registry: registry.router(),
            metrics: Arc::new(|| "# EOF\n".to_owned()),
            artifacts: Arc::new(Pushed(self.blobs.clone())),
            release: RELEASE.to_owned(),
            vouch: settings.control.vouch,
            txt: Arc::new(txt?),
            members: Some(Arc::clone(&membership.table)),
            cluster: Some(cluster.clone()),
            host_suffixes: vec![settings.control.host_suffix.clone()],
            tasks: tasks.clone(),
        }))
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
        let text = if print_json { self.json() } else { self.text() };
        let mut out = std::io::stdout().lock();
        // Whoever started it may have gone; that is no reason to stop serving.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
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
