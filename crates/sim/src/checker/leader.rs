//! Only the control that leads writes what the loops write. Whether its write compared that is not looked at: what counts
//! is who led when it took effect.

use super::{Checker, key_of, object};
use crate::Check;
use tutti_control::keys::Home;
use tutti_model::{
    Kind,
    control::LEADER,
    instance::InstanceSpec,
    name::{NodeName, ZoneName},
};
use tutti_store::Change;

impl Checker {
    /// Called before the changes are taken: who leads is who did until then.
    pub(super) fn check_leader(&mut self, revision: u64, author: &NodeName, changes: &[Change]) {
        let leads = self.leaders.get(LEADER).map(|leader| leader.spec.control.clone());
        if leads.as_ref() == Some(author) {
            return;
        }
        let Some(written) = changes.iter().find(|change| self.is_loops(change)) else { return };
        let leads = leads.map_or_else(|| "nobody".to_owned(), |leads| leads.to_string());
        let text = format!("{author} writes {} while {leads} leads", key_of(written));
        self.fault(Check::Leader, revision, text);
    }

    /// Whether only the loops write this. An instance's status is its agent's, and comes through any control.
    fn is_loops(&self, change: &Change) -> bool {
        let of = |kind: Kind| Home::of(kind, &ZoneName::local()).prefix(kind);
        let is = |kind: Kind| key_of(change).starts_with(&of(kind));
        if let Some(name) = key_of(change).strip_prefix(&of(Kind::Instance)) {
            let (known, next) = (self.instances.get(name), object::<InstanceSpec>(change));
            return known.map(|known| &known.spec) != next.as_ref().map(|next| &next.spec);
        }
        [Kind::Assignment, Kind::Table, Kind::Report, Kind::Deployment].into_iter().any(is)
    }
}
