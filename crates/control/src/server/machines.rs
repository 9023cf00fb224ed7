//! Machines: what is stored of nodes and members, with what this control heard of each.

use super::{
    App,
    call::{Answer, Call},
    lists, reply,
};
use crate::observed::Observed;
use std::collections::BTreeMap;
use tutti_api::machines::{Machine, Machines, RoleContact};
use tutti_model::{
    Problem, Resource, Timestamp,
    cluster::MemberSpec,
    control::{LEADER, LeaderSpec},
    member::MachineRole,
    name::NodeName,
    node::NodeSpec,
};

/// `GET /v1/machines`
pub(super) async fn list(call: Call) -> Answer {
    let limit = lists::limit(&call.query)?;
    let (objects, after) = (&call.app.objects, call.query.get("cursor"));
    // Of both as many as the page may have: then the first of all are among them.
    let nodes = objects.page::<NodeSpec>("", after, Some(limit)).await?;
    let members = objects.page::<MemberSpec>("", after, Some(limit)).await?;
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    let more = nodes.more || members.more;
    for node in nodes.items {
        let name = node.name.clone();
        found.entry(name).or_default().node = Some(node);
    }
    for member in members.items {
        let name = member.name.clone();
        found.entry(name).or_default().member = Some(member);
    }
    let more = more || found.len() > limit;
    let about = About::read(&call.app).await?;
    let page: Vec<(String, Found)> = found.into_iter().take(limit).collect();
    let cursor = page.last().map(|(name, _)| name.clone()).filter(|_| more);
    let mut items = Vec::with_capacity(page.len());
    for (name, found) in page {
        let mut machine = about.machine(name.parse()?, &found);
        if let Some(figures) = &mut machine.figures {
            figures.instances.clear();
        }
        items.push(machine);
    }
    Ok(reply::ok(&Machines { now: about.now, items, cursor }))
}

/// `GET /v1/machines/{name}`
pub(super) async fn get(call: Call) -> Answer {
    let (objects, name) = (&call.app.objects, call.name());
    let found = Found {
        node: objects.find::<NodeSpec>(name).await?,
        member: objects.find::<MemberSpec>(name).await?,
    };
    if found.node.is_none() && found.member.is_none() {
        return Err(Problem::not_found(tutti_model::Kind::Node, name)
            .hint("see every machine with: tutti node list")
            .into());
    }
    Ok(reply::ok(&About::read(&call.app).await?.machine(name.parse()?, &found)))
}

/// What is stored of one machine.
#[derive(Debug, Default)]
struct Found {
    node: Option<Resource<NodeSpec>>,
    member: Option<Resource<MemberSpec>>,
}

/// What is known beside objects, at one moment.
struct About<'a> {
    now: Timestamp,
    /// The control that answers, and its release.
    control: &'a NodeName,
    release: &'a str,
    leader: Option<NodeName>,
    observed: &'a Observed,
}

impl About<'_> {
    async fn read(app: &App) -> Result<About<'_>, Problem> {
        let leader = app.objects.find::<LeaderSpec>(LEADER).await?;
        Ok(About {
            now: app.objects.clock().now(),
            control: &app.control,
            release: &app.release,
            leader: leader.map(|leader| leader.spec.control),
            observed: &app.observed,
        })
    }

    fn machine(&self, name: NodeName, found: &Found) -> Machine {
        let mut roles: BTreeMap<MachineRole, RoleContact> = BTreeMap::new();
        let is_this = name == *self.control;
        let of_member = found.member.as_ref().map(|member| member.status.release.clone()).unwrap_or_default();
        let admitted = found.member.iter().flat_map(|member| member.spec.roles.iter().copied());
        let seen = [
            (MachineRole::Server, is_this),
            (MachineRole::Agent, found.node.is_some()),
            (MachineRole::Ingress, self.observed.ingress_heard(&name).is_some()),
            (MachineRole::Dns, self.observed.dns_heard(&name).is_some()),
        ];
        let seen = seen.into_iter().filter(|(_, is_seen)| *is_seen).map(|(role, _)| role);
        for role in admitted.chain(seen) {
            let contact = roles.entry(role).or_insert_with(|| RoleContact {
                role,
                release: of_member.clone(),
                heard_at: None,
            });
            let heard = match role {
                MachineRole::Server if is_this => Some((self.now, self.release.to_owned())),
                MachineRole::Server => self.observed.control_heard(&name),
                MachineRole::Agent => self.observed.last_heartbeat(&name).map(|(at, _)| {
                    let status = found.node.as_ref().map(|node| &node.status);
                    (at, status.map(|status| status.release.clone()).unwrap_or_default())
                }),
                MachineRole::Ingress => self.observed.ingress_heard(&name),
                MachineRole::Dns => self.observed.dns_heard(&name),
                MachineRole::Registry | MachineRole::Builder => None,
            };
            if let Some((at, release)) = heard {
                contact.heard_at = Some(at);
                if !release.is_empty() {
                    contact.release = release;
                }
            }
        }
        let (measured_at, figures) = self.observed.measured(&name).unzip();
        let address =
            found.node.as_ref().and_then(|node| node.status.address.as_ref().map(ToString::to_string));
        let api = found.member.as_ref().and_then(|member| member.spec.api.as_ref().map(ToString::to_string));
        let until = found.member.as_ref().map(|member| member.status.certified_until);
        Machine {
            leads: self.leader.as_ref() == Some(&name),
            roles: roles.into_values().collect(),
            address: address.or(api),
            certified_until: until.filter(|until| *until != Timestamp(0)),
            measured_at,
            figures,
            name,
        }
    }
}
