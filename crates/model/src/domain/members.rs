//! Who belongs to a domain: each change of the list, with the rules that hold after any of them. Whoever stores a list
//! does so in a transaction that compares the one it was made from.
//!
//! A domain that an admin made has no owner until one has accepted; from then on it always has one.

use super::{DomainSpec, Member, MemberRole, MemberState};
use crate::{DomainName, ErrorCode, Problem, Uid, limits, user::UserName};

impl DomainSpec {
    /// The entry of a user, accepted or not.
    #[must_use]
    pub fn member(&self, user: &UserName) -> Option<&Member> {
        self.members.iter().find(|member| member.user == *user)
    }

    /// Confirmed owners.
    pub fn owners(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.is_owner())
    }

    /// Makes a user an owner who has confirmed, in a domain without members.
    #[must_use]
    pub fn owned_by(user: UserName, life: Uid) -> DomainSpec {
        let state = MemberState::Confirmed(life);
        DomainSpec { aliases: Vec::new(), members: vec![Member { user, role: MemberRole::Owner, state }] }
    }

    /// Invites a user. Inviting again who has not answered changes the role that is offered.
    ///
    /// # Errors
    /// `already_exists` for a confirmed member, `quota_exceeded` beyond [`limits::MEMBERS`] or [`limits::OWNERS`].
    pub fn invite(&mut self, user: &UserName, role: MemberRole) -> Result<(), Problem> {
        if let Some(member) = self.member(user) {
            if member.is_confirmed() {
                return Err(Problem::new(
                    ErrorCode::AlreadyExists,
                    format!("user \"{user}\" is a member already, as {}", member.role),
                )
                .hint("change the role with: tutti domain member set"));
            }
        } else if self.members.len() >= limits::MEMBERS {
            return Err(Problem::new(
                ErrorCode::QuotaExceeded,
                format!("there are {} members and invitations already, which is the most", limits::MEMBERS),
            )
            .hint("remove some with: tutti domain member remove"));
        }
        self.room_for_owner(user, role)?;
        self.members.retain(|member| member.user != *user);
        self.members.push(Member { user: user.clone(), role, state: MemberState::Pending });
        self.members.sort_by(|a, b| a.user.cmp(&b.user));
        Ok(())
    }

    /// Accepts the invitation of a user; accepting again changes nothing.
    ///
    /// # Errors
    /// `not_found` without one.
    pub fn accept(&mut self, domain: &DomainName, user: &UserName, life: &Uid) -> Result<(), Problem> {
        let invited = self.members.iter_mut().find(|member| member.user == *user);
        match invited {
            Some(member) if member.is(life) => Ok(()),
            // A confirmed one of another life is somebody who had this name before.
            Some(member) if member.state == MemberState::Pending => {
                member.state = MemberState::Confirmed(life.clone());
                Ok(())
            }
            _ => Err(no_invitation(domain)),
        }
    }

    /// Declines the invitation of a user.
    ///
    /// # Errors
    /// `not_found` without one.
    pub fn decline(&mut self, domain: &DomainName, user: &UserName) -> Result<(), Problem> {
        let before = self.members.len();
        self.members.retain(|member| member.user != *user || member.is_confirmed());
        if self.members.len() == before { Err(no_invitation(domain)) } else { Ok(()) }
    }

    /// Gives a member another role, or an invitation.
    ///
    /// # Errors
    /// `not_found`; `conflict` for the last confirmed owner; `quota_exceeded` beyond [`limits::OWNERS`].
    pub fn set_role(&mut self, user: &UserName, role: MemberRole) -> Result<(), Problem> {
        self.room_for_owner(user, role)?;
        if role != MemberRole::Owner {
            self.not_last_owner(user, "be given a weaker role")?;
        }
        match self.members.iter_mut().find(|member| member.user == *user) {
            Some(member) => {
                member.role = role;
                Ok(())
            }
            None => Err(no_member(user)),
        }
    }

    /// Takes a member out, or an invitation back. A member who leaves does the same.
    ///
    /// # Errors
    /// `not_found`; `conflict` for the last confirmed owner.
    pub fn remove(&mut self, user: &UserName) -> Result<(), Problem> {
        self.not_last_owner(user, "leave or be removed")?;
        let before = self.members.len();
        self.members.retain(|member| member.user != *user);
        if self.members.len() == before { Err(no_member(user)) } else { Ok(()) }
    }

    /// Adds another name; adding it again changes nothing.
    ///
    /// # Errors
    /// `quota_exceeded` beyond [`limits::ALIASES`].
    pub fn add_alias(&mut self, alias: &DomainName) -> Result<(), Problem> {
        if self.aliases.contains(alias) {
            return Ok(());
        }
        if self.aliases.len() >= limits::ALIASES {
            return Err(Problem::new(
                ErrorCode::QuotaExceeded,
                format!("there are {} aliases already, which is the most", limits::ALIASES),
            )
            .hint("remove some with: tutti domain alias remove"));
        }
        self.aliases.push(alias.clone());
        self.aliases.sort();
        Ok(())
    }

    /// An invitation counts as an owner, so that whoever is invited as one can always accept.
    fn room_for_owner(&self, user: &UserName, role: MemberRole) -> Result<(), Problem> {
        let others =
            self.members.iter().filter(|member| member.role == MemberRole::Owner && member.user != *user);
        if role != MemberRole::Owner || others.count() < limits::OWNERS {
            return Ok(());
        }
        Err(Problem::new(
            ErrorCode::QuotaExceeded,
            format!(
                "there are {} owners and invitations of owners already, which is the most",
                limits::OWNERS
            ),
        )
        .hint("give one of them another role first, or choose deployer"))
    }

    fn not_last_owner(&self, user: &UserName, what: &str) -> Result<(), Problem> {
        let mut owners = self.owners();
        match (owners.next(), owners.next()) {
            (Some(only), None) if only.user == *user => Err(Problem::conflict(format!(
                "user \"{user}\" is the only owner who has accepted, and cannot {what}"
            ))
            .hint("let another owner accept first: tutti domain invite DOMAIN USER --role owner")),
            _ => Ok(()),
        }
    }
}

impl Member {
    /// Whether this is a confirmed owner.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.role == MemberRole::Owner && self.is_confirmed()
    }

    /// Whether they have accepted.
    #[must_use]
    pub const fn is_confirmed(&self) -> bool {
        matches!(self.state, MemberState::Confirmed(_))
    }

    /// Whether the user of this life has accepted.
    #[must_use]
    pub fn is(&self, life: &Uid) -> bool {
        matches!(&self.state, MemberState::Confirmed(confirmed) if confirmed == life)
    }
}

fn no_member(user: &UserName) -> Problem {
    Problem::new(ErrorCode::NotFound, format!("user \"{user}\" is no member, and not invited"))
        .hint("see who is with: tutti domain member list DOMAIN")
}

/// The problem of an invitation that is not there, be there a domain of that name or not.
#[must_use]
pub fn no_invitation(domain: &DomainName) -> Problem {
    Problem::new(ErrorCode::NotFound, format!("you have no invitation to domain \"{domain}\""))
        .object(format!("domain {domain}"))
        .hint("see those you have with: tutti domain invitations")
}

#[cfg(test)]
mod tests;
