//! Who carries notices. Nothing is expected of it: what it loses, repeats, delays or makes up is made good by others.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::fmt::Debug;

/// Carries notices from whoever knows of a change to whoever follows it.
#[async_trait]
pub trait Carrier: Send + Sync + Debug + 'static {
    /// Sends one, if that can be done now; it never waits for long, and never says whether it came.
    async fn publish(&self, subject: String, notice: Vec<u8>);

    /// Whether it could be done now.
    fn is_connected(&self) -> bool;

    /// All that comes on these subjects from now on, until the stream is dropped. It outlives losses of connection, in
    /// which it is silent.
    fn subscribe(&self, subjects: Vec<String>) -> BoxStream<'static, Bytes>;
}
