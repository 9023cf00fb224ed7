//! Domains, members, users: one method for each operation.

use super::{Client, Query};
use crate::wire::{
    AddAlias, CreateDomain, CreateUser, CreatedToken, DomainQuota, Invitations, Invite, QuotaChange,
    SetMember,
};
use serde::{Deserialize, Serialize};
use tutti_model::{
    DomainName, Problem, Resource, UserName,
    claim::ClaimSpec,
    domain::{DomainSpec, MemberRole},
};

/// What becomes of a domain, or another name of one, that is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Claimed {
    /// It is registered.
    Domain(Box<Resource<DomainSpec>>),
    /// It must be proved first.
    Claim(Box<Resource<ClaimSpec>>),
}

impl Client {
    /// Makes a domain, or claims it.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn create_domain(&self, create: &CreateDomain) -> Result<Claimed, Problem> {
        self.call_with("create_domain", &[], create).await
    }

    /// Proves the caller's claim of a domain or alias; gives the domain.
    ///
    /// # Errors
    /// `not_found` without a claim, why the proof was not found, and whatever the API answers.
    pub async fn verify_domain(&self, domain: &DomainName) -> Result<Resource<DomainSpec>, Problem> {
        self.call("verify_domain", &[domain.as_str()], &Query::default()).await
    }

    /// Adds another name of a domain, or claims it.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn add_alias(&self, domain: &DomainName, alias: &DomainName) -> Result<Claimed, Problem> {
        self.call_with("add_alias", &[domain.as_str()], &AddAlias { alias: alias.clone() }).await
    }

    /// Removes another name of a domain.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn remove_alias(
        &self,
        domain: &DomainName,
        alias: &DomainName,
    ) -> Result<Resource<DomainSpec>, Problem> {
        self.call("remove_alias", &[domain.as_str(), alias.as_str()], &Query::default()).await
    }

    /// Invites a user to a domain.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn invite(
        &self,
        domain: &DomainName,
        user: &UserName,
        role: MemberRole,
    ) -> Result<Resource<DomainSpec>, Problem> {
        self.call_with("invite_member", &[domain.as_str()], &Invite { user: user.clone(), role }).await
    }

    /// Gives a member of a domain another role.
    ///
    /// # Errors
    /// `conflict` for the last owner, and whatever the API answers.
    pub async fn set_member(
        &self,
        domain: &DomainName,
        user: &UserName,
        role: MemberRole,
    ) -> Result<Resource<DomainSpec>, Problem> {
        self.call_with("set_member", &[domain.as_str(), user.as_str()], &SetMember { role }).await
    }

    /// Takes a member out of a domain.
    ///
    /// # Errors
    /// `conflict` for the last owner, and whatever the API answers.
    pub async fn remove_member(
        &self,
        domain: &DomainName,
        user: &UserName,
    ) -> Result<Resource<DomainSpec>, Problem> {
        self.call("remove_member", &[domain.as_str(), user.as_str()], &Query::default()).await
    }

    /// Takes the caller out of a domain.
    ///
    /// # Errors
    /// `conflict` for the last owner, and whatever the API answers.
    pub async fn leave_domain(&self, domain: &DomainName) -> Result<(), Problem> {
        self.call_for_nothing("leave_domain", &[domain.as_str()]).await
    }

    /// What the caller is invited to.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn invitations(&self) -> Result<Invitations, Problem> {
        self.call("list_invitations", &[], &Query::default()).await
    }

    /// Makes the caller a member of a domain; gives the domain.
    ///
    /// # Errors
    /// `not_found` without an invitation, and whatever the API answers.
    pub async fn accept_invitation(&self, domain: &DomainName) -> Result<Resource<DomainSpec>, Problem> {
        self.call("accept_invitation", &[domain.as_str()], &Query::default()).await
    }

    /// Declines the caller's invitation to a domain.
    ///
    /// # Errors
    /// `not_found` without one, and whatever the API answers.
    pub async fn decline_invitation(&self, domain: &DomainName) -> Result<(), Problem> {
        self.call_for_nothing("decline_invitation", &[domain.as_str()]).await
    }

    /// The most that a domain may have, and what it has.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn quota(&self, domain: &DomainName) -> Result<DomainQuota, Problem> {
        self.call("get_quota", &[domain.as_str()], &Query::default()).await
    }

    /// Changes the most that a domain may have.
    ///
    /// # Errors
    /// `forbidden` for who is no admin, and whatever the API answers.
    pub async fn change_quota(
        &self,
        domain: &DomainName,
        change: &QuotaChange,
    ) -> Result<DomainQuota, Problem> {
        self.call_with("change_quota", &[domain.as_str()], change).await
    }

    /// Makes a user; the secret of the first token is in the answer and nowhere else.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn create_user(&self, user: &UserName) -> Result<CreatedToken, Problem> {
        self.call_with("create_user", &[], &CreateUser { name: user.clone() }).await
    }
}
