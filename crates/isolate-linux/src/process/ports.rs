//! Ports for instances, each given to one at a time.

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, Mutex, PoisonError},
};
use tutti_base::Random;

/// Where free ports are looked for: above the well-known ones, below those that Linux gives to outgoing connections
/// (32768 on), so that none is taken between our look and the instance's own.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// The ports that this agent's instances have.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    taken: Arc<Mutex<BTreeSet<u16>>>,
    random: Random,
}

/// A port that is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Port {
    taken: Arc<Mutex<BTreeSet<u16>>>,
    number: u16,
}

impl Ports {
    pub(super) fn new(random: Random) -> Self {
        Ports { taken: Arc::default(), random }
    }

    /// A free port, or the wanted one.
    pub(super) fn reserve(&self, wanted: Option<u16>) -> io::Result<Port> {
        if let Some(number) = wanted {
            return self.claim(number).filter(|port| port.is_free()).ok_or_else(|| {
                io::Error::new(io::ErrorKind::AddrInUse, "another instance or program of this host has it")
            });
        }
        let start = self.random.below(u64::from(COUNT));
        (0..COUNT)
            .filter_map(|step| u16::try_from((start + u64::from(step)) % u64::from(COUNT)).ok())
            .filter_map(|offset| self.claim(FIRST.saturating_add(offset)))
            .find(Port::is_free)
            .ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "no port is free"))
    }

    /// The port of an instance that has it already; `None` if another one's is the same.
    pub(super) fn claim(&self, number: u16) -> Option<Port> {
        let fresh = self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
        fresh.then(|| Port { taken: Arc::clone(&self.taken), number })
    }
}

impl Port {
    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// Whether nobody listens on it, at any address of this host.
    fn is_free(&self) -> bool {
        let bind = || {
            let flags = SocketFlags::CLOEXEC;
            let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
            // Bound and never listening, so that a copy which another fork of ours holds until its exec is in nobody's
            // way.
            rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, self.number))
        };
        bind().is_ok()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn no_port_is_given_twice_nor_one_that_is_in_use() {
        let ports = Ports::new(Random::seeded(1));
        let held: Vec<Port> = (0..200).map(|_| ports.reserve(None).unwrap()).collect();
        let numbers: BTreeSet<u16> = held.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), 200);
        assert!(ports.reserve(Some(held[0].number())).is_err());
        let number = held[0].number();
        drop(held);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).unwrap();
        assert_eq!(ports.reserve(Some(number)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert_eq!(ports.reserve(Some(number)).unwrap().number(), number);
    }
}
