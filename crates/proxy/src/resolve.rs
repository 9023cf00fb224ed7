//! Host names to addresses, remembered briefly.
//!
//! The system's resolver does not tell how long its answer holds, so every answer is asked for again after
//! [`FRESH`]; when that fails the last good one is used on. However many requests want a name, it is asked for by one at
//! a time: the resolver blocks one of the host's few threads for as long as it takes.

use futures_util::{FutureExt as _, future::BoxFuture};
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
/// How long a name that was not found is not asked for again.
const FAILED: Duration = Duration::from_secs(1);
/// Names remembered; with more the oldest answers are forgotten. Far beyond what one machine's upstreams name.
const NAMES: usize = 4096;
/// Addresses used of one name.
const ADDRESSES: usize = 16;

/// Finds addresses. Cloning shares what is remembered.
#[derive(Clone)]
pub struct Resolver {
    names: Arc<Mutex<HashMap<String, Known>>>,
    ask: Arc<Ask>,
}

type Addresses = Arc<[IpAddr]>;
/// Addresses, or the kind and text of a fault, which can be told more than once.
type Found = Result<Addresses, (io::ErrorKind, String)>;
type Ask = dyn Fn(String) -> BoxFuture<'static, io::Result<Addresses>> + Send + Sync;

/// What is known of a name.
#[derive(Debug)]
struct Known {
    /// The last answer and when it came. A fault only if there was never anything better.
    answer: Option<(Found, Instant)>,
    /// Held by the one that asks while nothing is known.
    asking: Arc<tokio::sync::Mutex<()>>,
}

/// What follows from what is known.
enum Look {
    Use(Addresses),
    /// Usable, but old: the caller is the one to ask anew.
    Renew(Addresses),
    Failed(io::Error),
    Ask(Arc<tokio::sync::Mutex<()>>),
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver { names: Arc::default(), ask: Arc::new(|host| ask(host).boxed()) }
    }
}

impl Resolver {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Resolver::default()
    }

    /// The addresses of `host`, which may be one itself; never empty. To be called inside a runtime.
    ///
    /// # Errors
    /// What the resolver said, or that it took too long.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => return Ok(vec![SocketAddr::new(address, port)]),
            Err(_) => self.addresses(host).await?,
        };
        Ok(addresses.iter().map(|address| SocketAddr::new(*address, port)).collect())
    }

    async fn addresses(&self, host: &str) -> io::Result<Addresses> {
        let asking = match self.look(host) {
            Look::Ask(asking) => asking,
            other => return self.without_asking(host, other),
        };
        let _asking = asking.lock().await;
        // Another may have asked meanwhile.
        match self.look(host) {
            Look::Ask(_) => {}
            other => return self.without_asking(host, other),
        }
        let answer = (self.ask)(host.to_owned()).await;
        self.remember(host, &answer);
        answer
    }

    fn without_asking(&self, host: &str, look: Look) -> io::Result<Addresses> {
        match look {
            Look::Use(addresses) => Ok(addresses),
            Look::Renew(addresses) => {
                let (resolver, host) = (self.clone(), host.to_owned());
                tokio::spawn(async move {
                    let answer = (resolver.ask)(host.clone()).await;
                    resolver.remember(&host, &answer);
                });
                Ok(addresses)
            }
            Look::Failed(error) => Err(error),
            Look::Ask(_) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn look(&self, host: &str) -> Look {
        let mut names = self.names();
        let Some(known) = names.get_mut(host) else {
            make_room(&mut names);
            let asking = Arc::default();
            names.insert(host.to_owned(), Known { answer: None, asking: Arc::clone(&asking) });
            return Look::Ask(asking);
        };
        match &mut known.answer {
            Some((Ok(addresses), at)) if at.elapsed() < FRESH => Look::Use(Arc::clone(addresses)),
            Some((Ok(addresses), at)) => {
                // Nobody else asks until there is an answer, or until a dead resolver has had another while.
                *at = Instant::now();
                Look::Renew(Arc::clone(addresses))
            }
            Some((Err((kind, text)), at)) if at.elapsed() < FAILED => {
                Look::Failed(io::Error::new(*kind, text.clone()))
            }
            Some((Err(_), _)) | None => Look::Ask(Arc::clone(&known.asking)),
        }
    }

    fn names(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        // Held for a look-up only; never across an await.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, host: &str, answer: &io::Result<Addresses>) {
        let mut names = self.names();
        let Some(known) = names.get_mut(host) else { return };
        match (answer, &known.answer) {
            // What was good is used on.
            (Err(_), Some((Ok(_), _))) => {}
            (Err(error), _) => {
                known.answer = Some((Err((error.kind(), error.to_string())), Instant::now()));
            }
            (Ok(addresses), _) => known.answer = Some((Ok(Arc::clone(addresses)), Instant::now())),
        }
    }
}

fn make_room(names: &mut HashMap<String, Known>) {
    if names.len() >= NAMES {
        names.retain(|_, known| known.answer.as_ref().is_none_or(|(_, at)| at.elapsed() < FRESH));
        if names.len() >= NAMES {
            names.clear();
        }
    }
}

async fn ask(host: String) -> io::Result<Addresses> {
    let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((host.as_str(), 0))).await.map_err(
        |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer for the name {host} within 5 s")),
    )??;
    let addresses: Addresses = found.map(|address| address.ip()).take(ADDRESSES).collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("the name {host} has no address")));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn finds_addresses_and_names_and_stays_bounded() {
        let resolver = Resolver::new();
        assert_eq!(resolver.resolve("10.1.2.3", 80).await.unwrap(), ["10.1.2.3:80".parse().unwrap()]);
        assert_eq!(resolver.resolve("::1", 80).await.unwrap(), ["[::1]:80".parse().unwrap()]);
        assert!(!resolver.resolve("localhost", 80).await.unwrap().is_empty());
        for number in 0..NAMES + 10 {
            assert!(matches!(resolver.look(&number.to_string()), Look::Ask(_)));
        }
        assert!(resolver.names().len() <= NAMES);
    }

    /// A resolver that counts who asks it, and answers when it is told to.
    fn counting(fails: bool) -> (Resolver, Arc<AtomicUsize>, Arc<tokio::sync::Semaphore>) {
        let (asked, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
        let (counted, awaited) = (Arc::clone(&asked), Arc::clone(&answers));
        let ask = move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let awaited = Arc::clone(&awaited);
            async move {
                awaited.acquire().await.unwrap().forget();
                if fails {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "no such name"));
                }
                Ok(Addresses::from([IpAddr::from([127, 0, 0, 1])]))
            }
            .boxed()
        };
        (Resolver { names: Arc::default(), ask: Arc::new(ask) }, asked, answers)
    }

    #[tokio::test]
    async fn one_asks_for_all_who_want_a_name() {
        for fails in [false, true] {
            let (resolver, asked, answers) = counting(fails);
            let mut wanting: Vec<_> = (0..100).map(|_| resolver.resolve("a.test", 80).boxed()).collect();
            for one in &mut wanting {
                assert!(futures_util::poll!(one).is_pending());
            }
            answers.add_permits(100);
            for one in futures_util::future::join_all(wanting).await {
                assert_eq!(one.is_err(), fails);
            }
            assert_eq!(asked.load(Ordering::SeqCst), 1);
        }
    }

    #[tokio::test]
    async fn an_old_answer_is_used_while_one_asks_anew() {
        let (resolver, asked, answers) = counting(false);
        answers.add_permits(1);
        resolver.resolve("a.test", 80).await.unwrap();
        for known in resolver.names().values_mut() {
            let (_, at) = known.answer.as_mut().unwrap();
            *at -= FRESH;
        }
        for _ in 0..10 {
            // The resolver is silent, and nobody waits for it.
            assert!(resolver.resolve("a.test", 80).now_or_never().unwrap().is_ok());
        }
        let all = async {
            while asked.load(Ordering::SeqCst) < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), all).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }
}
