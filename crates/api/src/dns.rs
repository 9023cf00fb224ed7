//! Looking up text records: what control needs to know of the DNS to see who holds a domain.

use async_trait::async_trait;

/// Where text records are looked up.
#[async_trait]
pub trait TxtLookup: Send + Sync + std::fmt::Debug + 'static {
    /// The text records at a name, each as one text. It asks the DNS each time, keeps nothing, and takes a bounded time.
    ///
    /// # Errors
    /// Why there is nothing to read; see [`TxtFault`].
    async fn txt(&self, name: &str) -> Result<Vec<String>, TxtFault>;
}

/// Why text records could not be read. What is to be done differs for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxtFault {
    /// The name does not exist (NXDOMAIN).
    NoName,
    /// The name exists, and has no text record.
    NoRecord,
    /// A name server answered with this code instead of records: SERVFAIL, REFUSED and the like.
    Refused(String),
    /// No name server answered within so many seconds.
    Timeout(u64),
    /// The DNS could not be asked at all: no name server is configured, or none is reached.
    Unreachable(String),
}
