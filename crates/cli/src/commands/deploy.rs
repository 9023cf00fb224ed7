//! `tutti deploy` and `tutti rollback`: starting a rollout, following it, and saying how it ended.

use super::{Session, tables};
use crate::{
    Format,
    args::{DeployArgs, RollbackArgs, WaitArgs},
    exit::{FAILED, Failed, INTERRUPTED},
    rollout::{self, Line, Telling, goal},
    table::facts,
    text,
    ui::{Tone, Ui},
};
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tutti_api::{
    Change, WatchEvent, WatchStream, client::Filter, wire::CreateDeployment, wire::ServiceSummary,
};
use tutti_model::{
    ErrorCode, Problem, Resource, Share, Split,
    deployment::{DeploymentSpec, Intent, Phase, check_steps},
    instance::InstanceSpec,
    name::ServiceText,
    service::ServiceSpec,
};

/// How long the same message stands before it is told where nothing can be redrawn.
const STANDS: Duration = Duration::from_secs(2);
/// Columns before the text of a line: when, and the phase.
const INDENT: usize = 21;
/// Columns of the spinner and the time beside the message that moves.
const BESIDE: usize = 9;

pub(super) async fn deploy(session: &Session<'_>, args: &DeployArgs) -> Result<(), Failed> {
    let steps: Vec<Share> = args.share.map_or_else(|| args.steps.clone(), |share| vec![share]);
    check_steps(&steps)?;
    let create = CreateDeployment {
        version: args.version.clone(),
        steps,
        every: args.every,
        abort_if: args.abort_if.clone(),
    };
    let deployment = session.client.create_deployment(&create).await?;
    follow(session, deployment, &args.wait, Wanted::Reached).await
}

pub(super) async fn rollback(session: &Session<'_>, args: &RollbackArgs) -> Result<(), Failed> {
    let deployment = session.client.rollback(&args.service).await?;
    follow(session, deployment, &args.wait, Wanted::Undone).await
}

/// What end the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// That the target is reached.
    Reached,
    /// That the weights from before are back, be it by a deployment of them or by aborting the running one.
    Undone,
}

/// How following ended.
enum End {
    /// The rollout is over.
    Over,
    /// The user has seen enough.
    Interrupted,
    /// The time to wait is up.
    Late(Duration),
}

/// Follows a rollout to its end, as far as the user wants to.
pub(super) async fn follow(
    session: &Session<'_>,
    mut deployment: Resource<DeploymentSpec>,
    wait: &WaitArgs,
    wanted: Wanted,
) -> Result<(), Failed> {
    let (name, service) = (deployment.name.clone(), deployment.spec.service.clone());
    if wait.no_wait {
        return session.ui.result(&deployment, || {
            format!("deployment {name} of {service} has begun\nsee how far it is with: tutti deployment show {name}\n")
        });
    }
    let telling = match deployment.spec.intent {
        Intent::Proceed => Telling::new(&deployment),
        // It is an older one that is being undone.
        Intent::Pause | Intent::Abort => Telling::from_now(&deployment),
    };
    let progress = Progress::new(session.ui, &deployment);
    let end =
        watch(session, &mut deployment, telling, &progress, wait.timeout.map(|limit| limit.duration())).await;
    progress.clear();
    let goes_on =
        format!("follow it with: tutti deployment show {name}; end it with: tutti deployment abort {name}");
    match end? {
        End::Over => ended(session, &deployment, wanted).await,
        End::Interrupted => {
            session.ui.note(&format!(
                "detached: deployment {name} of {service} goes on ({})",
                deployment.status.phase
            ));
            session.ui.note(&format!("  hint: {goes_on}"));
            Err(Failed::Said(INTERRUPTED))
        }
        End::Late(limit) => {
            let (phase, message) = (deployment.status.phase, text::harmless(&deployment.status.message));
            let detail = format!(
                "deployment {name} of {service} is still {phase} after {}s: {message}",
                limit.as_secs()
            );
            Err(Problem::new(ErrorCode::Timeout, detail).hint(format!("it goes on; {goes_on}")).into())
        }
    }
}

/// Tells a rollout as it goes; `deployment` is kept up to date.
async fn watch(
    session: &Session<'_>,
    deployment: &mut Resource<DeploymentSpec>,
    mut telling: Telling,
    progress: &Progress<'_>,
    limit: Option<Duration>,
) -> Result<End, Failed> {
    let filter = Filter::service(&deployment.spec.service);
    let after = Some(deployment.revision).filter(|revision| *revision > 0);
    let lost = progress.lost();
    let client = session.client.clone().on_loss(Arc::new(move |problem| lost.tell(problem)));
    let mut deployments: WatchStream<DeploymentSpec> = client.watch(&filter, after);
    let mut instances: WatchStream<InstanceSpec> = session.client.watch(&filter, after);
    let deadline = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        progress.tell(telling.deployment(deployment));
        progress.message(&deployment.status.message);
        if deployment.status.phase.is_final() {
            return Ok(End::Over);
        }
        tokio::select! {
            biased;
            () = &mut deadline => return Ok(End::Late(limit.unwrap_or_default())),
            _ = &mut interrupted => return Ok(End::Interrupted),
            // Instances first: what they did is why the deployment moved.
            Some(Ok(event)) = instances.next() => {
                progress.tell(of_instances(event).iter().filter_map(|instance| telling.instance(instance)).collect());
            }
            event = deployments.next() => match event {
                Some(event) => update(deployment, event?)?,
                None => return Err(Problem::unavailable("the watch over the deployment has ended").into()),
            },
            () = tokio::time::sleep(STANDS) => progress.stands(&deployment.status.message),
        }
    }
}

/// Takes up what an event says about this deployment.
fn update(
    deployment: &mut Resource<DeploymentSpec>,
    event: WatchEvent<DeploymentSpec>,
) -> Result<(), Problem> {
    let changes = match event {
        WatchEvent::Init | WatchEvent::InitDone { .. } => return Ok(()),
        WatchEvent::InitItem(object) => vec![Change::Put(object)],
        WatchEvent::Changes { changes, .. } => changes,
    };
    for change in changes {
        match change {
            Change::Put(object) if object.name == deployment.name => *deployment = *object,
            Change::Delete { name } if name == deployment.name => {
                return Err(Problem::not_found("deployment", name)
                    .hint("it was deleted, with its service, while it ran"));
            }
            Change::Put(_) | Change::Delete { .. } => {}
        }
    }
    Ok(())
}

fn of_instances(event: WatchEvent<InstanceSpec>) -> Vec<Resource<InstanceSpec>> {
    match event {
        WatchEvent::Init | WatchEvent::InitDone { .. } => Vec::new(),
        WatchEvent::InitItem(object) => vec![*object],
        WatchEvent::Changes { changes, .. } => changes
            .into_iter()
            .filter_map(|change| match change {
                Change::Put(object) => Some(*object),
                Change::Delete { .. } => None,
            })
            .collect(),
    }
}

/// Says how it ended, and what serves now.
async fn ended(
    session: &Session<'_>,
    deployment: &Resource<DeploymentSpec>,
    wanted: Wanted,
) -> Result<(), Failed> {
    let of = &deployment.spec.service;
    let service = ServiceText { domain: Some(of.domain.clone()), service: of.service.clone() };
    let undone = wanted == Wanted::Undone && deployment.status.phase == Phase::Aborted;
    let failure = rollout::failure(deployment).filter(|_| !undone);
    if session.ui.format != Format::Table {
        session.ui.result(deployment, String::new)?;
    } else if failure.is_none() {
        session.ui.print(&serves_now(session, &service).await?)?;
    }
    let Some((sentence, lines)) = failure else { return Ok(()) };
    let sentence = session.ui.err_wrap(&sentence, "error: ".len());
    session.ui.note(&format!("{} {sentence}", session.ui.err_paint(Tone::Bad, "error:")));
    for line in lines {
        session.ui.note(&format!("  {line}"));
    }
    if let Ok(summary) = session.client.service_summary(&service).await {
        session.ui.note(&format!(
            "  {} serves {}",
            text::service(&summary.service),
            text::split(&summary.serving)
        ));
    }
    session.ui.note(&format!("  hint: tutti explain {}", deployment.name));
    Err(Failed::Said(FAILED))
}

/// What serves a service now, and how to go back from there.
async fn serves_now(session: &Session<'_>, service: &ServiceText) -> Result<String, Problem> {
    let summary = session.client.service_summary(service).await?;
    let found = session.client.get::<ServiceSpec>(&service.to_string()).await?;
    Ok(serving(&summary, found.status.previous.as_ref(), session.ui))
}

/// What serves a service, for people.
pub(super) fn serving(summary: &ServiceSummary, previous: Option<&Split>, ui: &Ui) -> String {
    let mut out = facts(
        ui,
        &[
            ("service", text::service(&summary.service)),
            ("state", summary.state.clone()),
            ("reason", summary.reason.clone().unwrap_or_default()),
            ("deployment", summary.deployment.clone().unwrap_or_default()),
            ("hosts", summary.hosts.join("\n")),
            ("upstreams", summary.upstreams.join("\n")),
        ],
    );
    if summary.upstreams.is_empty() {
        out.push('\n');
        out.push_str(&tables::versions_serving(summary).show(ui));
    }
    if let Some(line) = rollout::afterwards(summary, previous) {
        out.push_str(&format!("\n{line}\n"));
    }
    out
}

/// Progress on standard error: lines for what happened, and on a terminal one that moves.
struct Progress<'a> {
    ui: &'a Ui,
    bar: Option<ProgressBar>,
    stood: std::cell::RefCell<String>,
    /// Set once nothing more is to be told, for those who would still speak.
    over: Arc<AtomicBool>,
}

impl<'a> Progress<'a> {
    fn new(ui: &'a Ui, deployment: &Resource<DeploymentSpec>) -> Self {
        let bar = ui.err_terminal.then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed:>5}  {wide_msg}");
            let bar = ProgressBar::new_spinner();
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            // Fast enough to look alive, slow enough to cost nothing.
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let progress = Progress { ui, bar, stood: std::cell::RefCell::default(), over: Arc::default() };
        let head = format!(
            "deployment {} of {}: {}",
            deployment.name,
            text::service(&deployment.spec.service),
            goal(&deployment.spec, deployment.status.step)
        );
        progress.say(&head);
        progress
    }

    fn tell(&self, lines: Vec<Line>) {
        for line in lines {
            let word = self.ui.err_paint(line.tone, &format!("{:<10}", line.word));
            let text = self.ui.err_wrap(&line.text, INDENT);
            self.say(&format!("{:>7}  {word}  {text}", line.at));
        }
    }

    /// What it does or waits for now.
    fn message(&self, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text::harmless(message));
        }
    }

    /// The message has stood for a while: where it is not seen moving, it is told once.
    fn stands(&self, message: &str) {
        // On a terminal it is seen moving, as far as it fits beside the spinner and the time.
        let seen = self.bar.is_some() && message.chars().count() + BESIDE <= self.ui.err_width;
        if !seen && *self.stood.borrow() != message {
            self.stood.replace(message.to_owned());
            let text = self.ui.err_wrap(&text::harmless(message), INDENT);
            self.say(&format!("{:INDENT$}{text}", ""));
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.ui.note(line)),
            None => self.ui.note(line),
        }
    }

    fn lost(&self) -> Lost {
        Lost { bar: self.bar.clone(), ui: self.ui.clone(), told: Arc::clone(&self.over) }
    }

    fn clear(&self) {
        // The watches are closed from now on; that they end is no loss.
        self.over.store(true, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Says once that control is out of reach: the rollout goes on without being seen.
struct Lost {
    bar: Option<ProgressBar>,
    ui: Ui,
    told: Arc<AtomicBool>,
}

impl Lost {
    fn tell(&self, problem: &Problem) {
        if self.told.swap(true, Ordering::Relaxed) {
            return;
        }
        let text = self.ui.err_wrap(&format!("{problem}; trying again"), INDENT);
        let line = format!("{:INDENT$}{text}", "");
        match &self.bar {
            Some(bar) => bar.suspend(|| self.ui.note(&line)),
            None => self.ui.note(&line),
        }
    }
}
