//! The zone's interface over the wire, for agents, ingresses and DNS servers that are not in control's own process.

use super::{Client, Outgoing, Query, SILENCE, fault};
use crate::{
    watch::WatchStream,
    zone::{
        Blob, DnsReport, HeartbeatAnswer, IngressReport, InstanceReport, NodeHeartbeat, REPORT_BYTES, ZoneApi,
    },
};
use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use http::header;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Serialize;
use tutti_base::{SecretValues, sha256::Hasher};
use tutti_model::{
    Digest, ErrorCode, InstanceId, Problem,
    ingress::IngressSpec,
    instance::InstanceSpec,
    limits,
    name::NodeName,
    node::{NodeSpec, NodeStatus},
    table::TableSpec,
};

/// Most reports in one request: as many as fit one transaction of the zone's store.
const REPORTS: usize = limits::STORE_TXN_OPERATIONS;

/// The zone's interface at a control that is reached over a [`Client`]. Cloning shares its connections.
///
/// A watch resumes by itself after the last revision that its reader was given, for as long as control is away; it
/// starts over with `Init` when what it missed is compacted away, and ends only with a problem that trying again cannot
/// mend. A call is tried once, or twice if its connection broke: who calls says the same again anyway.
#[derive(Debug, Clone)]
pub struct ZoneClient {
    client: Client,
}

impl ZoneClient {
    /// The zone's interface at the control that this client speaks to.
    #[must_use]
    pub const fn new(client: Client) -> ZoneClient {
        ZoneClient { client }
    }

    /// Reads an artifact's manifest or layer, piece by piece. What comes is compared with the digest: bytes that are
    /// others end with a problem, after the last piece.
    ///
    /// # Errors
    /// `not_found` if control does not hold it, and whatever keeps control from answering.
    pub async fn blob(&self, digest: &Digest) -> Result<Blob, Problem> {
        let client = &self.client;
        let outgoing = client.outgoing("read_blob", &[digest.as_str()], &Query::default())?;
        let response = client.send(outgoing).await?;
        let size = response.headers().get(header::CONTENT_LENGTH);
        let size = size.and_then(|size| size.to_str().ok()?.parse().ok()).ok_or_else(|| {
            Problem::internal(format!("{} sent blob {digest} without its size", client.base))
        })?;
        let reading = Reading {
            base: client.base.clone(),
            body: response.into_body(),
            hasher: Hasher::default(),
            digest: digest.clone(),
        };
        let pieces = stream::unfold(Some(reading), |reading| async {
            let mut reading = reading?;
            match reading.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(reading))),
                Ok(None) => reading.checked().err().map(|problem| (Err(problem), None)),
                Err(problem) => Some((Err(problem), None)),
            }
        });
        Ok(Blob { size, pieces: pieces.boxed() })
    }

    /// The hosts that services answer to, for a DNS server: tables without what serves them.
    #[must_use]
    pub fn watch_hosts(&self, after: Option<u64>) -> WatchStream<TableSpec> {
        self.client.watch_at("watch_zone_hosts", &[], after)
    }

    /// The living ingresses, for a DNS server.
    #[must_use]
    pub fn watch_ingresses(&self, after: Option<u64>) -> WatchStream<IngressSpec> {
        self.client.watch_at("watch_zone_ingresses", &[], after)
    }

    /// Says that a DNS server lives.
    ///
    /// # Errors
    /// `forbidden` for a member that is none, and whatever keeps control from answering.
    pub async fn report_dns(&self, report: &DnsReport) -> Result<(), Problem> {
        self.say("report_dns", report.server.as_str(), report).await
    }

    async fn say<B: Serialize>(&self, id: &str, name: &str, body: &B) -> Result<(), Problem> {
        self.send(self.client.outgoing_with(id, &[name], body)?).await.map(drop)
    }

    async fn send(&self, outgoing: Outgoing) -> Result<bytes::Bytes, Problem> {
        let length = outgoing.body.len();
        if length > REPORT_BYTES {
            return Err(Problem::new(
                ErrorCode::QuotaExceeded,
                format!("a report of {length} bytes is longer than the {REPORT_BYTES} that control takes"),
            ));
        }
        let response = self.client.send(outgoing).await?;
        self.client.whole(response).await
    }
}

/// A blob that is being read.
struct Reading {
    base: String,
    body: Incoming,
    hasher: Hasher,
    digest: Digest,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<bytes::Bytes>, Problem> {
        loop {
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
            match frame.map_err(|_| fault::late(&self.base, SILENCE))? {
                None => return Ok(None),
                Some(Err(error)) => return Err(fault::cut_off(&self.base, &error)),
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        self.hasher.update(&piece);
                        return Ok(Some(piece));
                    }
                }
            }
        }
    }

    fn checked(self) -> Result<(), Problem> {
        let came = self.hasher.finish();
        if came == self.digest {
            return Ok(());
        }
        Err(Problem::unavailable(format!("{} sent other bytes than blob {}: {came}", self.base, self.digest))
            .hint("its blobs may be damaged: push the artifact again"))
    }
}

#[async_trait]
impl ZoneApi for ZoneClient {
    fn watch_tables(&self, after: Option<u64>) -> WatchStream<TableSpec> {
        self.client.watch_at("watch_zone_tables", &[], after)
    }

    fn watch_instances(&self, node: &NodeName, after: Option<u64>) -> WatchStream<InstanceSpec> {
        self.client.watch_at("watch_node_instances", &[node.as_str()], after)
    }

    fn watch_node(&self, node: &NodeName, after: Option<u64>) -> WatchStream<NodeSpec> {
        self.client.watch_at("watch_zone_node", &[node.as_str()], after)
    }

    fn watch_nodes(&self, after: Option<u64>) -> WatchStream<NodeSpec> {
        self.client.watch_at("watch_zone_nodes", &[], after)
    }

    async fn register_node(&self, node: &NodeName, status: NodeStatus) -> Result<(), Problem> {
        self.say("register_node", node.as_str(), &status).await
    }

    async fn heartbeat(&self, node: &NodeName, heartbeat: NodeHeartbeat) -> Result<HeartbeatAnswer, Problem> {
        let outgoing = self.client.outgoing_with("heartbeat_node", &[node.as_str()], &heartbeat)?;
        let answer = self.send(outgoing).await?;
        if answer.is_empty() {
            // A control of the release before this one gives no leases.
            return Ok(HeartbeatAnswer::default());
        }
        serde_json::from_slice(&answer).map_err(|error| {
            Problem::internal(format!("{} answered a heartbeat with {error}", self.client.base))
        })
    }

    async fn report_instances(&self, node: &NodeName, reports: Vec<InstanceReport>) -> Result<(), Problem> {
        // Those that failed carry the last lines they wrote: a batch that is too large with them goes in halves.
        let mut left: Vec<&[InstanceReport]> = reports.chunks(REPORTS).rev().collect();
        while let Some(batch) = left.pop() {
            let outgoing = self.client.outgoing_with("report_instances", &[node.as_str()], &batch)?;
            if outgoing.body.len() > REPORT_BYTES && batch.len() > 1 {
                let (first, second) = batch.split_at(batch.len() / 2);
                left.extend([second, first]);
            } else {
                self.send(outgoing).await?;
            }
        }
        Ok(())
    }

    async fn instance_secrets(
        &self,
        node: &NodeName,
        instance: &InstanceId,
    ) -> Result<SecretValues, Problem> {
        let names = [node.as_str(), instance.as_str()];
        self.client.call("read_instance_secrets", &names, &Query::default()).await
    }

    async fn report_ingress(&self, report: IngressReport) -> Result<(), Problem> {
        self.say("report_ingress", &report.ingress, &report).await
    }

    async fn leave_ingress(&self, ingress: &str) -> Result<(), Problem> {
        self.client.call_for_nothing("leave_ingress", &[ingress]).await
    }
}
