//! Domains, members, users: one method for each operation.

use super::{Client, Query};
use crate::wire::{
    AddAlias, CreateDomain, CreateUser, CreatedToken, DomainQuota, Invitations, Invite, QuotaChange,
    SetMember,
};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use tutti_model::{
    DomainName, Kind, Problem, Resource, UserName,
    claim::ClaimSpec,
    domain::{DomainSpec, MemberRole},
};

/// What becomes of a domain, or another name of one, that is asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Claimed {
    /// It is registered.
    Domain(Box<Resource<DomainSpec>>),
    /// It must be proved first.
    Claim(Box<Resource<ClaimSpec>>),
}

/// By its kind, and not by its fields: each passes over those that it does not know.
impl<'de> Deserialize<'de> for Claimed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let json = serde_json::Value::deserialize(from)?;
        let is_claim = json.get("kind").and_then(|kind| kind.as_str()) == Some(Kind::Claim.as_str());
        let read = if is_claim {
            serde_json::from_value(json).map(Claimed::Claim)
        } else {
            serde_json::from_value(json).map(Claimed::Domain)
        };
        read.map_err(D::Error::custom)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tutti_model::{Timestamp, Uid};

    /// A domain may have no field at all, so that a claim could be read as one.
    #[test]
    fn a_claim_is_not_taken_for_a_domain() {
        let spec = json!({ "domain": "ada.org", "record": "r", "text": "t", "expires_at": Timestamp(1) });
        let mut object = json!({
            "kind": "claim", "name": "ada.org", "uid": Uid::from_bits(1), "generation": 1,
            "created_at": Timestamp(1), "spec": spec,
        });
        assert!(matches!(serde_json::from_value(object.clone()), Ok(Claimed::Claim(_))));
        object["kind"] = "domain".into();
        object["spec"] = json!({});
        assert!(matches!(serde_json::from_value(object), Ok(Claimed::Domain(_))));
    }
}
