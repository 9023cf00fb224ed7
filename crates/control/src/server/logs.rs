//! Lines that instances wrote, and go on to write.

use super::{
    App,
    call::{Answer, Call, Caller},
    identity::Standing,
    lists::{Scope, all},
    reply, services,
    streams::Place,
    subject::Subject,
    versions,
};
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream, SelectAll},
};
use std::{collections::BTreeSet, sync::Arc};
use tokio_util::sync::CancellationToken;
use tutti_api::{Change, WatchEvent, WatchStream, logs::LogSource};
use tutti_model::{
    InstanceId, Problem, Resource, Timestamp, VersionName,
    instance::{InstanceSpec, InstanceState},
    log::{LogLine, LogQuery},
    service::ServiceSpec,
};

/// Most instances whose lines are read in one request: the newest. Each costs a file or two.
const INSTANCES: usize = 200;

type Lines = BoxStream<'static, Result<LogLine, Problem>>;

/// `GET /v1/logs`
pub(super) async fn read(call: Call) -> Answer {
    let mut of = Of::new(&call.subject)?;
    if of.instance.is_none()
        && let Some(name) = call.query.get("instance")
    {
        of.instance = Some(name.parse()?);
    }
    match &call.subject {
        Subject::Service(service) => {
            services::existing(&call.app, &call.caller, service).await.map(|_| ())?
        }
        // One that is gone may be of a version that is gone as well.
        Subject::Version(version) if call.query.get("instance").is_none() => {
            versions::existing(&call.app, &call.caller, version).await.map(|_| ())?
        }
        _ => {}
    }
    let tail: Option<usize> = call.query.read("tail", "a number of lines")?;
    let since: Option<u64> = call.query.read("since", "a time in milliseconds since 1970")?;
    let follow = call.query.switch("follow")?;
    let previous = call.query.switch("previous")?;
    if previous && follow {
        return Err(Problem::invalid("an instance that has ended writes no new lines")
            .hint("ask for previous or follow, not both")
            .into());
    }
    let ids = of.ids(&call.app, previous, follow).await?;
    let query = LogQuery { instances: ids.clone(), tail, since: since.map(Timestamp), follow };
    let place = call.app.streams.open(&call.caller.account())?;
    let lines = match ids.is_empty() {
        true => stream::empty().boxed(),
        false => call.app.logs.read(query).await?,
    };
    if !follow {
        return Ok(reply::lines(lines.map(move |line| {
            let _open = &place;
            line
        })));
    }
    let following = Following {
        of,
        known: ids.into_iter().collect(),
        instances: call.app.objects.watch::<InstanceSpec>(None),
        lines: SelectAll::from_iter([lines]),
        logs: call.app.logs.clone(),
        stopping: call.app.stopping.clone(),
        standing: Standing::of(&call),
        _place: place,
    };
    Ok(reply::lines(stream::unfold(following, |mut following| async move {
        let line = following.next().await?;
        Some((line, following))
    })))
}

/// Whose lines.
struct Of {
    scope: Scope,
    version: Option<VersionName>,
    instance: Option<InstanceId>,
}

impl Of {
    fn new(subject: &Subject) -> Result<Of, Problem> {
        let (service, version, instance) = match subject {
            Subject::Service(service) => (service.clone(), None, None),
            Subject::Version(version) => (version.service.clone(), Some(version.version.clone()), None),
            Subject::Instance(found) => {
                (found.spec.version.service.clone(), None, Some(found.spec.instance.clone()))
            }
            _ => return Err(Problem::internal("logs of something that does not write any")),
        };
        Ok(Of { scope: Scope::of_service(service), version, instance })
    }

    /// Whether a caller may still know of it; the problem is that of what is not there.
    fn still_seen(&self, caller: &Caller) -> Result<(), Problem> {
        match &self.scope.service {
            Some(service) if !caller.sees(&service.domain) => {
                Err(Problem::not_found("domain", &service.domain))
            }
            _ => Ok(()),
        }
    }

    fn has(&self, instance: &Resource<InstanceSpec>) -> bool {
        self.scope.has(instance)
            && self.version.as_ref().is_none_or(|version| instance.spec.version.version == *version)
            && self.instance.as_ref().is_none_or(|id| instance.spec.instance == *id)
    }

    /// Whose lines are read, the newest last: of those that are gone too, where nothing is to be waited for.
    async fn ids(&self, app: &App, previous: bool, follow: bool) -> Result<Vec<InstanceId>, Problem> {
        let mut instances = self.instances(app).await?;
        instances.sort_by_key(|instance| (instance.created_at, instance.name.clone()));
        let mut ids = match follow {
            true => Vec::new(),
            false => self.gone(app, &instances).await?,
        };
        instances.retain(|instance| !previous || has_ended(instance));
        ids.extend(instances.into_iter().map(|instance| instance.spec.instance));
        Ok(ids.split_off(ids.len().saturating_sub(INSTANCES)))
    }

    /// Instances that only their lines are left of. Those from before the service was made were of another one with its
    /// name, whose lines may be nobody's business here.
    async fn gone(&self, app: &App, known: &[Resource<InstanceSpec>]) -> Result<Vec<InstanceId>, Problem> {
        let Some(service) = &self.scope.service else { return Ok(Vec::new()) };
        let Some(service) = app.objects.find::<ServiceSpec>(&service.to_string()).await? else {
            return Ok(Vec::new());
        };
        let known: BTreeSet<&InstanceId> = known.iter().map(|instance| &instance.spec.instance).collect();
        let mut kept = app.logs.kept().await?;
        kept.retain(|kept| {
            kept.version.service == service.spec.service
                && kept.started >= service.created_at
                && !known.contains(&kept.instance)
                && self.version.as_ref().is_none_or(|version| kept.version.version == *version)
                && self.instance.as_ref().is_none_or(|id| kept.instance == *id)
        });
        kept.sort_by(|a, b| (a.started, &a.instance).cmp(&(b.started, &b.instance)));
        Ok(kept.into_iter().map(|kept| kept.instance).collect())
    }

    async fn instances(&self, app: &App) -> Result<Vec<Resource<InstanceSpec>>, Problem> {
        let mut instances = all::<InstanceSpec>(&app.objects, &self.scope).await?;
        instances.retain(|instance| self.has(instance));
        Ok(instances)
    }
}

/// Whether an instance writes no more.
const fn has_ended(instance: &Resource<InstanceSpec>) -> bool {
    matches!(instance.status.state, InstanceState::Failed | InstanceState::Stopped)
}

/// Lines as they come, of instances as they come.
struct Following {
    of: Of,
    known: BTreeSet<InstanceId>,
    instances: WatchStream<InstanceSpec>,
    lines: SelectAll<Lines>,
    logs: Arc<dyn LogSource>,
    stopping: CancellationToken,
    standing: Standing,
    _place: Place,
}

impl Following {
    async fn next(&mut self) -> Option<Result<LogLine, Problem>> {
        loop {
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return None,
                changed = self.standing.changed() => {
                    if let Err(problem) = changed.and_then(|caller| self.of.still_seen(&caller)) {
                        // Nothing more is said after this.
                        self.stopping = CancellationToken::new();
                        self.stopping.cancel();
                        return Some(Err(problem));
                    }
                }
                Some(line) = self.lines.next() => return Some(line),
                event = self.instances.next() => {
                    if let Err(problem) = self.changed(event?).await {
                        return Some(Err(problem));
                    }
                }
            }
        }
    }

    async fn changed(&mut self, event: Result<WatchEvent<InstanceSpec>, Problem>) -> Result<(), Problem> {
        match event? {
            WatchEvent::InitItem(instance) => self.appeared(&instance).await,
            WatchEvent::Changes { changes, .. } => {
                for change in changes {
                    match change {
                        Change::Put(instance) => self.appeared(&instance).await?,
                        Change::Delete { name } => self.known.retain(|id| id.as_str() != name),
                    }
                }
                Ok(())
            }
            WatchEvent::Init | WatchEvent::InitDone { .. } => Ok(()),
        }
    }

    async fn appeared(&mut self, instance: &Resource<InstanceSpec>) -> Result<(), Problem> {
        let id = &instance.spec.instance;
        if !self.of.has(instance) || self.known.contains(id) || self.lines.len() >= INSTANCES {
            return Ok(());
        }
        self.known.insert(id.clone());
        let query = LogQuery { instances: vec![id.clone()], tail: None, since: None, follow: true };
        let lines = self.logs.read(query).await?;
        self.lines.push(lines);
        Ok(())
    }
}
