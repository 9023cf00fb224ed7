//! The words on a domain: what it has, who belongs to it, and how it is known whose it is.

use super::{Head, Words, count};
use tutti_model::{
    Resource,
    domain::{DomainSpec, Member, MemberRole, Ownership},
};

/// Most members of one role that an explanation names: `tutti domain member list` shows them all.
const NAMED: usize = 20;

impl Words<'_> {
    pub(super) fn domain(&mut self, domain: &Resource<DomainSpec>, services: &[String]) -> Head {
        let object = domain.object();
        self.say(&object, format!("has {}", count(services.len(), "service")));
        self.members_say(domain);
        match domain.status.ownership {
            Ownership::Vouched => (object, true, "it serves; its user vouches for it, as in dev".to_owned()),
            Ownership::Verified => (object, true, "it serves; a DNS record shows whose it is".to_owned()),
            Ownership::Unverified => (object, false, "it was not shown yet whose it is".to_owned()),
        }
    }

    /// Who belongs to a domain with which role, and who was invited.
    fn members_say(&mut self, domain: &Resource<DomainSpec>) {
        let object = domain.object();
        let (members, invited): (Vec<&Member>, Vec<&Member>) =
            domain.spec.members.iter().partition(|member| member.is_confirmed());
        let owners = domain.spec.owners().count();
        if members.is_empty() {
            self.say(&object, "has no member, so that only admins can change it");
        } else {
            self.say(
                &object,
                format!("has {}, of whom {}", count(members.len(), "member"), owners_say(owners)),
            );
        }
        for role in MemberRole::ALL {
            let of_role = members.iter().filter(|member| member.role == role);
            self.named(&object, &format!("has as {role}"), of_role.map(|member| member.user.to_string()));
        }
        let invited = invited.iter().map(|member| format!("{} as {}", member.user, member.role));
        self.named(&object, "has invited, without an answer yet,", invited);
        if owners == 0 {
            self.hint(format!("let a user own it: tutti domain invite {} USER --role owner", domain.name));
        }
    }

    /// A reason that lists names, unless there are none.
    fn named(&mut self, object: &str, what: &str, names: impl Iterator<Item = String>) {
        let names: Vec<String> = names.collect();
        let more = names.len().saturating_sub(NAMED);
        let listed = names.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
        match (listed.is_empty(), more) {
            (true, _) => {}
            (false, 0) => self.say(object, format!("{what} {listed}")),
            (false, more) => self.say(object, format!("{what} {listed} and {more} more")),
        }
    }
}

fn owners_say(owners: usize) -> String {
    match owners {
        0 => "none is an owner".to_owned(),
        1 => "1 is an owner".to_owned(),
        more => format!("{more} are owners"),
    }
}
