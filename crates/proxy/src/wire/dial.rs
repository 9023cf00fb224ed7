//! How a connection to a node is made.

use async_trait::async_trait;
use std::{fmt::Debug, io};
use tokio::io::{AsyncRead, AsyncWrite};
use tutti_model::node::RoleAddress;

/// What bytes go over.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Makes connections to other roles of the cluster, and makes sure that it is they who answer.
#[async_trait]
pub trait Dial: Send + Sync + Debug + 'static {
    /// A connection to a role at this address.
    ///
    /// # Errors
    /// What the host says, or `PermissionDenied` if somebody else is there.
    async fn dial(&self, address: &RoleAddress) -> io::Result<Box<dyn Io>>;
}

/// Socket files that only their owner opens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sockets;

#[async_trait]
impl Dial for Sockets {
    async fn dial(&self, address: &RoleAddress) -> io::Result<Box<dyn Io>> {
        match address {
            RoleAddress::Socket(path) => Ok(Box::new(tutti_base::socket::connect(path).await?)),
        }
    }
}
