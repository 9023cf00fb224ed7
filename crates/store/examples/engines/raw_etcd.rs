//! etcd by its own API and nothing else: what our engine for it is measured against.

use super::Failure;
use std::time::Instant;
use tokio::sync::mpsc;
use tonic::{
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

/// The messages alone; the services go unused here.
#[allow(dead_code, missing_docs, unreachable_pub, reason = "generated: all of the API that the engine uses")]
#[allow(clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
mod proto {
    tonic::include_proto!("etcdserverpb");
}
use proto::{PutRequest, PutResponse, WatchCreateRequest, WatchRequest, WatchResponse, watch_request};

#[derive(Clone)]
pub(super) struct RawEtcd {
    channel: Channel,
}

impl RawEtcd {
    pub(super) async fn connect(address: &str) -> Result<RawEtcd, Failure> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        Ok(RawEtcd { channel: endpoint.connect().await? })
    }

    pub(super) async fn put(&self, key: &str, value: Vec<u8>) -> Result<(), Failure> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await?;
        let put = PutRequest { key: key.to_owned().into(), value: value.into(), lease: 0 };
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
        let codec = ProstCodec::<PutRequest, PutResponse>::default();
        grpc.unary(tonic::Request::new(put), path, codec).await?;
        Ok(())
    }

    pub(super) async fn watch(&self, prefix: &str, seen: mpsc::Sender<Instant>) -> Result<(), Failure> {
        let mut end = prefix.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let create = WatchCreateRequest {
            key: prefix.to_owned().into(),
            range_end: end.into(),
            ..WatchCreateRequest::default()
        };
        let request =
            WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(create)) };
        let (asks, asked) = mpsc::channel(1);
        asks.send(request).await?;
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await?;
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
        let asked = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(asked));
        let mut answers = grpc.streaming(asked, path, codec).await?.into_inner();
        let created = answers.message().await?.is_some_and(|answer| answer.created);
        if !created {
            return Err("etcd did not begin the watch".into());
        }
        tokio::spawn(async move {
            // Dropped, it would end the watch.
            let _asks = asks;
            while let Ok(Some(answer)) = answers.message().await {
                for _ in answer.events {
                    let _ = seen.try_send(Instant::now());
                }
            }
        });
        Ok(())
    }
}
