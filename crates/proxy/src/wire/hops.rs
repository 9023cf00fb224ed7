//! All nodes behind one hop: the own one by a call, the others over the wire.

use super::WireHop;
use crate::{Hop, HopError, HopTarget, NodeLink};
use http::{Request, Response};
use std::{pin::Pin, sync::Arc};
use tutti_base::Body;
use tutti_model::name::NodeName;

/// The way to every node. One in the same process is called, at no cost beyond the call's.
#[derive(Debug)]
pub struct Hops {
    local: Option<(NodeName, Arc<dyn Hop>)>,
    wire: WireHop,
}

impl Hops {
    /// With the node of the same process, if there is one.
    #[must_use]
    pub const fn new(local: Option<(NodeName, Arc<dyn Hop>)>, wire: WireHop) -> Self {
        Hops { local, wire }
    }
}

// Written out, as the macro would wrap the local hop's future in another box.
impl Hop for Hops {
    fn send<'s, 'n, 't, 'f>(
        &'s self,
        node: &'n NodeName,
        target: &'t HopTarget,
        request: Request<Body>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, HopError>> + Send + 'f>>
    where
        's: 'f,
        'n: 'f,
        't: 'f,
        Self: 'f,
    {
        match &self.local {
            Some((name, local)) if name == node => local.send(node, target, request),
            _ => self.wire.send(node, target, request),
        }
    }

    fn links(&self) -> Vec<NodeLink> {
        self.wire.links()
    }
}
