//! How a connection to a node is made.

use async_trait::async_trait;
use std::{fmt::Debug, io};
use tokio::io::{AsyncRead, AsyncWrite};
use tutti_model::{name::NodeName, node::RoleAddress};
use tutti_pki::{Expected, MemberDial};

/// What bytes go over.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Makes connections to other roles of the cluster, and makes sure that it is they who answer.
#[async_trait]
pub trait Dial: Send + Sync + Debug + 'static {
    /// A connection to the agent of this node at this address.
    ///
    /// # Errors
    /// What the host says, or `PermissionDenied` or `InvalidData` if somebody else is there.
    async fn dial(&self, node: &NodeName, address: &RoleAddress) -> io::Result<Box<dyn Io>>;
}

/// Socket files that only their owner opens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sockets;

#[async_trait]
impl Dial for Sockets {
    async fn dial(&self, _: &NodeName, address: &RoleAddress) -> io::Result<Box<dyn Io>> {
        match address {
            RoleAddress::Socket(path) => Ok(Box::new(tutti_base::socket::connect(path).await?)),
            RoleAddress::Port(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it is on another machine, and this one is a member of no cluster",
            )),
        }
    }
}

/// Socket files, and ports where the node's own member answers over TLS, known by its key.
#[derive(Debug, Clone)]
pub struct Members(pub MemberDial);

#[async_trait]
impl Dial for Members {
    async fn dial(&self, node: &NodeName, address: &RoleAddress) -> io::Result<Box<dyn Io>> {
        let RoleAddress::Port(port) = address else { return Sockets.dial(node, address).await };
        let config = self.0.to(Expected::Member(node.clone()), None).map_err(io::Error::other)?;
        Ok(Box::new(tutti_pki::dial(config, port).await?))
    }
}
