//! `tutti dev`: every role in one process on one machine, over one store: a SQLite file unless another is named.
//!
//! Roles are wired here and nowhere else. The order is that of dependence: folder, listeners, store, agent, loops, API,
//! ingress; and the end is the reverse, so that nothing is asked of what has gone.

use crate::{
    control::{Around, Control},
    folder::DataFolder,
    keys,
    notices::{self, Telling},
    parts::{bind, drivers, listen},
    ready::{self, Access, Api, Ready},
    settings::{Settings, capacity},
    stop::Stop,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::{TcpListener, UnixListener};
use tutti_agent::{Agent, AgentOptions, Shutdown};
use tutti_base::{SystemClock, Tasks};
use tutti_control::{leadership, node_logs::ZoneLogs, server};
use tutti_ingress::{Ingress, IngressOptions};
use tutti_model::{Millis, Problem, table::TableSpec};
use tutti_proxy::{
    serve::Limits,
    wire::{Hops, NodeBook, Sockets, WireHop},
};

/// How long running requests may take to finish when the process is to end.
const DRAIN: Duration = Duration::from_secs(10);
/// How long instances may take to stop then.
const STOP_INSTANCES: Millis = Millis::seconds(10);

/// How long the start waits for the ingress to have read its tables, and then for a leader: each takes milliseconds.
const CATCH_UP: Duration = Duration::from_secs(5);

/// The release, as every role says it.
pub(crate) const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Runs until a signal.
///
/// # Errors
/// Whatever keeps it from starting, or made it end: nothing is left running then.
pub(crate) async fn run(settings: Settings, print_json: bool) -> Result<(), Problem> {
    let folder = DataFolder::take(&settings.data_dir)?;
    let listeners = match Listeners::bind(&settings).await {
        Ok(listeners) => listeners,
        Err(refused) => {
            folder.abandon();
            return Err(refused);
        }
    };
    let parts = Parts::open(&settings, &folder).await?;
    let tasks = Tasks::new();
    let (api, http) = (listeners.api_address, listeners.http_address);

    let agent = parts.agent(&settings, &folder)?;
    agent.run(tasks.clone())?;
    let first_token = parts.first_objects(&settings).await?;
    let telling =
        notices::tell(settings.notices.as_ref(), notices::NO_CLUSTER, &parts.0.objects, &tasks).await?;
    leadership::start(settings.node.clone(), parts.0.reconciling(&settings, None), &tasks);
    let ingress = parts.ingress(&settings, listeners.http, &agent, &folder)?;
    let around = Around { telling, ..parts.around(&settings, &agent, &ingress) };
    let token = ready::first_or_new(&parts.0.objects, folder.path(), first_token).await?;
    let router = parts.0.api(&settings, around, &tasks)?;
    tasks.spawn("api", server::serve(listeners.api, router.clone(), tasks.clone()));
    tasks.spawn("socket", server::serve_socket(listeners.socket, router, tasks.clone()));

    // What ran before runs again before anyone is let in.
    let stop = Stop::new()?;
    tokio::select! {
        () = agent.registered() => {}
        refused = agent.refused() => {
            end(&agent, &Tasks::new(), &tasks).await?;
            return Err(refused);
        }
        () = stop.asked(&tasks) => return end(&agent, &Tasks::new(), &tasks).await,
    }
    let ingress_tasks = Tasks::new();
    let (serving, of_ingress) = (Arc::clone(&ingress), ingress_tasks.clone());
    ingress_tasks.spawn("ingress", async move { serving.run(&of_ingress).await });

    parts.caught_up(&ingress).await?;
    // Its own from an earlier life at once; another's, over the same store, stands.
    if let Ok(led) = tokio::time::timeout(CATCH_UP, leadership::led(&parts.0.objects)).await {
        led?;
    }

    let found = Api { base: format!("http://{api}"), root: None };
    let access = Access::grant(&settings.context, folder.path(), &found, token)?;
    Ready { api, http, data_dir: folder.path().to_owned(), access }.print(print_json);
    stop.asked(&tasks).await;
    end(&agent, &ingress_tasks, &tasks).await
}

/// Lets requests finish, stops what runs, and ends every role.
async fn end(agent: &Agent, ingress: &Tasks, tasks: &Tasks) -> Result<(), Problem> {
    tracing::info!("stopping");
    let broken = tasks.stopping().is_cancelled();
    if !ingress.drain(DRAIN + Duration::from_secs(2)).await {
        tracing::warn!("some requests had not finished and were cut off");
    }
    agent.shutdown(Shutdown::Stop { deadline: STOP_INSTANCES }).await;
    if !tasks.drain(DRAIN).await {
        tracing::warn!("some tasks had not ended in time");
    }
    if broken { Err(Problem::internal("a part of tutti failed; the log says which")) } else { Ok(()) }
}

/// Sockets, bound before any role starts.
struct Listeners {
    api: TcpListener,
    api_address: SocketAddr,
    http: TcpListener,
    http_address: SocketAddr,
    socket: UnixListener,
}

impl Listeners {
    async fn bind(settings: &Settings) -> Result<Listeners, Problem> {
        let (api, api_address) = bind("api", settings.api).await?;
        let (http, http_address) = bind("http", settings.http).await?;
        let socket = listen(&settings.socket).await?;
        Ok(Listeners { api, api_address, http, http_address, socket })
    }
}

/// The roles beside control.
struct Parts(Control);

impl Parts {
    async fn open(settings: &Settings, folder: &DataFolder) -> Result<Parts, Problem> {
        let control = Control::open(settings, folder, Arc::new(SystemClock)).await?;
        keys::make_or_check(&control.objects, &control.keyring).await?;
        Ok(Parts(control))
    }

    fn agent(&self, settings: &Settings, folder: &DataFolder) -> Result<Agent, Problem> {
        Agent::new(AgentOptions {
            node: settings.node.clone(),
            zone: Arc::clone(&self.0.zone) as _,
            drivers: drivers(folder.path(), &self.0.clock, &self.0.random)?,
            artifacts: Arc::clone(&self.0.opened.artifacts),
            folder: folder.join("agent"),
            clock: Arc::clone(&self.0.clock),
            random: self.0.random.clone(),
            keyring: keys::of_node(folder.path())?,
            release: RELEASE.to_owned(),
            capacity: capacity(settings.bandwidth, folder.path()),
            labels: settings.labels.clone(),
            address: None,
        })
    }

    /// What there must be before anyone can use it; the first admin token, if this is the first start.
    async fn first_objects(
        &self,
        settings: &Settings,
    ) -> Result<Option<tutti_base::Secret<String>>, Problem> {
        self.0.zone.forget_ingress(&ingress_name(settings)).await?;
        server::ensure_defaults(&self.0.objects, true).await?;
        server::ensure_admin_token(&self.0.objects).await
    }

    /// Returns once the ingress routes by every table there is: until then it may still have those it had kept when the
    /// last process ended. Bounded, since what it has kept serves too.
    async fn caught_up(&self, ingress: &Ingress) -> Result<(), Problem> {
        let tables = self.0.objects.list::<TableSpec>("").await?.items;
        let newest = tables.iter().map(|table| table.revision).max().unwrap_or(0);
        if tokio::time::timeout(CATCH_UP, ingress.reached_at_least(newest)).await.is_err() {
            tracing::warn!("the ingress has not read every table yet; it serves by those it kept");
        }
        Ok(())
    }

    fn ingress(
        &self,
        settings: &Settings,
        http: TcpListener,
        agent: &Agent,
        folder: &DataFolder,
    ) -> Result<Arc<Ingress>, Problem> {
        let nodes = Arc::<NodeBook>::default();
        let ingress = Ingress::new(IngressOptions {
            name: ingress_name(settings),
            http,
            public: Vec::new(),
            hop: Arc::new(Hops::new(
                Some((settings.node.clone(), agent.node_proxy())),
                WireHop::new(Arc::clone(&nodes), Arc::new(Sockets), self.0.random.clone()),
            )),
            nodes,
            zone: Arc::clone(&self.0.zone) as _,
            clock: Arc::clone(&self.0.clock),
            random: self.0.random.clone(),
            snapshot: Some(folder.join("tables.json")),
            limits: Limits { drain: DRAIN, ..Limits::default() },
        })?;
        Ok(Arc::new(ingress))
    }

    fn around(&self, settings: &Settings, agent: &Agent, ingress: &Arc<Ingress>) -> Around {
        let here = Some((settings.node.clone(), agent.log_source()));
        let (of_agent, of_ingress) = (agent.clone(), Arc::clone(ingress));
        Around {
            control: settings.node.clone(),
            logs: Arc::new(ZoneLogs::new(self.0.objects.clone(), here)),
            metrics: Arc::new(move || format!("{}{}", of_agent.metrics(), of_ingress.metrics())),
            telling: Telling::none(),
            cluster: None,
        }
    }
}

/// What this process's ingress is called. The same at each start: the folder has one owner, so whoever had this name
/// before is dead, and no drain or deployment needs to wait until its lease has run out. One of `tutti ingress` has a dot
/// in its name, so that it is never taken for this one.
fn ingress_name(settings: &Settings) -> String {
    format!("ingress-{}", settings.node)
}
