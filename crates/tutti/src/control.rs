//! Control as a role of this process, whatever runs beside it: `tutti dev` has an agent and an ingress there, `tutti
//! server` nothing.

use crate::{
    artifacts::{self, Opened, Pushed, ToAgents},
    dev::RELEASE,
    folder::DataFolder,
    keys,
    notices::Telling,
    parts::store,
    settings::Settings,
};
use std::sync::Arc;
use tutti_api::logs::LogSource;
use tutti_base::{Clock, Random, Tasks, metrics::Exposition};
use tutti_control::{
    Objects,
    cluster::Cluster,
    observed::Observed,
    reconcile::{ReconcileOptions, loops::Loops, pool::MachineCommands},
    server::{self, ServerOptions},
    zone::LocalZone,
};
use tutti_model::{
    Digest, Problem,
    name::{NodeName, ZoneName},
};
use tutti_pki::MemberTable;
use tutti_registry::Registry;
use tutti_resolve::TxtResolver;
use tutti_seal::Keyring;
use tutti_store::measured::Measured;

/// What control is made of.
pub(crate) struct Control {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Random,
    pub(crate) objects: Objects,
    pub(crate) zone: Arc<LocalZone>,
    pub(crate) keyring: Keyring,
    pub(crate) opened: Opened,
    pub(crate) observed: Observed,
    /// How its loops fare.
    pub(crate) loops: Loops,
    /// The store, for its figures.
    measured: Measured,
}

/// What the API is told of by others than control.
pub(crate) struct Around {
    /// What this control is called.
    pub(crate) control: NodeName,
    /// The lines of all nodes.
    pub(crate) logs: Arc<dyn LogSource>,
    /// Figures of the other roles in this process.
    pub(crate) metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether notices are told.
    pub(crate) telling: Telling,
    /// The cluster and its members, if there is one.
    pub(crate) cluster: Option<(Cluster, Arc<MemberTable>)>,
}

impl Control {
    /// Opens the store and the artifacts. The key is neither read nor made yet.
    ///
    /// # Errors
    /// What keeps one of them from being opened.
    pub(crate) async fn open(
        settings: &Settings,
        folder: &DataFolder,
        clock: Arc<dyn Clock>,
    ) -> Result<Control, Problem> {
        let random = Random::from_os();
        let measured = Measured::new(store(&settings.store, folder, &clock, &random).await?);
        let store = Arc::new(measured.clone());
        let opened = artifacts::open(settings, folder).await?;
        let objects = Objects::new(store, ZoneName::local(), Arc::clone(&clock), random.clone());
        let observed = Observed::new();
        let keyring = keys::of_control(settings.key.as_ref(), folder.path());
        let zone = Arc::new(LocalZone::new(objects.clone(), observed.clone(), keyring.clone()));
        let loops = Loops::default();
        Ok(Control { clock, random, objects, zone, keyring, opened, observed, loops, measured })
    }

    /// What its loops work on. `root` is what the root of its cluster is pinned by, if there is one.
    pub(crate) fn reconciling(&self, settings: &Settings, root: Option<&Digest>) -> ReconcileOptions {
        ReconcileOptions {
            objects: self.objects.clone(),
            observed: self.observed.clone(),
            host_suffixes: vec![settings.host_suffix.clone()],
            loops: self.loops.clone(),
            machines: MachineCommands { pools: settings.pools.clone(), root: root.cloned() },
        }
    }

    /// The API, with the registry.
    ///
    /// # Errors
    /// `unavailable` if this machine names no server to look proofs up at.
    pub(crate) fn api(
        &self,
        settings: &Settings,
        around: Around,
        tasks: &Tasks,
    ) -> Result<axum::Router, Problem> {
        let blobs = &self.opened.blobs;
        let registry = Registry::new(Arc::clone(blobs), Arc::clone(&self.clock), self.random.clone());
        let (tidying, stopping) = (registry.clone(), tasks.stopping());
        tasks.spawn("registry", async move { tidying.tidy(stopping).await });
        let txt = match settings.resolver {
            Some(server) => TxtResolver::of(server),
            None => TxtResolver::of_this_machine(),
        };
        let (cluster, members) = around.cluster.unzip();
        Ok(server::router(ServerOptions {
            control: around.control,
            objects: self.objects.clone(),
            zone: Arc::clone(&self.zone) as _,
            observed: self.observed.clone(),
            loops: self.loops.clone(),
            keyring: self.keyring.clone(),
            blobs: Arc::new(ToAgents(Arc::clone(blobs))),
            logs: around.logs,
            registry: registry.router(),
            metrics: self.metrics(around.telling.clone(), around.metrics),
            troubles: around.telling.troubles(),
            artifacts: Arc::new(Pushed(Arc::clone(blobs))),
            release: RELEASE.to_owned(),
            vouch: settings.vouch,
            txt: Arc::new(txt?),
            members,
            cluster,
            host_suffixes: vec![settings.host_suffix.clone()],
            tasks: tasks.clone(),
        }))
    }

    /// Figures of this process beside those that the API has of the cloud.
    fn metrics(
        &self,
        telling: Telling,
        others: Arc<dyn Fn() -> String + Send + Sync>,
    ) -> Arc<dyn Fn() -> String + Send + Sync> {
        let measured = self.measured.clone();
        Arc::new(move || {
            let mut text = Exposition::default();
            measured.metrics(&mut text);
            telling.metrics(&mut text);
            format!("{}{}", text.into_text(), others())
        })
    }
}
