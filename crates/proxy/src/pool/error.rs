//! Why a request got no answer, and whether it may have been delivered.

use crate::HopError;
use http::Request;
use std::net::SocketAddr;
use tutti_base::Body;
use tutti_model::Millis;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// There was no connection to send it on: it surely was not delivered.
    #[error("no connection to {address}")]
    Connect {
        /// Where it was to go.
        address: SocketAddr,
        /// What the host said.
        #[source]
        source: std::io::Error,
        /// The untouched request.
        request: Box<Request<Body>>,
    },
    /// Every connection that may be opened is in use: it surely was not delivered.
    #[error("too many connections to {address} are in use")]
    Full {
        /// Where it was to go.
        address: SocketAddr,
        /// The untouched request.
        request: Box<Request<Body>>,
    },
    /// It may have been delivered, but the connection failed before an answer came.
    #[error("{address} gave no answer")]
    Upstream {
        /// Where it went.
        address: SocketAddr,
        /// What happened to the connection.
        #[source]
        source: hyper::Error,
    },
    /// It was delivered, and no answer came in time.
    #[error("{address} gave no answer within {after}")]
    Timeout {
        /// Where it went.
        address: SocketAddr,
        /// How long it had.
        after: Millis,
    },
}

impl ForwardError {
    /// The whole chain of causes in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }

    /// The request, if it surely was not delivered.
    #[must_use]
    pub fn into_request(self) -> Option<Request<Body>> {
        match self {
            ForwardError::Connect { request, .. } | ForwardError::Full { request, .. } => Some(*request),
            ForwardError::Upstream { .. } | ForwardError::Timeout { .. } => None,
        }
    }
}

impl From<ForwardError> for HopError {
    /// What surely was not delivered may go to another instance; the rest may not.
    fn from(error: ForwardError) -> Self {
        let reason = error.chain();
        match error {
            ForwardError::Connect { request, .. } => HopError::Misdirected { reason, request },
            ForwardError::Full { request, .. } => HopError::Overloaded { reason, request },
            ForwardError::Upstream { .. } => HopError::Failed(reason),
            ForwardError::Timeout { after, .. } => HopError::Timeout(after),
        }
    }
}
