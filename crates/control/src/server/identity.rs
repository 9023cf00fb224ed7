//! Who calls, and what they may: an index in memory of all tokens, users and members of domains.
//!
//! The index follows the store by watch, so that a request costs no read of it and goes on to be answered while the
//! store is away. Looking up the hash of what was sent leaks nothing by its timing: nobody can choose a hash.
//!
//! What a caller may is read from today's members at each request, and again whenever any of them changes for what
//! goes on (watches, followed logs). Whoever takes something away waits until the index has seen it, so that it holds
//! for the very next request.

use super::{
    App,
    call::{Bearer, Call, Caller, Rights},
    serve::{OverSocket, Peer},
    tokens,
};
use crate::Objects;
use futures_util::StreamExt as _;
use http::{Extensions, HeaderMap, header};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;
use tutti_api::{Change, WatchEvent};
use tutti_base::{Clock, Tasks};
use tutti_model::{
    Digest, DomainName, ErrorCode, Kind, Problem, Resource, Timestamp, Uid, UserName,
    domain::{DomainSpec, Member, MemberRole},
    resource::Object,
    token::{Role, TokenSpec},
    user::UserSpec,
};
use tutti_pki::MemberTable;

/// Longest wait for the index: at the start of control, and after something was taken away.
const INDEX_WAIT: Duration = Duration::from_secs(5);

/// All tokens.
#[derive(Debug, Clone, Default)]
struct Tokens {
    by_hash: HashMap<String, Arc<Resource<TokenSpec>>>,
    by_name: BTreeMap<String, String>,
}

/// All domains with their members.
#[derive(Debug, Clone, Default)]
struct Members {
    domains: BTreeMap<DomainName, (Uid, Vec<Member>)>,
    /// Each user's entries, accepted or not.
    of_user: HashMap<UserName, BTreeMap<DomainName, Member>>,
}

/// All users, and their lives.
type Users = BTreeMap<UserName, Uid>;

/// One kind of object as the index holds it, as of a revision; sharing it costs nothing.
trait Follows<S: Object>: Clone + Default {
    fn put(&mut self, object: &Resource<S>);
    fn remove(&mut self, name: &str);
    /// Whether an object says nothing new, so that nothing needs to be copied for it.
    fn has(&self, object: &Resource<S>) -> bool;
}

impl Follows<TokenSpec> for Tokens {
    fn put(&mut self, token: &Resource<TokenSpec>) {
        self.remove(&token.name);
        self.by_name.insert(token.name.clone(), token.spec.hash.clone());
        self.by_hash.insert(token.spec.hash.clone(), Arc::new(token.clone()));
    }

    fn remove(&mut self, name: &str) {
        if let Some(hash) = self.by_name.remove(name) {
            self.by_hash.remove(&hash);
        }
    }

    fn has(&self, _: &Resource<TokenSpec>) -> bool {
        false
    }
}

impl Follows<UserSpec> for Users {
    fn put(&mut self, user: &Resource<UserSpec>) {
        let Ok(name) = user.name.parse() else { return };
        // One that is being removed can do nothing any more.
        match user.deleted_at {
            None => BTreeMap::insert(self, name, user.uid.clone()),
            Some(_) => BTreeMap::remove(self, &name),
        };
    }

    fn remove(&mut self, name: &str) {
        if let Ok(name) = name.parse::<UserName>() {
            BTreeMap::remove(self, &name);
        }
    }

    fn has(&self, _: &Resource<UserSpec>) -> bool {
        false
    }
}

impl Follows<DomainSpec> for Members {
    fn put(&mut self, domain: &Resource<DomainSpec>) {
        Follows::<DomainSpec>::remove(self, &domain.name);
        let Ok(name) = domain.name.parse::<DomainName>() else { return };
        for member in &domain.spec.members {
            self.of_user.entry(member.user.clone()).or_default().insert(name.clone(), member.clone());
        }
        self.domains.insert(name, (domain.uid.clone(), domain.spec.members.clone()));
    }

    fn remove(&mut self, name: &str) {
        let Ok(name) = name.parse::<DomainName>() else { return };
        let Some((_, members)) = self.domains.remove(&name) else { return };
        for member in members {
            if let Some(entries) = self.of_user.get_mut(&member.user) {
                entries.remove(&name);
                if entries.is_empty() {
                    self.of_user.remove(&member.user);
                }
            }
        }
    }

    /// A domain is touched by each service that is made in it.
    fn has(&self, domain: &Resource<DomainSpec>) -> bool {
        let known = domain.name.parse().ok().and_then(|name: DomainName| self.domains.get(&name));
        known.is_some_and(|(uid, members)| *uid == domain.uid && *members == domain.spec.members)
    }
}

/// What is followed, while it may be read anew from the start.
#[derive(Debug)]
struct Part<T> {
    whole: Option<Arc<T>>,
    fresh: T,
    revision: u64,
}

impl<T: Default> Default for Part<T> {
    fn default() -> Self {
        Part { whole: None, fresh: T::default(), revision: 0 }
    }
}

impl<T> Part<T> {
    fn apply<S: Object>(&mut self, event: Result<WatchEvent<S>, Problem>)
    where
        T: Follows<S>,
    {
        match event {
            Ok(WatchEvent::Init) => self.fresh = T::default(),
            Ok(WatchEvent::InitItem(object)) => self.fresh.put(&object),
            Ok(WatchEvent::InitDone { revision }) => {
                self.whole = Some(Arc::new(std::mem::take(&mut self.fresh)));
                self.revision = revision;
            }
            Ok(WatchEvent::Changes { revision, changes }) => {
                if let Some(whole) = &mut self.whole {
                    for change in &changes {
                        match change {
                            Change::Put(object) if whole.has(object) => {}
                            Change::Put(object) => Arc::make_mut(whole).put(object),
                            Change::Delete { name } => Arc::make_mut(whole).remove(name),
                        }
                    }
                }
                self.revision = revision;
            }
            Err(problem) => tracing::error!(%problem, kind = %S::KIND, "a watch ended"),
        }
    }
}

/// Everything known, as of a revision of each kind.
#[derive(Debug, Clone)]
struct Known {
    tokens: Arc<Tokens>,
    users: Arc<Users>,
    members: Arc<Members>,
    revisions: [(Kind, u64); 3],
}

impl Known {
    /// The bearer of a token, and what it may by today's members; `None` if it is nobody's any more.
    fn bearer(&self, token: &Resource<TokenSpec>) -> Option<Bearer> {
        let spec = &token.spec;
        let (user, rights) = match (&spec.user, &spec.domain, spec.role) {
            (Some(user), narrow, role) => {
                let life = self.users.get(user).filter(|life| spec.life.as_ref() == Some(*life))?;
                let entries = self.members.of_user.get(user).into_iter().flatten();
                let mine = entries
                    .filter(|(domain, member)| {
                        member.is(life) && narrow.as_ref().is_none_or(|narrow| narrow == *domain)
                    })
                    .map(|(domain, member)| (domain.clone(), Role::from(member.role).weaker(role)));
                (Some((user.clone(), life.clone())), Rights::In(mine.collect()))
            }
            (None, _, Role::Admin) => (None, Rights::Everything),
            (None, domain, role) => {
                let domain = domain.as_ref()?;
                let (life, _) = self.members.domains.get(domain)?;
                if spec.life.as_ref().is_some_and(|of| of != life) {
                    return None;
                }
                (None, Rights::In(BTreeMap::from([(domain.clone(), role)])))
            }
        };
        Some(Bearer {
            token: token.name.clone(),
            life: token.uid.clone(),
            narrowed: user.is_some() && (spec.domain.is_some() || spec.role != Role::Owner),
            user,
            rights,
            expires_at: spec.expires_at,
        })
    }

    /// The caller of a known token.
    ///
    /// # Errors
    /// `unauthenticated` if it has expired, or is nobody's any more.
    fn caller(&self, token: Option<&Resource<TokenSpec>>, now: Timestamp) -> Result<Caller, Problem> {
        let unknown = || {
            Problem::new(ErrorCode::Unauthenticated, "the token is unknown, or was deleted")
                .hint("check TUTTI_TOKEN and --context, or ask an admin for a new token")
        };
        let bearer = token.and_then(|token| self.bearer(token)).ok_or_else(unknown)?;
        if bearer.expires_at.is_some_and(|end| now >= end) {
            return Err(Problem::new(
                ErrorCode::Unauthenticated,
                format!("token \"{}\" has expired", bearer.token),
            )
            .hint("ask an admin for a new token"));
        }
        Ok(Caller::Bearer(Arc::new(bearer)))
    }
}

/// The index. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    known: watch::Receiver<Option<Arc<Known>>>,
    /// The cluster's members, if there are any.
    members: Option<Arc<MemberTable>>,
}

impl Identity {
    /// Starts to follow the store.
    pub(super) fn start(objects: &Objects, members: Option<Arc<MemberTable>>, tasks: &Tasks) -> Self {
        let (sender, receiver) = watch::channel(None);
        let (objects, stopping) = (objects.clone(), tasks.stopping());
        tasks.spawn("identity", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = follow(objects, &sender) => {}
            }
        });
        Identity { known: receiver, members }
    }

    /// Who sends these headers.
    ///
    /// # Errors
    /// `unauthenticated` without a token that is known and valid.
    pub(super) async fn identify(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        now: Timestamp,
    ) -> Result<Caller, Problem> {
        // Who sends a token over the socket asks to be no more than that.
        if extensions.get::<OverSocket>().is_some() && !headers.contains_key(header::AUTHORIZATION) {
            return Ok(Caller::Machine);
        }
        // The same goes for who has a member's key.
        if let Some(Peer(peer)) = extensions.get()
            && !headers.contains_key(header::AUTHORIZATION)
        {
            return self.member(&peer.key);
        }
        let hash = tokens::hash(tokens::secret(headers)?.reveal());
        let known = self.wait(|_| true).await?;
        known.caller(known.tokens.by_hash.get(&hash).map(AsRef::as_ref), now)
    }

    /// The member with this key, by today's table.
    fn member(&self, key: &Digest) -> Result<Caller, Problem> {
        let member = self.members.as_ref().and_then(|members| members.get(key));
        let member = member.ok_or_else(|| {
            Problem::new(
                ErrorCode::Unauthenticated,
                "the key of the certificate is no member's, or that member was removed",
            )
            .hint("on that machine: tutti join, with a new join token")
        })?;
        Ok(Caller::Member { member, key: key.clone() })
    }

    /// What a caller is and may by now, for what goes on after its request was answered.
    ///
    /// # Errors
    /// `unauthenticated` if its token works no longer, or its key is no member's any more.
    pub(super) fn again(&self, caller: &Caller, now: Timestamp) -> Result<Caller, Problem> {
        let bearer = match caller {
            Caller::Bearer(bearer) => bearer,
            Caller::Member { key, .. } => return self.member(key),
            Caller::Anonymous | Caller::Machine | Caller::Joining(_) => return Ok(caller.clone()),
        };
        let Some(known) = self.known.borrow().clone() else { return Ok(caller.clone()) };
        let hash = known.tokens.by_name.get(&bearer.token);
        let token = hash.and_then(|hash| known.tokens.by_hash.get(hash));
        known.caller(token.filter(|token| token.uid == bearer.life).map(AsRef::as_ref), now)
    }

    /// Tells of every change of tokens, users and members from now on.
    pub(super) fn changes(&self) -> Changes {
        let mut receiver = self.known.clone();
        receiver.mark_unchanged();
        Changes(receiver)
    }

    /// The domains that a user is a member of or invited to, whichever user has the name.
    pub(super) async fn entries(&self, user: &UserName) -> Result<BTreeMap<DomainName, Member>, Problem> {
        let known = self.wait(|_| true).await?;
        Ok(known.members.of_user.get(user).cloned().unwrap_or_default())
    }

    /// The domains that have this user as their only owner.
    pub(super) async fn sole_owner_of(&self, user: &UserName) -> Result<Vec<DomainName>, Problem> {
        let known = self.wait(|_| true).await?;
        let sole = |domain: &&DomainName| {
            let members = known.members.domains.get(*domain).map(|(_, members)| members.as_slice());
            let owners = || members.unwrap_or_default().iter().filter(|member| member.is_owner());
            owners().count() == 1 && owners().all(|owner| owner.user == *user)
        };
        let entries = known.members.of_user.get(user).into_iter().flatten();
        let owned = entries.filter(|(_, member)| member.role == MemberRole::Owner);
        Ok(owned.map(|(domain, _)| domain).filter(sole).cloned().collect())
    }

    /// Returns once every change of this kind up to `revision` holds.
    ///
    /// # Errors
    /// `unavailable` if the index does not hear from the store.
    pub(super) async fn reached<S: Object>(&self, revision: u64) -> Result<(), Problem> {
        let there = |known: &Known| {
            known.revisions.iter().any(|(kind, reached)| *kind == S::KIND && *reached >= revision)
        };
        self.wait(there).await.map(|_| ())
    }

    async fn wait(&self, enough: impl Fn(&Known) -> bool) -> Result<Arc<Known>, Problem> {
        let mut receiver = self.known.clone();
        let waited =
            receiver.wait_for(|known: &Option<Arc<Known>>| known.as_ref().is_some_and(|known| enough(known)));
        match tokio::time::timeout(INDEX_WAIT, waited).await {
            Ok(Ok(known)) if known.is_some() => known.clone(),
            Ok(_) | Err(_) => None,
        }
        .ok_or_else(|| {
            Problem::unavailable("the tokens are not read from the store yet").hint("try again in a second")
        })
    }
}

/// Tells that something has changed in the index.
#[derive(Debug)]
pub(super) struct Changes(watch::Receiver<Option<Arc<Known>>>);

impl Changes {
    /// Returns when something has; for ever waiting once the index has ended.
    pub(super) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// A caller whose request was answered with something that goes on, and who may lose the right to it meanwhile.
#[derive(Debug)]
pub(super) struct Standing {
    identity: Identity,
    changes: Changes,
    caller: Caller,
    clock: Arc<dyn Clock>,
}

impl Standing {
    /// That of a call's caller.
    pub(super) fn of(call: &Call) -> Standing {
        Standing::new(&call.app, &call.caller)
    }

    /// That of a caller, as its request was authorized.
    pub(super) fn new(app: &App, caller: &Caller) -> Standing {
        // Whatever changed since the request was authorized is looked at first.
        let mut changes = app.identity.changes();
        changes.0.mark_changed();
        let clock = app.objects.clock().clone();
        Standing { identity: app.identity.clone(), changes, caller: caller.clone(), clock }
    }

    /// Returns when the caller may something else than before, with what it is now.
    ///
    /// # Errors
    /// `unauthenticated` once its token works no longer.
    pub(super) async fn changed(&mut self) -> Result<Caller, Problem> {
        loop {
            match self.caller.expires_at() {
                None => self.changes.changed().await,
                Some(end) => tokio::select! {
                    () = self.changes.changed() => {}
                    () = self.clock.sleep_until(end) => {}
                },
            }
            let now = self.identity.again(&self.caller, self.clock.now())?;
            if now != self.caller {
                self.caller = now.clone();
                return Ok(now);
            }
        }
    }
}

async fn follow(objects: Objects, sender: &watch::Sender<Option<Arc<Known>>>) {
    let mut token_events = objects.watch::<TokenSpec>(None);
    let mut user_events = objects.watch::<UserSpec>(None);
    let mut domain_events = objects.watch::<DomainSpec>(None);
    let mut tokens = Part::<Tokens>::default();
    let mut users = Part::<Users>::default();
    let mut members = Part::<Members>::default();
    loop {
        tokio::select! {
            Some(event) = token_events.next() => tokens.apply(event),
            Some(event) = user_events.next() => users.apply(event),
            Some(event) = domain_events.next() => members.apply(event),
            else => return,
        }
        if let (Some(tokens_now), Some(users_now), Some(members_now)) =
            (&tokens.whole, &users.whole, &members.whole)
        {
            sender.send_replace(Some(Arc::new(Known {
                tokens: Arc::clone(tokens_now),
                users: Arc::clone(users_now),
                members: Arc::clone(members_now),
                revisions: [
                    (Kind::Token, tokens.revision),
                    (Kind::User, users.revision),
                    (Kind::Domain, members.revision),
                ],
            })));
        }
    }
}
