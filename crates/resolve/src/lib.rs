//! Looks up text records in the DNS, for proofs of ownership. The only owner of the resolver library.
//!
//! Nothing is cached: whoever has just set a record and asks again must not be told what was so before. What name
//! servers on the way keep is theirs. What a record means is decided by control.

use async_trait::async_trait;
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
};
use std::{net::SocketAddr, time::Duration};
use tutti_api::dns::{TxtFault, TxtLookup};
use tutti_model::Problem;

/// Longest wait for one name server's answer; a far one takes well below a second.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Questions to a name server before it counts as silent: one packet may be lost.
const ATTEMPTS: usize = 2;
/// Longest wait in all, below the 25 s that a request to the API may take.
const IN_ALL: Duration = Duration::from_secs(10);
/// Most records that are read at one name: a zone's apex has a dozen of other services' proofs, a name of its own few.
const RECORDS: usize = 64;
/// Longest record that is read, in bytes; a proof has about 50.
const RECORD_BYTES: usize = 1024;

/// A resolver that asks given name servers.
#[derive(Clone)]
pub struct TxtResolver(TokioResolver);

impl std::fmt::Debug for TxtResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TxtResolver").finish_non_exhaustive()
    }
}

impl TxtResolver {
    /// One that asks this name server, over UDP, and over TCP for answers that are too long for it.
    ///
    /// # Errors
    /// `internal`, if the resolver cannot be made.
    pub fn of(server: SocketAddr) -> Result<Self, Problem> {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        for connection in &mut connections {
            connection.port = server.port();
        }
        let server = NameServerConfig::new(server.ip(), true, connections);
        Self::with(ResolverConfig::from_name_servers(vec![server]), ResolverOpts::default())
    }

    /// One that asks the name servers that this machine is configured to ask (`/etc/resolv.conf`).
    ///
    /// # Errors
    /// `unavailable`, if that cannot be read.
    pub fn of_this_machine() -> Result<Self, Problem> {
        let (config, options) = hickory_resolver::system_conf::read_system_conf().map_err(|error| {
            Problem::unavailable(format!("this machine's name servers cannot be read: {error}"))
                .hint("name one with --resolver ADDR:PORT")
        })?;
        Self::with(config, options)
    }

    fn with(config: ResolverConfig, options: ResolverOpts) -> Result<Self, Problem> {
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let set = builder.options_mut();
        *set = options;
        set.timeout = ATTEMPT;
        set.attempts = ATTEMPTS;
        set.cache_size = 0;
        set.use_hosts_file = ResolveHosts::Never;
        let resolver = builder.build();
        resolver
            .map(TxtResolver)
            .map_err(|error| Problem::internal(format!("the DNS resolver cannot be made: {error}")))
    }
}

#[async_trait]
impl TxtLookup for TxtResolver {
    async fn txt(&self, name: &str) -> Result<Vec<String>, TxtFault> {
        // Fully qualified: no search list may answer for another name.
        let mut name =
            Name::from_ascii(name).map_err(|error| TxtFault::Unreachable(format!("\"{name}\": {error}")))?;
        name.set_fqdn(true);
        let asked = tokio::time::timeout(IN_ALL, self.0.lookup(name, RecordType::TXT)).await;
        let found = asked.map_err(|_| TxtFault::Timeout(IN_ALL.as_secs()))?.map_err(|error| fault(&error))?;
        let texts: Vec<String> = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::TXT(txt) => Some(joined(txt.txt_data.iter().map(AsRef::as_ref))),
                _ => None,
            })
            .take(RECORDS)
            .collect();
        if texts.is_empty() { Err(TxtFault::NoRecord) } else { Ok(texts) }
    }
}

/// A record's strings as one text (RFC 7208, 3.3 reads them so, and so do people).
fn joined<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut bytes: Vec<u8> = Vec::new();
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes.truncate(RECORD_BYTES);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn fault(error: &NetError) -> TxtFault {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => TxtFault::NoName,
            ResponseCode::NoError => TxtFault::NoRecord,
            code => TxtFault::Refused(code.to_str().to_owned()),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => TxtFault::Refused(code.to_str().to_owned()),
        NetError::Timeout => TxtFault::Timeout(ATTEMPT.as_secs() * ATTEMPTS as u64),
        error => TxtFault::Unreachable(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
