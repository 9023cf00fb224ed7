//! The zone's interface: one suite, over the store in this process and over a real socket to the real router.
//!
//! [`both`] has what holds for either; [`wire`] what there is only between processes, [`names`] what
//! there is only for DNS servers.

mod both;
mod names;
mod wire;

use super::*;
use std::{path::PathBuf, time::Duration};
use tutti_api::{Change, Client, WatchEvent, WatchStream, ZoneApi, ZoneClient};
use tutti_model::{
    Millis,
    name::NodeName,
    node::NodeStatus,
    resource::Object,
    table::{Backend, TableSpec},
};
use tutti_store::Store;

/// Longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

async fn patiently<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// A zone, and its interface as it is under test.
struct World {
    objects: Objects,
    clock: VirtualClock,
    zone: Arc<dyn ZoneApi>,
    served: Option<Served>,
}

/// A control that is reached over a socket.
struct Served {
    _folder: tempfile::TempDir,
    path: PathBuf,
    tasks: Tasks,
    client: ZoneClient,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(served) = &self.served {
            served.tasks.stop();
        }
    }
}

impl World {
    fn new(retained: u64) -> World {
        let clock = VirtualClock::at(Timestamp(1_700_000_000_000));
        let store = MemoryStore::retaining(Arc::new(clock.clone()), retained);
        World::over(Arc::new(store), clock)
    }

    fn over(store: Arc<dyn Store>, clock: VirtualClock) -> World {
        let shared: Arc<dyn tutti_base::Clock> = Arc::new(clock.clone());
        let objects = Objects::new(store, ZoneName::local(), shared, Random::seeded(7));
        let zone = Arc::new(local_zone(&objects));
        World { objects, clock, zone, served: None }
    }

    fn direct() -> World {
        World::new(tutti_store::memory::RETAIN_REVISIONS)
    }

    async fn wired() -> World {
        World::wired_retaining(tutti_store::memory::RETAIN_REVISIONS).await
    }

    async fn wired_retaining(revisions: u64) -> World {
        World::new(revisions).wire().await
    }

    /// The same over a socket.
    async fn wire(mut self) -> World {
        let world = &mut self;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let client = ZoneClient::new(Client::over_socket(&path));
        world.zone = Arc::new(client.clone());
        world.served = Some(Served { _folder: folder, path, tasks: Tasks::new(), client });
        world.serve().await;
        self
    }

    fn served(&self) -> &Served {
        self.served.as_ref().expect("it is over a socket")
    }

    /// Starts control again, with nothing of what it had in memory.
    async fn serve(&mut self) {
        let tasks = Tasks::new();
        let listener = tutti_base::socket::listen(&self.served().path).await.unwrap();
        let router = router(options(&self.objects, Arc::default(), &tasks));
        tasks.spawn("control socket", serve_socket(listener, router, tasks.clone()));
        self.served.as_mut().unwrap().tasks = tasks;
    }

    /// Ends control.
    async fn end(&self) {
        assert!(self.served().tasks.drain(PATIENCE).await, "it ends with watches open");
    }

    /// Writes a table anew; gives the revision.
    async fn table(&self, service: &str, reason: impl Into<String>) -> u64 {
        let backend = Backend::None { reason: reason.into() };
        let write = match self.objects.find::<TableSpec>(service).await.unwrap() {
            Some(mut known) => {
                known.spec.backend = backend;
                self.objects.write().update(&known)
            }
            None => {
                let spec = TableSpec { service: service.parse().unwrap(), matches: Vec::new(), backend };
                self.objects.write().create(&self.objects.make(service, spec))
            }
        };
        write.commit().await.unwrap().expect("nobody else writes")
    }

    fn instance(&self, bits: u64, node: &str) -> Resource<InstanceSpec> {
        let id = InstanceId::from_bits(bits);
        let spec = InstanceSpec {
            instance: id.clone(),
            version: "example.com:web@1.0".parse().unwrap(),
            artifact: PUSHED.parse().unwrap(),
            isolate: Isolate::Wasm,
            manifest: Manifest::default(),
            node: node.parse().unwrap(),
            goal: Goal::Serve,
            placed: String::new(),
        };
        self.objects.make(id.to_string(), spec)
    }
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn status(release: &str) -> NodeStatus {
    NodeStatus { ready: true, release: release.to_owned(), ..NodeStatus::default() }
}

/// A reader that holds every event against what a watch promises, and keeps what it knows.
struct Reader<S: Object> {
    events: WatchStream<S>,
    known: BTreeMap<String, Resource<S>>,
    coming: Option<BTreeMap<String, Resource<S>>>,
    reached: Option<u64>,
    /// How often it began.
    inits: usize,
}

impl<S: Object> Reader<S> {
    fn new(events: WatchStream<S>) -> Reader<S> {
        Reader { events, known: BTreeMap::new(), coming: None, reached: None, inits: 0 }
    }

    /// Applies the next event; gives what changed by name, for whole transactions.
    async fn next(&mut self) -> Vec<String> {
        let event = patiently(self.events.next()).await.expect("a watch does not end");
        match event.expect("nothing that trying again cannot mend") {
            WatchEvent::Init => {
                self.inits += 1;
                self.coming = Some(BTreeMap::new());
            }
            WatchEvent::InitItem(object) => {
                let coming = self.coming.as_mut().expect("items follow the beginning");
                assert!(coming.insert(object.name.clone(), *object).is_none(), "an item twice");
            }
            WatchEvent::InitDone { revision } => {
                self.known = self.coming.take().expect("it had begun");
                assert!(self.reached.is_none_or(|reached| reached <= revision), "it went back");
                self.reached = Some(revision);
            }
            WatchEvent::Changes { revision, changes } => {
                assert!(self.coming.is_none(), "changes before all was said");
                let before = self.reached.replace(revision);
                // A sign of life says what is so already.
                assert!(before.is_none_or(|before| before < revision || changes.is_empty()), "it went back");
                let named = changes.into_iter().map(|change| self.apply(change));
                return named.collect();
            }
        }
        Vec::new()
    }

    fn apply(&mut self, change: Change<S>) -> String {
        match change {
            Change::Put(object) => {
                let name = object.name.clone();
                self.known.insert(name.clone(), *object);
                name
            }
            Change::Delete { name } => {
                self.known.remove(&name);
                name
            }
        }
    }

    /// Reads on until it has begun.
    async fn begin(mut self) -> Reader<S> {
        self.until(|reader| reader.reached.is_some()).await;
        self
    }

    async fn until(&mut self, enough: impl Fn(&Reader<S>) -> bool) {
        while !enough(self) {
            self.next().await;
        }
    }

    async fn reach(&mut self, revision: u64) {
        self.until(|reader| reader.coming.is_none() && reader.reached.is_some_and(|at| at >= revision)).await;
    }
}
