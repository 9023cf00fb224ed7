//! What a name of the cluster leads to: the decision behind every answer of its DNS servers.
//!
//! Names are in lower case and without the root's dot; what is no letter, digit, hyphen or underscore never stands in one
//! of ours. [`Names`] is made when something has changed, and asked with every question.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};
use tutti_model::{ingress::IngressSpec, limits};

/// A name server as NS records name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameServer {
    /// Its name.
    pub name: String,
    /// Where it is reached: told for a name of ours; for others it is somebody else's to tell.
    pub addresses: Vec<IpAddr>,
}

/// What the answers are made from.
#[derive(Debug, Clone, Copy)]
pub struct NamesView<'a> {
    /// The names that are the cluster's with all that is below: its host suffix, and those it was given.
    pub zones: &'a [String],
    /// The hosts that services answer to. Those elsewhere are somebody else's names.
    pub hosts: &'a BTreeSet<String>,
    /// The name servers, the first of which is the primary; never empty.
    pub servers: &'a [NameServer],
    /// Where clients reach the cluster.
    pub addresses: &'a [IpAddr],
}

/// Names, as questions find them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    apexes: BTreeSet<String>,
    known: BTreeMap<String, Leads>,
    servers: Vec<NameServer>,
    addresses: Vec<IpAddr>,
}

/// What a name that is there leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Leads {
    /// To nothing: only names below it do.
    Nowhere,
    /// To the cluster's ways in.
    In,
    /// To a name server.
    Server(Vec<IpAddr>),
}

/// What is asked of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Name servers.
    Ns,
    /// Where the zone starts.
    Soa,
    /// Whatever there is.
    Any,
    /// Something that no name of ours has.
    Other,
}

/// What is said of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data<'a> {
    /// An address of it.
    Address(IpAddr),
    /// A name server.
    Server(&'a str),
    /// That a zone starts here, whose primary name server is this.
    Start(&'a str),
}

/// What a question is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<'a> {
    /// Not asked here: the name is not ours.
    Refused,
    /// There is no such name in this zone.
    NoSuchName(&'a str),
    /// The name is there, and has nothing of the kind. It is in this zone.
    Nothing(&'a str),
    /// This.
    Found {
        /// Of the name that was asked for.
        records: Vec<Data<'a>>,
        /// Addresses of name servers that `records` name.
        beside: Vec<(&'a str, IpAddr)>,
    },
}

impl Names {
    /// Names that lead where the view says.
    #[must_use]
    pub fn new(view: NamesView<'_>) -> Names {
        let given: BTreeSet<&String> = view.zones.iter().collect();
        let below_another =
            |name: &str| above(name).skip(1).any(|above| view.zones.iter().any(|it| it == above));
        let apexes: BTreeSet<String> =
            given.iter().filter(|name| !below_another(name)).map(|name| (*name).clone()).collect();
        let is_ours = |name: &str| above(name).any(|above| apexes.contains(above));
        let mut known = BTreeMap::new();
        let servers = view.servers.iter().filter(|server| !server.addresses.is_empty());
        let leads = servers.map(|server| (&server.name, Leads::Server(server.addresses.clone())));
        // A name that leads in does so, be it also a name server's.
        let leads = leads.chain(given.into_iter().chain(view.hosts).map(|name| (name, Leads::In)));
        for (name, leads) in leads.filter(|(name, _)| is_ours(name)) {
            for above in above(name).skip(1).take_while(|above| is_ours(above)) {
                known.entry(above.to_owned()).or_insert(Leads::Nowhere);
            }
            known.insert(name.clone(), leads);
        }
        Names { apexes, known, servers: view.servers.to_vec(), addresses: view.addresses.to_vec() }
    }

    /// What this question is answered. `turn` says with which address a list begins, so that clients who take the first
    /// are spread over all.
    #[must_use]
    pub fn answer(&self, name: &str, asked: Asked, turn: u16) -> Answer<'_> {
        let Some(zone) = above(name).find_map(|above| self.apexes.get(above)) else {
            return Answer::Refused;
        };
        let Some(leads) = self.known.get(name) else { return Answer::NoSuchName(zone) };
        let (mut records, mut beside) = (Vec::new(), Vec::new());
        let is_apex = zone == name;
        let primary = self.servers.first().map_or("", |server| &server.name);
        if is_apex && matches!(asked, Asked::Soa | Asked::Any) {
            records.push(Data::Start(primary));
        }
        if is_apex && matches!(asked, Asked::Ns | Asked::Any) {
            records.extend(self.servers.iter().map(|server| Data::Server(&server.name)));
            for server in &self.servers {
                let own = self.addresses_of(&server.name);
                beside.extend(own.iter().map(|address| (server.name.as_str(), *address)));
            }
        }
        let addresses = match leads {
            Leads::Nowhere => &[],
            Leads::In => self.addresses.as_slice(),
            Leads::Server(addresses) => addresses,
        };
        let is_asked = |address: &&IpAddr| match asked {
            Asked::A => address.is_ipv4(),
            Asked::Aaaa => address.is_ipv6(),
            Asked::Any => true,
            Asked::Ns | Asked::Soa | Asked::Other => false,
        };
        let mut addresses: Vec<Data<'_>> =
            addresses.iter().filter(is_asked).map(|address| Data::Address(*address)).collect();
        if !addresses.is_empty() {
            let first = usize::from(turn) % addresses.len();
            addresses.rotate_left(first);
        }
        records.append(&mut addresses);
        if records.is_empty() { Answer::Nothing(zone) } else { Answer::Found { records, beside } }
    }

    /// The primary name server, for the start of a zone.
    #[must_use]
    pub fn primary(&self) -> &str {
        self.servers.first().map_or("", |server| &server.name)
    }

    fn addresses_of(&self, name: &str) -> &[IpAddr] {
        match self.known.get(name) {
            Some(Leads::Server(addresses)) => addresses,
            Some(Leads::In) => &self.addresses,
            Some(Leads::Nowhere) | None => &[],
        }
    }
}

/// A name and all that are above it, the root left out.
fn above(name: &str) -> impl Iterator<Item = &str> {
    let first = Some(name).filter(|name| !name.is_empty());
    std::iter::successors(first, |name| name.split_once('.').map(|(_, above)| above))
}

/// Where clients reach the cluster: at the ingresses that live; where none does, where they last reached it, since one that
/// only control does not hear serves all the same.
#[must_use]
pub fn ways_in<'a>(living: impl IntoIterator<Item = &'a IngressSpec>, last: &[IpAddr]) -> Vec<IpAddr> {
    let found: BTreeSet<IpAddr> = living.into_iter().flat_map(IngressSpec::reached_at).collect();
    match found.is_empty() {
        true => last.to_vec(),
        false => found.into_iter().take(limits::NAME_ADDRESSES).collect(),
    }
}

#[cfg(test)]
mod tests;
