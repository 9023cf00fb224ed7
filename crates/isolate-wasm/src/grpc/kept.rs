//! One instance of a component for all its calls, where its manifest asks for state: they take turns in it.
//!
//! A call that was begun goes on to its end, even if its client has gone: a client could otherwise make the service lose
//! its state by hanging up. When it fails, or exceeds a limit, the instance is made anew, and its state is lost.

use super::{
    call::Call,
    invoke::{self, Finished},
    service::Service,
};
use crate::{
    guest::{Meter, Work},
    instance::{Instance, Outputs},
    state::{Held, State},
};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tutti_isolate::HandleError;
use wasmtime::{Store, component};

/// Calls that wait for their turn, at most. Each holds its request, which is counted as memory of the instance.
const WAITING: usize = 64;

/// A call and where its outcome goes.
pub(super) struct Job {
    pub(super) method: usize,
    pub(super) call: Call,
    pub(super) request: Option<component::Val>,
    pub(super) held: Held,
    pub(super) outcome: oneshot::Sender<Result<Finished, HandleError>>,
}

/// Calls of an instance that is kept. It ends when this is dropped.
#[derive(Clone)]
pub(crate) struct Kept(mpsc::Sender<Job>);

/// The store that is kept.
struct Live {
    store: Store<State>,
    instance: component::Instance,
    outputs: Outputs,
    meter: Arc<Meter>,
}

impl Kept {
    /// Starts the task that makes the calls; the component is instantiated with the first.
    pub(crate) fn start(instance: Arc<Instance>, service: Arc<Service>) -> Kept {
        let (queue, jobs) = mpsc::channel(WAITING);
        tokio::spawn(run(instance, service, jobs));
        Kept(queue)
    }

    /// Makes a call once it is its turn.
    pub(super) async fn call(
        self,
        method: usize,
        call: Call,
        request: Option<component::Val>,
        held: Held,
    ) -> Result<Finished, HandleError> {
        let (sender, outcome) = oneshot::channel();
        let job = Job { method, call, request, held, outcome: sender };
        self.0.try_send(job).map_err(|_| {
            HandleError::Full(format!("{WAITING} calls wait for their turn in the one instance that is kept"))
        })?;
        outcome.await.unwrap_or_else(|_| Err(HandleError::Trap("the instance was stopped".to_owned())))
    }
}

async fn run(instance: Arc<Instance>, service: Arc<Service>, mut jobs: mpsc::Receiver<Job>) {
    let mut live = None;
    loop {
        let job = tokio::select! {
            biased;
            () = instance.stopped().cancelled() => return,
            job = jobs.recv() => job,
        };
        let Some(Job { method, call, request, held, outcome }) = job else { return };
        // Its client gave up before its turn.
        if outcome.is_closed() {
            continue;
        }
        let streams = service.method_at(method).is_some_and(super::service::Method::streams);
        let meter = match &live {
            Some(Live { meter, .. }) => Arc::clone(meter),
            None => Arc::new(Meter::new(instance.timeout)),
        };
        meter.restart();
        let work = work(&instance, &service, live.take(), &meter, (method, call, request, held));
        let guest = instance.guest(work, meter);
        let ended = if streams {
            // It waits for its client for no longer than its limit each time, and its cpu time is bounded.
            tokio::select! {
                biased;
                ended = guest => ended,
                () = instance.stopped().cancelled() => return,
            }
        } else {
            tokio::time::timeout(instance.timeout, guest).await.unwrap_or(Err(HandleError::Time))
        };
        let result = match ended {
            Ok((kept, finished)) => {
                live = Some(kept);
                Ok(finished)
            }
            Err(failure) => {
                instance.note("the instance that was kept has failed; its state is lost");
                Err(failure)
            }
        };
        if let Err(Err(unheard)) = outcome.send(result) {
            instance.log_failure(&unheard);
        }
    }
}

fn work(
    instance: &Instance,
    service: &Arc<Service>,
    live: Option<Live>,
    meter: &Arc<Meter>,
    (method, call, request, held): (usize, Call, Option<component::Val>, Held),
) -> Work<(Live, Finished)> {
    let service = Arc::clone(service);
    let made = match live {
        Some(live) => Ok(live),
        None => Err((instance.store(meter), Arc::clone(meter))),
    };
    Box::pin(async move {
        let mut live = match made {
            Ok(live) => live,
            Err(((mut store, outputs), meter)) => {
                let instance = service.pre.instantiate_async(&mut store).await?;
                Live { store, instance, outputs, meter }
            }
        };
        live.store.data_mut().call = Some(Box::new(call));
        let method = service.method_at(method).ok_or_else(|| wasmtime::format_err!("the method is gone"))?;
        let result = invoke::invoke(&mut live.store, &live.instance, &service, method, request).await;
        drop(held);
        live.outputs.finish().await;
        result.map(|finished| (live, finished))
    })
}
