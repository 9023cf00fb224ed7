use super::*;
use crate::domain::MemberRole::{Deployer, Owner, Viewer};
use proptest::prelude::*;

fn user(name: impl std::fmt::Display) -> UserName {
    name.to_string().parse().unwrap()
}

fn example() -> DomainName {
    "example.com".parse().unwrap()
}

#[test]
fn the_last_owner_stays() {
    let mut domain = DomainSpec::owned_by(user("ada"), Uid::from_bits(1));
    for refused in [domain.clone().remove(&user("ada")), domain.clone().set_role(&user("ada"), Viewer)] {
        let problem = refused.unwrap_err();
        assert_eq!(problem.code, ErrorCode::Conflict);
        assert!(problem.detail.contains("the only owner"), "{}", problem.detail);
    }
    domain.invite(&user("bob"), Owner).unwrap();
    assert!(domain.clone().remove(&user("ada")).is_err(), "an invitation is no owner");
    domain.accept(&example(), &user("bob"), &Uid::from_bits(2)).unwrap();
    domain.remove(&user("ada")).unwrap();
    assert!(domain.remove(&user("bob")).is_err());
}

#[test]
fn an_invitation_is_for_whoever_has_the_name_and_a_place_for_one_life() {
    let mut domain = DomainSpec::owned_by(user("ada"), Uid::from_bits(1));
    assert_eq!(
        domain.accept(&example(), &user("bob"), &Uid::from_bits(2)).unwrap_err().code,
        ErrorCode::NotFound
    );
    domain.invite(&user("bob"), Viewer).unwrap();
    domain.invite(&user("bob"), Deployer).unwrap();
    domain.accept(&example(), &user("bob"), &Uid::from_bits(2)).unwrap();
    domain.accept(&example(), &user("bob"), &Uid::from_bits(2)).unwrap();
    assert_eq!(domain.member(&user("bob")).unwrap().role, Deployer);
    // Another one of the same name has no invitation, and cannot decline what was accepted.
    assert!(domain.accept(&example(), &user("bob"), &Uid::from_bits(3)).is_err());
    assert!(domain.decline(&example(), &user("bob")).is_err());
    assert_eq!(domain.invite(&user("bob"), Viewer).unwrap_err().code, ErrorCode::AlreadyExists);
}

#[test]
fn members_owners_and_aliases_have_a_most() {
    let mut domain = DomainSpec::owned_by(user("ada"), Uid::from_bits(1));
    for index in 1..limits::OWNERS {
        domain.invite(&user(format!("o{index}")), Owner).unwrap();
    }
    assert_eq!(domain.invite(&user("one-more"), Owner).unwrap_err().code, ErrorCode::QuotaExceeded);
    for index in limits::OWNERS..limits::MEMBERS {
        domain.invite(&user(format!("v{index}")), Viewer).unwrap();
    }
    assert_eq!(domain.invite(&user("one-more"), Viewer).unwrap_err().code, ErrorCode::QuotaExceeded);
    assert_eq!(domain.set_role(&user("v40"), Owner).unwrap_err().code, ErrorCode::QuotaExceeded);
    domain.set_role(&user("o1"), Owner).unwrap();
    for index in 0..limits::ALIASES {
        domain.add_alias(&format!("a{index}.org").parse().unwrap()).unwrap();
    }
    domain.add_alias(&"a1.org".parse().unwrap()).unwrap();
    assert!(domain.add_alias(&"b.org".parse().unwrap()).is_err());
}

#[derive(Debug, Clone)]
enum Change {
    Invite(u8, MemberRole),
    Accept(u8),
    Decline(u8),
    SetRole(u8, MemberRole),
    Remove(u8),
}

fn change() -> impl Strategy<Value = Change> {
    let role = prop_oneof![Just(Owner), Just(Deployer), Just(Viewer)];
    prop_oneof![
        (0u8..6, role.clone()).prop_map(|(who, role)| Change::Invite(who, role)),
        (0u8..6).prop_map(Change::Accept),
        (0u8..6).prop_map(Change::Decline),
        (0u8..6, role).prop_map(|(who, role)| Change::SetRole(who, role)),
        (0u8..6).prop_map(Change::Remove),
    ]
}

proptest! {
    /// Whatever is done: an owner stays, nobody stands there twice, and what is refused changes nothing.
    #[test]
    fn there_is_always_an_owner(changes in proptest::collection::vec(change(), 0..60)) {
        let mut domain = DomainSpec::owned_by(user("u0"), Uid::from_bits(0));
        let life = |who: u8| Uid::from_bits(u128::from(who));
        for change in changes {
            let before = domain.clone();
            let name = |who: u8| user(format!("u{who}"));
            let done = match change {
                Change::Invite(who, role) => domain.invite(&name(who), role),
                Change::Accept(who) => domain.accept(&example(), &name(who), &life(who)),
                Change::Decline(who) => domain.decline(&example(), &name(who)),
                Change::SetRole(who, role) => domain.set_role(&name(who), role),
                Change::Remove(who) => domain.remove(&name(who)),
            };
            if done.is_err() {
                prop_assert_eq!(&domain, &before);
            }
            prop_assert!(domain.owners().count() >= 1);
            prop_assert!(domain.members.windows(2).all(|pair| pair[0].user < pair[1].user));
            for member in &domain.members {
                // Nobody became a member without having accepted.
                if member.is_confirmed() && before.member(&member.user).is_none_or(|was| !was.is_confirmed()) {
                    prop_assert!(matches!(change, Change::Accept(_)));
                }
            }
        }
    }
}
