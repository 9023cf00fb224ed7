//! Kinds of stories. What goes wrong only where the same trouble comes again and again is not found by a little of
//! everything, so each world has more of something.

use super::{Ingress, NODE, World};
use tutti_base::Clock as _;
use tutti_model::{
    Millis, Timestamp, ingress::IngressSpec, instance::InstanceSpec, node::Resources, quantity::ByteSize,
};

/// What a node has in a world that is crowded: room for four instances.
const SMALL_NODE: Resources = Resources { memory: ByteSize::mib(4 * 128), ..NODE };
/// The most requests of one version that run at one ingress, unless there is more of them than of anything else.
const LOAD: u64 = 3;
/// The longest that a watch is late.
pub(super) const LATE: Millis = Millis::seconds(3);
/// How late control is told of an ingress that comes back unnoticed: over several steps.
const LATEST: Millis = Millis::seconds(10);

/// What there is most of in a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Temper {
    /// Nothing in particular.
    #[default]
    Even,
    /// Controls that are killed, or stopped and go on.
    Unled,
    /// Ingresses that are cut off while versions are deployed.
    CutOff,
    /// Services that want more than the nodes have, at the same moment.
    Crowded,
    /// Requests.
    Loaded,
    /// Instances that fail, while control is told late of it and users ask for more and fewer.
    Frail,
}

impl Temper {
    /// All of them.
    pub const ALL: [Temper; 6] =
        [Temper::Even, Temper::Unled, Temper::CutOff, Temper::Crowded, Temper::Loaded, Temper::Frail];

    /// The most requests of one version that run at one ingress.
    pub(super) const fn load(self) -> u64 {
        if matches!(self, Temper::Loaded) { 4 * LOAD } else { LOAD }
    }
}

impl World {
    /// What each node has.
    pub(super) fn node(&self) -> Resources {
        if self.temper == Temper::Crowded { SMALL_NODE } else { NODE }
    }

    /// What this world has more of.
    pub(super) async fn favourite_event(&mut self) {
        match self.temper {
            Temper::Even => {}
            Temper::Unled => self.replace_control().await,
            Temper::CutOff => {
                if !self.ingress_comes_back_unnoticed().await {
                    self.ingress_falls_silent();
                }
                self.user_deploys_both().await;
            }
            Temper::Crowded => self.user_deploys_both().await,
            Temper::Loaded => self.user_leaves_to_load().await,
            Temper::Frail => {
                let watched = self.real.key::<InstanceSpec>("");
                let late = self.clock.now().plus(LATE);
                self.control.iter().for_each(|control| control.faults.delay(&watched, late));
                self.user_scales().await;
            }
        }
        self.turns().await;
    }

    /// An ingress that was cut off for so long that what it may send to goes comes back, with the tables of then, and
    /// control is told of it late; false if there is none.
    async fn ingress_comes_back_unnoticed(&mut self) -> bool {
        let now = self.clock.now();
        let Ok(known) = self.real.list::<IngressSpec>("").await else { return false };
        let is_known = |name: &str| known.items.iter().any(|ingress| ingress.name == name);
        let for_long = |since: Timestamp| since.plus(crate::user::STANDBY) <= now;
        let gone = |ingress: &Ingress| ingress.silent_since.is_some_and(for_long) && !is_known(&ingress.name);
        let Some(at) = self.ingresses.iter().position(gone) else { return false };
        let late = now.plus(LATEST);
        if let Some(ingress) = self.ingresses.get_mut(at) {
            ingress.silent_until = now;
            let text = format!("{} comes back, and control is not told before {}", ingress.name, late.0);
            self.note(text);
        }
        let watched = self.real.key::<IngressSpec>("");
        self.control.iter().for_each(|control| control.faults.delay(&watched, late));
        self.ingress_reports(at, false).await;
        true
    }
}
