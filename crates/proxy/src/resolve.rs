//! Host names to addresses, remembered briefly.
//!
//! The system's resolver does not tell how long its answer holds, so every answer is asked for again after
//! [`FRESH`]; when that fails the last good one is used on.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long an answer is used before it is asked for again: a moved service is found within seconds, and a busy one
/// costs the resolver next to nothing.
const FRESH: Duration = Duration::from_secs(5);
/// Longest wait for the resolver.
const PATIENCE: Duration = Duration::from_secs(5);
/// Names remembered; with more the oldest answers are forgotten. Far beyond what one machine's upstreams name.
const NAMES: usize = 4096;
/// Addresses used of one name.
const ADDRESSES: usize = 16;

/// Finds addresses. Cloning shares what is remembered.
#[derive(Debug, Clone, Default)]
pub struct Resolver(Arc<Mutex<HashMap<String, Answer>>>);

#[derive(Debug, Clone)]
struct Answer {
    addresses: Arc<[IpAddr]>,
    at: Instant,
}

impl Resolver {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Resolver::default()
    }

    /// The addresses of `host`, which may be one itself; never empty.
    ///
    /// # Errors
    /// What the resolver said, or that it took too long.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let known = self.names().get(host).cloned();
        let addresses = match known {
            Some(answer) if answer.at.elapsed() < FRESH => answer.addresses,
            stale => match (ask(host).await, stale) {
                (Ok(addresses), _) => self.remember(host, addresses),
                // Asked again only after another while: a dead resolver must not slow every request.
                (Err(_), Some(stale)) => self.remember(host, stale.addresses),
                (Err(error), None) => return Err(error),
            },
        };
        Ok(addresses.iter().map(|address| SocketAddr::new(*address, port)).collect())
    }

    fn names(&self) -> std::sync::MutexGuard<'_, HashMap<String, Answer>> {
        // Held for a look-up only; never across an await.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, host: &str, addresses: Arc<[IpAddr]>) -> Arc<[IpAddr]> {
        let mut names = self.names();
        if names.len() >= NAMES {
            names.retain(|_, answer| answer.at.elapsed() < FRESH);
            if names.len() >= NAMES {
                names.clear();
            }
        }
        names.insert(host.to_owned(), Answer { addresses: Arc::clone(&addresses), at: Instant::now() });
        addresses
    }
}

async fn ask(host: &str) -> io::Result<Arc<[IpAddr]>> {
    let found =
        tokio::time::timeout(PATIENCE, tokio::net::lookup_host((host, 0))).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, format!("no answer for the name {host} within 5 s"))
        })??;
    let addresses: Arc<[IpAddr]> = found.map(|address| address.ip()).take(ADDRESSES).collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("the name {host} has no address")));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finds_addresses_and_names_and_stays_bounded() {
        let resolver = Resolver::new();
        assert_eq!(resolver.resolve("10.1.2.3", 80).await.unwrap(), ["10.1.2.3:80".parse().unwrap()]);
        assert_eq!(resolver.resolve("::1", 80).await.unwrap(), ["[::1]:80".parse().unwrap()]);
        assert!(!resolver.resolve("localhost", 80).await.unwrap().is_empty());
        for number in 0..NAMES + 10 {
            resolver.remember(&number.to_string(), Arc::from([IpAddr::from([127, 0, 0, 1])]));
        }
        assert!(resolver.names().len() <= NAMES);
    }
}
