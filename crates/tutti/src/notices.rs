//! Notices of changes over NATS: control tells, agents and ingresses hear. Where nobody names NATS there are none, and all
//! goes by watches that are open.

use crate::settings::NoticesSettings;
use futures_util::FutureExt as _;
use std::sync::Arc;
use tutti_api::ZoneApi;
use tutti_base::{
    Random, Tasks,
    metrics::{Exposition, MetricKind},
};
use tutti_control::Objects;
use tutti_model::{
    Problem,
    name::{NodeName, ZoneName},
};
use tutti_notices::{Carrier, Hearing, Nats, NoticedZone, Publisher, Sources, Subjects, Topic};

/// What stands for the cluster in the subjects of a cloud that is one machine.
pub(crate) const NO_CLUSTER: &str = "local";

async fn connect(settings: &NoticesSettings) -> Result<Arc<dyn Carrier>, Problem> {
    let (credentials, ca) = (settings.credentials.as_deref(), settings.ca.as_deref());
    Ok(Arc::new(Nats::connect(&settings.address, credentials, ca).await?))
}

/// Tells of what changes in the store, until `tasks` are to stop.
///
/// # Errors
/// What is wrong with the settings; a NATS that is away is waited for.
pub(crate) async fn tell(
    settings: Option<&NoticesSettings>,
    cluster: &str,
    objects: &Objects,
    tasks: &Tasks,
) -> Result<Telling, Problem> {
    let Some(settings) = settings else { return Ok(Telling::none()) };
    let carrier = connect(settings).await?;
    let publisher = Publisher::new(Arc::clone(&carrier), Subjects::new(cluster, objects.zone()));
    let store = Arc::clone(objects.store());
    let sources = Sources {
        tables: objects.watch(None),
        nodes: objects.watch(None),
        instances: objects.watch(None),
        revision: Arc::new(move || {
            let store = Arc::clone(&store);
            async move { store.revision().await.map_err(Problem::from) }.boxed()
        }),
    };
    tasks.spawn("notices", publisher.run(sources, tasks.stopping()));
    Ok(Telling(Some(carrier)))
}

/// Whether notices are told; nothing where nobody names NATS.
#[derive(Debug, Clone)]
pub(crate) struct Telling(Option<Arc<dyn Carrier>>);

impl Telling {
    /// None are.
    pub(crate) const fn none() -> Telling {
        Telling(None)
    }

    /// Whether NATS is reached; nothing where there is none.
    pub(crate) fn metrics(&self, text: &mut Exposition) {
        let help =
            "Whether NATS, which notices of changes go over, is reached; left out where none is named.";
        let mut connected = text.family("tutti_notices_connected", MetricKind::Gauge, help);
        if let Some(carrier) = &self.0 {
            connected.put(&[], u8::from(carrier.is_connected()));
        }
    }

    /// What is not as it should be.
    pub(crate) fn troubles(&self) -> Arc<dyn Fn() -> Vec<String> + Send + Sync> {
        let carrier = self.0.clone();
        Arc::new(move || match &carrier {
            Some(carrier) if !carrier.is_connected() => {
                vec![
                    "NATS is not reached: changes are told by watches alone; see that its server runs"
                        .to_owned(),
                ]
            }
            _ => Vec::new(),
        })
    }
}

/// What an agent follows.
pub(crate) fn of_node(node: &NodeName) -> Vec<Topic> {
    vec![Topic::Node(node.clone()), Topic::Instances(node.clone())]
}

/// What an ingress follows.
pub(crate) fn of_ingress() -> Vec<Topic> {
    vec![Topic::Tables, Topic::Nodes]
}

/// The zone, with watches that go by notices if there are any, until `tasks` are to stop.
///
/// # Errors
/// As of [`tell`].
pub(crate) async fn heard(
    settings: Option<&NoticesSettings>,
    cluster: &str,
    zone: Arc<dyn ZoneApi>,
    topics: &[Topic],
    tasks: &Tasks,
) -> Result<Arc<dyn ZoneApi>, Problem> {
    let Some(settings) = settings else { return Ok(zone) };
    let subjects = Subjects::new(cluster, &ZoneName::local());
    let (hearing, run) = Hearing::start(connect(settings).await?, &subjects, topics, tasks.stopping());
    tasks.spawn("notices", run);
    Ok(Arc::new(NoticedZone::new(zone, hearing, Random::from_os())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use futures_util::stream::{BoxStream, StreamExt as _};

    #[derive(Debug)]
    struct Reached(bool);

    #[async_trait]
    impl Carrier for Reached {
        async fn publish(&self, _: String, _: Vec<u8>) {}

        fn is_connected(&self) -> bool {
            self.0
        }

        fn subscribe(&self, _: Vec<String>) -> BoxStream<'static, bytes::Bytes> {
            futures_util::stream::pending().boxed()
        }
    }

    #[test]
    fn whether_nats_is_reached_is_a_figure_and_when_it_is_not_a_trouble() {
        let said = |telling: &Telling| {
            let mut text = Exposition::default();
            telling.metrics(&mut text);
            text.into_text()
        };
        for reached in [true, false] {
            let telling = Telling(Some(Arc::new(Reached(reached))));
            let own = format!("\ntutti_notices_connected {}\n", u8::from(reached));
            assert!(said(&telling).ends_with(&own), "{}", said(&telling));
            assert_eq!(telling.troubles()().is_empty(), reached);
        }
        assert!(!said(&Telling::none()).contains("\ntutti_notices_connected"));
        assert!(Telling::none().troubles()().is_empty());
    }
}
