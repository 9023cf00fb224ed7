//! Reads: linearizable, and in pages, since one answer must not hold more than is bounded.

use super::{
    Shared,
    failure::Failure,
    keys::{of_etcd, to_etcd},
    link::{ANSWER_BYTES, Twice, led},
    proto::{
        RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, kv_client::KvClient,
        watch_client::WatchClient, watch_request::RequestUnion,
    },
};
use crate::{Entry, List, Listing, Revision, StoreError};
use futures_util::StreamExt as _;
use std::time::Duration;

/// Keys asked for at once: 32 MiB of the largest values.
pub(super) const PAGE: usize = 128;
/// How long etcd may take to say how far it has compacted. It looks at watches that are behind every 100 ms.
const COMPACTED: Duration = Duration::from_secs(5);

impl Shared {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Failure> {
        let answer = self
            .link
            .ask(Twice::Same, |channel| {
                let mut client = KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES);
                let request = led(request.clone());
                async move { client.range(request).await }
            })
            .await?;
        self.link.saw(answer.header.as_ref().map_or(0, |header| header.revision));
        Ok(answer)
    }

    /// etcd's current revision.
    pub(super) async fn revision(&self) -> Result<i64, StoreError> {
        let request = RangeRequest { key: self.root.key(""), keys_only: true, ..RangeRequest::default() };
        let answer = self.range(request).await?;
        answer
            .header
            .map(|header| header.revision)
            .ok_or_else(|| StoreError::Corrupt("etcd answered without saying its revision".into()))
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let request = RangeRequest { key: self.root.key(key), ..RangeRequest::default() };
        self.range(request).await?.kvs.first().map(|found| self.root.entry(found)).transpose()
    }

    pub(super) async fn list(&self, list: List) -> Result<Listing, StoreError> {
        let most = list.limit.unwrap_or(usize::MAX);
        let (mut start, end) = self.root.below(&list.prefix);
        if let Some(after) = list.after.as_deref().filter(|after| *after >= list.prefix.as_str()) {
            start = self.root.after(after);
        }
        let mut at = match list.at {
            None => None,
            Some(asked) => match to_etcd(asked) {
                Some(at) => Some(at),
                None => return Err(self.future(asked).await),
            },
        };
        let mut entries = Vec::new();
        loop {
            // etcd takes 0 for all.
            let page = PAGE.min(most - entries.len()).max(1);
            let request = RangeRequest {
                key: start,
                range_end: end.clone(),
                limit: i64::try_from(page).unwrap_or(1),
                revision: at.unwrap_or(0),
                ..RangeRequest::default()
            };
            let answer = match self.range(request).await {
                Ok(answer) => answer,
                Err(failure) => return Err(self.refusal(failure, list.at).await),
            };
            let now = answer.header.map_or(0, |header| header.revision);
            let at = *at.get_or_insert(now);
            if most == 0 {
                return Ok(Listing { entries, revision: of_etcd(at), more: !answer.kvs.is_empty() });
            }
            for found in &answer.kvs {
                entries.push(self.root.entry(found)?);
            }
            let last = answer.kvs.last().filter(|_| answer.more && entries.len() < most);
            let Some(last) = last else {
                return Ok(Listing { entries, revision: of_etcd(at), more: answer.more });
            };
            start = [&last.key[..], b"\0"].concat().into();
        }
    }

    /// Why a list as of `asked` was not given.
    async fn refusal(&self, failure: Failure, asked: Option<Revision>) -> StoreError {
        match (failure, asked) {
            (Failure::Compacted, Some(asked)) => match self.oldest(asked).await {
                Ok(oldest) => StoreError::Compacted { asked, oldest },
                Err(error) => error,
            },
            (Failure::Future, Some(asked)) => self.future(asked).await,
            (failure, _) => failure.into(),
        }
    }

    /// The error for a revision that is yet to come.
    pub(super) async fn future(&self, asked: Revision) -> StoreError {
        match self.revision().await {
            Ok(current) => StoreError::Future { asked, current: of_etcd(current) },
            Err(error) => error,
        }
    }

    /// The oldest revision that etcd retains, given one that it does not. Only its watches say that.
    async fn oldest(&self, compacted: Revision) -> Result<Revision, StoreError> {
        let connection = self.link.connection().await?;
        let create = WatchCreateRequest {
            key: self.root.key(""),
            start_revision: to_etcd(compacted).unwrap_or(1),
            ..WatchCreateRequest::default()
        };
        let requests = futures_util::stream::iter([WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        }]);
        let told = async {
            let mut client = WatchClient::new(connection.channel.clone());
            let requests = requests.chain(futures_util::stream::pending());
            let mut answers = client.watch(led(requests)).await?.into_inner();
            while let Some(answer) = answers.message().await? {
                if answer.compact_revision > 0 {
                    return Ok(Some(answer.compact_revision));
                }
            }
            Ok(None)
        };
        match tokio::time::timeout(COMPACTED, told).await {
            Ok(Ok(Some(oldest))) => Ok(of_etcd(oldest)),
            Ok(Err(status)) => Err(Failure::of(&status, &connection.member).into()),
            Ok(Ok(None)) | Err(_) => Err(StoreError::Unavailable(format!(
                "etcd at {}: it did not say how far its history was compacted",
                connection.member
            ))),
        }
    }
}
